"""Stores examples and forms on disk, memory-mapped: a million rows take no more memory than a thousand.

A store is a folder of arrays, for E examples from R rows, with S sequences, N tokens in total and P spans of equal
weight:

    ids (N) int32, sequence_starts (S + 1) int64           the tokens of each sequence
    span_lengths (P) int32, span_weights (P) float64, span_starts (S + 1) int64      their loss weights
    example_starts (E + 1) int64                            the sequences of each example
    example_rows (E) int64                                  the row of each example
    row_lines, row_numbers, row_sources (R) int64           the place of each row
    row_tasks (R) int64                                     its task, as an index into names.json
    row_draws (R) float64, row_keys (R, 16) uint8           how often an epoch sees it; the hash of its content
    form_starts (R + 1) int64, forms.jsonl                  the form of each row; empty if the row is unusable
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any, BinaryIO, overload

import numpy as np
from numpy.typing import NDArray

from ..conversation import place_of
from ..example import Example, TokenSequence
from ..forms import (
    LABELLED,
    AnyForm,
    Text,
    Tokens,
    form_from_plain,
    form_to_plain,
    kind_of_form,
    label_of,
)

KEY_BYTES = 16
ARRAYS: dict[str, tuple[str, int]] = {
    "ids": ("<i4", 1),
    "sequence_starts": ("<i8", 1),
    "span_lengths": ("<i4", 1),
    "span_weights": ("<f8", 1),
    "span_starts": ("<i8", 1),
    "example_starts": ("<i8", 1),
    "example_rows": ("<i8", 1),
    "row_lines": ("<i8", 1),
    "row_numbers": ("<i8", 1),
    "row_sources": ("<i8", 1),
    "row_tasks": ("<i8", 1),
    "row_draws": ("<f8", 1),
    "row_keys": ("u1", KEY_BYTES),
    "form_starts": ("<i8", 1),
}
"""Each array's data type, and the number of values per entry."""
STARTS = ("sequence_starts", "span_starts", "example_starts", "form_starts")
FORMS_FILE, NAMES_FILE = "forms.jsonl", "names.json"


@dataclass
class Block:
    """Consecutive rows and their examples, as arrays ready to be written."""

    arrays: dict[str, NDArray[Any]]
    """As in the store, but with lengths instead of starts, since starts depend on the blocks before."""
    forms: bytes
    tasks: tuple[str, ...]
    """The tasks that occur; row_tasks are indices into these."""
    sources: tuple[str, ...]
    """The files that occur; row_sources are indices into these."""
    labelled: bool = False
    """Whether any row has a label in addition to its texts."""


@dataclass
class BlockBuilder:
    """Collects the rows of a block."""

    lists: dict[str, list[Any]] = field(default_factory=lambda: {name: [] for name in ARRAYS})
    forms: list[bytes] = field(default_factory=list)
    tasks: dict[str, int] = field(default_factory=dict)
    sources: dict[str, int] = field(default_factory=dict)
    labelled: bool = False

    def add_row(
        self,
        number: int,
        place: tuple[str, int, int],
        key: bytes,
        form: AnyForm | None,
        sequences: Sequence[TokenSequence],
        written: bytes | None = None,
    ) -> None:
        """Add a row: number, place (source, line, number on the line), content hash, and form (None if unusable).

        Its sequences form one example; for a text that was cut into pieces, each piece is an example of its own.

        `written` is the result of `written_form`, if it is already known.
        """
        lists = self.lists
        source, line, number_on_line = place
        lists["row_lines"].append(line)
        lists["row_numbers"].append(number_on_line)
        lists["row_sources"].append(self.sources.setdefault(source, len(self.sources)))
        lists["row_draws"].append(form.draws if form is not None else 0.0)
        lists["row_keys"].append(key)
        if written is None:
            written = b"" if form is None else written_form(form)
        self.forms.append(written)
        lists["form_starts"].append(len(written))
        task = form.task if form is not None else ""
        lists["row_tasks"].append(self.tasks.setdefault(task, len(self.tasks)))
        self.labelled |= form is not None and kind_of_form(form) in LABELLED
        for sequence in sequences:
            self._add_sequence(sequence)
        of_examples = [1] * len(sequences) if isinstance(form, Text | Tokens) else [len(sequences)]
        for count in filter(None, of_examples):
            lists["example_starts"].append(count)
            lists["example_rows"].append(number)

    def _add_sequence(self, sequence: TokenSequence) -> None:
        lists, spans = self.lists, _spans(sequence.weights)
        lists["ids"].append(np.array(sequence.ids, ARRAYS["ids"][0]))
        lists["sequence_starts"].append(len(sequence.ids))
        lists["span_weights"] += [weight for weight, _ in spans]
        lists["span_lengths"] += [length for _, length in spans]
        lists["span_starts"].append(len(spans))

    def block(self) -> Block:
        """Return the collected rows as a block."""
        arrays = {}
        for name, values in self.lists.items():
            kind, width = ARRAYS[name]
            if name == "ids" and values:
                arrays[name] = np.concatenate(values)
            elif width > 1:
                arrays[name] = np.frombuffer(b"".join(values), dtype=kind).reshape(-1, width)
            else:
                arrays[name] = np.array(values, dtype=kind)
        return Block(arrays, b"".join(self.forms), tuple(self.tasks), tuple(self.sources), self.labelled)


