"""A run small enough to be made many times, and its rows."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ROWS = [{"instruction": f"What is {n}?", "output": f"It is {n}."} for n in range(14)]


@pytest.fixture
def rows() -> list[dict[str, str]]:
    return [*ROWS]


@pytest.fixture(scope="session")
def recipe_in(tiny_model_folder: Path) -> Callable[[Path], dict[str, Any]]:
    """Return a function that writes the rows into a folder, and gives a run file as plain values over them."""

    def made(folder: Path) -> dict[str, Any]:
        data = folder / "rows.json"
        data.write_text(json.dumps(ROWS), encoding="utf-8")
        return {
            "model": str(tiny_model_folder),
            "data": {"sources": str(data), "held_out": 2},
            "method": {"name": "lora", "r": 4, "dropout": 0.1},
            "train": {"steps": 5, "batch_size": 3, "lr": 1e-3},
            "evaluate": {"question_count": 0},
            "out": str(folder / "run"),
        }

    return made


@pytest.fixture
def recipe(recipe_in: Callable[[Path], dict[str, Any]], tmp_path: Path) -> dict[str, Any]:
    """A run file as plain values, over rows that lie in `tmp_path`; the tests of a file lay their own over it."""
    return recipe_in(tmp_path)
