"""A window that slides over JSON text: what was read falls out behind, so that a file of any size fits in memory."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any, Protocol

from .json_values import UnusableValue, ValueDecoder

BLOCK_CHARACTERS = 1 << 20
KEPT_CHARACTERS = 100
"""How much stays in the window behind the place of reading, for messages."""
LONGEST_WORD = 12
"""Characters; an error this near to the end of the window may be a word that is not read to its end."""
LONGEST_VALUE = 1 << 26
"""Characters; a longer value is no row a model can be trained on, and would fill the memory."""
_SPACE = re.compile(r"[ \t\n\r]*")
_BETWEEN = re.compile(r"[ \t\n\r]*,[ \t\n\r]*(?=\{)")
"""What stands between most elements, found in one go."""


class Lines(Protocol):
    """What text is read from."""

    def read(self, size: int) -> str:
        """Return about so many characters, none at the end."""

    def readline(self, size: int) -> str:
        """Return a line with its break, or so many characters of it; nothing at the end."""


@dataclass(frozen=True)
class Place:
    """Where a character stands, and the text around it."""

    line: int
    column: int
    text: str
    """What the window holds of its line."""
    shown_column: int
    """Its column in `text`; the first is 1."""
    at_end: bool
    """Whether the file ends here."""


class Window:
    """Text around the place of reading; `at` is that place, `text[at]` the next character."""

    def __init__(self, file: Lines, values: ValueDecoder) -> None:
        self.text, self.at, self.values = "", 0, values
        self.line, self.line_begin = 1, 0
        """Of the place last advanced to: its line, and where that line begins (below 0 where it fell out)."""
        self.kept_from = 0
        """Where the text begins that the caller asked to keep."""
        self._file, self._ended, self._counted = file, False, 0

    def advance(self, to: int | None = None) -> None:
        """Count lines up to a place, by default the place of reading."""
        index = self.at if to is None else to
        breaks = self.text.count("\n", self._counted, index)
        if breaks:
            self.line += breaks
            self.line_begin = self.text.rfind("\n", self._counted, index) + 1
        self._counted = max(index, self._counted)

    def line_at(self, index: int) -> int:
        """Return the line of a place not before the one last advanced to."""
        return self.line + self.text.count("\n", self._counted, index)

    def mark(self) -> str:
        """Return the next character; nothing at the end."""
        return self.text[self.at : self.at + 1]

    def step(self) -> None:
        """Go on by one character."""
        self.at += 1

    def skip_space(self, keep_from: int | None = None) -> str:
        """Go on to the next character that is not white space, and return it; nothing at the end."""
        self.kept_from = self.at if keep_from is None else keep_from
        while True:
            found = _SPACE.match(self.text, self.at)
            self.at = found.end() if found else self.at
            if self.at < len(self.text) or not self._more(keep_from is not None):
                return self.mark()

    def go_to_next(self) -> bool:
        """Go on to the next element of a list, or to the `]` behind the last; return whether there is one."""
        found = _BETWEEN.match(self.text, self.at)
        if found and found.end() < len(self.text):
            self.at = found.end()
            return True
        mark = self.skip_space()
        if mark == "]":
            return False
        if mark != ",":
            raise json.JSONDecodeError("Expecting ',' or ']'", self.text, self.at)
        self.at += 1
        if self.skip_space() == "]":
            raise json.JSONDecodeError("There is a comma before the ]", self.text, self.at)
        return True

    def value(self, keep_from: int | None = None) -> Any:  # noqa: ANN401  (whatever the file holds)
        """Read one value and go on behind it; raises JSONDecodeError, for nesting too deep as well.

        Text from `keep_from` on stays in the window; where it then begins is `kept_from`. Raises UnusableValue, having
        gone on behind the value, for one that cannot be used.
        """
        self.kept_from = self.at if keep_from is None else keep_from
        while True:
            try:
                found, end = self.values.decode(self.text, self.at)
            except json.JSONDecodeError as error:
                if self._goes_on(error) and self._more(keep_from is not None):
                    self._refuse_endless()
                    continue
                raise
            except UnusableValue as error:
                self.at = error.end
                raise
            # A number at the window's end may go on.
            if (
                end == len(self.text)
                and not isinstance(found, dict | list | str)
                and self._more(keep_from is not None)
            ):
                continue
            self.at = end
            return found

    def _goes_on(self, error: json.JSONDecodeError) -> bool:
        """Whether a value may only seem broken because the window ends within it."""
        # A line break within a string is an error of its own, so one that is open reaches the window's end.
        return error.pos >= len(self.text) - LONGEST_WORD or error.msg.startswith("Unterminated")

    def _refuse_endless(self) -> None:
        if len(self.text) - self.at > LONGEST_VALUE:
            msg = f"It is longer than {LONGEST_VALUE:,} characters"
            raise json.JSONDecodeError(msg, self.text, self.at)

    def longer_than(self, characters: int) -> bool:
        """Whether the value that begins here reaches further than so many characters."""
        while True:
            try:
                self.values.decode(self.text, self.at)
            except json.JSONDecodeError as error:
                if not self._goes_on(error):
                    return False
            except UnusableValue:
                return False
            else:
                return False
            if len(self.text) - self.at > characters:
                return True
            if not self._more(keep=False):
                return False

    def rest(self) -> Rest:
        """Return what is left to be read, from the place of reading on."""
        return Rest(self.text[self.at :], self._file)

    def place(self, index: int) -> Place:
        """Return where a character of the window stands; not before the place last advanced to."""
        index += self._reach(index)
        self.advance(index)
        begin = max(self.line_begin, 0)
        end = self.text.find("\n", index)
        shown = self.text[begin : end if end >= 0 else len(self.text)]
        at_end = self._ended and not self.text[index:].strip()
        return Place(self.line, index - self.line_begin + 1, shown, index - begin + 1, at_end)

    def _reach(self, index: int) -> int:
        """Read on where little text follows a place; return by how much the place moved in the window."""
        before = self.at
        if len(self.text) - index < KEPT_CHARACTERS:
            self._more(keep=True)
        return self.at - before

    def _more(self, keep: bool = False) -> bool:
        """Read on, twice as much where a value is long; return whether there was more."""
        if self._ended:
            return False
        kept = min(self.at, self.kept_from) if keep else self.at
        cut = max(0, kept - KEPT_CHARACTERS)
        if cut > self._counted:
            self.advance(cut)
        block = self._file.read(max(BLOCK_CHARACTERS, len(self.text)))
        self._ended = not block
        self.text = self.text[cut:] + block
        self.at, self.kept_from = self.at - cut, self.kept_from - cut
        self._counted, self.line_begin = self._counted - cut, self.line_begin - cut
        return not self._ended


class Rest:
    """Text read already, and the file it came from."""

    def __init__(self, text: str, file: Lines) -> None:
        self._text, self._at, self._file = text, 0, file

    def read(self, size: int) -> str:
        """Return all that was read already, then what the file gives."""
        text, self._text, self._at = self._text[self._at :], "", 0
        return text or self._file.read(size)

    def readline(self, size: int) -> str:
        """Return a line with its break, or so many characters of it; nothing at the end."""
        end = self._text.find("\n", self._at) + 1
        if end:
            line, self._at = self._text[self._at : end], end
            return line
        begun, self._text, self._at = self._text[self._at :], "", 0
        return begun + self._file.readline(size)
