"""The whole way from settings to examples: split, fingerprint, summary, and nothing left to train on."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from template_zoo import talk, tokenizer
from weitiao.core.errors import DataError
from weitiao.data.checks._row_text import row_text
from weitiao.data.conversation import Conversation
from weitiao.data.dataset import Prepared, load_data, prepared
from weitiao.data.gate.gate import open_data
from weitiao.data.gate.split import KEY_BYTES, choose_held_out, content_key
from weitiao.data.settings import DataSettings


def rows(count: int, **more: str) -> list[dict[str, str]]:
    """Make different rows."""
    return [{"instruction": f"question {n}", "output": f"answer {n}", **more} for n in range(count)]


def load(data: Any, seed: int = 0, name: str = "chatml", **settings: Any) -> Prepared:  # noqa: ANN401
    """Load data with a tokenizer of the zoo."""
    return load_data(DataSettings(sources=data, **settings), tokenizer(name), seed)


@pytest.mark.parametrize(
    ("count", "held_out", "expected"),
    [(19, 0.05, 0), (20, 0.05, 1), (100, 0.05, 5), (6000, 0.05, 200), (10, 3, 3), (10, 0, 0), (10, 0.5, 5)],
)
def test_size_of_the_held_out_part(count: int, held_out: float, expected: int) -> None:
    assert sum(split([talk(str(n), "a") for n in range(count)], held_out)) == expected


def split(talks: Sequence[Conversation], held_out: float, seed: int = 0) -> list[bool]:
    """Tell of each conversation whether it is held out."""
    keys = np.frombuffer(b"".join(content_key(row_text(one)) for one in talks), np.uint8).reshape(
        -1, KEY_BYTES
    )
    return choose_held_out(keys, np.ones(len(talks), bool), held_out, seed).tolist()


def test_split_is_by_content_and_seed_and_keeps_copies_together() -> None:
    several = [talk(str(n // 3), "a") for n in range(60)]
    away = split(several, 0.2, seed=1)
    assert sum(away) == 12
    assert all(away[n] == away[3 * (n // 3)] for n in range(60))
    assert split(several[::-1], 0.2, seed=1)[::-1] == away
    assert split(several, 0.2, seed=2) != away


def test_rows_that_differ_in_case_and_blanks_stay_together() -> None:
    several = [talk(f"{'Q' if n % 2 else 'q'}  {n // 2}\n", "An answer") for n in range(40)]
    away = split(several, 0.3)
    assert all(away[n] == away[n + 1] for n in range(0, 40, 2))


def test_holding_out_everything_is_refused() -> None:
    for data, held_out in ((rows(3), 3), (rows(1) * 5, 1)):
        with pytest.raises(DataError, match="nothing would be left"):
            load(data, held_out=held_out)


def test_prepared_holds_both_sides_with_their_conversations() -> None:
    made = load(rows(40), held_out=4)
    assert (len(made.train), len(made.held_out)) == (36, 4)
    assert [e.place for e in made.train] == sorted({e.place for e in made.train}, key=lambda p: int(p[9:]))
    assert [one.place for one in made.held_out_conversations] == [e.place for e in made.held_out]
    assert [e.draws for e in made.train] == [1.0] * 36


def test_weight_place_and_task_go_with_the_example() -> None:
    made = load([{"rows": rows(2, task="sums"), "weight": 2.5}], held_out=0)
    found = [(example.draws, example.place, example.task) for example in made.train]
    assert found == [(2.5, "<python>:1", "sums"), (2.5, "<python>:2", "sums")]


ANSWERED_TWICE = [
    {"role": "user", "content": "1+1?"},
    {"role": "assistant", "content": "<think>hm</think>2"},
    {"role": "user", "content": "2+2?"},
    {"role": "assistant", "content": "<think>hm</think>4"},
]


@pytest.mark.parametrize(
    ("name", "row", "sequences"),
    [
        ("chatml", {"messages": ANSWERED_TWICE}, [1]),
        ("drops_thinking", {"messages": ANSWERED_TWICE}, [2]),
        ("chatml", {"prompt": "1+1?", "chosen": "2", "rejected": "3"}, [2]),
        ("chatml", {"text": "word " * 30}, [1, 1]),
    ],
    ids=["a conversation", "a conversation whose template changes it", "a preference", "a long text"],
)
def test_a_row_is_one_example_of_all_its_sequences(
    name: str, row: dict[str, Any], sequences: list[int]
) -> None:
    """But of a long text each piece is one."""
    gate = open_data(DataSettings(sources=[{"rows": [row]}], held_out=0, max_length=80), tokenizer(name))
    store = gate.store
    examples = [store.example(number) for number in range(len(store.lengths_E))]
    assert [len(example.sequences) for example in examples] == sequences
    assert all(one.trained_tokens for example in examples for one in example.sequences)


def test_file_of_its_own_is_held_out_whole(tmp_path: Path) -> None:
    path = tmp_path / "eval.csv"
    path.write_text("instruction,output\nx,y\nz,w\n")
    made = load(rows(30), held_out_path=path)
    assert (len(made.train), len(made.held_out)) == (30, 2)


def test_fingerprint_changes_with_ids_weights_draws_and_order() -> None:
    base = load(rows(5)).fingerprint
    assert base == load(rows(5)).fingerprint
    changed = [
        load(rows(6)),
        load(rows(5)[::-1]),
        load([{"rows": rows(5), "weight": 2}]),
        load(rows(5), held_out=2),
        load(rows(5), template="instruction"),
    ]
    assert len({base, *(made.fingerprint for made in changed)}) == 6
    one_weighed = [{"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a", "weight": w}]}
                   for w in (1, 0.5)]  # fmt: skip
    assert len({load([row], held_out=0).fingerprint for row in one_weighed}) == 2


def test_fingerprint_changes_with_a_label_whose_texts_stay() -> None:
    """Rows of KTO and of rank classification, equal but for what they say beside their texts."""
    unpaired = [{"prompt": "1+1?", "completion": "2", "label": label} for label in (True, False)]
    choice = [{"question": "1+1?", "choices": ["2", "3"], "answer": answer} for answer in (0, 1)]
    for one, other in (unpaired, choice):
        prints = [
            prepared(
                open_data(DataSettings(sources=[{"rows": [row]}], held_out=0), tokenizer("chatml"))
            ).fingerprint
            for row in (one, one, other)
        ]
        assert prints[0] == prints[1] != prints[2]


def test_summary_counts_what_became_of_every_row() -> None:
    data = [*rows(20), {"instruction": "long " * 80, "output": "x"}, {"instruction": "q"}, rows(1)[0]]
    made = load([{"rows": data, "weight": 2}], skip_bad_rows=True, max_length=60, overlong="cut", held_out=2)
    found = made.summary
    assert (found.read, found.kept, found.duplicates) == (23, 21, 1)
    assert found.train + found.held_out == 21
    assert sorted(found.dropped.values()) == [1, 1]
    assert found.dropped_places["'output' is missing"] == ["<python>:22"]
    assert found.tokens == 2 * sum(example.tokens for example in made.train)
    assert found.trained_tokens == 2 * sum(example.trained_tokens for example in made.train)
    assert found.length_tokens["max"] == max(example.longest for example in [*made.train, *made.held_out])
    text = "\n".join(found.lines())
    for part in ("23 read", "left out", "<python>:22", "chat template", "equal"):
        assert part in text
    assert found.as_dict()["formats"] == {"alpaca": 22}


def test_nothing_left_to_train_on_is_refused() -> None:
    with pytest.raises(DataError, match="no token of the data is left") as caught:
        load(rows(3), max_length=8)
    assert "data.overlong=cut" in caught.value.problems[0].remedy
    assert "3 rows: longer than 8 tokens" in caught.value.problems[0].got


def test_folded_system_is_noted() -> None:
    made = load(rows(3, system="Be kind."), name="no_system")
    assert made.gate is not None
    assert any("no place for a system prompt" in finding.what for finding in made.gate.findings)


def test_rows_the_chat_template_refuses_are_listed_or_counted() -> None:
    own = tokenizer("chatml")
    picky = type(own)(
        tokenizer_object=own.backend_tokenizer, eos_token=own.eos_token, pad_token=own.pad_token
    )
    refusal = (
        "{% if 'question 1' in messages[0]['content'] %}{{ raise_exception('not this one') }}{% endif %}"
    )
    picky.chat_template = refusal + str(own.chat_template)
    with pytest.raises(DataError, match="2 of 11 rows") as caught:
        load_data(DataSettings(sources=rows(11)), picky, 0)
    assert "not this one" in str(caught.value)
    made = load_data(DataSettings(sources=rows(11), held_out=0, skip_bad_rows=True), picky, 0)
    assert (made.summary.train, sum(made.summary.dropped.values())) == (9, 2)


def test_the_summary_says_the_same_in_both_languages() -> None:
    rows = [{"instruction": f"q{n}", "output": "an answer " * (1 if n else 90)} for n in range(6)] * 2
    settings = DataSettings.model_validate({"sources": rows, "held_out": 1, "max_length": 40})
    summary = load_data(settings, tokenizer("chatml"), seed=1).summary
    numbers = [
        [re.findall(r"\d+", line) for line in lines] for lines in (summary.lines("en"), summary.lines("zh"))
    ]
    assert len(numbers[0]) == len(numbers[1]) >= 6
    assert [sorted(line) for line in numbers[0]] == [sorted(line) for line in numbers[1]]


def test_labels_are_answered_with_the_words_that_make_them_answers() -> None:
    labelled = [{"text": f"text {n}", "label": "good" if n % 2 else "bad"} for n in range(12)]
    with pytest.raises(DataError) as caught:
        load(labelled)
    (problem,) = caught.value.problems
    words = dict(word.removeprefix("data.columns.").split("=") for word in problem.remedy.split())
    assert words == {"instruction": "text", "output": "label"}
    assert len(load(labelled, columns=words).train) > 0
