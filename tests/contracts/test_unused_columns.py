"""What a row holds is used, refused or reported: for every format, every known column and every key of a turn."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from weitiao.core.locale import in_language
from weitiao.data.conversation import Row
from weitiao.data.formats import FORMATS
from weitiao.data.formats._base import RowError
from weitiao.data.formats._known import MEANINGS, PROMPT_TEXT
from weitiao.data.forms import AnyForm
from weitiao.data.gate.gate import Gate, open_data
from weitiao.data.gate.summary import summary_of
from weitiao.data.report.overview import overview
from weitiao.data.settings import DataSettings

TALK = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]
VALUES: dict[str, Any] = {
    "label": True, "kto_tag": False, "score": 0.5, "scores": [0.5], "reward": 1, "rewards": [1],
    "chosen": "c", "rejected": "d", "rejected_response": "d", "train": False, "training": True, "loss": False,
    "weight": 0.5, "loss_weight": 0.5, "loss_scale": 0.5, "loss_mask": [0, 1], "tools": [{"name": "f"}],
    "functions": [{"name": "f"}], "tool_calls": [{"name": "f"}], "function_call": {"name": "f"},
    "images": ["a.png"], "history": [["x", "y"]], "messages": [*TALK, *TALK], "conversations": [*TALK, *TALK],
    "conversation": [*TALK, *TALK], "margin": 2, "answers": ["x"], "choices": ["x", "y"], "options": ["x", "y"],
    "endings": ["x", "y"], "completions": ["x"], "responses": ["x"], "spans": [[0, 1, "X"]], "entities": [[0, 1, "X"]],
    "tags": ["X", "X", "X"], "ner_tags": ["X", "X", "X"], "pos_tags": ["X", "X", "X"], "labels": ["X", "X", "X"],
    "tokens": ["x", "y", "z"], "words": ["x", "y", "z"], "translation": {"en": "x", "de": "y"},
    "score_chosen": 2, "score_rejected": 1, "chosen_score": 2, "rejected_score": 1, "current_node": "0", "mapping": {},
}  # fmt: skip
"""A column -> what stands in it; text where it is not here."""
EMPTY: tuple[Any, ...] = (None, "", [], {}, " ")
TURNS: list[tuple[str, str, dict[str, Any]]] = [
    ("messages", "messages", {"messages": TALK}),
    ("sharegpt", "conversations", {"conversations": TALK}),
    ("sharegpt", "conversation", {"conversation": [{"human": "q", "assistant": "a"}]}),
    ("prompt_completion", "prompt", {"prompt": TALK[:1], "completion": TALK[1:]}),
    ("prompt_completion", "completion", {"prompt": TALK[:1], "completion": TALK[1:]}),
    ("preference", "chosen", {"prompt": "q", "chosen": TALK[1:], "rejected": "b"}),
    (
        "preference",
        "rejected",
        {"chosen": TALK, "rejected": [TALK[0], {"role": "assistant", "content": "b"}]},
    ),
    ("preference", "messages", {"messages": TALK, "rejected_response": "b"}),
    ("preference", "conversations", {"conversations": TALK[:1], "chosen": "a", "rejected": "b"}),
    ("unpaired", "messages", {"messages": TALK, "label": True}),
    ("unpaired", "prompt", {"prompt": TALK[:1], "completion": "a", "label": True}),
    ("scored", "messages", {"messages": TALK, "reward": 1}),
    ("scored", "completions", {"prompt": "q", "completions": [TALK[1:]], "rewards": [1]}),
]
"""A format, a column of its that holds turns, and a row."""


def example(name: str) -> dict[str, Any]:
    """Return a format's example row."""
    row: dict[str, Any] = json.loads(FORMATS.load(name).example)
    return row


def read(name: str, fields: dict[str, Any]) -> tuple[AnyForm | None, list[str]]:
    """Return the form of a row, None where it is refused, and what is not used of it."""
    try:
        return FORMATS.load(name)().parse_noting(Row(fields, "x", 1))
    except RowError:
        return None, []


def turn_with(fields: dict[str, Any], column: str, key: str, value: object) -> dict[str, Any]:
    """Return a row whose last turn in a column has one more key."""
    last = fields[column][-1]
    changed = [{**last[-1], key: value}] if isinstance(last, list) else {**last, key: value}
    return {**fields, column: [*fields[column][:-1], changed]}


@pytest.mark.parametrize("name", FORMATS.names())
def test_a_column_that_no_format_knows_is_reported(name: str) -> None:
    row = example(name)
    plain, nothing = read(name, row)
    for value in ("x", 0, False, ["x"], {"a": 1}, 0.5):
        form, unused = read(name, {**row, "zzz": value})
        assert (form, [one for one in unused if one not in nothing]) == (plain, ["zzz"])


@pytest.mark.parametrize("name", FORMATS.names())
def test_a_known_column_is_used_or_refused(name: str) -> None:
    row = example(name)
    plain, _ = read(name, row)
    for column in [one for one in (*MEANINGS, *PROMPT_TEXT) if one not in row]:
        form, unused = read(name, {**row, column: VALUES.get(column, "x")})
        if column in MEANINGS:
            assert form != plain and column not in unused, column
        else:
            assert form != plain or unused == [column], column


