"""What rendering made of one row: its token sequences, and what was left out of it."""

from __future__ import annotations

from dataclasses import dataclass, field

from ..bad_rows import BadRow
from ..example import TokenSequence
from ..formats._base import RowError


@dataclass
class RenderedRow:
    """The token sequences of one row, and what was left out."""

    sequences: list[TokenSequence] = field(default_factory=list)
    parts: list[str] = field(default_factory=list)
    """For each sequence, the name of its part of the row (see forms.parts)."""
    refused: RowError | None = None
    """Why the template refuses the row."""
    lost: list[BadRow] = field(default_factory=list)
    """For each sequence left out, why."""
    lost_tokens: int = 0
    """Tokens of the longest sequence left out, 0 if not counted."""
    cut: int = 0
    """Number of sequences that were shortened."""
    cut_tokens: int = 0
    """Tokens removed from them."""
    turns_left_out: int = 0
    """Messages removed from their beginning."""
    answers_shortened: int = 0
    """Answers that lost the middle of their reasoning, or their end (never the token that ends them)."""

    @property
    def dropped(self) -> str:
        """Why the row was left out, with the same text for every row with this reason; "" if it is kept."""
        return self.lost[0].reason if self.lost and not self.sequences else ""
