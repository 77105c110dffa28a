"""Which token pads and which ends an answer, as facts: that they may be one does no harm here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from ._base import GateOutcome, RowFacts
from ._kinds import KindsCheck


class PadIsEos(KindsCheck):
    """Reports the tokenizer's pad and end tokens; looks at no rows.

    In other tools, if the pad token is also the end token, the end token is masked together with the padding, and the
    model never learns to stop. Here padding is masked by position, so this is no problem: it is a fact, not a finding
    that every run with such a model would get.
    """

    needs_tokens: ClassVar[bool] = True

    def observe(self, row: RowFacts) -> None:
        """Do nothing: this is a property of the tokenizer."""

    def facts(self, outcome: GateOutcome) -> Mapping[str, Any]:
        """Return the pad token and the end-of-sequence token."""
        tokenizer = self.context.tokenizer
        if tokenizer is None:
            return {}
        return {"pad_token": _name(tokenizer.pad_token), "eos_token": _name(tokenizer.eos_token)}


def _name(token: object) -> str | None:
    return None if token is None else str(token)
