"""Our side: the same training through `weitiao.train`, from rows of text."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch

import weitiao
from weitiao.core.events import Event
from weitiao.recipe.recipe import lay_over

from .meter import Meter


def main() -> None:
    """Train once and write what was measured; `own` of the task are blocks laid over its run file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--task", type=Path, required=True)
    parser.add_argument("--result", type=Path, required=True)
    options = parser.parse_args()
    task = json.loads(options.task.read_text(encoding="utf-8"))
    torch.set_num_threads(task["threads"])
    meter, real_tokens = Meter(), []

    def listen(event: Event) -> None:
        if event["event"] == "parameters":  # the method is on the model, and nothing was computed yet
            meter.begin()
        elif event["event"] == "step":
            meter.step(event["loss"])
            real_tokens.append(event["tokens"])

    recipe = lay_over(task["weitiao"], task["own"])
    weitiao.train(**recipe, out=Path(task["folder"]) / "run", listeners=[listen])
    meter.write(options.result, real_tokens)


if __name__ == "__main__":
    main()
