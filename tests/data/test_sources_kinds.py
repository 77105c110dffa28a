"""Every kind of source: compressed text, arrow, Excel, documents, folders, LLaMA-Factory's lists, Python objects."""

from __future__ import annotations

import datetime
import gzip
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow
import pytest

from weitiao.core.errors import DataError
from weitiao.data.conversation import Row
from weitiao.data.settings import DataSettings, SourceSettings
from weitiao.data.sources import json_buffer, json_parser
from weitiao.data.sources.sources import expand_source, open_source, read_source

ROWS = [{"instruction": f"q{n}", "output": f"a{n}"} for n in range(3)]
LINES = "".join(json.dumps(row) + "\n" for row in ROWS)


def fields(path: Path | str, **settings: Any) -> list[dict[str, Any]]:  # noqa: ANN401
    """Return the rows of a source."""
    return [row.fields for row in read_source(SourceSettings(path=str(path), **settings)).rows]


def test_text_may_be_compressed(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(LINES.encode()))
    (tmp_path / "b.json.zst").write_bytes(
        pyarrow.Codec("zstd").compress(json.dumps(ROWS).encode(), asbytes=True)
    )
    (tmp_path / "c.csv.gz").write_bytes(gzip.compress("a\n中\n".encode("utf-16")))
    assert fields(tmp_path / "a.jsonl.gz") == fields(tmp_path / "b.json.zst") == ROWS
    assert fields(tmp_path / "c.csv.gz") == [{"a": "中"}]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_lines_end_in_any_way(end: str, tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(
        LINES.replace("\n", end).encode() + b'\n{"instruction": "q", "output": "a"}'
    )
    (tmp_path / "b.csv").write_bytes(f"a,b{end}1,2{end}3,4{end}".encode())
    rows = read_source(SourceSettings(path=str(tmp_path / "a.jsonl"))).rows
    assert [row.fields for row in rows[:3]] == ROWS
    assert [row.line for row in rows[:3]] == [1, 2, 3]
    assert fields(tmp_path / "b.csv") == [{"a": "1", "b": "2"}, {"a": "3", "b": "4"}]


def test_objects_over_several_lines_one_after_the_other(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("\n".join(json.dumps(row, indent=1) for row in ROWS))
    rows = read_source(SourceSettings(path=str(tmp_path / "a.json")))
    assert [(row.fields, row.line) for row in rows.rows] == [(ROWS[0], 1), (ROWS[1], 5), (ROWS[2], 9)]
    assert "concatenated objects" in rows.notes[0]


@pytest.mark.parametrize(
    ("opening", "between"),
    [("[", ","), ('{"version": 1, "data": [', ",\n"), ('{"version": 1, "data": [', "\n ,\n\n")],
)
def test_json_larger_than_the_window_keeps_exact_places(opening: str, between: str, tmp_path: Path) -> None:
    objects = [{"n": n, "t": "字😀" * (n % 197), "more": ["]", {"x": '"'}]} for n in range(12_000)]
    whole = [opening, *(json.dumps(one, ensure_ascii=False) + between for one in objects)]
    whole[-1] = whole[-1].removesuffix(between) + "]" + "}" * (opening[0] == "{")
    text = "".join(whole)
    path = tmp_path / "a.json"
    path.write_text(text, encoding="utf-8")
    assert len(text) > 2 * json_buffer.BLOCK_CHARACTERS
    rows = read_source(SourceSettings(path=str(path))).rows
    assert [row.fields for row in rows] == objects
    lines = text.split("\n")
    for row in rows[::500]:
        # The rows that begin on this line, before this one, are passed over.
        line, begins = lines[row.line - 1], -1
        for _ in range(max(row.number, 1)):
            begins = line.find('{"n"', begins + 1)
        assert json.JSONDecoder().raw_decode(line, begins)[0] == row.fields
    broken = len(opening) + text[len(opening) :].index('"n": 11000') + 3
    path.write_text(text[:broken] + text[broken + 2 :], encoding="utf-8")
    with pytest.raises(DataError) as caught:
        read_source(SourceSettings(path=str(path)))
    got = caught.value.problems[0].got
    line, column = map(int, got.split(str(path) + ":")[1].split(":")[:2])
    assert (text[:broken].count("\n") + 1, broken - text[:broken].rfind("\n")) == (line, column)
    shown, caret = got.split("\n")[1:]
    assert '"n"11000' in shown
    assert caret.endswith("^")


def test_a_large_object_with_its_list_is_read_piece_by_piece(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    row = json.dumps({"t": "x" * 1000})
    path.write_text(
        '{"n": 1, "data": [' + ",".join([row] * (json_parser.WHOLE_OBJECT // 900)) + '], "z": {}}'
    )
    stream = open_source(SourceSettings(path=str(path)))
    assert sum(isinstance(one, Row) for one in stream) == json_parser.WHOLE_OBJECT // 900
    assert "'data'" in stream.notes[0]


def test_arrow_files_and_streams_and_what_datasets_saved(tmp_path: Path) -> None:
    import datasets
    from pyarrow import feather

    table = pyarrow.Table.from_pylist(ROWS)
    feather.write_feather(table, str(tmp_path / "a.feather"))
    with (
        pyarrow.OSFile(str(tmp_path / "b.arrow"), "wb") as file,
        pyarrow.ipc.new_stream(file, table.schema) as out,
    ):
        out.write_table(table)
    assert fields(tmp_path / "a.feather") == fields(tmp_path / "b.arrow") == ROWS
    data = datasets.Dataset.from_list(ROWS)
    data.save_to_disk(tmp_path / "saved")
    datasets.DatasetDict(train=data, test=data.select([2])).save_to_disk(tmp_path / "splits")
    assert fields(tmp_path / "saved") == fields(tmp_path / "splits") == ROWS
    assert fields(tmp_path / "splits", split="test") == ROWS[2:]
    with pytest.raises(DataError, match=r"data\.sources\.split=test"):
        fields(tmp_path / "splits", split="tets")


def test_excel_sheets_dates_and_numbers(tmp_path: Path) -> None:
    import openpyxl

    book = openpyxl.Workbook()
    sheet = book.active
    sheet.append(["instruction", "output", "when", None])
    sheet.append(["q", 42, datetime.date(2026, 1, 2), None])
    sheet.append([None, None, None, None])
    sheet.append(["r", 1.5, None, None])
    book.create_sheet("问答").append(["a"])
    book["问答"].append([True])
    path = tmp_path / "a.xlsx"
    book.save(path)
    rows = read_source(SourceSettings(path=str(path)))
    assert [(row.line, list(row.fields.values())) for row in rows.rows] == [
        (2, ["q", "42", "2026-01-02"]),
        (4, ["r", "1.5", ""]),
    ]
    assert any("问答" in note for note in rows.notes)
    assert fields(path, sheet="问答") == [{"a": "TRUE"}]
    with pytest.raises(DataError, match=r"data\.sources\.sheet=Sheet"):
        fields(path, sheet="Shet")


@pytest.mark.parametrize(
    ("package", "path", "extra"),
    [("openpyxl", "{}/a.xlsx", "weitiao[xlsx]"), ("modelscope_hub", "modelscope:a/b", "weitiao[modelscope]")],
)
def test_a_missing_extra_is_named(package: str, path: str, extra: str, tmp_path: Path) -> None:
    (tmp_path / "a.xlsx").write_bytes(b"x")
    code = f"""
import sys
sys.modules[{package!r}] = None
from weitiao.core.errors import MissingExtraError
from weitiao.data.settings import SourceSettings
from weitiao.data.sources.sources import read_source
try:
    read_source(SourceSettings(path={path.format(tmp_path)!r}))
except MissingExtraError as error:
    print(error)
"""
    assert extra in subprocess.check_output([sys.executable, "-c", code], text=True)


def test_documents_of_text_and_markdown(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("one\ntwo\n\n \nthree\n")
    (tmp_path / "b.md").write_text("---\ntitle: x\n---\n\n# One\n\ntext\n")
    found = read_source(SourceSettings(path=str(tmp_path / "a.txt")))
    assert [(row.line, row.fields["text"]) for row in found.rows] == [(1, "one\ntwo"), (5, "three")]
    assert "empty lines" in found.notes[0]
    (document,) = read_source(SourceSettings(path=str(tmp_path / "b.md"))).rows
    assert (document.line, document.fields["text"]) == (5, "# One\n\ntext")


def test_a_folder_leaves_out_what_is_no_data_and_other_splits(tmp_path: Path) -> None:
    for name in (
        "README.md",
        "config.json",
        "dataset_info.json",
        "events.jsonl",
        ".hidden.json",
        "notes.txt",
    ):
        (tmp_path / name).write_text("{}")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "train-0.jsonl").write_text(LINES)
    (tmp_path / "data" / "test-0.jsonl").write_text(LINES)
    found = read_source(SourceSettings(path=str(tmp_path)))
    assert [row.fields for row in found.rows] == ROWS
    said = "\n".join(found.notes)
    assert all(
        name in said for name in ("README.md", "config.json", "events.jsonl", "notes.txt", "test-0.jsonl")
    )
    assert ".hidden" not in said


def test_rows_of_python_objects() -> None:
    import datasets
    import pandas

    frame = pandas.DataFrame([*ROWS, {"instruction": "q", "output": None}])
    for rows in (ROWS, tuple(ROWS), (row for row in ROWS), datasets.Dataset.from_list(ROWS), frame[:3]):
        source = DataSettings.model_validate(rows if not isinstance(rows, tuple) else list(rows)).sources[0]
        for _ in range(2):
            assert [row.fields for row in read_source(source).rows] == ROWS
        assert source.model_dump(mode="json")["rows"] == ROWS
    assert read_source(SourceSettings(rows=frame)).rows[3].fields["output"] is None
    assert [bad.place for bad in read_source(SourceSettings(rows=[{}, 1])).bad] == ["<python>:2"]


def test_take_draws_rows_with_the_seed_and_keeps_their_order() -> None:
    rows = [{"n": n} for n in range(1000)]
    drawn = [
        [one.fields["n"] for one in open_source(SourceSettings(rows=rows, take=100), seed)]
        for seed in (1, 1, 2)
    ]
    assert drawn[0] == drawn[1] == sorted(set(drawn[0]))
    assert len(drawn[0]) == len(drawn[2]) == 100
    assert drawn[0] != drawn[2]
    assert 350 < sum(drawn[0]) / 100 < 650
    stream = open_source(SourceSettings(rows=rows, take=2000))
    assert len(list(stream)) == 1000
    assert "all were taken" in stream.notes[0]


def info(folder: Path, **entries: object) -> Path:
    """Write LLaMA-Factory's list."""
    path = folder / "dataset_info.json"
    path.write_text(json.dumps(entries))
    return path


def test_entries_of_a_dataset_info_become_sources(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps(ROWS))
    talk = [{"speaker": "客户", "text": "q"}, {"speaker": "客服", "text": "a"}]
    (tmp_path / "b.jsonl").write_text(json.dumps({"dialog": talk}) + "\n")
    tags = {"role_tag": "speaker", "content_tag": "text", "user_tag": "客户", "assistant_tag": "客服"}
    path = info(
        tmp_path,
        mine={"file_name": "a.json", "columns": {"prompt": "Q", "response": "A"}, "num_samples": 2, "odd": 1},
        talk={
            "file_name": "b.jsonl",
            "formatting": "sharegpt",
            "columns": {"messages": "dialog"},
            "tags": tags,
        },
        pairs={
            "hf_hub_url": "o/n",
            "ranking": True,
            "columns": {"prompt": "q", "chosen": "c", "rejected": "r"},
        },
        far={"ms_hub_url": "o/n", "split": "test", "subset": "s"},
        text={"file_name": "a.json", "columns": {"prompt": "instruction"}},
    )
    mine, other = expand_source(SourceSettings(path=f"{path}:mine, talk", weight=2)).sources
    assert (mine.columns, mine.take, mine.weight) == ({"instruction": "Q", "output": "A"}, 2, 2)
    assert "odd" in "".join(expand_source(SourceSettings(path=f"{path}:mine")).notes)
    assert other.columns == {"messages": "dialog"}
    (row,) = read_source(other).rows
    assert row.fields["dialog"] == [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]
    one = {
        name: expand_source(SourceSettings(path=str(tmp_path), subset=name)).sources[0]
        for name in ("pairs", "far")
    }
    assert one["pairs"].columns == {"prompt": "q", "chosen": "c", "rejected": "r"}
    assert (one["pairs"].path, one["far"].path, one["far"].split_read) == ("o/n", "modelscope:o/n", "test")
    assert expand_source(SourceSettings(path=f"{path}:text")).sources[0].columns == {"text": "instruction"}
    assert len(read_source(SourceSettings(path=f"{path}:mine,talk")).rows) == 3


@pytest.mark.parametrize(
    ("entry", "own", "split", "subset"),
    [
        ({}, {}, "train", None),
        ({"split": "test", "subset": "s"}, {}, "test", "s"),
        ({"split": "test", "subset": "s"}, {"split": "train"}, "train", "s"),
        ({"split": "test"}, {"split": "validation", "subset": "mine"}, "validation", "mine"),
        ({"split": None, "subset": "s"}, {"subset": "mine"}, "train", "mine"),
    ],
)
def test_what_the_source_says_of_split_and_subset_wins(
    entry: dict[str, Any], own: dict[str, Any], split: str, subset: str | None, tmp_path: Path
) -> None:
    path = info(tmp_path, far={"hf_hub_url": "o/n", **entry})
    given = SourceSettings(path=f"{path}:far", **own)
    # A run file has every setting, also those that were left out.
    for source in (given, SourceSettings(**given.model_dump(exclude={"rows"}))):
        (found,) = expand_source(source).sources
        assert (found.split_read, found.subset) == (split, subset)
    if "subset" not in own:
        (found,) = expand_source(SourceSettings(path=str(tmp_path), **own, subset="far")).sources
        assert (found.split_read, found.subset) == (split, subset)


def test_all_that_is_wrong_with_a_dataset_info_is_said_at_once(tmp_path: Path) -> None:
    path = info(
        tmp_path, mine={"file_name": "a.json"}, code={"script_url": "x"}, bad={"file_name": ".", "columns": 1}
    )
    with pytest.raises(DataError) as caught:
        open_source(SourceSettings(path=f"{path}:mine,mien,code,bad"))
    said = [str(problem) for problem in caught.value.problems]
    assert len(said) == 4
    assert "does not exist" in said[0]
    assert f"{path}:mine" in said[1]
    assert "is not run" in said[2]
    assert "columns of 'bad'" in said[3]
    with pytest.raises(DataError, match="several data sets"):
        open_source(SourceSettings(path=str(tmp_path)))


@pytest.mark.parametrize("other", ["test2.jsonl", "test_1.jsonl", "test-00001-of-00002.jsonl", "test.jsonl"])
def test_numbers_behind_the_name_of_a_split_belong_to_it(other: str, tmp_path: Path) -> None:
    for name in ("train1.jsonl", "train2.jsonl", "trainer.jsonl", other):
        (tmp_path / name).write_text(json.dumps({"text": name}) + "\n", encoding="utf-8")
    found = [one.fields["text"] for one in read_source(SourceSettings(path=str(tmp_path))).rows]
    assert found == ["train1.jsonl", "train2.jsonl", "trainer.jsonl"]