_encode = json.JSONEncoder(ensure_ascii=False, check_circular=False).encode


def written_form(form: AnyForm) -> bytes:
    """Return a form serialised for the store, without its place and weight."""
    return _encode(form_to_plain(form)).encode("utf-8", "surrogatepass") + b"\n"


def _spans(weights: tuple[float, ...]) -> list[tuple[float, int]]:
    """Return the runs of equal weight as (weight, length)."""
    context = weights.count(0.0)
    # Fast path for nearly all sequences: a question of weight 0 followed by an answer of weight 1.
    if weights.count(1.0) == len(weights) - context and not any(weights[:context]):
        return [
            (weight, length) for weight, length in ((0.0, context), (1.0, len(weights) - context)) if length
        ]
    return [(weight, sum(1 for _ in run)) for weight, run in groupby(weights)]


class StoreWriter:
    """Writes a store, block by block."""

    def __init__(self, folder: Path) -> None:
        """Open the files of a store in an empty folder."""
        self.folder = folder
        self._open = ExitStack()
        self._files: dict[str, BinaryIO] = {
            name: self._open.enter_context((folder / f"{name}.bin").open("wb")) for name in ARRAYS
        }
        self._forms: BinaryIO = self._open.enter_context((folder / FORMS_FILE).open("wb"))
        self._tasks: dict[str, int] = {}
        self._sources: dict[str, int] = {}
        self._labelled = False
        self._ends = dict.fromkeys(STARTS, 0)
        for name in STARTS:
            self._files[name].write(np.zeros(1, ARRAYS[name][0]).tobytes())

    def add(self, block: Block) -> None:
        """Append a block."""
        numbers = {
            "row_tasks": _numbers(block.tasks, self._tasks),
            "row_sources": _numbers(block.sources, self._sources),
        }
        for name, values in block.arrays.items():
            written = numbers[name][values] if name in numbers else values
            if name in STARTS:
                written = self._ends[name] + np.cumsum(values, dtype="<i8")
                self._ends[name] = int(written[-1]) if len(written) else self._ends[name]
            self._files[name].write(np.ascontiguousarray(written).tobytes())
        self._forms.write(block.forms)
        self._labelled |= block.labelled

    def finish(self) -> None:
        """Close the files, and write the names of sources and tasks; the store can then be opened."""
        self._open.close()
        names = {"sources": list(self._sources), "tasks": list(self._tasks), "labelled": self._labelled}
        (self.folder / NAMES_FILE).write_text(json.dumps(names, ensure_ascii=False), encoding="utf-8")

    def close(self) -> None:
        """Close the files, finished or not."""
        self._open.close()


