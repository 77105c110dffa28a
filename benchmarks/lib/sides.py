"""The sides of a comparison: how each is run, whether it trained as weitiao did, and what its numbers come to."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from .environments import (
    LLAMA_FACTORY,
    TRL,
    ChildFailed,
    Environment,
    Measured,
    on_threads,
    run_child,
    versions_in,
)

FIRST_TOLERANCE, LATER_TOLERANCE = 1e-4, 1e-3
"""How far a side's loss may lie from ours at the first step, whose weights are equal, and at the later ones."""
MIB = 2**20
RATIOS: dict[str, Callable[[Measured, Measured], float]] = {
    "speed": lambda ours, own: ours["tokens_per_second"] / own["tokens_per_second"],
    "seconds": lambda ours, own: own["training_seconds"] / ours["training_seconds"],
    "peak": lambda ours, own: ours["peak_bytes"] / own["peak_bytes"],
    "growth": lambda ours, own: ours["training_growth_bytes"] / own["training_growth_bytes"],
}


@dataclass(frozen=True)
class Side:
    """One way to train."""

    name: str
    tool: str
    script: str
    environment: Environment | None = None
    """Left out, the one this runs in."""
    own: Measured = field(default_factory=dict)
    """Settings of its own."""
    says: str = ""
    """What a reader of the table should know of it."""

    def python(self, work: Path) -> Path:
        """Return the interpreter it runs in."""
        return self.environment.python(work) if self.environment else Path(sys.executable)

    def run(self, task: Measured, work: Path) -> Measured:
        """Train once in a process of its own; raises ChildFailed."""
        variables = on_threads(task["threads"])
        return run_child(self.python(work), self.script, {**task, "own": self.own}, **variables)


WEITIAO = Side("weitiao", "weitiao", "weitiao_side")
NO_CHECKPOINTING = {"gradient_checkpointing": False}


def sides_for(task: Measured) -> list[Side]:
    """Return all sides of a comparison, ours first; packed rows are so many a step that steps are about as long."""
    packed_rows = max(1, round(sum(task["real_tokens"]) / len(task["real_tokens"]) / task["max_length"]))
    return [
        WEITIAO,
        Side("peft + Trainer", "peft + Trainer", "plain_peft"),
        Side(
            "LLaMA-Factory",
            "LLaMA-Factory",
            "peer_llamafactory",
            LLAMA_FACTORY,
            says="with gradient checkpointing, its default",
        ),
        Side(
            "LLaMA-Factory, no checkpointing",
            "LLaMA-Factory",
            "peer_llamafactory",
            LLAMA_FACTORY,
            {"disable_gradient_checkpointing": True},
        ),
        Side("TRL", "TRL", "peer_trl", TRL, says="with gradient checkpointing, its default"),
        Side("TRL, no checkpointing", "TRL", "peer_trl", TRL, NO_CHECKPOINTING),
        Side(
            "TRL, padding-free",
            "TRL",
            "peer_trl",
            TRL,
            {**NO_CHECKPOINTING, "padding_free": True, "max_length": None},
            "no checkpointing; its documentation supports this with flash attention only, which needs a GPU, "
            "and here the model's default attention gets a mask of blocks",
        ),
        Side(
            "TRL, packed",
            "TRL",
            "peer_trl",
            TRL,
            {**NO_CHECKPOINTING, "packing": True, "per_device_train_batch_size": packed_rows},
            f"no checkpointing; rows are sorted into packs of {task['max_length']} tokens, {packed_rows} a step, so "
            "its steps hold other rows than ours",
        ),
    ]


def alternate(sides: Sequence[Side], task: Measured, repeats: int, work: Path) -> dict[str, list[Measured]]:
    """Make all runs, the sides alternating; a side that failed has one run that says how, and is not tried again."""
    runs: dict[str, list[Measured]] = {side.name: [] for side in sides}
    for repeat in range(repeats):
        for side in sides:
            own = runs[side.name]
            if own and "failed" in own[0]:
                continue
            try:
                own.append(side.run(task, work))
            except ChildFailed as error:
                own[:] = [{"failed": str(error)}]
            print(f"{repeat + 1}/{repeats} {side.name}: {_said(own[-1])}", flush=True)
    return runs


def _said(run: Measured) -> str:
    """Return one run for the terminal."""
    if "failed" in run:
        return str(run["failed"])
    return (
        f"{run['tokens_per_second']:.1f} tokens/s, {run['peak_bytes'] / MIB:.0f} MiB, "
        f"first step after {run['first_step_seconds']:.1f} s, first loss {run['losses'][0]:.6f}, "
        f"in all {run['process_seconds']:.0f} s"
    )


def compare(runs: dict[str, list[Measured]], ours: str) -> dict[str, Measured]:
    """Return each side's medians, and its ratios to ours with their range where it trained as ours did."""
    base = runs[ours]
    if "failed" in base[0]:
        raise SystemExit(f"{ours} failed: {base[0]['failed']}")
    return {side: _compared(own, base) for side, own in runs.items()}


def _compared(own: Sequence[Measured], base: Sequence[Measured]) -> Measured:
    if "failed" in own[0]:
        return {"failed": own[0]["failed"], "unlike": "it failed"}
    medians = {name: median(run[name] for run in own) for name in own[0] if name != "losses"}
    unlike = unlike_ours(own[0]["losses"], base[0]["losses"])
    if unlike:
        return {**medians, "unlike": unlike}
    each = {
        name: [ratio(one, run) for one, run in zip(base, own, strict=True)] for name, ratio in RATIOS.items()
    }
    ratios = {name: [median(found), min(found), max(found)] for name, found in each.items()}
    differences = [abs(a - b) for a, b in zip(own[0]["losses"], base[0]["losses"], strict=True)]
    losses = {"first_difference": differences[0], "largest_difference": max(differences)}
    return {**medians, **losses, "unlike": "", "ratios": ratios}


def unlike_ours(losses: Sequence[float], ours: Sequence[float]) -> str:
    """Return in what a side's losses differ from ours by more than rounding, or an empty text."""
    if len(losses) != len(ours):
        return f"{len(losses)} steps, not {len(ours)}"
    first, *later = (abs(a - b) for a, b in zip(losses, ours, strict=True))
    if not first <= FIRST_TOLERANCE:
        return f"its first loss differs by {first:.1e}"
    far = [difference for difference in later if not difference <= LATER_TOLERANCE]  # one that is NaN, too
    return f"a later loss differs by {far[0]:.1e}" if far else ""


def environments_of(sides: Sequence[Side], work: Path) -> dict[str, str]:
    """Return the versions in each environment that the sides run in, by the tools that do."""
    tools: dict[Path, list[str]] = {}
    for side in sides:
        tools.setdefault(side.python(work), []).append(side.tool)
    return {" and ".join(dict.fromkeys(names)): versions_in(python) for python, names in tools.items()}


def fastest(sides: Sequence[Side], compared: dict[str, Measured]) -> Iterator[tuple[str, str, Measured]]:
    """Yield each peer with the name and numbers of its fastest side of those that trained as ours did."""
    for tool in dict.fromkeys(side.tool for side in sides if side.tool != WEITIAO.tool):
        alike = [side.name for side in sides if side.tool == tool and not compared[side.name]["unlike"]]
        if alike:
            name = max(alike, key=lambda one: float(compared[one]["tokens_per_second"]))
            yield tool, name, compared[name]
