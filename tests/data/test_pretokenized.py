"""Rows that are tokens already are trained as they are, from files and from Python."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy
import pyarrow
import pytest
from pyarrow import parquet

from template_zoo import tokenizer
from weitiao.core.errors import DataError
from weitiao.data.conversation import Row
from weitiao.data.dataset import CONVERSATIONS, load_data, require_trainable
from weitiao.data.formats._base import RowError
from weitiao.data.formats._detect import detect
from weitiao.data.formats.pretokenized import Pretokenized
from weitiao.data.gate.gate import Gate, open_data
from weitiao.data.settings import DataSettings

Fields = dict[str, Any]


def look(rows: Any, **options: Any) -> Gate:  # noqa: ANN401
    """Bring rows through the gate with a tokenizer."""
    return open_data(DataSettings(sources=rows, held_out=0, **options), tokenizer("chatml"))


def trained(gate: Gate) -> list[tuple[list[int], list[float]]]:
    """Return ids and weights of each example, which is one sequence."""
    assert gate.store.arrays["example_starts"].tolist() == list(range(len(gate.store.lengths_S) + 1))
    sequences = [gate.store.sequence(number) for number in range(len(gate.store.lengths_S))]
    return [(list(one.ids), list(one.weights)) for one in sequences]


ROWS = [
    {"input_ids": [5, 6, 7, 8], "labels": [-100, -100, 7, 8], "attention_mask": [1, 1, 1, 1]},
    {"input_ids": [3, 3, 9, 10], "labels": [-100, -100, 9, -100], "attention_mask": [0, 0, 1, 1]},
    {"input_ids": [9, 11, 3, 3], "labels": [-100, 11, -100, -100], "attention_mask": [1, 1, 0, 0]},
    {"input_ids": [1, 2, 3], "labels": None, "attention_mask": None},
]
EXPECTED = [
    ([5, 6, 7, 8], [0.0, 0.0, 1.0, 1.0]),
    ([9, 11], [0.0, 1.0]),
    ([1, 2, 3], [1.0, 1.0, 1.0]),
]


def _jsonl(folder: Path) -> Any:  # noqa: ANN401
    (folder / "a.jsonl").write_text("\n".join(map(json.dumps, ROWS)))
    return folder / "a.jsonl"


def _parquet(folder: Path) -> Any:  # noqa: ANN401
    parquet.write_table(pyarrow.Table.from_pylist(ROWS), folder / "a.parquet")
    return folder / "a.parquet"


def _frame(folder: Path) -> Any:  # noqa: ANN401
    import pandas

    arrays = [{k: None if v is None else numpy.array(v) for k, v in row.items()} for row in ROWS]
    return pandas.DataFrame(arrays)


def _dataset(folder: Path) -> Any:  # noqa: ANN401
    import datasets

    return datasets.Dataset.from_list(ROWS).with_format("torch")


def _tensors(folder: Path) -> Any:  # noqa: ANN401
    import torch

    return [{k: None if v is None else torch.tensor(v) for k, v in row.items()} for row in ROWS]


@pytest.mark.parametrize("given", [_jsonl, _parquet, _frame, _dataset, _tensors])
def test_they_are_trained_as_they_are(given: Any, tmp_path: Path) -> None:  # noqa: ANN401
    gate = look(given(tmp_path))
    assert gate.tally.formats == {"pretokenized": 4}
    # Of the second row nothing is trained behind its first token.
    assert trained(gate) == EXPECTED
    assert "none of its tokens is trained" in "".join(gate.tally.dropped)
    require_trainable(gate, CONVERSATIONS)


REFUSED: dict[str, tuple[Fields, str]] = {
    "labels that are shifted": (
        {"input_ids": [5, 6, 7], "labels": [6, 7, -100]},
        "label 1 is 6, the token is 5",
    ),
    "fewer labels": ({"input_ids": [5, 6, 7], "labels": [6, 7]}, "different lengths"),
    "no ids": ({"input_ids": []}, "empty list"),
    "texts": ({"input_ids": ["a"]}, "values other than whole numbers"),
    "fractions": ({"input_ids": [1.5]}, "values other than whole numbers"),
    "null": ({"input_ids": [1, None]}, "values other than whole numbers"),
    "true": ({"input_ids": [True]}, "values other than whole numbers"),
    "below 0": ({"input_ids": [1, -1]}, "below 0"),
    "a hole": ({"input_ids": [1, 2, 3], "attention_mask": [1, 0, 1]}, "masks tokens"),
    "nothing attended": ({"input_ids": [1, 2], "attention_mask": [0, 0]}, "leaves no token"),
    "another mask": ({"input_ids": [1, 2], "attention_mask": [1, 2]}, "numbers other than 0 and 1"),
    "several texts": ({"input_ids": [1, 2, 3, 4], "position_ids": [0, 1, 0, 1]}, "several texts"),
    "pictures": ({"input_ids": [1, 2], "pixel_values": [[0.1]]}, "'pixel_values'"),
    "a batch": ({"input_ids": [[1], [2]]}, "values other than whole numbers"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_does_not_fit_together_is_refused(what: str) -> None:
    fields, said = REFUSED[what]
    with pytest.raises(RowError, match=said):
        Pretokenized().read(Row(fields, "a.jsonl", 1))


def test_masks_say_what_is_trained_and_usual_columns_are_known() -> None:
    fields = {
        "input_ids": [[4, 5, 6, 7]],
        "labels": [4, 5, 6, -100],
        "completion_mask": [0, 1, 1, 1],
        "assistant_masks": [True, True, False, True],
        "position_ids": [0, 1, 2, 3],
        "text": "said",
        "tokens": ["a"],
    }
    assert Pretokenized().read(Row(fields, "a", 1)).weights == (0.0, 1.0, 0.0, 0.0)
    for more in ({}, {"text": "t"}, {"tokens": ["a"], "tags": ["O"]}, {"label": "x"}, {"messages": []}):
        sample = [Row({"input_ids": [1], "labels": [1], **more}, "a", 1)]
        assert detect(set(sample[0].fields), sample).format == "pretokenized"


def test_an_id_outside_of_the_vocabulary_names_row_and_place(tmp_path: Path) -> None:
    size = len(tokenizer("chatml"))
    path = tmp_path / "a.jsonl"
    path.write_text("\n".join(json.dumps({"input_ids": [1, last]}) for last in (size - 1, size)))
    with pytest.raises(DataError) as caught:
        load_data(DataSettings(sources=path, held_out=0), tokenizer("chatml"))
    (problem,) = caught.value.problems
    assert "outside of the vocabulary" in problem.what
    assert f"{path}:2: number 2 is {size}, the tokenizer has {size} tokens" in problem.got


def test_long_rows_follow_the_policy() -> None:
    text = {"input_ids": list(range(20))}
    answer = {"input_ids": list(range(20)), "labels": [-100] * 4 + list(range(4, 20))}
    rows = [text, answer]
    assert trained(look(rows, max_length=10, overlong="drop")) == []
    cut = trained(look(rows, max_length=10, overlong="cut"))
    assert cut == [(list(range(10)), [1.0] * 10), (list(range(10, 20)), [1.0] * 10)]


def test_a_long_answer_is_left_out_whole_and_said_so() -> None:
    gate = look(
        [{"input_ids": list(range(20)), "labels": [-100] * 4 + list(range(4, 20))}],
        max_length=10,
        overlong="cut",
    )
    assert gate.tally.dropped_counts() == {
        "longer than 10 tokens, and answers given as tokens (input_ids) are not cut": 1
    }
    assert (gate.tally.left_out_tokens, gate.tally.answers_shortened) == ([20], 0)


def test_equal_rows_are_found_and_held_out_together() -> None:
    rows = [{"input_ids": [n, n + 1, n + 2, 40, 41, 42, 43, 44, 45]} for n in range(30)]
    settings = DataSettings(sources=[*rows, *rows], held_out=10)
    gate = open_data(settings, tokenizer("chatml"))
    assert gate.held_out[:30].tolist() == gate.held_out[30:].tolist()
    (found,) = [one for one in gate.findings if one.check == "duplicates" and one.severity == "warning"]
    assert found.count == 30
