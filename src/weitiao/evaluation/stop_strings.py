"""Where an answer's text ends: at a stop text, in whole texts and in texts that arrive piece by piece."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

UNFINISHED = "\ufffd"
"""What a decoder writes for bytes that do not make a character yet."""


def cut_at(text: str, stops: Sequence[str]) -> str:
    """Return the text up to the stop text that is complete first, which is where writing stops."""
    found = [(at + len(stop), at) for stop in stops if (at := text.find(stop)) >= 0]
    return text[: min(found)[1]] if found else text


def kept_back(text: str, stops: Sequence[str]) -> int:
    """Return how many of the last characters may be the beginning of a stop text."""
    longest = max((len(stop) for stop in stops), default=1) - 1
    sizes = range(min(longest, len(text)), 0, -1)
    return next((size for size in sizes if any(stop.startswith(text[-size:]) for stop in stops)), 0)


@dataclass
class StopCutter:
    """Passes pieces of a text on, up to a stop text and never a part of one."""

    stops: Sequence[str]
    ended: bool = False
    """Whether a stop text was found; nothing comes after it."""
    _waiting: str = ""

    def push(self, piece: str) -> str:
        """Take the next piece and return what is sure to belong to the answer."""
        if self.ended:
            return ""
        text = self._waiting + piece
        cut = cut_at(text, self.stops)
        self.ended = len(cut) < len(text)
        back = 0 if self.ended else kept_back(text, self.stops)
        self._waiting = text[len(text) - back :] if back else ""
        return cut[: len(cut) - back] if back else cut

    def rest(self) -> str:
        """Return what was kept back, once no more comes."""
        rest, self._waiting = ("" if self.ended else self._waiting), ""
        return rest


@dataclass
class PieceDecoder:
    """Turns token ids that arrive one by one into text, never cutting a character of several tokens in half.

    Decodes only from the last settled token on, so a long answer costs no more a token than a short one.
    """

    tokenizer: PreTrainedTokenizerBase
    kept: frozenset[int] = frozenset()
    """Special tokens that belong to answers."""
    _ids: list[int] = field(default_factory=list)
    _context_from: int = 0
    _settled: int = 0

    def push(self, token_id: int) -> str:
        """Take the next id and return the text that is settled by it, or nothing."""
        self._ids.append(token_id)
        piece = self._pending()
        if piece.endswith(UNFINISHED):
            return ""
        return self._settle(piece)

    def rest(self) -> str:
        """Return what is left when no more ids come, a broken character included."""
        return self._settle(self._pending())

    def _pending(self) -> str:
        # A token's text depends on the one before (a first token loses its blank), so that one goes along.
        before = decoded(self.tokenizer, self._ids[self._context_from : self._settled], self.kept)
        return decoded(self.tokenizer, self._ids[self._context_from :], self.kept)[len(before) :]

    def _settle(self, piece: str) -> str:
        self._context_from, self._settled = self._settled, len(self._ids)
        return piece


def decoded(
    tokenizer: PreTrainedTokenizerBase, ids: Sequence[int], kept: frozenset[int] = frozenset()
) -> str:
    """Return the text of ids as it is, without tidying blanks and without special tokens but those kept."""
    if not kept.isdisjoint(ids):
        added = tokenizer.added_tokens_decoder
        shown = [i for i in ids if i in kept or not (i in added and added[i].special)]
        return str(tokenizer.decode(shown, skip_special_tokens=False, clean_up_tokenization_spaces=False))
    return str(tokenizer.decode(list(ids), skip_special_tokens=True, clean_up_tokenization_spaces=False))
