"""Detects, by their first bytes, files whose content does not match their name, and says what to do with them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from ...core.errors import Problem

LARGEST_HEADER_BYTES = 100 << 20
"""The longest header that safetensors allows."""


@dataclass(frozen=True)
class Disguise:
    """The actual kind of a file, and a remedy."""

    title: str
    remedy: str
    suffixes: tuple[str, ...] = ()
    """The suffixes that are correct for this kind of file."""

    def problem(self, path: Path) -> Problem:
        """Return the problem of a file of this kind under the name `path`."""
        return Problem(
            f"the content of {path} is {self.title}",
            f"{path}:1",
            "data of the kind its name says",
            self.remedy,
        )


UNPACK = "unpack it and use the data files in it"
MARKS: tuple[tuple[bytes, Disguise], ...] = (
    (b"PK\x03\x04", Disguise("a zip archive", UNPACK + "; an Excel file is named .xlsx", (".xlsx",))),
    (b"PAR1", Disguise("a Parquet file", "name it .parquet", (".parquet",))),
    (b"ARROW1", Disguise("an Arrow file", "name it .arrow", (".arrow", ".feather"))),
    (b"\x1f\x8b", Disguise("compressed with gzip", "add .gz to its name")),
    (b"\x28\xb5\x2f\xfd", Disguise("compressed with zstandard", "add .zst to its name")),
    (b"BZh", Disguise("compressed with bzip2", UNPACK)),
    (b"\xfd7zXZ", Disguise("compressed with xz", UNPACK)),
    (b"7z\xbc\xaf", Disguise("a 7z archive", UNPACK)),
    (b"Rar!", Disguise("a rar archive", UNPACK)),
    (b"%PDF", Disguise("a PDF document", "copy its text into a .txt file")),
    (b"\x89PNG", Disguise("a picture", "only text can be trained on")),
    (b"\xd0\xcf\x11\xe0", Disguise("a file of an old Microsoft Office", "save it as .xlsx or .csv")),
    (b"SQLite format 3", Disguise("an SQLite database", "export its table as .csv")),
    (b"version https://git-lfs", Disguise("a Git LFS pointer, not the file itself", "git lfs pull")),
    (b"GGUF", Disguise("a GGUF model", "give it as the model; the data must be another file")),
)
DOCUMENT = Disguise(
    "an Office document", "copy its text into a .txt file, or a table in it into an .xlsx file"
)
DOCUMENTS = (".docx", ".pptx", ".odt", ".wps")
PICKLE = Disguise(
    "a Python pickle, which can run code and is never read", "write the rows as JSON lines from Python"
)
SAFETENSORS = Disguise(
    "a safetensors file (a model's weights)", "give it as the model; the data must be another file"
)
WEB_PAGE = Disguise(
    "a web page (HTML)", "download the file itself, from the link of its 'raw' or 'download' button"
)
JSON_LINES = Disguise("JSON", "name it .jsonl (one object per line) or .json", (".json", ".jsonl", ".ndjson"))
TABLE = Disguise("a table (CSV)", "name it .csv or .tsv", (".csv", ".tsv", ".txt", ".md"))

_HTML = re.compile(rb"\s*(<!doctype html|<html|<head)", re.IGNORECASE)
_JSON = re.compile(rb'\s*(\[\s*\{|\{\s*")')
_HEADER = re.compile(rb'(?:[\w \x80-\xff-]+|"[^"]*")(?:([,;\t|])(?:[\w \x80-\xff-]+|"[^"]*"))+')
PROSE = (".txt", ".md", ".markdown")


def disguise(head: bytes, suffixes: tuple[str, ...]) -> Disguise | None:
    """Return the kind of a file that begins with `head`, if it is known and does not match `suffixes`; else None."""
    if head.startswith(b"PK\x03\x04") and set(suffixes) & set(DOCUMENTS):
        return DOCUMENT
    found = (
        next((one for mark, one in MARKS if head.startswith(mark)), None)
        or _binary(head)
        or _text(head, suffixes)
    )
    return None if found is None or set(found.suffixes) & set(suffixes) else found


def _binary(head: bytes) -> Disguise | None:
    if head[:1] == b"\x80" and head[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"):
        return PICKLE
    header_bytes = int.from_bytes(head[:8], "little")
    return SAFETENSORS if head[8:10] == b'{"' and header_bytes < LARGEST_HEADER_BYTES else None


def _text(head: bytes, suffixes: tuple[str, ...]) -> Disguise | None:
    """Recognise a web page, JSON or a table by its beginning; None for any other text and for files of prose."""
    if set(suffixes) & set(PROSE):
        return None
    head = head.removeprefix(b"\xef\xbb\xbf")
    if _HTML.match(head):
        return WEB_PAGE
    if _JSON.match(head):
        return JSON_LINES
    return TABLE if _HEADER.fullmatch(head.lstrip().partition(b"\n")[0].rstrip()) else None
