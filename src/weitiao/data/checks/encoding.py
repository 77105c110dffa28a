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
            "texts hold half a character (a lone surrogate)",
            "文本里有半个字符（孤立代理项）",
            "write the whole character; most often an emoji was cut in two",
            "写出完整的字符；多半是表情符号被截断",
        ),
        "replacement": Kind(
            "warning",
            "texts hold signs that stand for lost characters",
            "文本里有表示字符已丢失的符号",
            "make the file anew from its origin with the right encoding; what is lost cannot be won back here",
            "用正确的编码从源头重新生成文件；丢失的内容在这里找不回来",
        ),
        "mojibake": Kind(
            "warning",
            "texts were decoded with the wrong encoding",
            "文本曾用错误的编码解码",
            "make the file anew from its origin as UTF-8",
            "从源头以 UTF-8 重新生成文件",
        ),
        "formula": Kind(
            "warning",
            "formulas have lost a backslash: JSON reads \\f, \\b, \\t, \\n and \\r as control characters",
            "公式丢了反斜杠：JSON 把 \\f、\\b、\\t、\\n、\\r 当成控制字符",
            "write every backslash of LaTeX twice in JSON: \\\\frac, \\\\times",
            "在 JSON 里把 LaTeX 的每个反斜杠写两遍：\\\\frac、\\\\times",
        ),
        "control": Kind(
            "warning",
            "texts hold control characters",
            "文本里有控制字符",
            "take them out",
            "请删去",
        ),
        "invisible": Kind(
            "note",
            "texts hold invisible characters (zero width, marks of direction or order)",
            "文本里有不可见字符（零宽、方向或字节序标记）",
            "take them out unless the language needs them",
            "除非语言需要，请删去",
        ),
        "html": Kind(
            "note",
            "texts hold what a web page left behind (tags, escapes such as &nbsp;)",
            "文本里有网页残留（标签，或 &nbsp; 之类的转义）",
            "take them out, unless the text is about HTML",
            "除非文本就是在讲 HTML，请删去",
        ),
        "newlines": Kind(
            "note",
            "texts mix kinds of line ends",
            "文本里混用几种换行",
            "write \\n everywhere",
            "统一写成 \\n",
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
