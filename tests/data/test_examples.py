"""The sample data: every file parses, has its form and its size, repeats nothing and says what it is."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
ALPACA_ROWS = {"identity_en": 40, "identity_zh": 40, "tcm_en": 120, "tcm_zh": 120}
MESSAGES_ROWS = {"multiturn_en": 20, "multiturn_zh": 20}
NAMES = [*ALPACA_ROWS, *MESSAGES_ROWS]

Rows = list[dict[str, Any]]


def rows_of(name: str) -> Rows:
    """Read one file as UTF-8 without a byte order mark."""
    rows: Rows = json.loads((EXAMPLES / f"{name}.json").read_text(encoding="utf-8"))
    return rows


def texts_of(row: dict[str, Any]) -> list[str]:
    """Return every text a row holds, but for an `input` that is left empty."""
    if "messages" in row:
        return [message["content"] for message in row["messages"]]
    return [row["instruction"], row["output"], *([row["input"]] if row.get("input") else [])]


def is_chinese(text: str) -> bool:
    """Tell whether a text holds Chinese characters."""
    return bool(re.search(r"[\u4e00-\u9fff]", text))


@pytest.mark.parametrize("name", NAMES)
def test_no_text_is_empty_padded_or_in_the_wrong_language(name: str) -> None:
    for row in rows_of(name):
        assert all(text and text == text.strip() for text in texts_of(row)), row
        assert is_chinese(" ".join(texts_of(row))) == name.endswith("_zh"), row


@pytest.mark.parametrize("name", ALPACA_ROWS)
def test_alpaca_files_have_their_fields_and_rows(name: str) -> None:
    rows = rows_of(name)
    fields = {"instruction", "output"} | ({"input"} if name.startswith("tcm") else set())
    assert len(rows) >= ALPACA_ROWS[name]
    assert all(set(row) == fields for row in rows)


@pytest.mark.parametrize("name", MESSAGES_ROWS)
def test_conversations_alternate_and_end_with_the_assistant(name: str) -> None:
    rows = rows_of(name)
    assert len(rows) >= MESSAGES_ROWS[name]
    for row in rows:
        roles = [message["role"] for message in row["messages"]]
        turns = roles[1:] if roles[0] == "system" else roles
        assert turns == ["user", "assistant"] * (len(turns) // 2), row
        assert 2 <= len(turns) // 2 <= 4
    assert any(row["messages"][0]["role"] == "system" for row in rows)


@pytest.mark.parametrize("name", NAMES)
def test_nothing_is_said_twice(name: str) -> None:
    asked = [
        json.dumps([v for k, v in row.items() if k != "output"], ensure_ascii=False) for row in rows_of(name)
    ]
    answers = [texts_of(row)[1] for row in rows_of(name)] if name in ALPACA_ROWS else []
    assert len(set(asked)) == len(asked)
    assert len(set(answers)) == len(answers)


@pytest.mark.parametrize("name", NAMES)
def test_placeholders_are_the_two_known_ones_and_in_identity_files_only(name: str) -> None:
    found = [set(re.findall(r"\{+.*?\}+", " ".join(texts_of(row)))) for row in rows_of(name)]
    if name.startswith("identity"):
        assert all("{{name}}" in placeholders for placeholders in found)
        assert sum("{{author}}" in placeholders for placeholders in found) >= 0.9 * len(found)
    assert set.union(*found) == ({"{{name}}", "{{author}}"} if name.startswith("identity") else set())


@pytest.mark.parametrize(("name", "shortest", "longest"), [("tcm_en", 25, 90), ("tcm_zh", 40, 150)])
def test_answers_have_a_readable_length(name: str, shortest: int, longest: int) -> None:
    for row in rows_of(name):
        size = len(row["output"]) if name.endswith("_zh") else len(row["output"].split())
        assert shortest <= size <= longest, (size, row)


@pytest.mark.parametrize(
    ("page", "notice"), [("README.md", "not medical advice"), ("README.zh.md", "不是医疗建议")]
)
def test_the_readme_counts_the_rows_and_says_it_is_a_sample(page: str, notice: str) -> None:
    text = (EXAMPLES / page).read_text(encoding="utf-8")
    counted = dict(re.findall(r"^\| `(\w+)\.json` \|.*?\| (\d+) \|", text, re.MULTILINE))
    assert {name: int(count) for name, count in counted.items()} == {
        name: len(rows_of(name)) for name in NAMES
    }
    assert notice in text
