"""Training over several processes: gloo on the loopback interface, rendezvous by file, killed if they hang."""

from __future__ import annotations

import json
import multiprocessing
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, distributed

import tiny_architectures as tiny
from tiny_training import Events, make_examples, make_training, weights_of
from weitiao.core.errors import NotFiniteError, ResourceError, Stopped
from weitiao.data.example import Example
from weitiao.engine.kernels.matmul import products_from
from weitiao.engine.loop import Training
from weitiao.methods import METHODS
from weitiao.objectives._base import LossSum, Objective
from weitiao.objectives._outputs import Outputs
from weitiao.objectives.sft import SupervisedFineTuning

SECONDS = 60
"""Timeout after which a rank is killed, far longer than it takes."""
EXAMPLES = make_examples(24, seed=3, shortest=8, longest=24)
MARK = 1
"""A token that does not occur among random ids, which start at 3."""

PRELOADED = [
    "weitiao.recipe.build",
    "weitiao.methods.lora",
    "peft.tuners.lora.bnb",
    "transformers.models.llama.modeling_llama",
    "transformers.optimization",
    "weitiao.objectives._streamed_head",
    "weitiao.methods._peft.lora_linear",
    *(f"weitiao.methods._layers.{name}" for name in ("adapter", "bitfit", "diff", "freeze")),
    *(f"weitiao.methods.{name}" for name in METHODS.names()),
]
"""Slow imports, done once in the fork server for all processes; none of it runs there."""

Job = Callable[..., dict[str, Any]]


@dataclass(frozen=True)
class Ended:
    """The results of one rank."""

    weights: dict[str, torch.Tensor]
    gradients: dict[str, torch.Tensor]
    told: dict[str, Any]


def run_ranks(world_size: int, job: Job, folder: Path, **settings: Any) -> list[Ended]:  # noqa: ANN401
    """Run `job` in `world_size` processes and return each one's results; fails if a process fails or hangs."""
    folder.mkdir(parents=True, exist_ok=True)
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    processes = [
        context.Process(target=_rank, args=(rank, world_size, job, folder, settings), daemon=True)
        for rank in range(world_size)
    ]
    for process in processes:
        process.start()
    try:
        for process in processes:
            process.join(SECONDS)
        assert [process.exitcode for process in processes] == [0] * world_size
    finally:
        for process in processes:
            process.kill()
            process.join()
    return [_read(folder / f"rank-{rank}") for rank in range(world_size)]


def _read(place: Path) -> Ended:
    tensors = [load_file(place / f"{kind}.safetensors") for kind in ("weights", "gradients")]
    return Ended(*tensors, json.loads((place / "told.json").read_text(encoding="utf-8")))


def _rank(rank: int, world_size: int, job: Job, folder: Path, settings: dict[str, Any]) -> None:
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    torch.set_num_threads(1)
    met = {"init_method": f"file://{folder / 'store'}", "timeout": timedelta(seconds=SECONDS)}
    distributed.init_process_group("gloo", rank=rank, world_size=world_size, **met)
    place = folder / f"rank-{rank}"
    place.mkdir()
    with products_from("auto"):
        training = job(rank, folder, **settings)
    save_file(weights_of(training["training"]), place / "weights.safetensors")
    save_file(training["gradients"], place / "gradients.safetensors")
    (place / "told.json").write_text(json.dumps(training["told"]), encoding="utf-8")
    distributed.destroy_process_group()


def make(folder: Path, rows: list[Example] = EXAMPLES, **changes: Any) -> Training:  # noqa: ANN401
    """Return a training whose Adam does not amplify rounding: 1e-8 / (1e-8 + eps), see docs/en/how-it-works.md."""
    architecture = changes.pop("architecture", "llama")
    listeners = changes.pop("listeners", ())
    settings = {"lr": 1e-2, "eps": 1e-3, "batch_size": 8, "steps": 3, "method": {"name": "lora", "r": 4}}
    model = tiny.make_model(architecture)
    return make_training(folder, rows, model=model, listeners=listeners, **(settings | changes))


def steps(
    rank: int,
    folder: Path,
    objective: Objective | None = None,
    **changes: Any,  # noqa: ANN401
) -> dict[str, Any]:
    """Make three steps; report losses, norms, budget; without `objective`, also the gradients of the first step."""
    training = make(folder, **changes)
    stepper = training.stepper
    if objective is not None:
        stepper.objective = objective
    told: dict[str, Any] = {"losses": [], "norms": [], "error": ""}
    with stepper.forward.attention():
        training.attached.model.train()
        if objective is None:
            told["losses"].append(stepper.gradients(training.plan.batch(0), 0).loss)
        gradients = {name: p.grad.clone() for name, p in stepper.parameters.items() if p.grad is not None}
        try:
            for step in range(3):
                result = stepper.apply(training.plan.batch(step), step)
                told["losses"].append(result.loss)
                told["norms"].append(result.grad_norm)
        except (NotFiniteError, ResourceError) as error:
            told["error"] = f"{type(error).__name__}: {error}"
    told["budget"] = stepper.pack_tokens
    return {"training": training, "gradients": gradients, "told": told}


class NoRoom(SupervisedFineTuning):
    """Runs out of memory on one rank (`rank` -1: on all) in a pack with more than `most` trained tokens."""

    rank: int
    most: int

    def loss(self, outputs: Outputs, reference: Tensor | None = None) -> LossSum:
        mine = self.rank in (-1, distributed.get_rank())
        if mine and len(outputs.targets_K) > self.most:
            raise torch.OutOfMemoryError("made up by a test")
        return super().loss(outputs, reference)


class NotANumber(SupervisedFineTuning):
    """Returns NaN for a pack that trains the token MARK."""

    def loss(self, outputs: Outputs, reference: Tensor | None = None) -> LossSum:
        sound = super().loss(outputs, reference)
        return LossSum(sound.sum * torch.nan) if MARK in outputs.targets_K else sound


def differing(rank: int, folder: Path) -> dict[str, Any]:
    """Give each rank different weights, then rebuild the stepper, which must make them equal."""
    training = make(folder)
    with torch.no_grad():
        for parameter in training.stepper.parameters.values():
            parameter += rank
    replace(training.stepper)
    return {"training": training, "gradients": {}, "told": {}}


def whole_run(rank: int, folder: Path, stops: int | None = None, **changes: Any) -> dict[str, Any]:  # noqa: ANN401
    """Train to the end with evaluation every step; the rank `stops`, if set, gets SIGTERM in step 2."""
    heard = Events()
    often = {"steps": 4, "eval_every": 1, "save_every": 1, "listeners": (heard,), **changes}
    training = make(folder, held_out=make_examples(3, seed=9), **often)
    if rank == stops:
        training.stepper.optimizer.register_step_post_hook(_Terminate(training))
    told: dict[str, Any] = {"stopped": False}
    published: list[str] = []
    sys.addaudithook(lambda event, _: published.append(event) if event == "os.rename" else None)
    try:
        training.run()
    except Stopped:
        told["stopped"] = True
    told |= {"step": training.progress.step, "best": training.progress.best_step}
    told |= {
        "best_loss": training.progress.best_loss,
        "events": [e["event"] for e in heard],
        "published": len(published),
    }
    return {"training": training, "gradients": {}, "told": told}


class _Terminate:
    """Sends SIGTERM to its own process in the second step."""

    def __init__(self, training: Training) -> None:
        self.training = training

    def __call__(self, *_: object) -> None:
        if self.training.progress.step == 1:
            os.kill(os.getpid(), 15)
