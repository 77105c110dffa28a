"""Replay: general rows mixed into training, so that the model forgets less of what the data does not cover.

Their number is fixed before a model is loaded, so that the number of steps is known; a person's own general rows are
read then too. The model answers questions after it is loaded and before a method is attached. If too few answers are
usable, some rows are seen more than once an epoch, which keeps the number. The answers are stored in the run's folder,
where a resumed run reads them.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..core.errors import Problem, RunFolderError, SettingsError
from ..core.files import PRIVATE_FILE, write_atomic
from ..core.run_folder import RunFolder
from ..data.batching.sampling import epoch_order
from ..data.conversation import Conversation, Message
from ..data.example import Example
from ..data.forms import parts
from ..data.gate.store import JoinedExamples, StoredExamples, StoredForms, draws_of
from ..data.general_questions import GeneralQuestion, general_questions, languages_to_ask, question_key
from ..data.settings import DataSettings
from ..engine.runtime.batches import StepPlan
from .recipe import Recipe

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from ..data.dataset import Prepared
    from ..data.templates.template import Template

OF_THE_DATA = {"max_length", "overlong", "template", "train_on", "reasoning", "accept", "skip_bad_rows"}
"""Data settings that also apply to a file of a person's own general rows."""
ROWS_COMPARED = 10_000
"""Rows of the data searched for the general questions; in larger data, a question answered otherwise hardly counts."""


@dataclass(frozen=True)
class GeneralRow:
    """A general question with the answer to train on."""

    question: str
    answer: str

    def conversation(self, place: str) -> Conversation:
        """Return it as a conversation of two messages."""
        return Conversation((Message("user", self.question), Message("assistant", self.answer)), place)


@dataclass(frozen=True)
class AwaitedAnswers:
    """General rows that still need the model's answers."""

    count: int
    """Rows per epoch."""
    questions: tuple[GeneralQuestion, ...]
    """Candidate questions in order: more than `count`, because not every answer is usable."""
    max_new_tokens: int
    """Token limit of an answer."""
    most_tokens: int
    """Token limit of a row."""

    @property
    def stand_ins(self) -> list[Example]:
        """One placeholder example per row of an epoch, to count steps with."""
        return [Example((), "") for _ in range(self.count)]

    def filled(self, data: Prepared, rows: Sequence[GeneralRow]) -> Prepared:
        """Return the data with these rows mixed in, repeated as needed to make `count` per epoch."""
        examples = general_examples(data.template, rows)
        often, rest = divmod(self.count, len(examples))
        seen = [replace(one, draws=often + (n < rest)) for n, one in enumerate(examples)]
        return mixed(data, [one for one in seen if one.draws])


def general_examples(template: Template, rows: Sequence[GeneralRow]) -> list[Example]:
    """Return the examples for the rows' answers; raises RowError if the template refuses a row."""
    name = RunFolder(Path()).replay.name
    conversations = [row.conversation(f"{name}:{n}") for n, row in enumerate(rows, start=1)]
    return [Example(tuple(template.render(one)), one.place, one.draws, one.task) for one in conversations]


def mixed(data: Prepared, general: Sequence[Example]) -> Prepared:
    """Return the data with general examples appended to the training examples; the held-out ones are unchanged."""
    digest = sha256(data.fingerprint.encode())
    for one in general:
        digest.update(repr((one.sequences, one.draws)).encode())
    return replace(data, train=JoinedExamples((data.train, general)), fingerprint=digest.hexdigest())


def read_own_rows(recipe: Recipe, day: date | None) -> Prepared | None:
    """Read and check the file of `data.replay.answers`; None if the model answers. Raises DataError."""
    from ..data.dataset import load_data
    from ..models.load import load_generation_config, load_tokenizer

    settings = recipe.data.replay
    if settings is None or settings.asks_the_model or not settings.share:
        return None
    same = recipe.data.model_dump(include=OF_THE_DATA)
    data = DataSettings.model_validate({**same, "sources": settings.answers, "held_out": 0})
    tokenizer, stops = load_tokenizer(recipe.model), load_generation_config(recipe.model)
    return load_data(data, tokenizer, recipe.train.seed, stops, recipe.objective.forms, day=day)


