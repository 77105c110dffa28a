"""Tables whose first line is a row already: what would be their columns' names reads as text."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from ..core.errors import Problem
from .conversation import Row
from .readers._base import bare_suffix

TABLES = (".csv", ".tsv", ".xlsx")
LONGEST_NAME = 40
"""Characters; a longer one is no name of a column."""
SENTENCE = re.compile(r"[.?!。？！；;]$|\n|^-?\d+([.,]\d+)*$")
SHOWN_CHARACTERS = 60


def no_header(sample: Sequence[Row], path: str | None) -> Problem | None:
    """Describe a table whose header is a row, by names that are sentences, numbers or long; None where it is not."""
    if path is None or not sample or bare_suffix(Path(path)) not in TABLES:
        return None
    names = list(sample[0].fields)
    if len(names) == 1 and "，" in names[0]:
        return Problem(
            f"{path} has full-width commas between its columns",
            f"{path}:1: {names[0][:SHOWN_CHARACTERS]}",
            "plain commas, as in 问题,答案",
            "replace each ， between columns by a plain comma, or save the table as .xlsx",
        )
    if not any(SENTENCE.search(name.strip()) or len(name) > LONGEST_NAME for name in names):
        return None
    shown = " | ".join(name[:SHOWN_CHARACTERS] for name in names)
    usual = "instruction,output" if len(names) == 2 else "instruction,input,output"
    return Problem(
        f"{path} seems to have no header: its first line is a row",
        f"{path}:1: {shown}",
        "the columns' names in the first line",
        f"put a line of {len(names)} names above it, such as {usual}; or, where these are the names, "
        "data.columns.instruction=NAME data.columns.output=NAME",
    )
