"""The store gives back what was put in, block by block, and keeps nothing in memory."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest

from weitiao.data.conversation import Conversation, Message
from weitiao.data.example import Example, TokenSequence
from weitiao.data.forms import (
    AnyForm,
    Choice,
    Labelled,
    Pair,
    Preference,
    Scored,
    Tagged,
    Text,
    Unpaired,
    label_of,
)
from weitiao.data.gate.store import (
    BlockBuilder,
    JoinedExamples,
    Store,
    StoredExamples,
    StoredForms,
    StoreWriter,
    draws_of,
    longest_of,
    tokens_in,
)

ASKED, ANSWERED = (Message("user", "你是谁？"),), (Message("assistant", "小模型", 0.5, {"name": "m"}),)
FORMS: list[AnyForm] = [
    Conversation((*ASKED, *ANSWERED), "a.json:1", 2.0, ({"type": "function"},), "greeting"),
    Text("a.json:2", text="plain\n"),
    Preference("a.json:3", 0.5, "p", ASKED, ANSWERED, ASKED, 1.5, "it is kinder"),
    Unpaired("a.json:4", prompt=ASKED, completion=ANSWERED, label=False),
    Scored("a.json:5", prompt=ASKED, completions=(ANSWERED, ANSWERED), scores=(0.5, 1.0)),
    Choice("a.json:6", prompt=ASKED, choices=("A", "B"), correct=1),
    Labelled("a.json:7", text="good", labels=("positive", "short"), multi=True),
    Tagged("a.json:8", tokens=("Li", "Bai"), tags=("B-PER", "I-PER")),
    Pair("a.json:9, row 4", source="hello", target="你好"),
]


def sequence(seed: int) -> TokenSequence:
    drawn = random.Random(seed)
    length = drawn.randrange(1, 9)
    weights = tuple(drawn.choice([0.0, 1.0, 0.3]) for _ in range(length))
    return TokenSequence(tuple(drawn.randrange(50000) for _ in range(length)), weights)


def examples_of(form: AnyForm, sequences: list[TokenSequence]) -> list[Example]:
    """Return what a row is to a training: an example for each piece of a text, else one of all its sequences."""
    together = [(one,) for one in sequences] if isinstance(form, Text) else [tuple(sequences)]
    return [Example(own, form.place, form.draws, form.task, label_of(form)) for own in together if own]


def stored(folder: Path, rows_a_block: int) -> tuple[Store, list[Example]]:
    folder.mkdir()
    writer, examples = StoreWriter(folder), []
    for start in range(0, len(FORMS), rows_a_block):
        builder = BlockBuilder()
        for number in range(start, min(start + rows_a_block, len(FORMS))):
            form = FORMS[number]
            own = [sequence(10 * number + k) for k in range((number + 1) % 3)]
            builder.add_row(
                number, ("a.json", number + 1, 4 * (number == 8)), bytes([number] * 16), form, own
            )
            examples += examples_of(form, own)
        writer.add(builder.block())
    bad = BlockBuilder()
    bad.add_row(len(FORMS), ("b.json", 10, 0), bytes(16), None, [])
    writer.add(bad.block())
    writer.finish()
    return Store(folder), examples


@pytest.mark.parametrize("rows_a_block", [1, 4, 9])
def test_it_gives_back_what_was_put_in(rows_a_block: int, tmp_path: Path) -> None:
    store, examples = stored(tmp_path / "store", rows_a_block)
    assert store.rows == len(FORMS) + 1
    assert list(StoredExamples(store, np.arange(len(examples)))) == examples
    assert list(StoredForms(store, np.arange(len(FORMS)))) == FORMS
    assert store.form(len(FORMS)) is None
    assert store.place(len(FORMS)) == "b.json:10"
    sequences = [one for example in examples for one in example.sequences]
    assert len(sequences) > len(examples) > 1
    assert [store.sequence(number) for number in range(len(sequences))] == sequences
    assert store.lengths_S.tolist() == [len(one.ids) for one in sequences]
    assert store.trained_S.tolist() == [one.trained_tokens for one in sequences]
    assert store.lengths_E.tolist() == [one.tokens for one in examples]
    assert store.longest_E.tolist() == [one.longest for one in examples]
    assert store.trained_E.tolist() == [one.trained_tokens for one in examples]
    some = StoredExamples(store, np.array([3, 0]))
    assert some.draws == [examples[3].draws, examples[0].draws]
    assert list(some[1:]) == [examples[0]]


def test_an_empty_store_opens(tmp_path: Path) -> None:
    writer = StoreWriter(tmp_path)
    writer.finish()
    store = Store(tmp_path)
    assert store.rows == len(store.lengths_S) == len(store.trained_S) == 0
    assert len(store.lengths_E) == len(store.longest_E) == len(store.trained_E) == 0


def test_joined_examples_are_one_behind_the_other_as_they_are_alone(tmp_path: Path) -> None:
    store, examples = stored(tmp_path / "store", rows_a_block=4)
    first = StoredExamples(store, np.arange(3))
    joined = JoinedExamples((first, [], examples[3:]))
    assert [*joined] == examples and joined[-1] == examples[-1] and joined[2:5] == examples[2:5]
    assert draws_of(joined) == draws_of(examples)
    assert tokens_in(joined) == tokens_in(examples) and longest_of(joined) == longest_of(examples)
    with pytest.raises(IndexError):
        joined[len(examples)]
