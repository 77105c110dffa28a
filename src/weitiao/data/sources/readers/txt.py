"""Plain text: documents, with empty lines between them, each a row with the column `text`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from functools import partial
from itertools import chain, islice
from typing import ClassVar

from ....core.errors import DataError, Problem
from ...bad_rows import BadRow, Found
from ...conversation import Row
from ...formats._detect import known_names
from ..text_files import LONGEST_TEXT
from ._base import DataFile, Reader

ASKED = "q|question|user|human|instruction|input|prompt|问|问题|提问|用户|指令|输入"
ANSWERED = "a|answer|assistant|ai|bot|gpt|response|output|reply|答|答案|回答|回复|助手|输出"
LABEL = re.compile(rf"\W{{0,4}}(?:({ASKED})|(?:{ANSWERED}))\s?\d{{0,5}}\W{{0,3}}[:：]", re.IGNORECASE)
"""A label such as `Q:` before a question, or `A:` before an answer, in running text."""
JSON_ROWS = re.compile(r'\s*(\[\s*\{|\{\s*"[^"]*"\s*:)')
KEY = re.compile(r"\W{0,4}(\w[\w ]{0,20}?)\s?\d{0,5}\W{0,3}[:：]")
"""A name and a colon at the beginning of a line, as in `instruction: ...`."""
SEPARATORS = "\t,|;"
HEAD_LINES = 400
"""How many lines are searched for JSON, a dialogue, labels or a table."""


class Txt(Reader):
    """Splits a text into documents at empty lines, or with `lines` at every line."""

    suffixes: ClassVar[tuple[str, ...]] = (".txt",)
    prose: ClassVar[bool] = True
    example: ClassVar[str] = "Ginger is a flowering plant.\n"

    def read(self, file: DataFile) -> Found:
        """Yield a file's documents, each with the line it begins on.

        Raises DataError, also for text that looks like JSON, a dialogue or a table, unless `format` or `lines` is set.
        """
        with self.text(file) as text:
            lines = iter(partial(text.readline, LONGEST_TEXT), "")
            head = list(islice(lines, HEAD_LINES))
            if file.source.format == "auto" and not file.source.lines:
                _refuse_json(head, file.name)
                _refuse_dialogue(head, file.name)
                _refuse_labels(head, file.name)
                _refuse_table(head, file.name)
            documents = _by_lines if file.source.lines else _documents
            for number, document in documents(chain(head, lines)):
                yield document_row(document, file.name, number)
        part = "line that is not empty" if file.source.lines else "part between empty lines"
        file.notes.append(f"{file.name}: each {part} is a row with the column 'text'")


def document_row(text: str, source: str, line: int) -> Row | BadRow:
    """Return the row of a document; a bad row if it is too long or holds a NUL byte."""
    if len(text) >= LONGEST_TEXT:
        return BadRow(f"{source}:{line}", f"it is longer than {LONGEST_TEXT:,} characters")
    if "\0" in text:
        return BadRow(f"{source}:{line}", "it holds a NUL byte", "the file may be damaged, or not text")
    return Row({"text": text}, source, line)


def _refuse_json(head: Iterable[str], source: str) -> None:
    """Raise DataError for text that is rows in JSON, as its braces and column names would be trained."""
    begun = "".join(islice((line for line in head if line.strip()), 3)).lstrip("\ufeff")
    if JSON_ROWS.match(begun):
        raise DataError(
            Problem(
                f"{source} holds JSON, not text",
                begun.strip()[:60],
                "a name that says what it holds: .json, or .jsonl for one object per line",
                "rename it, or set format: plain_text under the source in data.sources to train on all of it",
            )
        )


def _refuse_dialogue(head: Iterable[str], source: str) -> None:
    """Raise DataError for text of alternating questions and answers, each after a label such as `Q:`."""
    written = [line for line in head if line.strip()]
    found = [(label, line) for line in written if (label := LABEL.match(line))]
    asks = [label[1] is not None for label, _ in found]
    by_turns = asks == [number % 2 == 0 for number in range(len(asks))]
    if len(found) < 2 or not by_turns or not LABEL.match(written[0]):
        return
    shown = "\n".join(line.strip()[:60] for _, line in found[:2])
    raise DataError(
        Problem(
            f"{source} holds questions and answers written as running text",
            shown,
            'one object per line in a .jsonl file: {"question": "...", "answer": "..."}',
            "write them so, or set format: plain_text under the source in data.sources to train on the whole text",
        )
    )


def _refuse_labels(head: Iterable[str], source: str) -> None:
    """Raise DataError if every line begins with the same known column name, as the name would be trained too."""
    found = [KEY.match(line) for line in head if line.strip()]
    keys = {one[1].strip().lower() if one else "" for one in found}
    if len(found) < 2 or len(keys) > 1 or not keys <= known_names():
        return
    key = found[0][1] if found[0] else ""
    raise DataError(
        Problem(
            f"{source} holds rows with a single key: each line begins with {key!r}",
            found[0].string.strip()[:60] if found[0] else "",
            f'one object per line in a .jsonl file: {{"{key}": "..."}}',
            "write them so, or set format: plain_text under the source in data.sources to train on the whole text",
        )
    )


def _refuse_table(head: Iterable[str], source: str) -> None:
    """Raise DataError for text that is a table with two or more known columns in its header."""
    written = list(islice((line for line in head if line.strip()), 20))
    if len(written) < 2:
        return
    mark = max(SEPARATORS, key=written[0].count)
    names = [name.strip().strip('"').lstrip("\ufeff").lower() for name in written[0].split(mark)]
    columns = sum(name in known_names() for name in names)
    if len(names) < 2 or columns < 2 or not all(mark in line for line in written[1:]):
        return
    suffix = ".tsv" if mark == "\t" else ".csv"
    raise DataError(
        Problem(
            f"{source} holds a table, not text",
            written[0].strip()[:60],
            f"a name that says what it holds: {suffix}",
            "rename it, or set format: plain_text under the source in data.sources to train on all of it",
        )
    )


def _by_lines(lines: Iterable[str]) -> Iterator[tuple[int, str]]:
    """Yield (number, text) of each line that is not blank."""
    for number, line in enumerate(lines, start=1):
        if line.strip():
            yield number, line.rstrip("\r\n")


def _documents(lines: Iterable[str]) -> Iterator[tuple[int, str]]:
    """Yield (number of the first line, text) of each block of lines between blank lines; a block that is too long is
    cut off after `LONGEST_TEXT` characters, at the end of a line."""
    begun, kept, characters = 0, list[str](), 0
    for number, line in enumerate(lines, start=1):
        if line.strip():
            begun = begun if kept else number
            kept += [line] if characters < LONGEST_TEXT else []
            characters += len(line)
        elif kept:
            yield begun, "".join(kept).rstrip("\n")
            kept, characters = [], 0
    if kept:
        yield begun, "".join(kept).rstrip("\n")
