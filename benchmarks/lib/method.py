"""One training for `methods.py`, in a process of its own: a run file with changes, and what came of it."""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

import torch

import weitiao
from weitiao.recipe.recipe import lay_over, parse_recipe
from weitiao.recipe.train import train_recipe


def main() -> None:
    """Train once and write what was measured."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--task", type=Path, required=True)
    parser.add_argument("--result", type=Path, required=True)
    options = parser.parse_args()
    task = json.loads(options.task.read_text(encoding="utf-8"))
    torch.set_num_threads(task["threads"])
    with tempfile.TemporaryDirectory() as out:
        run = train_recipe(parse_recipe(lay_over(task["recipe"], {"out": str(Path(out) / "run")})))
        options.result.write_text(json.dumps(measured(run)), encoding="utf-8")


def measured(run: weitiao.Run) -> dict[str, object]:
    """Return what a finished run tells of itself; sizes in bytes, time in seconds."""
    told = {event["event"]: event for event in run.events}
    finished, parameters = told["finished"], told["parameters"]
    return {
        "trained": parameters["trainable"],
        "percent": parameters["percent"],
        "before": run.held_out["before"]["loss"],
        "after": run.held_out["after"]["loss"],
        "steps": told["step"]["steps"],
        "seconds": finished["seconds"],
        "peak_bytes": finished["peak_memory_bytes"],
        "adapter_bytes": sum(path.stat().st_size for path in run.adapter_path.glob("*.safetensors")),
    }


if __name__ == "__main__":
    main()
