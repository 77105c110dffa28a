"""The notebooks in `examples/`: one in each language, of the same code, which runs from the first cell to the last."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from pages import ROOT

NOTEBOOKS = sorted((ROOT / "examples").glob("*.ipynb"))


def cells_of(path: Path, kind: str) -> list[dict[str, Any]]:
    return [
        cell for cell in json.loads(path.read_text(encoding="utf-8"))["cells"] if cell["cell_type"] == kind
    ]


def shown_by(cell: dict[str, Any], kind: str) -> str:
    """Return all that a cell showed in one form."""
    return "\n".join(str(output.get("data", {}).get(kind, "")) for output in cell["outputs"])


@pytest.fixture
def ran(tiny_model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Run the English notebook with a tiny model in the place of the bundled one, and behind each cell the Chinese one
    where that differs; returns the cells of code."""
    import nbformat
    from nbclient import NotebookClient

    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT / "src"), os.environ.get("PYTHONPATH", "")]))
    notebook, chinese = (nbformat.read(path, as_version=4) for path in NOTEBOOKS)
    pairs = zip(notebook.cells, chinese.cells, strict=True)
    notebook.cells = [
        cell
        for own, other in pairs
        for cell in ([own, other] if own.cell_type == "code" and own.source != other.source else [own])
    ]
    (parameters,) = [cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", [])]
    parameters.source = f"MODEL, STEPS, OUT = {str(tiny_model_folder)!r}, 3, {str(tmp_path / 'run')!r}"
    NotebookClient(notebook, timeout=240, resources={"metadata": {"path": str(tmp_path)}}).execute()
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def test_there_is_one_in_each_language_with_the_same_code() -> None:
    assert [path.stem for path in NOTEBOOKS] == ["finetune_en", "finetune_zh"]
    english, chinese = (["".join(cell["source"]) for cell in cells_of(path, "code")] for path in NOTEBOOKS)
    assert len(english) == len(chinese)
    differ = [(one, other) for one, other in zip(english, chinese, strict=True) if one != other]
    assert len(differ) == 1 and "report" in differ[0][0], "only the report is read in the notebook's language"
    for path in NOTEBOOKS:
        assert not any(cell["outputs"] for cell in cells_of(path, "code")), "outputs go stale"


def test_every_cell_runs_and_shows_what_it_should(ran: list[Any]) -> None:
    training = next(cell for cell in ran if "weitiao.train(" in cell.source)
    (bar,) = training.outputs  # one output, drawn again and again: no third party's bar, no warning beside it
    assert "method" in shown_by(training, "text/plain") and "finished in" in shown_by(training, "text/plain")
    assert "<progress" not in bar["data"]["text/html"], "the bar is gone when the run is done"
    run = next(cell for cell in ran if cell.source == "run")
    assert "<svg" in shown_by(run, "text/html") and "Xiaowei" in shown_by(run, "text/html")
    assert "Run('" in shown_by(run, "text/plain")
    assert "run-merged" in shown_by(ran[-1], "text/plain")
    english, chinese = (shown_by(cell, "text/markdown") for cell in ran if "Markdown(" in cell.source)
    assert "Fine-tuning report" in english and "微调报告" in chinese
    for cell in ran:
        said = [output for output in cell.outputs if output.get("name") == "stderr"]
        assert not said, (cell.source, said)
