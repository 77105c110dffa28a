"""The documentation's pages, cut into headings, links and code blocks, for the tests that hold them to the code."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
HEADING = re.compile(r"^(#+) (.+)$", re.MULTILINE)


@dataclass(frozen=True)
class Page:
    """One Markdown file, or text in its place."""

    path: Path
    text: str

    @property
    def name(self) -> str:
        """Where it lies, seen from the root."""
        return self.path.relative_to(ROOT).as_posix()

    @cached_property
    def blocks(self) -> list[tuple[str, str]]:
        """(language, text) of each code block."""
        return FENCE.findall(self.text)

    @cached_property
    def prose(self) -> str:
        """The text without its code blocks."""
        return FENCE.sub("", self.text)

    def code(self, language: str) -> list[str]:
        """Return the code blocks of one language."""
        return [text for found, text in self.blocks if found == language]

    def commands(self) -> list[str]:
        """Return the shell's command lines, without comments."""
        lines = (line.split("  #")[0].strip() for text in self.code("sh") for line in text.splitlines())
        return [line for line in lines if line]

    def headings(self) -> list[tuple[int, str]]:
        """Return (level, text) of each heading."""
        return [(len(marks), text.strip()) for marks, text in HEADING.findall(self.prose)]

    def anchors(self) -> set[str]:
        """Return the headings as a link's fragment names them."""
        return {re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-") for _, text in self.headings()}

    def links(self) -> Iterator[str]:
        """Yield each link's target."""
        return (found[1] for found in LINK.finditer(self.prose))


def page(name: str) -> Page:
    """Read one page, named from the root."""
    path = ROOT / name
    return Page(path, path.read_text(encoding="utf-8"))


def pages() -> list[Page]:
    """Read every page of the documentation."""
    paths = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "examples").glob("*.md")]
    return [page(path.relative_to(ROOT).as_posix()) for path in sorted(paths)]


def pairs() -> list[tuple[str, str]]:
    """Return (English, Chinese) of each page that is there in both languages."""
    english = sorted((ROOT / "docs" / "en").rglob("*.md"))
    both = [(path, ROOT / "docs" / "zh" / path.relative_to(ROOT / "docs" / "en")) for path in english]
    both += [(ROOT / "docs" / "architectures.md", ROOT / "docs" / "zh" / "architectures.md")]
    both += [(ROOT / folder / "README.md", ROOT / folder / "README.zh.md") for folder in ("", "examples")]
    return [(one.relative_to(ROOT).as_posix(), other.relative_to(ROOT).as_posix()) for one, other in both]
