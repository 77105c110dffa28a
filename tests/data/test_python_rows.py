"""Rows from Python: arrays and tuples become lists, torch data sets give rows, Arrow's padding is left out."""

from __future__ import annotations

import datetime
import math
from collections.abc import Iterator
from typing import Any

import datasets
import numpy
import pandas
import pyarrow
import pytest
import torch
from pydantic import ValidationError
from torch.utils.data import Dataset, IterableDataset

from weitiao.core.errors import DataError
from weitiao.data.dataset import check_data
from weitiao.data.settings import DataSettings, SourceSettings
from weitiao.data.sources.sources import read_source

TURNS = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]
ROWS = [{"messages": TURNS, "n": number} for number in range(3)]


class ByNumber(Dataset[dict[str, Any]]):
    """A map-style data set."""

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(ROWS)

    def __getitem__(self, number: int) -> dict[str, Any]:
        """Return a row of arrays; torch's own protocol ends with no IndexError."""
        return {"messages": tuple(ROWS[number]["messages"]), "n": torch.tensor(number)}


class InTurn(IterableDataset[dict[str, Any]]):
    """An iterable data set."""

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Yield rows of arrays."""
        for row in ROWS:
            yield {"messages": numpy.array(row["messages"], dtype=object), "n": numpy.int64(row["n"])}


@pytest.mark.parametrize("given", [ByNumber(), InTurn(), torch.utils.data.Subset(ByNumber(), range(3))])
def test_torch_data_sets_give_rows(given: Any) -> None:  # noqa: ANN401
    settings = DataSettings.model_validate(given)
    for _ in range(2):
        assert [row.fields for row in read_source(settings.sources[0]).rows] == ROWS
    assert settings.model_dump(mode="json")["sources"][0]["rows"] == ROWS
    assert check_data(settings).tally.formats == {"messages": 3}


def test_arrays_and_tuples_in_a_frame_become_lists() -> None:
    frame = pandas.DataFrame(
        {
            "messages": [numpy.array(TURNS, dtype=object), tuple(TURNS), TURNS],
            "n": numpy.arange(3),
            "missing": [None, float("nan"), pandas.NaT],
            "deep": [{"a": (1, numpy.array([[1, 2]]))}, numpy.float32(0.5), pandas.NA],
        }
    )
    rows = [row.fields for row in read_source(SourceSettings(rows=frame)).rows]
    assert [row["messages"] for row in rows] == [TURNS] * 3
    assert [row["n"] for row in rows] == [0, 1, 2]
    assert [row["missing"] for row in rows] == [None] * 3
    assert [row["deep"] for row in rows] == [{"a": [1, [[1, 2]]]}, 0.5, None]
    assert all(type(row["n"]) is int for row in rows)


CALLS = [{"name": "w", "arguments": {"city": "Bern"}}, {"name": "t", "arguments": {"unit": "C"}}]


def test_what_arrow_padded_is_left_out_and_what_was_written_stays(tmp_path: Any) -> None:  # noqa: ANN401
    padded = datasets.Dataset.from_list([{"calls": [call], "top": None} for call in CALLS])
    assert padded[0]["calls"][0]["arguments"] == {"city": "Bern", "unit": None}
    padded.to_parquet(str(tmp_path / "a.parquet"))
    frame = pandas.read_parquet(tmp_path / "a.parquet")
    for rows in (padded, padded.to_iterable_dataset(), frame):
        found = [row.fields for row in read_source(SourceSettings(rows=rows)).rows]
        assert found == [{"calls": [call], "top": None} for call in CALLS]
    written = [{"calls": [{"name": "w", "arguments": {"city": None}}]}]
    assert [row.fields for row in read_source(SourceSettings(rows=written)).rows] == written
    built = pandas.DataFrame(written)
    assert [row.fields for row in read_source(SourceSettings(rows=built)).rows] == written


def test_tables_of_arrow_give_rows() -> None:
    class Offered:
        """A table as polars has it: its content as a stream, its columns' names."""

        columns = ("messages", "n")

        def __init__(self, made: pyarrow.Table) -> None:
            self._made = made

        def __arrow_c_stream__(self, requested_schema: object = None) -> object:
            """Return the stream."""
            return self._made.__arrow_c_stream__(requested_schema)

    made = pyarrow.Table.from_pylist(ROWS)
    (batch,) = made.to_batches()
    for given in (made, batch, Offered(made)):
        settings = DataSettings.model_validate(given)
        assert [row.fields for row in read_source(settings.sources[0]).rows] == ROWS
    twice = pyarrow.table([[1], [2]], names=["a", "a"])
    with pytest.raises(DataError, match="two columns of the same name"):
        read_source(SourceSettings(rows=twice))


def test_one_split_of_a_dataset_dict_is_read() -> None:
    train, test = datasets.Dataset.from_list(ROWS), datasets.Dataset.from_list(ROWS[:1])
    given = datasets.DatasetDict(train=train, test=test)
    for settings in (DataSettings.model_validate(given), DataSettings(sources=given)):  # type: ignore[arg-type]
        assert [row.fields for row in read_source(settings.sources[0]).rows] == ROWS
    assert len(read_source(SourceSettings(rows=given, split="test")).rows) == 1
    with pytest.raises(ValidationError, match="no split 'train', only test, dev"):
        DataSettings(sources=datasets.DatasetDict(test=test, dev=test))  # type: ignore[arg-type]


@pytest.mark.parametrize("missing", [math.nan, None, pandas.NA])
def test_a_weight_that_is_missing_in_a_frame_is_refused(missing: object) -> None:
    rows = {"question": ["q", "r"], "answer": ["a", "b"], "note": ["x", missing]}
    assert check_data(DataSettings(sources=[SourceSettings(rows=pandas.DataFrame(rows))])).tally.read == 2
    kind = "Float64" if missing is pandas.NA else float
    frame = pandas.DataFrame(rows).assign(weight=pandas.array([0.5, missing], dtype=kind))
    with pytest.raises(DataError, match="'weight' is not a finite number"):
        check_data(DataSettings(sources=[SourceSettings(rows=frame)]))


def test_two_columns_of_one_name_are_refused() -> None:
    frame = pandas.DataFrame([["q", "a", "b"]], columns=["question", "answer", "answer"])
    with pytest.raises(DataError, match="two columns of the same name"):
        check_data(DataSettings(sources=[SourceSettings(rows=frame)]))


def test_what_is_no_row_is_named_and_the_others_are_read() -> None:
    deep: Any = "x"
    for _ in range(300):
        deep = [deep]
    found = read_source(SourceSettings(rows=[{"a": 1}, {"a": deep}, (1, 2), {1: datetime.date(2026, 1, 1)}]))
    assert [row.line for row in found.rows] == [1, 4]
    assert found.rows[1].fields == {"1": datetime.date(2026, 1, 1)}
    assert [(bad.place, bad.reason) for bad in found.bad] == [
        ("<python>:2", "it is nested deeper than 100 levels"),
        ("<python>:3", "it is not an object {...}"),
    ]
    for wrong in (7, "text", {"a": [1]}, b"bytes"):
        with pytest.raises(ValidationError):
            SourceSettings(rows=wrong)
