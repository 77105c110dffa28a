"""Wraps a text that arrives in pieces, as a model writes it: lines break between words."""

from __future__ import annotations

from collections.abc import Callable

from rich.cells import cell_len

NOT_FIRST = frozenset("、。，．,.!?;:！？；：…—)]}）】》」』〉〕”’%％～ー")
"""Characters that no line starts with."""
NOT_LAST = frozenset("([{（【《「『〈〔“‘")
"""Characters that no line ends with."""


class StreamWrapper:
    """Holds back each word until it is complete and wraps it if it does not fit; a wide character is a word."""

    def __init__(self, columns: int, write: Callable[[str], None]) -> None:
        """Wrap at `columns`, and pass the output to `write`."""
        self._columns, self._write = max(1, columns), write
        self._column = 0
        self._gap = ""
        """Blanks before the word."""
        self._word = ""

    def push(self, piece: str) -> None:
        """Add the next piece of the text."""
        for character in piece:
            if character == "\n":
                self.rest()
                self._gap = ""
                self._write("\n")
                self._column = 0
            elif character in " \t":
                self._put_word()
                self._gap += "    " if character == "\t" else character
            else:
                if self._breaks_before(character):
                    self._put_word()
                self._word += character

    def rest(self) -> None:
        """Write the word held back."""
        self._put_word()

    def _breaks_before(self, character: str) -> bool:
        """Return whether a line may break before a character: next to wide characters, except around punctuation."""
        if not self._word or character in NOT_FIRST or cell_len(character) == 0:
            return False
        last = self._word[-1]
        return last not in NOT_LAST and (
            cell_len(character) == 2 or cell_len(last) == 2 or _ends_wide(self._word)
        )

    def _put_word(self) -> None:
        if not self._word:
            return
        gap, word = self._gap, self._word
        self._gap = self._word = ""
        if self._column and self._column + len(gap) + cell_len(word) > self._columns:
            self._write("\n")
            self._column, gap = 0, ""
        self._write(gap)
        self._column += len(gap)
        for part in self._parts(word):
            self._write(part)

    def _parts(self, word: str) -> list[str]:
        """Split a word that is longer than a line, and update the column."""
        parts, part = [], ""
        for character in word:
            width = cell_len(character)
            if self._column + width > self._columns:
                parts += [part, "\n"]
                part, self._column = "", 0
            part += character
            self._column += width
        return [*parts, part]


def _ends_wide(word: str) -> bool:
    """Return whether a word consists of wide characters followed by punctuation."""
    body = word.rstrip("".join(NOT_FIRST))
    return bool(body) and len(body) < len(word) and cell_len(body[-1]) == 2
