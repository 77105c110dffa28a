"""A run small enough to be made many times, and its rows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def rows() -> list[dict[str, str]]:
    return [{"instruction": f"What is {n}?", "output": f"It is {n}."} for n in range(14)]


@pytest.fixture
def recipe(tiny_model_folder: Path, tmp_path: Path, rows: list[dict[str, str]]) -> dict[str, Any]:
    """A run file as plain values, over rows that lie in `tmp_path`; the tests of a file lay their own over it."""
    data = tmp_path / "rows.json"
    data.write_text(json.dumps(rows), encoding="utf-8")
    return {
        "model": str(tiny_model_folder),
        "data": {"sources": str(data), "held_out": 2},
        "method": {"name": "lora", "r": 4, "dropout": 0.1},
        "train": {"steps": 5, "batch_size": 3, "lr": 1e-3},
        "evaluate": {"question_count": 0},
        "out": str(tmp_path / "run"),
    }
