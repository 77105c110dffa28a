"""Every reason that the code gives for a row that cannot be used has its Chinese."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import weitiao.data
from weitiao.core.locale import in_language
from weitiao.data.bad_rows import BadRow
from weitiao.data.formats._base import KIND_NAMES, RowError
from weitiao.data.formats._known import ANSWER_TEXT, MEANINGS, PROMPT_TEXT, TURN_TEXT, WHOLE_TEXT
from weitiao.data.formats._turns import ENDS, FAULTS
from weitiao.data.sources.json_values import TOO_DEEP, TOO_LONG
from weitiao.data.templates.render import NO_TOKEN, NOTHING_TRAINED
from weitiao.data.templates.truncation import NEVER_CUT, NO_ROOM, TOKENS_STAY
from weitiao.data.templates.truncation import TOO_LONG as LONG_ROW

LENGTHS = (NOTHING_TRAINED, NO_TOKEN, LONG_ROW, NO_ROOM, NEVER_CUT, TOKENS_STAY)
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
    found = [*ENDS.values(), TOO_DEEP, TOO_LONG, "'x' or 'y' is missing", *LENGTHS]
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
    assert [one for one in reasons if not HAN.search(in_language(one, "zh"))] == []


def test_what_a_column_holds_and_what_a_value_is_have_their_chinese() -> None:
    tables = (MEANINGS, TURN_TEXT, PROMPT_TEXT, ANSWER_TEXT, WHOLE_TEXT)
    said = [*(says for table in tables for says in table.values()), *KIND_NAMES.values()]
    assert [one for one in said if not HAN.search(in_language(one, "zh"))] == []


@pytest.mark.parametrize(
    ("english", "chinese"),
    [
        (
            "'问题' must be text, not a list",
            in_language("'x' must be text, not a list", "zh").replace("x", "问题"),
        ),
        ("its turns are out of order: two answers in a row", "轮次的顺序不对：连续两个回答"),
        ("longer than 512 tokens (data.max_length)", "超过 512 个词元（data.max_length）"),
        ("said by nobody", "said by nobody"),
    ],
)
def test_reasons_in_chinese(english: str, chinese: str) -> None:
    assert in_language(english, "zh") == chinese


def test_the_reasons_of_this_files_own_scan_are_reasons() -> None:
    errors: list[Any] = [RowError("a question is empty"), BadRow("x:1", "a question is empty")]
    assert all(one.reason in all_reasons() for one in errors)
