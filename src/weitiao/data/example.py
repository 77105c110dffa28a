"""Training examples: an example is one row of the data, as one or more token sequences."""

from __future__ import annotations

from dataclasses import dataclass

Label = bool | int | float | tuple[float, ...] | tuple[str, ...] | None


@dataclass(frozen=True)
class TokenSequence:
    """Token ids with one loss weight per token: 0 marks context, any other weight a target that is trained."""

    ids: tuple[int, ...]
    weights: tuple[float, ...]

    def __post_init__(self) -> None:
        """Raise ValueError if ids and weights differ in length."""
        if len(self.ids) != len(self.weights):
            raise ValueError(f"{len(self.ids)} ids but {len(self.weights)} weights")

    @property
    def trained_tokens(self) -> int:
        """The number of targets with a weight other than 0; the first token is no target, as nothing precedes it."""
        return sum(weight != 0 for weight in self.weights[1:])

    @property
    def loss_weight(self) -> float:
        """The sum of the targets' weights."""
        return sum(self.weights[1:])


@dataclass(frozen=True)
class Example:
    """One row; its sequences are drawn, batched, packed and counted together.

    Most rows are one sequence. A preference has two (chosen and rejected), a multiple-choice question one per choice.
    A conversation has one per answer if the chat template renders a turn differently once later turns follow it.
    """

    sequences: tuple[TokenSequence, ...]
    place: str
    """The location of its row, as `file:line`."""
    draws: float = 1.0
    """How many times it is drawn per epoch."""
    task: str = ""
    """The task it belongs to, if the data has several."""
    label: Label = None
    """The row's label besides its texts: whether an answer is wanted, the right choice, margin, scores, labels or tags
    (see forms.label_of)."""

    @classmethod
    def of(
        cls, ids: tuple[int, ...], weights: tuple[float, ...], place: str, draws: float = 1.0, task: str = ""
    ) -> Example:
        """Return an example with a single sequence."""
        return cls((TokenSequence(ids, weights),), place, draws, task)

    @property
    def tokens(self) -> int:
        """The number of tokens in all sequences; a shared prefix counts in each of them."""
        return sum(len(sequence.ids) for sequence in self.sequences)

    @property
    def longest(self) -> int:
        """The number of tokens in the longest sequence."""
        return max((len(sequence.ids) for sequence in self.sequences), default=0)

    @property
    def trained_tokens(self) -> int:
        """The number of targets with a weight other than 0, in all sequences."""
        return sum(sequence.trained_tokens for sequence in self.sequences)

    @property
    def loss_weight(self) -> float:
        """The sum of its targets' weights."""
        return sum(sequence.loss_weight for sequence in self.sequences)
