"""Characters that show a text was decoded wrongly or damaged: replacement characters, mojibake, control characters."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import ClassVar

from ._base import RowFacts
from ._kinds import Kind, KindsCheck, around

REPLACEMENT = re.compile("�|锟斤拷|烫烫烫")
MOJIBAKE = re.compile(
    "ï»¿|Ã[\x80-\xbf©¨¤¶¼±³¡]|â€[\x80-\xff™œ“”˜¦]|[äåæçèé][\x80-\xbf][\x80-\xbf]|鈥|銆|锛\\w"
)
CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
INVISIBLE = re.compile("[\u200b\u2060\ufeff\u00ad\u202a-\u202e\u2066-\u2069]")
SURROGATE = re.compile("[\ud800-\udfff]")
HTML = re.compile(
    r"&(?:nbsp|amp|lt|gt|quot|ldquo|rdquo|#\d{2,5}|#x[0-9a-fA-F]{2,4});"
    r"|</(?:p|div|span|a|li|ul|td|tr|font|strong)>|<br ?/?>"
)
FORMULA = re.compile(
    r"\f(?:rac|orall)|\x08(?:eta|egin|ar|oldsymbol|inom|ig)\b|\t(?:imes|heta|ext\{|au\b|an\b|ilde|riangle)"
    r"|\n(?:abla|eq|otin)\b|\r(?:ho|ight|angle|ightarrow)\b"
)
"""The result of parsing JSON with \\frac, \\beta, \\times, \\nabla or \\rho written with a single backslash."""
LONE_RETURN = re.compile("\r(?!\n)")


class Encoding(KindsCheck):
    """Looks for damaged and unusual characters in every turn."""

    kinds: ClassVar[Mapping[str, Kind]] = {
        "surrogate": Kind(
            "error",
            "texts contain half a character (a lone surrogate)",
            "write the whole character; usually an emoji was cut in two",
        ),
        "replacement": Kind(
            "warning",
            "texts contain replacement characters in place of lost characters",
            "make the file again from its source with the right encoding; the lost characters cannot be "
            "restored from it",
        ),
        "mojibake": Kind(
            "warning",
            "texts were decoded with the wrong encoding",
            "make the file again from its source, in UTF-8",
        ),
        "formula": Kind(
            "warning",
            "formulas have lost a backslash: JSON reads \\f, \\b, \\t, \\n and \\r as control characters",
            "write every backslash of LaTeX twice in JSON: \\\\frac, \\\\times",
        ),
        "control": Kind(
            "warning",
            "texts contain control characters",
            "remove them",
        ),
        "invisible": Kind(
            "note",
            "texts contain invisible characters (zero width, direction marks, byte order marks)",
            "remove them, unless the language needs them",
        ),
        "html": Kind(
            "note",
            "texts contain remains of a web page (tags, escapes such as &nbsp;)",
            "remove them, unless the text is about HTML",
        ),
        "newlines": Kind(
            "note",
            "texts mix several kinds of line ends",
            "write \\n everywhere",
        ),
    }

    def observe(self, row: RowFacts) -> None:
        """Read each turn of a row."""
        for turn in row.text.turns:
            text = turn.content
            if "\r" in text and (LONE_RETURN.search(text) or "\n" in text.replace("\r\n", "")):
                self.hit("newlines", row)
            if ("&" in text or "</" in text or "<br" in text) and "```" not in text:
                self._look(row, text, "html", HTML)
            # `isprintable` is much faster than a regular expression, and nearly always true.
            printable = text.replace("\n", "").isprintable()
            if not printable:
                self._look(row, text, "control", CONTROL)
            if not printable or "\n" in text:
                self._look(row, text, "formula", FORMULA)
            if not text.isascii():
                self._look(row, text, "replacement", REPLACEMENT)
                self._look(row, text, "mojibake", MOJIBAKE)
            if not (printable or text.isascii()):
                self._look(row, text, "invisible", INVISIBLE)
                self._look(row, text, "surrogate", SURROGATE)

    def _look(self, row: RowFacts, text: str, kind: str, pattern: re.Pattern[str]) -> None:
        if found := pattern.search(text):
            self.hit(kind, row, around(text, *found.span()))
