"""How text looks on a terminal: characters that control it are escaped, and Chinese ones are two columns wide."""

from __future__ import annotations

import re
import unicodedata

OBEYED = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f"  # control characters except tab and newline
    "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"  # change the direction of writing
    "\u2028\u2029"  # end a line invisibly
    "\ud800-\udfff"  # surrogates: bytes of file names that are not UTF-8; a terminal cannot print them
    "\U000e0000-\U000e007f]"  # tags: invisible letters
)


def visible(text: str) -> str:
    r"""Return the text with every character a terminal would obey written as `\x1b`, `\u202e`; `\r\n` becomes `\n`."""
    return OBEYED.sub(_escaped, text.replace("\r\n", "\n"))


def _escaped(found: re.Match[str]) -> str:
    code = ord(found[0])
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def columns_of(text: str) -> int:
    """Return how many columns of a terminal a text takes: two for each Chinese character."""
    return sum(1 + (unicodedata.east_asian_width(letter) in "WF") for letter in text)


def padded(text: str, columns: int) -> str:
    """Return a text with spaces behind it, so that it takes at least `columns` columns."""
    return text + " " * (columns - columns_of(text))
