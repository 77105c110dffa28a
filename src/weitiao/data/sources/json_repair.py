"""Repairs hand-written JSON: comments, trailing commas, full-width quotes and punctuation, Python's quotes and
constants.

The result is strict JSON with the same line numbers; quoted text keeps its content.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Mapping

from .json_buffer import Lines

_TOKEN = re.compile(
    r"""
      (?P<text>"[^"\\]*+(?:\\.[^"\\]*+)*+")
    | (?P<single>'[^'\\]*+(?:\\.[^'\\]*+)*+')
    | (?P<curly>“(?:[^“”\\]|\\.|“[^“”]*+”)*+” | “[^“”\\]*+“ | ”[^“”\\]*+” | ＂[^＂\\]*+＂ | ‘[^‘’\\]*+’)
    | (?P<broken>["'“”＂‘].*)
    | (?P<comment>(?://|\#).*)
    | (?P<block>/\*)
    | (?P<comma>[,，])
    | (?P<close>[\]}］｝】])
    | (?P<wide>[：｛［【])
    | (?P<space>[ \t\r\n]+)
    | (?P<blank>[\u00a0\u3000\ufeff\u200b-\u200d\u2028\u2029]+)
    | (?P<word>\b(?:True|False|None)\b)
    | (?P<plain>[\w.+-]+|[\[{:]+|.)
    """,
    re.VERBOSE | re.DOTALL,
)
_FENCE = re.compile(r"[ \t]*```[\w ]*\r?\n?")
_BLOCK_END = re.compile(r"(.*?)\*/", re.DOTALL)
_NO_BREAK = re.compile(r"[^\r\n]")
_QUOTE = re.compile(r'\\(.)|"', re.DOTALL)
_PYTHON_ESCAPE = re.compile(r"""\\x([0-9a-fA-F]{2})|\\U([0-9a-fA-F]{8})|\\(.)|\"""", re.DOTALL)
_STRAIGHT = str.maketrans("：，｛｝［］【】", ":,{}[][]")
_WORDS = {"True": "true", "False": "false", "None": "null"}
COMMENTS, COMMAS, QUOTES, MARKS = (
    "comments",
    "trailing commas",
    "full-width quotes",
    "full-width punctuation",
)
SINGLE, WORDS, FENCES, BLANKS = (
    "single quotes",
    "True, False or None",
    "``` lines",
    "unusual white space",
)
LINES_AT_ONCE = 64
LONGEST_LINE = 1 << 22
"""Characters; a longer line was not written by hand and is not repaired."""


class Repairs:
    """Rewrites lines as strict JSON, and counts the changes."""

    def __init__(self) -> None:
        self.found: dict[str, list[int]] = {}
        """The kind of repair -> [how often, the first line]."""
        self._in_comment = False
        self._held: list[str] = []
        """A comma and the white space after it, held until the next token shows whether the comma is trailing."""
        self._held_in = 0
        """The line of the held comma."""
        self._out: list[str] = []
        self._number = 0

    def line(self, line: str, number: int) -> str:
        """Return a line as strict JSON; a comma at its end is held back until the next line or `end`.

        `number` is the line's number, for the note.
        """
        self._number, at = number, 0
        if not self._in_comment and _FENCE.fullmatch(line):
            self._count(FENCES)
            self._space(_blanked(line))
            return self._given()
        while at < len(line):
            if self._in_comment:
                at = self._go_through_comment(line, at)
                continue
            found = _TOKEN.match(line, at)
            if found is None or found.lastgroup is None:
                raise AssertionError(line[at:])  # the last alternative matches every character
            at = found.end()
            self._TAKE[found.lastgroup](self, found[0])
        return self._given()

    def end(self) -> str:
        """Return the text still held back at the end of the file; a trailing comma is dropped."""
        self._drop_comma()
        return self._given()

    def add(self, other: Repairs) -> None:
        """Add the counts of repairs made elsewhere in the file."""
        for kind, (count, first) in other.found.items():
            self.found.setdefault(kind, [0, first])[0] += count

    def note(self, source: str) -> str:
        """Return a note on the repairs; "" if there were none."""
        if not self.found:
            return ""
        kinds = (f"{kind} ({count}, first in line {first})" for kind, (count, first) in self.found.items())
        return f"{source} is not strict JSON, but was read; it has {', '.join(kinds)}"

    def _given(self) -> str:
        text = "".join(self._out)
        self._out.clear()
        return text

    def _count(self, kind: str, line: int = 0) -> None:
        self.found.setdefault(kind, [0, line or self._number])[0] += 1

    def _space(self, text: str) -> None:
        (self._held or self._out).append(text)

    def _put(self, text: str) -> None:
        self._out += [*self._held, text]
        self._held.clear()

    def _drop_comma(self) -> None:
        if self._held:
            self._count(COMMAS, self._held_in)
            self._out += [" ", *self._held[1:]]
            self._held.clear()

    def _go_through_comment(self, line: str, at: int) -> int:
        found = _BLOCK_END.match(line, at)
        end = found.end() if found else len(line)
        self._in_comment = found is None
        self._space(_blanked(line[at:end]))
        return end

    def _comment(self, text: str) -> None:
        self._count(COMMENTS)
        self._space(_blanked(text))

    def _block(self, text: str) -> None:
        self._in_comment = True
        self._comment(text)

    def _blank(self, text: str) -> None:
        self._count(BLANKS)
        self._space(" " * len(text))

    def _comma(self, text: str) -> None:
        self._put(self._narrow(text))
        self._held, self._held_in = [self._out.pop()], self._number

    def _close(self, text: str) -> None:
        self._drop_comma()
        self._put(self._narrow(text))

    def _wide(self, text: str) -> None:
        self._put(self._narrow(text))

    def _narrow(self, text: str) -> str:
        narrow = text.translate(_STRAIGHT)
        if narrow != text:
            self._count(MARKS)
        return narrow

    def _word(self, text: str) -> None:
        self._count(WORDS)
        self._put(_WORDS[text])

    def _single(self, text: str) -> None:
        self._count(SINGLE)
        self._put(f'"{_PYTHON_ESCAPE.sub(_from_python, text[1:-1])}"')

    def _curly(self, text: str) -> None:
        self._count(QUOTES)
        self._put(f'"{_QUOTE.sub(_straight_quote, text[1:-1])}"')

    _TAKE: Mapping[str, Callable[[Repairs, str], None]] = {
        "text": _put,
        "single": _single,
        "curly": _curly,
        "broken": _put,
        "comment": _comment,
        "block": _block,
        "comma": _comma,
        "close": _close,
        "wide": _wide,
        "space": _space,
        "blank": _blank,
        "word": _word,
        "plain": _put,
    }


def repaired(line: str, number: int) -> tuple[str, Repairs]:
    """Return a single line as strict JSON, and the repairs made in it."""
    repairs = Repairs()
    return repairs.line(line, number) + repairs.end(), repairs


class Pasted:
    """A text file read through repairs, line by line; lines before `first` are strict JSON and pass unchanged."""

    def __init__(self, file: Lines, repairs: Repairs, first: int = 1) -> None:
        self._file, self._repairs, self._first = file, repairs, first
        self._text, self._at, self._number, self._ended = "", 0, 1, False

    def read(self, size: int) -> str:
        """Return about `size` characters; "" at the end."""
        while len(self._text) - self._at < size and not self._ended:
            self._more()
        text, self._text, self._at = self._text[self._at :], "", 0
        return text

    def readline(self, size: int) -> str:
        """Return a line with its line break, at most `size` characters of it; "" at the end."""
        while (end := self._text.find("\n", self._at) + 1) == 0 and not self._ended:
            self._more()
        end = min(end or len(self._text), self._at + size)
        line, self._at = self._text[self._at : end], end
        return line

    def _more(self) -> None:
        parts = [self._text[self._at :]]
        for _ in range(LINES_AT_ONCE):
            line = self._file.readline(LONGEST_LINE)
            parts.append(self._repaired(line))
            self._number += line[-1:] == "\n"
            if not line:
                self._ended = True
                break
        self._text, self._at = "".join(parts), 0

    def _repaired(self, line: str) -> str:
        if not line:
            return self._repairs.end()
        if self._number < self._first:
            return line
        if len(line) == LONGEST_LINE:  # no repairs from here to the end of the file
            self._first = sys.maxsize
            return self._repairs.end() + line
        return self._repairs.line(line, self._number)


def _blanked(text: str) -> str:
    return _NO_BREAK.sub(" ", text)


def _straight_quote(found: re.Match[str]) -> str:
    """Escape a straight quote; turn an escaped quote of any kind into an escaped straight one."""
    return found[0] if found[1] and found[1] not in '"“”＂' else '\\"'


def _from_python(found: re.Match[str]) -> str:
    """Return an escape or a quote of a Python string as JSON writes it."""
    short, long, other = found.groups()
    if short or long:
        code = int(short or long, 16)
        return json.dumps(chr(code))[1:-1] if code <= sys.maxunicode else found[0]
    return "'" if other == "'" else '\\"' if other in (None, '"') else found[0]
