"""Our side: the same training through `weitiao.train`."""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

import torch
from _meter import Meter

import weitiao
from weitiao.core.events import Event


def main() -> None:
    """Train once and write what was measured."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--task", type=Path, required=True)
    parser.add_argument("--result", type=Path, required=True)
    options = parser.parse_args()
    task = json.loads(options.task.read_text(encoding="utf-8"))
    torch.set_num_threads(task["threads"])
    meter = Meter()

    def listen(event: Event) -> None:
        if event["event"] == "started":
            meter.begin()
        elif event["event"] == "step":
            meter.step(event["loss"])

    with tempfile.TemporaryDirectory() as out:
        weitiao.train(**task["weitiao"], out=Path(out) / "run", listeners=[listen])
    meter.write(options.result, task["real_tokens"])


if __name__ == "__main__":
    main()
