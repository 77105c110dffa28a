"""A process that trains with less address space than its packs need, and prints what came of it.

Line out: JSON with each step's loss and `pack_tokens` of the run that had too little ("found") and of one that was told
the size of packs before each step ("wanted"), and what a run said that had too little for one row ("error").
"""

from __future__ import annotations

import ctypes
import json
import resource
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil
import torch

import tiny_architectures as tiny
from tiny_training import Events, make_examples, make_training
from weitiao.core.errors import ResourceError
from weitiao.core.events import Event
from weitiao.engine.step import Stepper

PACK_TOKENS = 1600
ROWS = make_examples(16, shortest=90, longest=100)
UNLIMITED = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)


class StepSizes(list[int]):
    """A listener that keeps the size of packs that each step ended with, and sets the next step's where told."""

    def __init__(self, told: Sequence[int] = ()) -> None:
        super().__init__()
        self.told = told

    def __call__(self, event: Event) -> None:
        if event["event"] == "step":
            self.append(self.stepper.pack_tokens)
            self.begin(self.stepper)

    def begin(self, stepper: Stepper) -> None:
        self.stepper = stepper
        if len(self) < len(self.told):
            stepper.pack_tokens = self.told[len(self)]


def train(
    folder: Path, pack_tokens: int, room: float | None = None, told: Sequence[int] = ()
) -> dict[str, Any]:
    """Train two steps, with room for a share of what the packs need where one is given."""
    heard, sizes = Events(), StepSizes(told)
    model = tiny.make_model("llama", intermediate_size=4096, num_hidden_layers=2)
    training = make_training(
        folder, ROWS, model=model, listeners=(heard, sizes), pack_tokens=pack_tokens, batch_size=16, steps=2, lr=1e-2,
        gradient_checkpointing="none",
    )  # fmt: skip
    assert training.stepper.pack_tokens == pack_tokens
    sizes.begin(training.stepper)
    if room is not None:
        ctypes.CDLL(None).malloc_trim(0)  # or what building it left free would do
        room_bytes = int(room * heard.of("memory")[0]["activation_bytes"])
        resource.setrlimit(
            resource.RLIMIT_AS, (psutil.Process().memory_info().vms + room_bytes, resource.RLIM_INFINITY)
        )
    try:
        training.run()
    finally:
        resource.setrlimit(resource.RLIMIT_AS, UNLIMITED)
    losses = [event["loss"] for event in heard.of("step")]
    return {"losses": losses, "pack_tokens": list(sizes)}


def main(folder: Path) -> None:
    """Train with next to no room, with less than half of it, and with all of it."""
    torch.set_num_threads(1)  # a thread wants room as well, and a run that gets none for it ends
    # This one first: later ones find what earlier ones freed.
    try:
        train(folder / "none", PACK_TOKENS, room=0.01)
        error = None
    except ResourceError as caught:
        error = {"exit_code": caught.exit_code, "text": str(caught)}
    found = train(folder / "found", PACK_TOKENS, room=0.4)
    wanted = train(folder / "wanted", PACK_TOKENS, told=found["pack_tokens"])
    print(json.dumps({"found": found, "wanted": wanted, "error": error}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
