"""Files that hold no rows, and what is said of them: dialogues as text, tables without a header, pipes."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from weitiao.core.errors import DataError
from weitiao.data.dataset import check_data
from weitiao.data.settings import DataSettings, SourceSettings
from weitiao.data.sources.dataset_info import expand_source
from weitiao.data.sources.sources import read_source


def refused(path: Path, text: str = "") -> str:
    """Write a file and return what checking it ends in."""
    if text:
        path.write_text(text, encoding="utf-8")
    with pytest.raises(DataError) as caught:
        check_data(DataSettings(sources=path))
    return str(caught.value)


DIALOGUES = [
    "Q: What is tin?\nA: A metal.\n\nQ: What is ginger?\nA: A root.\n",
    "问：锡是什么？\n答：一种金属。\n是的。\n\n问：姜是什么？\n答：一种根。\n",
    "### Instruction:\nName a metal.\n\n### Response:\nTin.\n",
    "User: Hi\nAssistant: Hello\nUser: Bye\nAssistant: Ciao\n",
    "Question 1: x\nAnswer 1: y\nQuestion 2: x\nAnswer 2: y\n",
    "**Q:** x\n**A:** y\n",
]


@pytest.mark.parametrize("text", DIALOGUES)
def test_questions_and_answers_in_a_text_are_named(text: str, tmp_path: Path) -> None:
    said = refused(tmp_path / "a.txt", text)
    assert "questions and answers written as running text" in said
    assert '{"question": "...", "answer": "..."}' in said
    assert "format: plain_text" in said
    path = str(tmp_path / "a.txt")
    assert read_source(SourceSettings(path=path, format="plain_text")).rows
    assert read_source(SourceSettings(path=path, lines=True)).rows


@pytest.mark.parametrize(
    "text",
    ['{"instruction": "q", "output": "a"}\n', '[\n{"question": "q"}\n]', '\n{\n "text": "a"\n}\n'],
)
def test_json_in_a_text_is_named_and_not_trained(text: str, tmp_path: Path) -> None:
    said = refused(tmp_path / "a.txt", text)
    assert "holds JSON, not text" in said
    assert "format: plain_text" in said
    assert read_source(SourceSettings(path=str(tmp_path / "a.txt"), format="plain_text")).rows


def test_full_width_commas_between_columns_are_named(tmp_path: Path) -> None:
    assert "full-width commas" in refused(tmp_path / "a.csv", "问题，答案\n锡是什么，一种金属\n")


def test_a_word_document_is_not_called_a_zip_archive(tmp_path: Path) -> None:
    (tmp_path / "a.docx").write_bytes(b"PK\x03\x04" + bytes(30))
    said = refused(tmp_path / "a.docx")
    assert "an Office document" in said
    assert "copy its text" in said


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[{"instruction": "a\nb", "output": "c"}]', "a line break is written \\n"),
        ('[{"instruction": "C:\\data", "output": "c"}]', "a backslash is written twice"),
        ('[{"instruction": "a" "output": "c"}]', "straight quotes"),
    ],
)
def test_a_syntax_error_is_said_with_its_own_remedy(text: str, said: str, tmp_path: Path) -> None:
    assert said in refused(tmp_path / "a.json", text)


@pytest.mark.parametrize(
    "text", ['{"question": {"0": "q", "1": "r"}, "answer": {"0": "a", "1": "b"}}', '{"q": ["x"], "a": ["y"]}']
)
def test_a_table_by_columns_is_named_with_what_to_type_in_pandas(text: str, tmp_path: Path) -> None:
    said = refused(tmp_path / "a.json", text)
    assert "a table by columns" in said
    assert "orient='records'" in said


def test_a_row_that_is_chinese_text_is_shown_as_it_stands(tmp_path: Path) -> None:
    assert "锡是什么" in refused(tmp_path / "a.json", '["锡是什么", "一种金属"]')


@pytest.mark.parametrize(
    "text",
    [
        "A: the first letter.\n\nQ: a later one.\n",
        "Intro.\n\nQ: x\nA: y\n",
        "Q: only asked\n",
        "Q: x\nQ: y\nA: z\n",
    ],
)
def test_other_texts_stay_texts(text: str, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(text)
    assert read_source(SourceSettings(path=str(tmp_path / "a.txt"))).rows


HEADLESS = [
    "What is tin?,A metal.\nWhat is ginger?,A root.\n",
    "锡是什么？\t一种金属。\n姜是什么？\t一种根。\n",
    "17,The seventeenth row is this one\n18,The eighteenth row\n",
    f"{'long ' * 12},b\nc,d\n",
]


@pytest.mark.parametrize("text", HEADLESS)
def test_a_table_without_a_header_is_named(text: str, tmp_path: Path) -> None:
    said = refused(tmp_path / ("a.tsv" if "\t" in text else "a.csv"), text)
    assert "seems to have no header" in said
    assert "such as instruction,output" in said


def test_a_header_of_other_names_is_no_row(tmp_path: Path) -> None:
    assert "no header" not in refused(tmp_path / "a.csv", "ask,tell\nx,y\n")
    (tmp_path / "b.csv").write_text("What do you ask?,What is said?\nx,y\n")
    columns = {"instruction": "What do you ask?", "output": "What is said?"}
    assert check_data(DataSettings(sources=tmp_path / "b.csv", columns=columns)).tally.read == 1


def test_a_pipe_is_named_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.jsonl")
    said = refused(tmp_path / "a.jsonl")
    assert "is a pipe or a device" in said
    assert "cat" in said
    assert "is a pipe or a device" in refused(tmp_path)


def info(folder: Path, **entries: object) -> Path:
    """Write LLaMA-Factory's list."""
    (folder / "dataset_info.json").write_text(json.dumps(entries))
    return folder / "dataset_info.json"


