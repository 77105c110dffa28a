"""`--help` in the language in use, wrapped by the columns its text takes."""

from __future__ import annotations

import re
from collections.abc import Iterable

import click

from ..core.locale import language, shown
from ._wrap_text import wrap

DEFAULT = re.compile(r"(.*?)(?: (May be repeated\.))?(?:  (\[[^]]*\]))?", re.DOTALL)
"""An option's description, and behind it whether it may be repeated, and its default in brackets."""
VERBATIM = "\b"
"""What click marks a paragraph with whose lines stay as they are."""


class Formatter(click.HelpFormatter):
    """Writes help in the language in use: usage, headings, descriptions and paragraphs are texts of the catalogue."""

    def write_usage(self, prog: str, args: str = "", prefix: str | None = None) -> None:
        """Write the usage line."""
        super().write_usage(prog, args, f"{shown((prefix or 'Usage:').strip())} ")

    def write_heading(self, heading: str) -> None:
        """Write a section's heading."""
        super().write_heading(shown(heading))

    def write_text(self, text: str) -> None:
        """Write paragraphs, each wrapped unless it is marked as verbatim."""
        translated = shown(text)
        if translated == text:
            super().write_text(text)
            return
        width, indent = self.width - self.current_indent, " " * self.current_indent
        for number, paragraph in enumerate(translated.split("\n\n")):
            lines = paragraph.removeprefix(VERBATIM).strip("\n").split("\n")
            if not paragraph.startswith(VERBATIM):
                lines = wrap(" ".join(lines), width)
            self.write("\n" * bool(number) + "".join(f"{indent}{line}\n" for line in lines))

    def write_dl(self, rows: Iterable[tuple[str, str]], col_max: int = 30, col_spacing: int = 2) -> None:
        """Write a list of names and their descriptions in two columns."""
        if language() == "en":
            super().write_dl(rows, col_max, col_spacing)
            return
        rows = list(rows)
        first = min(max(len(name) for name, _ in rows), col_max) + col_spacing
        indent = " " * self.current_indent
        for name, text in rows:
            lines = wrap(shown_help(text), max(10, self.width - self.current_indent - first)) or [""]
            fits = len(name) <= first - col_spacing
            self.write(f"{indent}{name:<{first}}{lines.pop(0)}\n" if fits else f"{indent}{name}\n")
            self.write("".join(f"{indent}{'':<{first}}{line}\n" for line in lines))


class HelpContext(click.Context):
    """A context whose help is written by `Formatter`."""

    formatter_class = Formatter


def shown_help(text: str) -> str:
    """Return an option's description in the language in use, with its default behind it."""
    described = (
        f"[{shown(part[1:-1])}]" if part.startswith("[") else shown(part) for part in parts_of_help(text)
    )
    return " ".join(described)


def parts_of_help(text: str) -> list[str]:
    """Return an option's description, with what may follow it: that it may be repeated, and its default."""
    found = DEFAULT.fullmatch(text)
    return [part for part in found.groups() if part] if found else [text]
