"""Rows that benchmarks read: Alpaca rows, as many as are asked for."""

from __future__ import annotations

import json
from pathlib import Path

from .environments import HERE


def rows_of(path: Path | None) -> list[dict[str, str]]:
    """Return the rows of an Alpaca file, or all such rows of examples/."""
    files = [path] if path else sorted((HERE.parent / "examples").glob("*.json"))
    rows = [row for file in files for row in json.loads(file.read_text(encoding="utf-8"))]
    return [
        {"instruction": row["instruction"], "input": row.get("input") or "", "output": row["output"]}
        for row in rows
        if "instruction" in row
    ]


def write_rows(path: Path, rows: list[dict[str, str]], count: int, different: bool) -> None:
    """Write so many rows as JSON lines."""
    with path.open("w", encoding="utf-8") as file:
        for number in range(count):
            row = rows[number % len(rows)]
            if different:
                row = {**row, "instruction": f"({number}) {row['instruction']}"}
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
