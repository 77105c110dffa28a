"""What is said of a row names its columns as the data does, also in the settings to type."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from weitiao.data.formats._detect import load_formats
from weitiao.data.gate.gate import Gate, open_data
from weitiao.data.settings import DataSettings

TALK = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]


def look(path: Path, rows: list[dict[str, Any]], **source: Any) -> Gate:  # noqa: ANN401
    """Write rows into a file and bring it through the gate."""
    path.write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    return open_data(DataSettings(sources=[{"path": str(path), **source}], held_out=0))


@pytest.mark.parametrize(
    ("row", "reason", "detail"),
    [
        ({"问题": ["x"], "答案": "a"}, "'问题' must be text, not a list", "['x']"),
        ({"答案": "a"}, "'问题' is missing", "it has '答案'"),
        ({"问题": "q"}, "'答案' is missing", "it has '问题'"),
        ({"问题": "q", "答案": "a", "标签": "x"}, "'标签' holds a label", "'x'"),
        ({"问题": "q", "答案": ["output"]}, "'答案' must be text, not a list", "['output']"),
    ],
)
def test_a_refused_row_names_the_datas_own_columns(
    row: dict[str, Any], reason: str, detail: str, tmp_path: Path
) -> None:
    gate = look(tmp_path / "a.jsonl", [{"问题": "q", "答案": "a"}] * 3 + [row])
    (bad,) = gate.tally.bad
    assert bad["reason"].startswith(reason) and bad["detail"] == detail


def test_the_setting_to_type_works(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    rows = [{"消息": [TALK[0], {**TALK[1], "score": 3}], "正文": "A book."}]
    columns = {"messages": "消息", "content": "正文"}
    seen = []
    ignored: list[str] = []
    while bad := look(path, rows, columns=columns, ignore_columns=ignored).tally.bad:
        found = re.search(r"ignore_columns=(\S+) reads", bad[0]["reason"])
        assert found and found[1] not in ignored
        ignored.append(found[1])
        seen += bad
    assert ignored == ["正文", "消息[].score"]


def test_a_setting_that_uses_a_column_names_it_as_the_data_does(tmp_path: Path) -> None:
    rows = [{"instruction": "q", "output": "a", "正文": "A book."}]
    (bad,) = look(tmp_path / "a.jsonl", rows, columns={"text": "正文"}).tally.bad
    assert "data.columns.context=正文 reads" in bad["reason"]
    gate = look(tmp_path / "a.jsonl", rows, columns={"context": "正文"})
    assert gate.store.form(0).messages[0].content == "A book.\n\nq"  # type: ignore[union-attr]


def test_what_is_not_used_is_listed_as_the_data_names_it(tmp_path: Path) -> None:
    rows = [{"对话": [TALK[0], {**TALK[1], "id": 1}], "编号": 1, "answer": "a"}]
    gate = look(tmp_path / "a.jsonl", rows, columns={"tags": "编号"})
    assert list(gate.tally.unused.values()) == [{"编号": 1, "answer": 1, "对话[].id": 1}]


@pytest.mark.parametrize("name", [*load_formats()])
def test_no_name_of_ours_is_left_where_all_columns_have_others(name: str, tmp_path: Path) -> None:
    one = load_formats()[name]
    row = json.loads(one.example)
    columns = {ours: f"their {ours}!" for ours in row}
    for ours in row:
        broken = {theirs: (5.5 if name == ours else row[name]) for name, theirs in columns.items()}
        missing = {theirs: row[name] for name, theirs in columns.items() if name != ours}
        rows = [{theirs: row[name] for name, theirs in columns.items()}, broken, missing]
        for bad in look(tmp_path / "a.jsonl", rows, columns=columns, format=name).tally.bad:
            quoted = set(re.findall(r"'([^']+)'", bad["reason"]))
            assert not quoted & set(row) or "turn" in bad["reason"], bad