TURNS = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]


def test_openai_formatting_has_the_usual_words(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps([{"messages": TURNS}]))
    (tmp_path / "b.json").write_text(json.dumps([{"chat": [{**TURNS[0], "role": "me"}, TURNS[1]]}]))
    entry = {"file_name": "b.json", "formatting": "openai", "columns": {"messages": "chat"}}
    path = info(
        tmp_path,
        plain={"file_name": "a.json", "formatting": "openai"},
        named={**entry, "tags": {"role_tag": "role", "user_tag": "me"}},
        same={**entry, "tags": {"role_tag": "role", "content_tag": "content", "user_tag": "user"}},
    )
    gate = check_data(DataSettings(sources=[f"{path}:plain", f"{path}:named"]))
    assert gate.tally.formats == {"messages": 2}
    (same,) = expand_source(SourceSettings(path=f"{path}:same")).sources
    assert (same.columns, same.tags) == ({"messages": "chat"}, {})


def test_an_unknown_formatting_is_named_with_the_nearest(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps([{"messages": TURNS}]))
    path = info(
        tmp_path,
        a={"file_name": "a.json", "formatting": "sharegtp"},
        b={"file_name": "a.json", "formatting": 1},
    )
    with pytest.raises(DataError) as caught:
        expand_source(SourceSettings(path=f"{path}:a,b"))
    assert [problem.remedy for problem in caught.value.problems] == ['"formatting": "sharegpt"', ""]
    assert "one of alpaca, sharegpt, openai" in caught.value.problems[0].expected


@pytest.mark.parametrize("name", ["{}/other/a.json", "../other/a.json", "link.json", "folder"])
def test_files_outside_of_the_lists_folder_are_read_only_where_it_is_said(name: str, tmp_path: Path) -> None:
    folder, other = tmp_path / "data", tmp_path / "other"
    folder.mkdir()
    other.mkdir()
    (other / "a.json").write_text(json.dumps([{"instruction": "q", "output": "a"}]))
    (folder / "link.json").symlink_to(other / "a.json")
    (folder / "folder").symlink_to(other)
    path = info(folder, a={"file_name": name.format(tmp_path)})
    with pytest.raises(DataError, match="is outside the folder of the list") as caught:
        read_source(SourceSettings(path=f"{path}:a"))
    assert "outside: true" in caught.value.problems[0].remedy
    assert len(read_source(SourceSettings(path=f"{path}:a", outside=True)).rows) == 1