def _numbers(names: Iterable[str], known: dict[str, int]) -> NDArray[np.int64]:
    """Return the index of each name in `known`; adds new names to it."""
    return np.array([known.setdefault(name, len(known)) for name in names], "<i8")


class Store:
    """A finished store, open for reading."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.arrays = {name: _mapped(folder / f"{name}.bin", *shape) for name, shape in ARRAYS.items()}
        names = json.loads((folder / NAMES_FILE).read_text(encoding="utf-8"))
        self.sources: list[str] = names["sources"]
        self.tasks: list[str] = names["tasks"]
        self.labelled: bool = names["labelled"]
        """Whether any row says something beside its texts (see forms.label_of)."""
        forms = folder / FORMS_FILE
        self.forms = _mapped(forms, "u1", 1)
        """The bytes of forms.jsonl."""

    @property
    def rows(self) -> int:
        """The number of rows, including unusable ones."""
        return len(self.arrays["row_lines"])

    @property
    def lengths_S(self) -> NDArray[np.int64]:
        """Tokens of each sequence."""
        return np.diff(self.arrays["sequence_starts"])

    @property
    def lengths_E(self) -> NDArray[np.int64]:
        """Tokens of each example, summed over its sequences."""
        lengths: NDArray[np.int64] = np.diff(self.arrays["sequence_starts"][self.arrays["example_starts"]])
        return lengths

    @property
    def longest_E(self) -> NDArray[np.int64]:
        """Tokens of each example's longest sequence."""
        starts = self.arrays["example_starts"][:-1]
        return np.maximum.reduceat(self.lengths_S, starts) if len(starts) else np.zeros(0, np.int64)

    @property
    def trained_S(self) -> NDArray[np.int64]:
        """Targets with a non-zero weight in each sequence (the first token is never a target)."""
        lengths, weights = self.arrays["span_lengths"], self.arrays["span_weights"]
        starts = self.arrays["span_starts"][:-1]
        if not len(starts):
            return np.zeros(0, np.int64)
        trained: NDArray[np.int64] = np.add.reduceat(
            np.where(weights > 0, lengths, 0).astype(np.int64), starts
        )
        trained -= weights[starts] > 0
        return trained

    @property
    def trained_E(self) -> NDArray[np.int64]:
        """Targets with a non-zero weight in each example."""
        starts = self.arrays["example_starts"][:-1]
        if not len(starts):
            return np.zeros(0, np.int64)
        trained: NDArray[np.int64] = np.add.reduceat(self.trained_S, starts)
        return trained

    def place(self, row: int) -> str:
        """Return the place of a row, as `place_of` writes it."""
        source = self.sources[int(self.arrays["row_sources"][row])]
        line, number = int(self.arrays["row_lines"][row]), int(self.arrays["row_numbers"][row])
        # The source of an unreadable row is its whole place.
        return place_of(source, line, number) if line else source

    def form(self, row: int) -> AnyForm | None:
        """Return the form of a row, None if it is unusable."""
        start, end = (int(at) for at in self.arrays["form_starts"][row : row + 2])
        if start == end:
            return None
        plain = json.loads(self.forms[start:end].tobytes().decode("utf-8", "surrogatepass"))
        return form_from_plain(plain, self.place(row), float(self.arrays["row_draws"][row]))

    def example(self, index: int) -> Example:
        """Return one example."""
        first, end = (int(at) for at in self.arrays["example_starts"][index : index + 2])
        row = int(self.arrays["example_rows"][index])
        form = self.form(row) if self.labelled else None
        return Example(
            tuple(self.sequence(number) for number in range(first, end)),
            self.place(row),
            float(self.arrays["row_draws"][row]),
            self.tasks[int(self.arrays["row_tasks"][row])],
            None if form is None else label_of(form),
        )

    def sequence(self, index: int) -> TokenSequence:
        """Return one sequence."""
        a, b = (int(at) for at in self.arrays["sequence_starts"][index : index + 2])
        s, t = (int(at) for at in self.arrays["span_starts"][index : index + 2])
        weights = np.repeat(self.arrays["span_weights"][s:t], self.arrays["span_lengths"][s:t])
        return TokenSequence(tuple(self.arrays["ids"][a:b].tolist()), tuple(weights.tolist()))


