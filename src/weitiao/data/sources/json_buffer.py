"""A sliding window over JSON text: text already parsed is dropped, so that files of any size fit in memory."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any, Protocol

from .json_values import UnusableValue, ValueDecoder

BLOCK_CHARACTERS = 1 << 20
KEPT_CHARACTERS = 100
"""How much text before the reading position stays in the window, for error messages."""
LONGEST_WORD = 12
"""Characters; an error this close to the end of the window may only be a word that the window cuts off."""
LONGEST_VALUE = 1 << 26
"""Characters; a longer value cannot be a row to train on, and would fill the memory."""
_SPACE = re.compile(r"[ \t\n\r]*")
_BETWEEN = re.compile(r"[ \t\n\r]*,[ \t\n\r]*(?=\{)")
"""The separator between most elements of a list, matched at once as a fast path."""


class Lines(Protocol):
    """A text file, or an object that is read like one."""

    def read(self, size: int) -> str:
        """Return about `size` characters; "" at the end."""

    def readline(self, size: int) -> str:
        """Return a line with its line break, at most `size` characters of it; "" at the end."""


@dataclass(frozen=True)
class Place:
    """The position of a character, and the text around it."""

    line: int
    column: int
    text: str
    """The part of its line that is in the window."""
    shown_column: int
    """Its column in `text`, counted from 1."""
    at_end: bool
    """Whether only white space follows in the file."""


class Window:
    """The text around the reading position `at`; `text[at]` is the next character."""

    def __init__(self, file: Lines, values: ValueDecoder) -> None:
        self.text, self.at, self.values = "", 0, values
        self.line, self.line_begin = 1, 0
        """The line of the last position passed to `advance`, and the index where it begins (below 0 once dropped)."""
        self.kept_from = 0
        """The index from which the caller asked to keep the text."""
        self._file, self._ended, self._counted = file, False, 0

    def advance(self, to: int | None = None) -> None:
        """Count lines up to an index, by default the reading position."""
        index = self.at if to is None else to
        breaks = self.text.count("\n", self._counted, index)
        if breaks:
            self.line += breaks
            self.line_begin = self.text.rfind("\n", self._counted, index) + 1
        self._counted = max(index, self._counted)

    def line_at(self, index: int) -> int:
        """Return the line of an index that is not before the last `advance`."""
        return self.line + self.text.count("\n", self._counted, index)

    def mark(self) -> str:
        """Return the next character; "" at the end of the window."""
        return self.text[self.at : self.at + 1]

    def step(self) -> None:
        """Move on by one character."""
        self.at += 1

    def skip_space(self, keep_from: int | None = None) -> str:
        """Move to the next character that is not white space, and return it; "" at the end of the file."""
        self.kept_from = self.at if keep_from is None else keep_from
        while True:
            found = _SPACE.match(self.text, self.at)
            self.at = found.end() if found else self.at
            if self.at < len(self.text) or not self._more(keep_from is not None):
                return self.mark()

    def go_to_next(self) -> bool:
        """Move to the next element of a list, or to the `]` after the last; return whether there is an element."""
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

    def value(self, keep_from: int | None = None) -> Any:  # noqa: ANN401  (any JSON value)
        """Parse one value and move past it; raises JSONDecodeError, also for nesting that is too deep.

        Text from `keep_from` on stays in the window; `kept_from` is its new index. Raises UnusableValue for a value
        that cannot be used, after moving past it.
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
            # A number at the end of the window may continue after it.
            if (
                end == len(self.text)
                and not isinstance(found, dict | list | str)
                and self._more(keep_from is not None)
            ):
                continue
            self.at = end
            return found

    def _goes_on(self, error: json.JSONDecodeError) -> bool:
        """Return whether a value may be invalid only because the window ends inside it."""
        # A line break in a string is a different error, so an unterminated string reaches the end of the window.
        return error.pos >= len(self.text) - LONGEST_WORD or error.msg.startswith("Unterminated")

    def _refuse_endless(self) -> None:
        if len(self.text) - self.at > LONGEST_VALUE:
            msg = f"It is longer than {LONGEST_VALUE:,} characters"
            raise json.JSONDecodeError(msg, self.text, self.at)

    def longer_than(self, characters: int) -> bool:
        """Return whether the value that begins here is longer than `characters`."""
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
        """Return the unread text, from the reading position on."""
        return Rest(self.text[self.at :], self._file)

    def place(self, index: int) -> Place:
        """Return the position of the character at an index that is not before the last `advance`."""
        index += self._reach(index)
        self.advance(index)
        begin = max(self.line_begin, 0)
        end = self.text.find("\n", index)
        shown = self.text[begin : end if end >= 0 else len(self.text)]
        at_end = self._ended and not self.text[index:].strip()
        return Place(self.line, index - self.line_begin + 1, shown, index - begin + 1, at_end)

    def _reach(self, index: int) -> int:
        """Read more if little text follows an index; return by how much the index moved in the window."""
        before = self.at
        if len(self.text) - index < KEPT_CHARACTERS:
            self._more(keep=True)
        return self.at - before

    def _more(self, keep: bool = False) -> bool:
        """Read another block, at least as long as the window, so that it doubles for a long value.

        Returns whether there was more.
        """
        block = "" if self._ended else self._file.read(max(BLOCK_CHARACTERS, len(self.text)))
        if not block:  # nothing moves, so that the index in an error about the last value stays right
            self._ended = True
            return False
        kept = min(self.at, self.kept_from) if keep else self.at
        cut = max(0, kept - KEPT_CHARACTERS)
        if cut > self._counted:
            self.advance(cut)
        self.text = self.text[cut:] + block
        self.at, self.kept_from = self.at - cut, self.kept_from - cut
        self._counted, self.line_begin = self._counted - cut, self.line_begin - cut
        return True


class Rest:
    """Text already read from a file, followed by the rest of the file."""

    def __init__(self, text: str, file: Lines) -> None:
        self._text, self._at, self._file = text, 0, file

    def read(self, size: int) -> str:
        """Return the text already read, then what the file returns."""
        text, self._text, self._at = self._text[self._at :], "", 0
        return text or self._file.read(size)

    def readline(self, size: int) -> str:
        """Return a line with its line break; "" at the end. `size` limits only what is read from the file."""
        end = self._text.find("\n", self._at) + 1
        if end:
            line, self._at = self._text[self._at : end], end
            return line
        begun, self._text, self._at = self._text[self._at :], "", 0
        return begun + self._file.readline(size)
