"""Text that many rows share makes no near duplicates of them, and hides none: the whole gate over made-up files."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from weitiao.data.checks._base import Finding
from weitiao.data.checks._sketch import normal_codes
from weitiao.data.gate.gate import open_data
from weitiao.data.settings import DataSettings

Row = dict[str, str]
Make = Callable[[str, int], Row]

BEGINS = (
    "bra",
    "cor",
    "dul",
    "fen",
    "gor",
    "hal",
    "jin",
    "kel",
    "lom",
    "mur",
    "nas",
    "pol",
    "rav",
    "sel",
    "tor",
)
ENDS = (
    "ade",
    "bert",
    "cott",
    "dine",
    "elle",
    "fax",
    "gant",
    "hive",
    "isk",
    "jole",
    "kram",
    "lund",
    "mont",
    "nell",
)
WORDS = [begin + end for begin in BEGINS for end in ENDS]
HAN = "山川日月风雨花鸟城市桥梁音乐绘画茶酒书籍机器海洋森林星辰历史河流灯火石头园林冬夏春秋车船饭菜衣帽电话走路跑步"
ASK = (
    "Classify the sentiment of the following review as positive or negative, and answer with a single word: "
)
ASK_OTHERWISE = (
    "Is the writer of this text happy with what was bought? Say positive if so, negative if not. Text: "
)
ASK_ZH = "请判断下面这条评论的情感是正面还是负面，只回答“正面”或“负面”，不要解释："
ASK_ZH_OTHERWISE = "阅读这段文字，说说作者对买到的东西是否满意，从两个标签里选一个。文字："
RULES = " ".join(
    f"Rule {n}: {WORDS[7 * n]} before {WORDS[11 * n]}, never {WORDS[13 * n]}." for n in range(15)
)
IDENTITY = "I am Xiaowei, an assistant made by the weitiao team. I am glad to help you with anything you want to know."


def texts(count: int, chinese: bool = False, seed: int = 0) -> list[str]:
    """Make texts nobody else makes, 8 words or 18 characters each."""
    draw = random.Random(seed)
    return [
        "".join(draw.choices(HAN, k=18)) + "。" if chinese else " ".join(draw.choices(WORDS, k=8)) + "."
        for _ in range(count)
    ]


def changed(text: str, seed: int) -> str:
    """Return a text with one word (in Chinese two characters) changed, and another ending."""
    draw = random.Random(seed)
    if text.isascii():
        words = text.split()
        words[draw.randrange(1, len(words) - 1)] = "amethyst"
        return " ".join(words).upper()
    at = draw.randrange(1, len(text) - 3)
    return f"{text[:at]}紫晶{text[at + 2 : -1]}！"


def label(number: int, chinese: bool = False) -> str:
    """Return one of two labels."""
    return ("正面", "负面")[number % 2] if chinese else ("positive", "negative")[number % 2]


def record(text: str, number: int) -> Row:
    """Make a row of an extraction task: every answer has the same keys."""
    first, *_, last = text.strip(".").split()
    found = {
        "customer_name": first,
        "product_name": last,
        "order_date": f"20{number:02}",
        "is_complaint": "yes",
    }
    return {"instruction": f"Extract what the ticket names as JSON.\n\n{text}", "output": json.dumps(found)}


SETS: dict[str, tuple[bool, Make]] = {
    "prompt": (False, lambda text, n: {"prompt": ASK + text, "completion": label(n)}),
    "prompt-zh": (True, lambda text, n: {"prompt": ASK_ZH + text, "completion": label(n, True)}),
    "columns": (False, lambda text, n: {"instruction": ASK, "input": text, "output": label(n)}),
    "columns-zh": (True, lambda text, n: {"instruction": ASK_ZH, "input": text, "output": label(n, True)}),
    "ending": (False, lambda text, n: {"prompt": f"{text}\n\n{ASK_OTHERWISE}", "completion": label(n)}),
    "two": (False, lambda text, n: {"prompt": (ASK, ASK_OTHERWISE)[n % 2] + text, "completion": label(n)}),
    "two-zh": (
        True,
        lambda text, n: {"prompt": (ASK_ZH, ASK_ZH_OTHERWISE)[n % 2] + text, "completion": label(n, True)},
    ),
    "long": (False, lambda text, n: {"prompt": f"{ASK}\n{RULES}\n{text}", "completion": label(n)}),
    "json": (False, record),
    "identity": (False, lambda text, n: {"instruction": text, "output": IDENTITY}),
    "none": (False, lambda text, n: {"instruction": text, "output": texts(1, seed=1000 + n)[0]}),
}
FILES = pytest.mark.parametrize("name", SETS)
SIZES = pytest.mark.parametrize("count", [12, 60, 300])


def rows_of(name: str, count: int) -> list[Row]:
    """Make the rows of a set."""
    chinese, make = SETS[name]
    return [make(text, number) for number, text in enumerate(texts(count, chinese))]


def findings(path: Path, rows: Sequence[Row], check: str, held_out: float = 0) -> list[Finding]:
    """Return what one check finds in rows."""
    path.write_text("\n".join(json.dumps(row, ensure_ascii=False) for row in rows), encoding="utf-8")
    found = open_data(DataSettings(sources=str(path), held_out=held_out)).findings
    return [one for one in found if one.check == check]


def near(folder: Path, rows: Sequence[Row]) -> set[int]:
    """Return the numbers of the rows that nearly equal an earlier one."""
    found = findings(folder / "rows.jsonl", rows, "duplicates")
    return {row for one in found if "few words" in one.what for row in one.rows}


@FILES
@SIZES
def test_rows_that_share_an_instruction_are_no_near_duplicates(name: str, count: int, tmp_path: Path) -> None:
    assert near(tmp_path, rows_of(name, count)) == set()


@FILES
@SIZES
def test_near_duplicates_are_found_beside_a_shared_instruction(name: str, count: int, tmp_path: Path) -> None:
    chinese, make = SETS[name]
    copied = {count + at: at * (count // 3) for at in range(3)}
    own = texts(count, chinese)
    copies = [make(changed(own[first], first), first) for first in copied.values()]
    if name == "none":  # Only what is asked changes, so the answer is the first row's.
        copies = [
            {**one, "output": texts(1, seed=1000 + at)[0]}
            for one, at in zip(copies, copied.values(), strict=True)
        ]
    assert near(tmp_path, [*rows_of(name, count), *copies]) == set(copied)


@FILES
def test_copies_in_case_punctuation_and_blanks_are_found_beside_an_instruction(
    name: str, tmp_path: Path
) -> None:
    rows = rows_of(name, 40)
    rows.append({name: text.upper().replace(" ", "  ").replace("。", "！") for name, text in rows[3].items()})
    (found,) = findings(tmp_path / "rows.jsonl", rows, "duplicates")
    assert (found.rows, "only in case" in found.what) == ((40,), True)


@pytest.mark.parametrize("name", ["prompt", "two-zh", "long", "json"])
def test_held_out_rows_under_the_same_instruction_are_no_copies_of_trained_ones(
    name: str, tmp_path: Path
) -> None:
    assert not findings(tmp_path / "rows.jsonl", rows_of(name, 200), "overlap", held_out=0.2)


@pytest.mark.parametrize("name", ["prompt", "two-zh", "long", "json"])
def test_a_copy_of_a_held_out_row_is_found_under_the_same_instruction(name: str, tmp_path: Path) -> None:
    chinese, make = SETS[name]
    rows, held = rows_of(name, 100), tmp_path / "held.jsonl"
    other = texts(11, chinese, seed=5)
    own = texts(100, chinese)
    asked = [make(text, number) for number, text in enumerate(other[:10])] + [make(changed(own[8], 8), 8)]
    held.write_text("\n".join(json.dumps(row, ensure_ascii=False) for row in asked), encoding="utf-8")
    source = tmp_path / "rows.jsonl"
    source.write_text("\n".join(json.dumps(row, ensure_ascii=False) for row in rows), encoding="utf-8")
    found = open_data(DataSettings(sources=str(source), held_out_path=str(held))).findings
    (overlap,) = [one for one in found if one.check == "overlap"]
    assert (overlap.rows, overlap.places) == ((110,), (f"{held}:11: {source}:9",))


@pytest.mark.parametrize("copies", [3, 5, 8])
@pytest.mark.parametrize("name", ["none", "prompt", "two-zh"])
def test_several_copies_of_one_row_are_no_fixed_text(name: str, copies: int, tmp_path: Path) -> None:
    chinese, make = SETS[name]
    (text,) = texts(1, chinese, seed=9)
    text = text.replace(".", " " + " ".join(WORDS[:9]) + ".").replace("。", "，" + HAN[:15] + "。")
    rows = [*rows_of(name, 60), make(text, 0)]
    rows += [{**make(changed(text, seed), 0), **({"output": rows[-1]["output"]} if name == "none" else {})}
             for seed in range(copies)]  # fmt: skip
    found = findings(tmp_path / "rows.jsonl", rows, "duplicates")
    assert {row for one in found for row in one.rows} == set(range(61, 61 + copies))


def test_rows_of_several_tasks_under_a_shared_text_are_told_apart(tmp_path: Path) -> None:
    tasks = [" ".join(texts(6, seed=seed))[::-1] for seed in range(100, 104)]
    rows = [
        {"prompt": f"{RULES}\n{tasks[n % 4]}\n{text}", "completion": label(n)}
        for n, text in enumerate(texts(240))
    ]
    assert near(tmp_path, rows) == set()
    copy = {"prompt": f"{RULES}\n{tasks[1]}\n{changed(texts(240)[5], 1)}", "completion": label(5)}
    assert near(tmp_path, [*rows, copy]) == {240}


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("caf\u00e9", "cafe\u0301", True),
        ("Caf\u00e9!", "caf\u00e9", True),
        ("\u0915\u093f", "\u0915\u093e", False),
        ("\u0e01\u0e34", "\u0e01\u0e35", False),
        ("\u0643\u064e\u062a\u064e\u0628", "\u0643\u062a\u0628", True),
        ("\u304c", "\u304b\u3099", True),
    ],
    ids=["composed", "case and signs", "Devanagari vowels", "Thai vowels", "Arabic vowel points", "kana"],
)
def test_which_texts_are_equal_but_for_form(one: str, other: str, same: bool) -> None:
    assert (normal_codes(one).tobytes() == normal_codes(other).tobytes()) is same