def _mapped(path: Path, kind: str, width: int) -> NDArray[Any]:
    """Memory-map an array; an empty file, which cannot be mapped, gives an empty array."""
    empty = path.stat().st_size == 0
    flat: NDArray[Any] = np.zeros(0, kind) if empty else np.memmap(path, dtype=kind, mode="r")
    return flat.reshape(-1, width) if width > 1 else flat


@dataclass(frozen=True)
class StoredExamples(Sequence[Example]):
    """Some of a store's examples, in order; each is read on access."""

    store: Store
    indices: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.indices)

    @overload
    def __getitem__(self, index: int) -> Example: ...
    @overload
    def __getitem__(self, index: slice) -> StoredExamples: ...
    def __getitem__(self, index: int | slice) -> Example | StoredExamples:
        if isinstance(index, slice):
            return StoredExamples(self.store, self.indices[index])
        return self.store.example(int(self.indices[index]))

    @property
    def draws(self) -> list[float]:
        """How often an epoch sees each example."""
        rows = self.store.arrays["example_rows"][self.indices]
        return [float(draws) for draws in self.store.arrays["row_draws"][rows]]

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens of each example."""
        return self.store.lengths_E[self.indices]

    @property
    def longest(self) -> NDArray[np.int64]:
        """Tokens of each example's longest sequence."""
        return self.store.longest_E[self.indices]


@dataclass(frozen=True)
class JoinedExamples(Sequence[Example]):
    """The concatenation of several collections of examples."""

    parts: tuple[Sequence[Example], ...]

    def __len__(self) -> int:
        return sum(map(len, self.parts))

    @overload
    def __getitem__(self, index: int) -> Example: ...
    @overload
    def __getitem__(self, index: slice) -> list[Example]: ...
    def __getitem__(self, index: int | slice) -> Example | list[Example]:
        if isinstance(index, slice):
            return [self[one] for one in range(*index.indices(len(self)))]
        number = range(len(self))[index]
        for part in self.parts:
            if number < len(part):
                return part[number]
            number -= len(part)
        raise IndexError(index)


def draws_of(examples: Sequence[Example]) -> list[float]:
    """Return how often an epoch sees each example; for a store, without reading tokens."""
    if isinstance(examples, JoinedExamples):
        return [draws for part in examples.parts for draws in draws_of(part)]
    return examples.draws if isinstance(examples, StoredExamples) else [one.draws for one in examples]


def tokens_in(examples: Sequence[Example]) -> int:
    """Return the number of tokens of all examples; for a store, without reading them."""
    if isinstance(examples, JoinedExamples):
        return sum(map(tokens_in, examples.parts))
    if isinstance(examples, StoredExamples):
        return int(examples.lengths.sum())
    return sum(one.tokens for one in examples)


def longest_of(examples: Sequence[Example]) -> int:
    """Return the number of tokens of the longest sequence; for a store, without reading tokens."""
    if isinstance(examples, JoinedExamples):
        return max(longest_of(part) for part in examples.parts if part)
    if isinstance(examples, StoredExamples):
        return int(examples.longest.max())
    return max(example.longest for example in examples)


@dataclass(frozen=True)
class StoredForms(Sequence[AnyForm]):
    """The forms of some of a store's rows, in order; each is read on access."""

    store: Store
    rows: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.rows)

    @overload
    def __getitem__(self, index: int) -> AnyForm: ...
    @overload
    def __getitem__(self, index: slice) -> StoredForms: ...
    def __getitem__(self, index: int | slice) -> AnyForm | StoredForms:
        if isinstance(index, slice):
            return StoredForms(self.store, self.rows[index])
        form = self.store.form(int(self.rows[index]))
        if form is None:
            raise IndexError(f"row {int(self.rows[index])} cannot be used, so it has no form")
        return form