def test_lines_of_a_text_in_a_list_are_rows(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("Q: one\nA: two\n\nthree\r\n")
    path = info(tmp_path, a={"file_name": "a.txt", "columns": {"prompt": "text"}})
    found = read_source(SourceSettings(path=f"{path}:a"))
    assert [(row.line, row.fields) for row in found.rows] == [
        (1, {"text": "Q: one"}),
        (2, {"text": "A: two"}),
        (4, {"text": "three"}),
    ]


def test_columns_that_name_no_response_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps([{"instruction": "q", "output": "a"}]))
    path = info(tmp_path, a={"file_name": "a.json", "columns": {"prompt": "instruction", "system": "s"}})
    with pytest.raises(DataError, match="name no response"):
        expand_source(SourceSettings(path=f"{path}:a"))


ROWS = {"question": "q", "answer": "a"}
PAGE = {
    "features": [{"feature_idx": 0, "name": "question", "type": {"dtype": "string"}}],
    "rows": [{"row_idx": n, "row": {**ROWS, "n": n}, "truncated_cells": []} for n in range(3)],
    "num_rows_total": 3,
}
"""As Hugging Face's datasets server gives it."""


@pytest.mark.parametrize(
    ("value", "said", "remedy"),
    [
        ({"questions": ["q", "r"], "answers": ["a", "b"]}, "a table by columns", "zip(*whole.values())"),
        ({"text": ["a", "b"]}, "a table by columns", "zip(*whole.values())"),
        ({"text": {"0": "a", "1": "b"}}, "a table by columns", "orient='records'"),
        ({"0": ROWS, "1": ROWS}, "each row under its own key", "[*whole.values()]"),
        ({"x7": {**ROWS, "n": 1}, "x8": {**ROWS, "n": 2}}, "each row under its own key", "[*whole.values()]"),
        ({"你好吗": "好", "你是谁": "小微"}, "questions as keys", "whole.items()"),
        ({"Who?": ["I", "me"], "Why?": ["So"]}, "questions as keys", "whole.items()"),
    ],
)
def test_an_object_that_is_no_list_is_named(value: object, said: str, remedy: str, tmp_path: Path) -> None:
    words = refused(tmp_path / "a.json", json.dumps(value))
    assert said in words
    assert remedy in words


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([{"questions": ["q", "r"], "answers": ["a", "b"]}], "as parallel lists (questions, answers)"),
        ([{"你好吗": "好"}, {"你是谁": "小微"}, {"再见": "再见"}], "a question as the key"),
    ],
)
def test_rows_of_a_known_shape_are_named(rows: list[object], said: str, tmp_path: Path) -> None:
    words = refused(tmp_path / "a.jsonl", "\n".join(map(json.dumps, rows)))
    assert said in words
    assert "in Python: [" in words


def test_what_is_proposed_for_lists_makes_rows() -> None:
    whole = {"questions": ["q", "r"], "answers": ["a", "b"]}
    assert [dict(zip(whole, cells, strict=True)) for cells in zip(*whole.values(), strict=True)] == [
        {"questions": "q", "answers": "a"},
        {"questions": "r", "answers": "b"},
    ]


