"""Translates reading problems into Chinese: patterns for the most common problems, remedies and details."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from functools import cache

from ...core.errors import Problem

PATTERNS: Mapping[str, str] = {
    "the columns of {} fit no format; the nearest is {}, and {} is missing":
        "{} 的列不符合任何格式；最接近的是 {}，还缺 {}",
    "the columns of {} fit no format": "{} 的列不符合任何格式",
    "the rows of {} fit more than one format ({})": "{} 的数据符合不止一种格式（{}）",
    "the column {} is empty in every row of {}": "列 {} 在 {} 的每一行里都是空的",
    "no format reads a column {}": "没有格式读取列 {}",
    "no source has a column {}": "没有来源含有列 {}",
    "{} has no column {}": "{} 没有列 {}",
    "{} has two columns of one name": "{} 有两列同名",
    "the table has two columns of one name": "表里有两列同名",
    "{} becomes too large when it is unpacked, as a decompression bomb does": "{} 解压后过大，像是解压炸弹",
    "{} bytes become {} or more ({} times as many)": "{} 字节变成 {} 字节以上（{} 倍）",
    "at most {} times as many; up to {} MiB are always read": "至多 {} 倍；{} MiB 以内总会读取",
    "if the file is what you expect, max_unpack_ratio: {} under the source in data.sources":
        "若文件确实如此，请在 data.sources 的该来源下设 max_unpack_ratio: {}",
    "{} seems to hold questions as keys and their answers as values": "{} 似乎以问题为键、以回答为值",
    "{} holds one row, not a list of rows": "{} 只有一条数据，不是数据的列表",
    "{} holds rows under a key each, not a list of rows": "{} 的每条数据各在一个键下，不是数据的列表",
    "{} holds a table by columns, not a list of rows": "{} 是按列存放的表，不是数据的列表",
    "{} holds no list of rows": "{} 里没有数据的列表",
    "{}: an object with {}": "{}：含有 {} 的对象",
    "{} is a web page (HTML)": "{} 是网页（HTML）",
    "{} is empty": "{} 是空的",
    "0 bytes": "0 字节",
    "only white space": "只有空白",
    "at least one row": "至少一条数据",
    "{} is not in UTF-8; it looks like {}": "{} 不是 UTF-8 编码；看起来是 {}",
    "{} cannot be read to its end": "{} 无法读到结尾",
    "it is damaged or was cut off: copy or download it again": "文件损坏或不完整：请重新复制或下载",
    "{} may not be read": "没有读取 {} 的权限",
    "a file you may read": "有读取权限的文件",
    "the file of {} is not there": "{} 的文件不存在",
    "a file that exists": "存在的文件",
    "a file that exists, or a data set of the hub that can be reached": "存在的文件，或连得上的 hub 数据集",
    "the data set {} cannot be had": "无法取得数据集 {}",
    "nothing would be left to train on": "没有剩下任何可训练的数据",
    "fewer rows held out": "少留出一些数据",
    "text in UTF-8": "UTF-8 文本",
    "data of the kind that its name says": "与文件名相符的数据",
    "download the file itself: the link of its 'raw' or 'download' button":
        "请下载文件本身：用 raw 或 download 按钮的链接",
    "a name of its own for each column": "每列各有一个名字",
    "rename one of them in the header": "在表头里给其中一列改名",
    "rename one of them": "给其中一列改名",
    "a list of objects": "对象的列表",
    "a list of objects, or an object with one list": "对象的列表，或含有一个列表的对象",
    "put [ before it and ] behind it, with a comma between rows; or one object a line in a .jsonl file":
        "在前后加上 [ 和 ]，各条之间用逗号；或写成每行一个对象的 .jsonl 文件",
    "in Python: {}, written with json.dump": "用 Python：{}，再以 json.dump 写出",
    "name your columns, such as {}": "请指明你的列，例如 {}",
    "one of {}": "其中之一：{}",
    "{}, as its {}": "{}，用作它的 {}",
}  # fmt: skip
"""A part of a problem, with `{}` for variable text -> the same in Chinese; the first match wins."""
DETAILS: tuple[tuple[str, str], ...] = (
    (r"^(.+?), row (\d+)(?=: |$)", r"\1，第 \2 条"),
    (r": turn (\d+) is (\w+)$", r": 第 \1 轮是 \2"),
    (r": turn (\d+)$", r": 第 \1 轮"),
    (r": turn (\d+) has (.*)$", r": 第 \1 轮有 \2"),
    (r": (\d+) tokens$", r": \1 个词元"),
    (r": (\d+) rows: ", r": \1 行: "),
    (r": (\d+) for (\d+) turns$", r": \1 个，而有 \2 轮"),
    (r": it has nothing$", ": 没有任何列"),
    (r": it has (.*)$", r": 有 \1"),
)
"""Regular expression for a place's row number, or for the detail after a place -> its replacement in Chinese."""


def problem_zh(problem: Problem) -> Problem:
    """Return a problem in Chinese; parts without a translation stay in English."""
    parts = {"what": problem.what, "got": problem.got, "expected": problem.expected, "remedy": problem.remedy}
    return replace(problem, **{name: _part_zh(text) for name, text in parts.items()})


def place_zh(place: str) -> str:
    """Return a place with the detail after it in Chinese, if there is a translation."""
    for english, chinese in DETAILS:
        place = re.sub(english, chinese, place)
    return place


def detail_zh(detail: str) -> str:
    """Return a row's detail in Chinese, if there is a translation."""
    return place_zh(f": {detail}").removeprefix(": ")


def _part_zh(text: str) -> str:
    for pattern, chinese in _patterns():
        if found := pattern.fullmatch(text):
            pieces = chinese.split("{}")
            return pieces[0] + "".join(
                one + rest for one, rest in zip(found.groups(), pieces[1:], strict=True)
            )
    return text


@cache
def _patterns() -> list[tuple[re.Pattern[str], str]]:
    return [
        (re.compile(re.escape(english).replace(r"\{\}", "(.+?)"), re.DOTALL), chinese)
        for english, chinese in PATTERNS.items()
    ]
