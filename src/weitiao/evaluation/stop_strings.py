"""Cuts an answer's text at a stop text, in complete texts and in texts that arrive piece by piece."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

UNFINISHED = "\ufffd"
"""What a decoder writes for bytes that do not form a complete character yet."""


def cut_at(text: str, stops: Sequence[str]) -> str:
    """Return the text up to the stop text that is completed first."""
    found = [(at + len(stop), at) for stop in stops if (at := text.find(stop)) >= 0]
    return text[: min(found)[1]] if found else text


def kept_back(text: str, stops: Sequence[str]) -> int:
    """Return how many of the last characters may be the beginning of a stop text."""
    longest = max((len(stop) for stop in stops), default=1) - 1
    sizes = range(min(longest, len(text)), 0, -1)
    return next((size for size in sizes if any(stop.startswith(text[-size:]) for stop in stops)), 0)


@dataclass
class StopCutter:
    """Passes on pieces of a text, up to a stop text and never part of one."""

    stops: Sequence[str]
    ended: bool = False
    """Whether a stop text was found; nothing follows it."""
    _waiting: str = ""

    def push(self, piece: str) -> str:
        """Add the next piece and return the text that certainly belongs to the answer."""
        if self.ended:
            return ""
        text = self._waiting + piece
        cut = cut_at(text, self.stops)
        self.ended = len(cut) < len(text)
        back = 0 if self.ended else kept_back(text, self.stops)
        self._waiting = text[len(text) - back :] if back else ""
        return cut[: len(cut) - back] if back else cut

    def rest(self) -> str:
        """Return the text held back, at the end."""
        rest, self._waiting = ("" if self.ended else self._waiting), ""
        return rest


@dataclass
class PieceDecoder:
    """Turns token ids that arrive one by one into text, without splitting characters that span several tokens.

    Decodes only from the last settled token on, so the cost per token does not grow with the answer.
    """

    tokenizer: PreTrainedTokenizerBase
    kept: frozenset[int] = frozenset()
    """Special tokens that are kept in answers."""
    _ids: list[int] = field(default_factory=list)
    _context_from: int = 0
    _settled: int = 0

    def push(self, token_id: int) -> str:
        """Add the next id and return the text it completes, if any."""
        self._ids.append(token_id)
        piece = self._pending()
        if piece.endswith(UNFINISHED):
            return ""
        return self._settle(piece)

    def rest(self) -> str:
        """Return the remaining text at the end, an incomplete character included."""
        return self._settle(self._pending())

    def _pending(self) -> str:
        # A token's text depends on the previous one (a first token loses its leading blank), so decode that one too.
        before = decoded(self.tokenizer, self._ids[self._context_from : self._settled], self.kept)
        return decoded(self.tokenizer, self._ids[self._context_from :], self.kept)[len(before) :]

    def _settle(self, piece: str) -> str:
        self._context_from, self._settled = self._settled, len(self._ids)
        return piece


def decoded(
    tokenizer: PreTrainedTokenizerBase, ids: Sequence[int], kept: frozenset[int] = frozenset()
) -> str:
    """Return the text of ids, without cleaning up blanks and without special tokens except those in `kept`."""
    if not kept.isdisjoint(ids):
        added = tokenizer.added_tokens_decoder
        shown = [i for i in ids if i in kept or not (i in added and added[i].special)]
        return str(tokenizer.decode(shown, skip_special_tokens=False, clean_up_tokenization_spaces=False))
    return str(tokenizer.decode(list(ids), skip_special_tokens=True, clean_up_tokenization_spaces=False))
