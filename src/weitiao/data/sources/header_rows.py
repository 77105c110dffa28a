"""Detects tables without a header: the column names read like the text of a row."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from ...core.errors import Problem
from ..conversation import Row
from .readers._base import bare_suffix

TABLES = (".csv", ".tsv", ".xlsx")
LONGEST_NAME = 40
"""The longest name of a column, in characters."""
SENTENCE = re.compile(r"[.?!。？！；;]$|\n|^-?\d+([.,]\d+)*$")
WORDS = re.compile(r"(\S+\s+){3}\S")
"""Four words; no column name has so many."""
CHINESE = re.compile(r"[\u4e00-\u9fff]{8}")
ASKS = re.compile(
    r"^(who|what|when|where|why|how|which|is|are|can|could|do|does|did|should|please|write|explain|translate|give)\s"
    r"|什么|怎么|怎样|如何|为什么|吗$|呢$|是不是|能不能|请",
    re.IGNORECASE,
)
"""Words at the beginning of a question or task in English, or anywhere in one in Chinese."""
SHOWN_CHARACTERS = 60


def no_header(sample: Sequence[Row], path: str | None) -> Problem | None:
    """Return the problem of a table with full-width commas, or whose first line is a row; None for any other.

    The first line is a row if one of its cells reads like text, or is also a value of its column.
    """
    if path is None or not sample or bare_suffix(Path(path)) not in TABLES:
        return None
    names = list(sample[0].fields)
    if len(names) == 1 and "，" in names[0]:
        return Problem(
            f"{path} has full-width commas between its columns",
            f"{path}:1: {names[0][:SHOWN_CHARACTERS]}",
            "plain commas, such as 问题,答案",
            "replace each ， between columns with a plain comma, or save the table as .xlsx",
        )
    if not any(_reads_as_text(name.strip()) or _is_value(name, sample) for name in names):
        return None
    shown = " | ".join(name[:SHOWN_CHARACTERS] for name in names)
    usual = "instruction,output" if len(names) == 2 else "instruction,input,output"
    return Problem(
        f"{path} seems to have no header: its first line is a row",
        f"{path}:1: {shown}",
        "the columns' names in the first line",
        f"put a line of {len(names)} names above it, such as {usual}; or, if these are the names, "
        "data.columns.instruction=NAME data.columns.output=NAME",
    )


def _reads_as_text(name: str) -> bool:
    """Return whether a column's name reads like the text of a cell."""
    return len(name) > LONGEST_NAME or any(one.search(name) for one in (SENTENCE, WORDS, CHINESE, ASKS))


def _is_value(name: str, sample: Sequence[Row]) -> bool:
    """Return whether a column's name is also a value in that column, as with a label."""
    return bool(name.strip()) and any(row.fields.get(name) == name for row in sample)


def with_header_hint(problem: Problem, path: str | None, last_resort: str) -> Problem:
    """Return a table's problem with a hint on missing headers, if its remedy is the last resort `last_resort`."""
    if path is None or bare_suffix(Path(path)) not in TABLES or last_resort not in problem.remedy:
        return problem
    remedy = (
        f"{problem.remedy}; if the first line is already a row, put a line of names above it, such as "
        "instruction,output"
    )
    return replace(problem, remedy=remedy)
