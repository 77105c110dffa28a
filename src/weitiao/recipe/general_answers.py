"""Before training, the model answers general questions, so that its own answers can be mixed into the training rows.

Answers are cached under everything that determines them, a few questions per entry: a second run on the same base does
not ask again, and an interrupted run continues where it stopped. An answer is used only if it ended by itself, is
readable, and the model is sure of it.
"""

from __future__ import annotations

import json
import math
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from ..core.errors import ModelError, Problem
from ..core.events import EventLog
from ..core.files import saving
from ..core.run_folder import RunFolder
from ..core.version import VERSION
from ..data.conversation import Message
from ..data.example import TokenSequence
from ..data.gate.cache import cached_or_made, entry_name, tokenizer_version
from ..data.general_questions import GeneralQuestion, why_unusable
from ..evaluation.generate import Generated, generate_answers
from ..evaluation.held_out import HeldOut
from ..evaluation.settings import GenerationSettings
from .baseline import require_finite_loss
from .replay import AwaitedAnswers, GeneralRow, general_examples, write_rows

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from ..data.dataset import Prepared
    from ..data.templates.template import Template
    from ..engine.optim.precision import Precision
    from ..models.fingerprint import Fingerprint

QUESTIONS_AT_ONCE = 8
"""Questions per cache entry."""
LEAST_LOG_PROBABILITY = math.log(0.5)
"""Least mean log-probability of an answer's tokens, in nats: a model that does not know an answer continues with tokens
of lower probability, and training on those would make it surer of what it made up."""
LEAST_OF_ROWS = 0.25
"""Least share of the wanted rows that must be usable: with fewer, each would be seen more than four times an epoch."""
ANSWERS_FILE = "answers.json"
COUNTED = {
    "cut": "{count} cut",
    "empty or unreadable": "{count} empty or unreadable",
    "repeating itself": "{count} repetitive",
    "in another language": "{count} in another language",
    "too long": "{count} too long",
    "unsure": "{count} unsure",
}
"""Reason for not using an answer -> a phrase with the number of such answers."""


@dataclass(frozen=True)
class GeneralAnswer:
    """A model's answer to a general question."""

    text: str
    unusable: str | None
    """Why it is not trained on; None if it is."""


@torch.no_grad()
def mean_log_probability(model: PreTrainedModel, sequence: TokenSequence) -> float:
    """Return the mean of log p(token | all tokens before it) over a sequence's trained tokens, in nats."""
    ids_T = torch.tensor(sequence.ids, device=model.device)
    logits_TV: Tensor = model(ids_T[None]).logits[0].float()
    trained_T = torch.tensor(sequence.weights, device=logits_TV.device)[1:] > 0
    targets_K = ids_T.to(logits_TV.device)[1:][trained_T]
    log_p_K = -cross_entropy(logits_TV[:-1][trained_T], targets_K, reduction="none")
    return float(log_p_K.mean())


def with_general_answers(
    awaited: AwaitedAnswers,
    data: Prepared,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    folder: RunFolder,
    base: Fingerprint,
    precision: Precision,
    log: EventLog,
) -> Prepared:
    """Ask an untrained model, write the rows to the run's folder, and return the data with them mixed in.

    Raises ModelError if too few of its answers are usable, DataError if it cannot be asked, NotFiniteError if its loss
    is not finite.
    """
    asking = _Asking(awaited, model, tokenizer, data.template, base.digest, precision)
    rows = asking.rows(log)
    outcome = asking.outcome(len(rows))
    log.emit("note", text=f"data.replay: {outcome}")
    with saving(folder.root):
        write_rows(folder.replay, rows)
    replay = f"{data.summary.replay}; questions: {outcome}"
    return awaited.filled(replace(data, summary=replace(data.summary, replay=replay)), rows)


