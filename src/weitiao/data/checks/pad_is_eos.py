"""Which token pads and which ends an answer, as facts: that they may be one does no harm here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from ._base import GateOutcome, RowFacts
from ._kinds import KindsCheck


class PadIsEos(KindsCheck):
    """Reads the tokenizer; no row enters.

    Elsewhere a pad token that is the end token is masked with the padding, and a model never learns to stop. Here masks
    go by position, so this is no finding, which every check with such a model would have.
    """

    needs_tokens: ClassVar[bool] = True

    def observe(self, row: RowFacts) -> None:
        """Look at nothing: this is a property of the tokenizer."""

    def facts(self, outcome: GateOutcome) -> Mapping[str, Any]:
        """Return the tokens that pad and end."""
        tokenizer = self.context.tokenizer
        if tokenizer is None:
            return {}
        return {"pad_token": _name(tokenizer.pad_token), "eos_token": _name(tokenizer.eos_token)}


def _name(token: object) -> str | None:
    return None if token is None else str(token)
