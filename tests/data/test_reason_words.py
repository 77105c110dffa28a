"""Every reason that the code gives for a row that cannot be used has its Chinese."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from weitiao.data.report.reason_phrases import KINDS, PATTERNS, SAYS, reason_zh

import weitiao.data
from weitiao.data.bad_rows import BadRow
from weitiao.data.formats._base import KIND_NAMES, RowError
from weitiao.data.formats._known import ANSWER_TEXT, MEANINGS, PROMPT_TEXT, TURN_TEXT, WHOLE_TEXT
from weitiao.data.formats._turns import ENDS, FAULTS
from weitiao.data.gate.gate import open_data
from weitiao.data.report.overview import overview
from weitiao.data.settings import DataSettings
from weitiao.data.sources.json_values import TOO_DEEP, TOO_LONG
from weitiao.data.templates.render import REASONS

FOLDER = Path(weitiao.data.__file__).parent
HAN = re.compile("[\u4e00-\u9fff]")
PLACE_OF_REASON = {"RowError": 0, "UnusableValue": 0, "BadRow": 1}
VALUES = {
    "kind_of(": "a list", "what": "'x'", "says": "text of the prompt", "fault": "two questions in a row",
    "kind": "list", "kto": "; data.columns.label=x makes it the label of KTO",
    "NO_JSON_NUMBER": "holds a number that JSON cannot carry (infinite, no number, or of over 4,300 digits)",
    "owner": "a turn's ", "LOSS_MASK": "'loss_mask'", "TRANSLATION": "'translation'", "wrong[0]": "a number",
    "self._ways_out(one, form)": "data.sources.ignore_columns=x reads the rows without it",
}  # fmt: skip
"""What stands in a reason's placeholder, where it is no name in quotes."""


def written(node: ast.expr) -> Iterator[str]:
    """Yield the texts that an expression may be, as far as it is a text with placeholders."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value
    elif isinstance(node, ast.JoinedStr):
        yield "".join(map(_piece, node.values))
    elif isinstance(node, ast.IfExp):
        yield from written(node.body)
        yield from written(node.orelse)


def _piece(value: ast.expr) -> str:
    if isinstance(value, ast.Constant):
        return str(value.value)
    assert isinstance(value, ast.FormattedValue)
    name = ast.unparse(value.value)
    known = next((said for begins, said in VALUES.items() if name.startswith(begins)), None)
    return (
        known
        if known is not None and value.conversion != ord("r")
        else "'x'"
        if value.conversion > 0
        else "7"
    )


def all_reasons() -> list[str]:
    """Return an instance of each reason that stands in the code, and those that tables hold."""
    found = [*ENDS.values(), TOO_DEEP, TOO_LONG, "'x' or 'y' is missing", *REASONS]
    found += [f"its turns are out of order: {fault}" for fault in FAULTS.values()]
    for path in FOLDER.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                place = PLACE_OF_REASON.get(node.func.id)
                if place is not None and len(node.args) > place:
                    found += written(node.args[place])
    return list(dict.fromkeys(found))


def test_the_reasons_without_chinese_are_none() -> None:
    reasons = all_reasons()
    assert len(reasons) > 90
    assert [one for one in reasons if not HAN.search(reason_zh(one))] == []


def test_what_a_column_holds_and_what_a_value_is_have_their_chinese() -> None:
    tables = (MEANINGS, TURN_TEXT, PROMPT_TEXT, ANSWER_TEXT, WHOLE_TEXT)
    assert {says for table in tables for says in table.values()} <= {*SAYS}
    assert {*KIND_NAMES.values()} <= {*KINDS}


@pytest.mark.parametrize(("english", "chinese"), PATTERNS.items())
def test_a_pattern_and_its_chinese_hold_equally_many_parts(english: str, chinese: str) -> None:
    assert english.count("{}") == chinese.count("{}")
    assert HAN.search(chinese)


@pytest.mark.parametrize(
    ("english", "chinese"),
    [
        ("'问题' is a list where text was meant", "'问题' 应为文本，却是列表"),
        ("a turn's 'content' is null where text was meant", "轮次的 'content' 应为文本，却是空值（null）"),
        ("'instruction' or 'prompt' is missing", "缺少 'instruction' 或 'prompt'"),
        ("one of 'rewards' is no finite number", "'rewards' 中的一项 不是有限的数"),
        ("its turns are out of order: two answers in a row", "轮次的顺序不对：连续两个回答"),
        ("longer than 512 tokens (data.max_length)", "超过 512 个词元（data.max_length）"),
        (
            "'is_good' says that the row is not one to train on (data.skip_bad_rows=true leaves such rows out; "
            "data.sources.ignore_columns=is_good trains on them; data.columns.label=is_good makes it the label of KTO)",
            "'is_good' 说明这条数据不用于训练（data.skip_bad_rows=true 跳过这样的数据；"
            "data.sources.ignore_columns=is_good 照样训练；data.columns.label=is_good 把它当作 KTO 的标签）",
        ),
        ("said by nobody", "said by nobody"),
    ],
)
def test_reasons_in_chinese(english: str, chinese: str) -> None:
    assert reason_zh(english) == chinese


def test_columns_that_would_not_be_used_are_said_in_chinese(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    row = {"instruction": "q", "output": "a"}
    rows = [{**row, "text": "b"}, {**row, "images": ["b"]}]
    path.write_text("\n".join(map(json.dumps, rows)))
    view = overview(open_data(DataSettings(sources=[str(path)], held_out=0)))
    assert [one.what_zh for one in view.findings if one.check == "reading"] == [
        "有数据无法使用：'text' 含有提示和回答以外的文字，但不会被用到（data.columns.context=text 把它放在问题之前；"
        "data.sources.ignore_columns=text 去掉它再读）",
        "有数据无法使用：'images' 含有图片、视频或声音，但不会被用到（data.sources.ignore_columns=images 去掉它再读）",
    ]  # fmt: skip


def test_the_reasons_of_this_files_own_scan_are_reasons() -> None:
    errors: list[Any] = [RowError("a question is empty"), BadRow("x:1", "a question is empty")]
    assert all(one.reason in all_reasons() for one in errors)