@dataclass
class _Asking:
    """Asks questions until there are as many usable answers as rows, or no more questions."""

    awaited: AwaitedAnswers
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    template: Template
    base: str
    """The digest of the model's weights."""
    precision: Precision
    asked: int = 0
    left_out: Counter[str] = field(default_factory=Counter)
    """Counts of unused answers, by reason."""

    def rows(self, log: EventLog) -> list[GeneralRow]:
        """Return the usable answers in the order of the questions; raises ModelError if there are too few."""
        wanted = self.awaited.count
        log.emit("stage", text=f"asking the model general questions, for {wanted} rows of data.replay")
        self._require_finite()
        rows: list[GeneralRow] = []
        began_seconds = time.monotonic()
        for together in self._answers():
            for question, answer in together:
                if len(rows) == wanted:
                    break
                rows += self._usable(question, answer)
            left_seconds = (time.monotonic() - began_seconds) / max(1, len(rows)) * (wanted - len(rows))
            log.emit("progress", done=len(rows), total=wanted, seconds_left=left_seconds)
            if len(rows) == wanted:
                break
        if not rows or len(rows) < LEAST_OF_ROWS * wanted:
            raise ModelError(self._too_few(len(rows)))
        return rows

    def _require_finite(self) -> None:
        """Raise NotFiniteError if the model's loss is not finite: rejected answers would not show that as the cause."""
        rows = [GeneralRow(question.text, question.text) for question in self.awaited.questions[:1]]
        with self.precision.autocast(self.model.device):
            for example in general_examples(self.template, rows):
                for sequence in example.sequences:
                    require_finite_loss(HeldOut(-mean_log_probability(self.model, sequence)))

    def _usable(self, question: GeneralQuestion, answer: GeneralAnswer) -> list[GeneralRow]:
        """Count an answer, and return it as a row if it is usable."""
        self.asked += 1
        if answer.unusable is None:
            return [GeneralRow(question.text, answer.text)]
        self.left_out[answer.unusable] += 1
        return []

    def _answers(self) -> Iterator[list[tuple[GeneralQuestion, GeneralAnswer]]]:
        """Yield the questions with their answers, a few at a time."""
        questions = self.awaited.questions
        for start in range(0, len(questions), QUESTIONS_AT_ONCE):
            together = questions[start : start + QUESTIONS_AT_ONCE]
            yield list(zip(together, self._asked_once(together), strict=True))

    def _asked_once(self, questions: Sequence[GeneralQuestion]) -> list[GeneralAnswer]:
        """Return the answers, from the cache if the same model was asked the same before."""

        def make(folder: Path) -> bool:
            plain = [asdict(answer) for answer in self._ask(questions)]
            (folder / ANSWERS_FILE).write_text(json.dumps(plain), encoding="utf-8")
            return True

        kept, _ = cached_or_made(self._entry(questions), make)
        plain = json.loads((kept.path / ANSWERS_FILE).read_text(encoding="utf-8"))
        return [GeneralAnswer(**one) for one in plain]

    def _ask(self, questions: Sequence[GeneralQuestion]) -> list[GeneralAnswer]:
        settings = GenerationSettings(max_new_tokens=self.awaited.max_new_tokens)
        conversations = [[Message("user", question.text)] for question in questions]
        with self.precision.autocast(self.model.device):
            answers = generate_answers(self.model, self.tokenizer, self.template, conversations, settings)
            pairs = zip(questions, answers, strict=True)
            return [self._judged(question, own[0]) for question, own in pairs]

    def _judged(self, question: GeneralQuestion, generated: Generated) -> GeneralAnswer:
        """Return an answer, with the reason not to train on it if there is one; raises the template's RowError."""
        text = generated.text.strip()
        reason = why_unusable(question, text, generated.cut)
        if reason is not None:
            return GeneralAnswer(text, reason)
        (example,) = general_examples(self.template, [GeneralRow(question.text, text)])
        (sequence, *_) = example.sequences
        if len(sequence.ids) > self.awaited.most_tokens:
            return GeneralAnswer(text, "too long")
        sure = mean_log_probability(self.model, sequence) >= LEAST_LOG_PROBABILITY
        return GeneralAnswer(text, None if sure else "unsure")

    def _entry(self, questions: Sequence[GeneralQuestion]) -> str:
        """Return the name of the answers' cache entry, derived from everything that determines them."""
        template = self.template
        limits = [self.awaited.max_new_tokens, self.awaited.most_tokens, LEAST_LOG_PROBABILITY]
        how = [*limits, str(self.model.dtype), str(self.precision.compute)]
        where = [self.model.device.type, torch.__version__, VERSION]
        day = str(template.day) if template.writes_date else ""
        reads_with = [tokenizer_version(self.tokenizer), template.kind, sorted(template.stop_ids), day]
        asked = [question.text for question in questions]
        return entry_name(["general answers", self.base, json.dumps([how, where, reads_with, asked])])

    def outcome(self, usable: int) -> str:
        """Return how many questions were asked, and how the answers were used."""
        details = ", ".join(
            COUNTED[reason].format(count=count) for reason, count in self.left_out.most_common()
        )
        often = f"some are seen more than once an epoch to make {self.awaited.count}"
        details = "; ".join(filter(None, [details, often if usable < self.awaited.count else ""]))
        made = f"asked {self.asked}, used {usable}"
        return f"asked {self.asked}, used {usable} ({details})" if details else made

    def _too_few(self, usable: int) -> Problem:
        longer = 4 * self.awaited.max_new_tokens
        remedies = ["data.replay=off", "data.replay.answers=FILE", f"data.replay.max_new_tokens={longer}"]
        return Problem(
            "the model gives too few usable answers to general questions for data.replay",
            self.outcome(usable),
            f"answers that end within {self.awaited.max_new_tokens} tokens, for {self.awaited.count} rows",
            " or ".join(remedies),
        )