@pytest.mark.parametrize("indent", [None, 1])
def test_a_page_of_the_datasets_server_is_read(indent: int | None, tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text(json.dumps(PAGE, indent=indent))
    found = read_source(SourceSettings(path=str(path)))
    assert [row.fields for row in found.rows] == [{**ROWS, "n": n} for n in range(3)]
    assert found.notes == [f"{path}: the rows are the list under 'rows'"]
    path.write_text(json.dumps({**PAGE, "num_rows_total": 52002}))
    assert read_source(SourceSettings(path=str(path))).notes[1].endswith("datasets server: 3 of 52,002 rows")


@pytest.mark.parametrize("name", ["a.json", "a.jsonl"])
def test_rows_of_the_datasets_server_are_read_alone_and_cut_ones_refused(name: str, tmp_path: Path) -> None:
    rows = [*PAGE["rows"], {"row_idx": 3, "row": ROWS, "truncated_cells": ["answer"]}]  # type: ignore[misc]
    text = json.dumps(rows) if name == "a.json" else "\n".join(map(json.dumps, rows))
    (tmp_path / name).write_text(text)
    found = read_source(SourceSettings(path=str(tmp_path / name)))
    assert [row.fields["n"] for row in found.rows] == [0, 1, 2]
    assert [bad.reason.partition(":")[0] for bad in found.bad] == ["the datasets server has cut its cells"]


def test_a_large_page_of_the_datasets_server_is_read(tmp_path: Path) -> None:
    rows = [{"row_idx": n, "row": {"text": "x" * 60_000}, "truncated_cells": []} for n in range(100)]
    (tmp_path / "a.json").write_text(json.dumps({**PAGE, "rows": rows}))
    assert len(read_source(SourceSettings(path=str(tmp_path / "a.json"))).rows) == 100


def test_a_column_that_is_empty_everywhere_is_named(tmp_path: Path) -> None:
    rows = [{"prompt": "q", "chosen": "a", "rejected": ""}] * 3
    said = refused(tmp_path / "a.jsonl", "\n".join(map(json.dumps, rows)))
    assert "the column rejected is empty in every row" in said
    assert "data.columns.completion=chosen" in said
    columns = {"completion": "chosen"}
    gate = check_data(DataSettings(sources=tmp_path / "a.jsonl", columns=columns))
    assert gate.tally.forms == {"conversation": 3}


def test_texts_to_learn_as_xtuner_writes_them_are_named(tmp_path: Path) -> None:
    row = {"conversation": [{"input": "", "output": "A long text."}]}
    assert "plain text, as in XTuner" in refused(tmp_path / "a.json", json.dumps([row, row]))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("question\tanswer\nq\ta\nr\tb\n", "expected  a name that says what it holds: .tsv"),
        ("question,answer\nq,a\n", "expected  a name that says what it holds: .csv"),
        ('"问题"|"答案"\nq|a\n', "holds a table, not text"),
        ("text: one\ntext: two\n", "each line begins with 'text'"),
        ("问题：一\n\n问题：二\n", "each line begins with '问题'"),
        ("Question 1: x\nQuestion 2: y\n", "each line begins with 'Question'"),
    ],
)
def test_tables_and_keys_in_a_text_are_named(text: str, said: str, tmp_path: Path) -> None:
    words = refused(tmp_path / "a.txt", text)
    assert said in words
    assert "format: plain_text" in words
    assert read_source(SourceSettings(path=str(tmp_path / "a.txt"), format="plain_text")).rows


@pytest.mark.parametrize(
    "text",
    [
        "text\none\ntwo\n",
        "Note: one\nNote: two\n",
        "Text, content and answer are words.\nNo mark here.\n",
        "one, two\nthree, four\n",
        "text: alone\n",
    ],
)
def test_texts_that_are_no_tables_stay_texts(text: str, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(text)
    assert read_source(SourceSettings(path=str(tmp_path / "a.txt"))).rows


def test_columns_are_called_as_their_file_names_them(tmp_path: Path) -> None:
    path = tmp_path / "batch.jsonl"
    path.write_text('{"custom_id": "1", "body": {"a": 1}}\n' * 2, encoding="utf-8")
    with pytest.raises(DataError) as caught:
        check_data(DataSettings(sources=[str(path)], held_out=0))  # type: ignore[arg-type]
    assert [problem.got for problem in caught.value.problems] == ["body, custom_id"]


def test_an_entry_that_is_no_object_is_named_as_such(tmp_path: Path) -> None:
    path = tmp_path / "dataset_info.json"
    path.write_text('{"k14": [], "a": {"file_name": "a.json"}}', encoding="utf-8")
    with pytest.raises(DataError, match="the entry 'k14' is not an object"):
        expand_source(SourceSettings(path=f"{path}:k14"))