@pytest.mark.parametrize("name", FORMATS.names())
def test_a_known_column_that_holds_nothing_changes_nothing(name: str) -> None:
    row = example(name)
    read_plain = read(name, row)
    for column in [one for one in MEANINGS if one not in row]:
        for value in EMPTY:
            assert read(name, {**row, column: value}) == read_plain, (column, value)


@pytest.mark.parametrize("name", FORMATS.names())
def test_every_column_of_a_formats_own_is_used_refused_or_reported(name: str) -> None:
    row = example(name)
    plain, _ = read(name, row)
    for column in FORMATS.load(name).columns:
        if column not in row:
            form, unused = read(name, {**row, column: VALUES.get(column, "x")})
            assert form != plain or column in unused, column


@pytest.mark.parametrize(("name", "column", "row"), TURNS)
def test_a_key_of_a_turn_is_used_refused_or_reported(name: str, column: str, row: dict[str, Any]) -> None:
    plain, unused = read(name, row)
    assert plain is not None and unused == []
    form, unused = read(name, turn_with(row, column, "zzz", "x"))
    assert form == plain and unused == [f"{column}[].zzz"]
    for key in MEANINGS:
        value = 0 if key == "loss_mask" else VALUES.get(key, "x")
        form, unused = read(name, turn_with(row, column, key, value))
        assert form != plain and unused == [], key
        for nothing in EMPTY:
            assert read(name, turn_with(row, column, key, nothing)) == (plain, []), key


@pytest.mark.parametrize(
    "column", ["Label", "IMAGES", "Score ", "Rejected", "图片", "标签", "得分", "Weight", "权重"]
)
def test_a_known_column_is_known_in_another_case_or_language(column: str) -> None:
    assert read("messages", {"messages": TALK, column: 0.5}) == (None, [])
    assert read("alpaca", {"instruction": "q", "output": "a", column: 0.5}) == (None, [])


def test_keys_of_calls_and_parts_are_reported() -> None:
    call = {
        "index": 0,
        "id": "1",
        "type": "function",
        "function": {"name": "f", "arguments": {}, "strict": True},
    }
    turns = [
        {"role": "user", "content": [{"type": "text", "text": "q", "cache_control": {"type": "x"}}]},
        {"role": "assistant", "content": None, "tool_calls": [call]},
    ]
    _, unused = read("messages", {"messages": turns})
    assert unused == [
        "messages[].content[].cache_control",
        "messages[].tool_calls[].index",
        "messages[].tool_calls[].function[].strict",
    ]


def test_right_answers_that_are_not_learnt_are_reported() -> None:
    for answers in (["a", "b"], {"text": ["a", "b"], "answer_start": [0, 3]}):
        _, unused = read("question_answer", {"question": "q", "answers": answers})
        assert unused == ["answers[].other_answers"]
    assert read("question_answer", {"question": "q", "answers": ["a", "a"]})[1] == []


def test_every_format_that_reads_turns_is_looked_at() -> None:
    with_turns = {
        name for name in FORMATS.names() if {"messages", "conversations"} & set(FORMATS.load(name).columns)
    }
    assert with_turns <= {name for name, _, _ in TURNS}


def look(path: Path, rows: list[dict[str, Any]], **settings: Any) -> Gate:  # noqa: ANN401
    """Write rows into a file and bring it through the gate."""
    path.write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    return open_data(DataSettings(sources=[str(path)], held_out=0, **settings))


def test_what_is_not_used_is_listed_once_a_source_with_counts(tmp_path: Path) -> None:
    rows = [{"instruction": f"q{n}", "output": "a", "id": n, "tags": ["x"] if n else []} for n in range(3)]
    gate = look(tmp_path / "a.jsonl", [*rows, {"instruction": "q", "output": "a"}])
    assert list(gate.tally.unused.values()) == [{"id": 3, "tags": 2}]
    (finding,) = [one for one in overview(gate).findings if one.check == "columns"]
    assert finding.severity == "note" and finding.what.endswith("not used: id, tags")
    assert finding.places == (f"{tmp_path / 'a.jsonl'}: id (3), tags (2)",)
    assert "用到" in in_language(finding.what, "zh")


def test_what_is_not_used_does_not_depend_on_chunks(tmp_path: Path) -> None:
    from weitiao.data.gate.pipeline import Effort

    rows = [{"instruction": f"q{n}", "output": "a", f"k{n % 3}": 1} for n in range(40)]
    whole = look(tmp_path / "a.jsonl", rows).tally.unused
    path = str(tmp_path / "a.jsonl")
    cut = open_data(DataSettings(sources=[path], held_out=0.5), effort=Effort(2, 4)).tally.unused
    assert [*map(list, cut.values())] == [*map(list, whole.values())] == [["k0", "k1", "k2"]]
    assert cut == whole


