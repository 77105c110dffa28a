"""Which token pads, and that a pad token equal to the end token does no harm here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from ._base import Finding, Outcome, RowFacts
from ._kinds import KindsCheck


class PadIsEos(KindsCheck):
    """Reads the tokenizer; no row enters."""

    needs_tokens: ClassVar[bool] = True

    def observe(self, row: RowFacts) -> None:
        """Look at nothing: this is a property of the tokenizer."""

    def findings(self, outcome: Outcome) -> list[Finding]:
        """Say that pad and eos are one token, where they are."""
        tokenizer = self.context.tokenizer
        if (
            tokenizer is None
            or tokenizer.pad_token_id is None
            or tokenizer.pad_token_id != tokenizer.eos_token_id
        ):
            return []
        return [
            Finding(
                check=self.name,
                severity="note",
                what="the pad token is the end token; harmless here, since masks go by position and never by "
                "the token, so the end of an answer is trained",
                what_zh="填充词元就是结束词元；在这里无妨：掩码按位置而不按词元，所以回答的结尾参与训练",
            )
        ]

    def facts(self, outcome: Outcome) -> Mapping[str, Any]:
        """Return the tokens that pad and end."""
        tokenizer = self.context.tokenizer
        if tokenizer is None:
            return {}
        return {"pad_token": _name(tokenizer.pad_token), "eos_token": _name(tokenizer.eos_token)}


def _name(token: object) -> str | None:
    return None if token is None else str(token)