def with_replay(
    recipe: Recipe,
    data: Prepared,
    tokenizer: PreTrainedTokenizerBase,
    own_rows: Prepared | None,
    most_tokens: int,
) -> tuple[Prepared, AwaitedAnswers | None]:
    """Return the data with the known general rows, their cost in its summary, and the questions still to be asked.

    `own_rows` are a person's own general rows, `most_tokens` is the token limit of a row. Raises SettingsError if the
    objective does not train on conversations, RunFolderError if the answers of a run to resume cannot be read.
    """
    settings = recipe.data.replay
    if settings is None or not settings.share:
        return data, None
    _require_conversations(recipe)
    wanted = settings.rows_beside(sum(draws_of(data.train)))
    if own_rows is not None:
        general, origin = _drawn(own_rows, wanted, recipe.train.seed), Path(settings.answers).name
        price = _price(recipe, data, general, wanted, f"rows of '{origin}'")
        return mixed(_priced(data, price), general), None
    questions = _questions(recipe, data, tokenizer)
    awaited = AwaitedAnswers(min(wanted, len(questions)), questions, settings.max_new_tokens, most_tokens)
    origin = "general questions that the model answers itself"
    data = _priced(data, _price(recipe, data, awaited.stand_ins, wanted, origin))
    if not awaited.count:  # the data itself asks all of them
        return data, None
    known = read_rows(RunFolder(recipe.out).replay)
    return (awaited.filled(data, known), None) if known else (data, awaited)


def planned(data: Prepared, awaited: AwaitedAnswers | None) -> Sequence[Example]:
    """Return the examples for counting steps, with placeholders for rows that are not answered yet."""
    return JoinedExamples((data.train, awaited.stand_ins)) if awaited else data.train


def _require_conversations(recipe: Recipe) -> None:
    if "conversation" not in recipe.objective.forms:
        raise SettingsError(
            Problem(
                "data.replay mixes in questions with answers, which this objective does not train",
                f"objective: {recipe.objective.name}, data.replay: on",
                "an objective that trains conversations",
                "data.replay=off",
            )
        )


def _drawn(own_rows: Prepared, wanted: int, seed: int) -> Sequence[Example]:
    """Return `wanted` examples of a file, sampled with the seed; all of them if there are no more."""
    numbers = epoch_order([1.0] * len(own_rows.train), seed, 0)[:wanted]
    examples = own_rows.train
    if isinstance(examples, StoredExamples):
        return StoredExamples(examples.store, examples.indices[np.sort(numbers)])
    return [examples[number] for number in sorted(numbers)]


def _questions(
    recipe: Recipe, data: Prepared, tokenizer: PreTrainedTokenizerBase
) -> tuple[GeneralQuestion, ...]:
    """Return the questions in the languages to ask in, without those that the data itself asks."""
    settings, gate = recipe.data.replay, data.gate
    by_language = gate.facts.get("languages", {}).get("rows_by_language", {}) if gate else {}
    wanted = settings.language if settings else "auto"
    taken = _asked_by(data)
    questions = general_questions(languages_to_ask(wanted, by_language, tokenizer))
    return tuple(one for one in questions if question_key(one.text) not in taken)


def _asked_by(data: Prepared) -> set[bytes]:
    """Return the keys of the questions in the first rows of a person's data."""
    if data.gate is None:
        return set()
    store = data.gate.store
    rows = np.unique(store.arrays["example_rows"])[:ROWS_COMPARED]
    conversations = (parts(form)[0][1] for form in StoredForms(store, rows))
    return {
        question_key(message.content)
        for one in conversations
        if isinstance(one, Conversation)
        for message in one.messages
        if message.role == "user"
    }


def _priced(data: Prepared, price: str) -> Prepared:
    return replace(data, summary=replace(data.summary, replay=price))


def _price(recipe: Recipe, data: Prepared, general: Sequence[Example], wanted: int, origin: str) -> str:
    """Return how many general rows there are, and how many steps they add."""
    own = f"{sum(draws_of(data.train)):g}"
    steps = StepPlan.of(JoinedExamples((data.train, general)), recipe.train).total_steps
    more = steps - StepPlan.of(data.train, recipe.train).total_steps
    count = len(general)
    fewer = [f"{wanted} were asked for but there are no more"] if wanted > count else []
    details = "; ".join([origin, *fewer, "data.replay=off leaves them out"])
    return (
        f"{count} general row{'s' * (count != 1)} beside {own} an epoch ({details}): "
        f"{more} step{'s' * (more != 1)} more, {steps} in all"
    )


def write_rows(path: Path, rows: Sequence[GeneralRow]) -> None:
    """Write general rows, one JSON object per line; raises OSError."""
    lines = [json.dumps({"question": row.question, "answer": row.answer}, ensure_ascii=False) for row in rows]
    write_atomic(path, "\n".join(lines) + "\n", PRIVATE_FILE)


def read_rows(path: Path) -> list[GeneralRow]:
    """Read what `write_rows` wrote; empty if there is no file. Raises RunFolderError for other content."""
    if not path.is_file():
        return []
    try:
        plain = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        return [GeneralRow(str(one["question"]), str(one["answer"])) for one in plain]
    except (OSError, ValueError, KeyError, TypeError) as error:
        problem = Problem(
            "the general rows of this run cannot be read",
            f"{path} ({type(error).__name__}: {error})",
            "the file as the run wrote it",
            "a new run",
        )
        raise RunFolderError(problem) from error