def test_training_says_what_is_not_used(tmp_path: Path) -> None:
    import numpy as np

    gate = look(tmp_path / "a.jsonl", [{"instruction": "q", "output": "a", "id": 1}])
    none = np.zeros(0, dtype=np.int64)
    assert summary_of(gate, none, none).notes == [f"{tmp_path / 'a.jsonl'}: not used: id (1)"]


def test_a_person_may_leave_known_columns_out(tmp_path: Path) -> None:
    row = {
        "messages": [*TALK[:1], {**TALK[1], "score": 3}], "images": ["a.png"], "label": True
    }  # fmt: skip
    gate = look(tmp_path / "a.jsonl", [row, row])
    assert [bad["reason"].partition(" ")[0] for bad in gate.tally.bad] == ["'images'", "'images'"]
    path = str(tmp_path / "a.jsonl")

    def without(names: Any) -> Gate:  # noqa: ANN401  (a list, or names with commas between them)
        return open_data(DataSettings(sources=[{"path": path, "ignore_columns": names}], held_out_path=path))

    left = without("images,label,messages[].score")
    assert dict(left.tally.formats) == {"messages": 4} and not left.problems and not left.tally.unused
    assert [(one.what, one.remedy) for one in without(["imagse"]).problems] == [
        ("no source has a column 'imagse'", "data.sources.ignore_columns=images")
    ]
    assert not without("images,label,messages[].score").problems


def test_a_person_who_names_the_format_chose_between_columns(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    look(path, [{"messages": TALK, "instruction": "x", "output": "y", "label": ""}])
    gate = open_data(DataSettings(sources=[{"path": str(path), "format": "messages"}], held_out=0))
    assert dict(gate.tally.formats) == {"messages": 1}
    assert list(gate.tally.unused.values()) == [{"instruction": 1, "output": 1}]
    look(path, [{"messages": TALK, "instruction": "x", "label": True}])
    assert open_data(DataSettings(sources=[{"path": str(path), "format": "messages"}], held_out=0)).tally.bad


def declared(folder: Path, rows: list[dict[str, Any]], **entry: Any) -> Gate:  # noqa: ANN401
    """Bring rows through the gate that LLaMA-Factory's list declares."""
    (folder / "a.json").write_text(json.dumps(rows), encoding="utf-8")
    entries = {"a": {"file_name": "a.json", **entry}}
    (folder / "dataset_info.json").write_text(json.dumps(entries), encoding="utf-8")
    return open_data(DataSettings(sources=[f"{folder / 'dataset_info.json'}:a"], held_out=0))


@pytest.mark.parametrize("label", ["label", "wanted"])
def test_a_declared_kto_tag_makes_unpaired_rows(label: str, tmp_path: Path) -> None:
    tags = {"role_tag": "role", "content_tag": "content", "user_tag": "user", "assistant_tag": "assistant"}
    rows = [{"messages": TALK, label: True}, {"messages": TALK, label: False}]
    columns = {"messages": "messages", "kto_tag": label}
    gate = declared(tmp_path, rows, formatting="sharegpt", columns=columns, tags=tags)
    assert dict(gate.tally.forms) == {"unpaired": 2}
    turns = [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]
    columns = {"messages": "conversations", "kto_tag": label}
    shared = declared(
        tmp_path, [{"conversations": turns, label: True}], formatting="sharegpt", columns=columns
    )
    assert dict(shared.tally.forms) == {"unpaired": 1}
    row = {"instruction": "q", "input": "", "output": "a", label: False}
    assert dict(declared(tmp_path, [row], columns={"kto_tag": label}).tally.forms) == {"unpaired": 1}


def test_a_column_is_left_out_under_its_own_name_or_the_one_it_is_given(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    look(path, [{"instruction": "q", "output": "a", "wanted": "x"}])
    for name in ("label", "wanted"):
        source = {"path": str(path), "columns": {"label": "wanted"}, "ignore_columns": name}
        gate = open_data(DataSettings(sources=[source], held_out=0))
        assert (dict(gate.tally.formats), gate.problems) == ({"alpaca": 1}, ())


@pytest.mark.parametrize(
    "turn",
    [
        {"role": "user", "content": "q", "value": "r"},
        {"role": "user", "content": "q", "text": "r"},
        {"role": "user", "content": [{"type": "text", "text": "q", "value": "r"}]},
        {"human": "q", "content": "r"},
    ],
)
def test_text_of_a_turn_is_not_lost(turn: dict[str, Any]) -> None:
    assert read("messages", {"messages": [turn, TALK[1]]}) == (None, [])


@pytest.mark.parametrize("name", ["images", "videos", "audios"])
def test_declared_media_are_refused(name: str, tmp_path: Path) -> None:
    turns = [{"from": "human", "value": "<image>q"}, {"from": "gpt", "value": "a"}]
    rows = [{"conversations": turns, "mine": ["a.png"]}]
    gate = declared(
        tmp_path, rows, formatting="sharegpt", columns={"messages": "conversations", name: "mine"}
    )
    assert [bad["reason"].startswith("'mine' holds images") for bad in gate.tally.bad] == [True]
