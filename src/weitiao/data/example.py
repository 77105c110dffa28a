"""What is trained: an example is one row of the data, as the token sequences that a model reads of it."""

from __future__ import annotations

from dataclasses import dataclass

Label = bool | int | float | tuple[float, ...] | tuple[str, ...] | None


@dataclass(frozen=True)
class TokenSequence:
    """Token ids and one loss weight a token: 0 is context, anything else is trained (as a target)."""

    ids: tuple[int, ...]
    weights: tuple[float, ...]

    def __post_init__(self) -> None:
        """Refuse ids and weights of different lengths with ValueError."""
        if len(self.ids) != len(self.weights):
            raise ValueError(f"{len(self.ids)} ids but {len(self.weights)} weights")

    @property
    def trained_tokens(self) -> int:
        """How many targets carry weight (the first token has nothing before it to predict it from)."""
        return sum(weight != 0 for weight in self.weights[1:])

    @property
    def loss_weight(self) -> float:
        """The sum of the targets' weights."""
        return sum(self.weights[1:])


@dataclass(frozen=True)
class Example:
    """One row, which is drawn, batched, packed and counted as a whole.

    Most rows are one sequence. A preference has two (chosen, rejected), a question with choices one for each choice;
    a conversation has one for each answer where the template changes what was said before.
    """

    sequences: tuple[TokenSequence, ...]
    place: str
    """Where it comes from, as `file:line`."""
    draws: float = 1.0
    """How many times an epoch sees it."""
    task: str = ""
    """The task it belongs to, where the data has several."""
    label: Label = None
    """What the row says beside its texts: whether an answer is wanted, the right choice, margin, scores, labels, tags
    (see forms.label_of)."""

    @classmethod
    def of(
        cls, ids: tuple[int, ...], weights: tuple[float, ...], place: str, draws: float = 1.0, task: str = ""
    ) -> Example:
        """Return an example of one sequence."""
        return cls((TokenSequence(ids, weights),), place, draws, task)

    @property
    def tokens(self) -> int:
        """The tokens of all its sequences, those they share counted in each."""
        return sum(len(sequence.ids) for sequence in self.sequences)

    @property
    def longest(self) -> int:
        """The tokens of its longest sequence."""
        return max((len(sequence.ids) for sequence in self.sequences), default=0)

    @property
    def trained_tokens(self) -> int:
        """How many targets of its sequences carry weight."""
        return sum(sequence.trained_tokens for sequence in self.sequences)

    @property
    def loss_weight(self) -> float:
        """The sum of its targets' weights."""
        return sum(sequence.loss_weight for sequence in self.sequences)
