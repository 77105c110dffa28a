"""One answer and whether it is wanted, for KTO (https://arxiv.org/abs/2402.01306).

The column is `label` in TRL; `kto_tag` in LLaMA-Factory, for Alpaca and ShareGPT rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from ..conversation import Message, Row
from ..forms import Unpaired
from ._base import Format, RowError, each_of, first_of, missing, mostly, needed, truth_of
from ._calls import TOOLS, tools_in
from ._prompts import ASKING, PROMPTS, TALKS, answered, history_in, last_answer, one_question, said_in
from ._turns import messages_in, with_system_turn

ANSWERS = ("completion", "response", "output", "answer")
LABELS = ("kto_tag", "label")


class KTO(Format):
    """The label says whether the answer is wanted: true or false, 1 or 0."""

    form: ClassVar[str] = "unpaired"
    columns: ClassVar[tuple[str, ...]] = (*ASKING, *ANSWERS, *LABELS, *TOOLS)
    ways: ClassVar[tuple[frozenset[str], ...]] = (
        *each_of(PROMPTS, ANSWERS, LABELS),
        *each_of(TALKS, LABELS),
    )
    example: ClassVar[str] = '{"prompt": "Is water wet?", "completion": "No idea.", "label": false}'

    def claims_rows(self, sample: Sequence[Row]) -> bool:
        """Return whether most labels are booleans, or 0 and 1, and the labels are not class numbers."""
        labels = [row.fields[name] for row in sample if (name := first_of(LABELS, row.fields))]
        return mostly(map(_says_truth, labels)) and not _count_classes(labels)

    def read(self, row: Row) -> Unpaired:
        """Parse a row into a prompt, an answer and whether the answer is wanted; raises RowError."""
        name = first_of(LABELS, row.fields)
        if not name:
            raise missing(" or ".join(map(repr, reversed(LABELS))), row.fields)
        label = truth_of(row.fields[name], repr(name))
        prompt, completion = _exchange(row)
        return Unpaired(
            row.place, prompt=prompt, completion=completion, label=label, tools=tools_in(row.fields)
        )


def _exchange(row: Row) -> tuple[tuple[Message, ...], tuple[Message, ...]]:
    fields = row.fields
    if first_of(ANSWERS, fields) or not first_of(TALKS, fields):
        return one_question(row, said_in(fields, needed(ANSWERS, fields), "assistant"))
    turns = [*history_in(fields), *messages_in(fields, needed(TALKS, fields))]
    return answered(*last_answer(with_system_turn(fields, turns)))


def _says_truth(label: object) -> bool:
    try:
        return truth_of(label, "label") in (True, False)
    except RowError:
        return False


def _count_classes(labels: Sequence[object]) -> bool:
    """Return whether labels are class numbers: besides 0 or 1 there are other numbers."""
    numbers = {str(label).strip() for label in labels if not isinstance(label, bool)}
    digits = {number for number in numbers if number.isdecimal()}
    return bool(digits & {"0", "1"}) and bool(digits - {"0", "1"})
