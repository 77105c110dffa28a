"""What all sides train on: weitiao's own settings, and its tokens, labels and order of rows for the peers."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .environments import Measured, model_folder, on_threads, run_child
from .flops import needed_flops

if TYPE_CHECKING:
    from weitiao.data.example import Example, TokenSequence

BATCH_SIZE, MAX_LENGTH, LR, MAX_GRAD_NORM, SEED = 8, 512, 2e-4, 1.0, 42
LORA: dict[str, Any] = {"r": 8, "alpha": 16, "dropout": 0.0, "target_modules": ["q_proj", "v_proj"]}
TRAINED_LAST = 4
"""Blocks that the freeze scenario trains."""


def read_rows(path: Path, count: int) -> list[dict[str, Any]]:
    """Return the first rows of a JSON file."""
    rows: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))
    return rows[:count]


def make_task(
    rows: Sequence[dict[str, Any]], threads: int, epochs: int = 1, fill: dict[str, str] | None = None
) -> Measured:
    """Return what every side trains on, all epochs one behind the other; LoRA, on no adapter yet.

    Raises SystemExit where several epochs would not fall into whole steps, as a peer's one epoch over all of them
    would cut other steps then.
    """
    from weitiao.data.dataset import load_data
    from weitiao.data.settings import DataSettings
    from weitiao.engine.runtime.batches import StepPlan
    from weitiao.models.load import load_generation_config, load_tokenizer
    from weitiao.models.settings import ModelSettings

    model = ModelSettings(name="smollm2-135m", dtype="fp32", device_map="cpu")
    settings = DataSettings.model_validate(
        {
            "sources": list(rows),
            "held_out": 0,
            "max_length": MAX_LENGTH,
            "overlong": "cut",
            "fill": fill or {},
        }
    )
    prepared = load_data(settings, load_tokenizer(model), SEED, load_generation_config(model))
    if epochs > 1 and len(prepared.train) % BATCH_SIZE:
        raise SystemExit(f"{len(prepared.train)} rows in {epochs} epochs: take a multiple of {BATCH_SIZE}")
    plan = StepPlan(prepared.train, BATCH_SIZE, SEED, epochs=epochs)
    steps = [plan.batch(step) for step in range(plan.total_steps)]
    sequences = [sequence for step in steps for example in step for sequence in example.sequences]
    train = {
        "batch_size": BATCH_SIZE,
        "epochs": epochs,
        "lr": LR,
        "max_grad_norm": MAX_GRAD_NORM,
        "seed": SEED,
    }
    return {
        "model": str(model_folder()),
        "threads": threads,
        "seed": SEED,
        "batch_size": BATCH_SIZE,
        "max_length": MAX_LENGTH,
        "lr": LR,
        "max_grad_norm": MAX_GRAD_NORM,
        "lora": LORA,
        "rows": [_peer_row(sequence) for sequence in sequences],
        "real_tokens": [sum(example.tokens for example in step) for step in steps],
        "about": _about(prepared.train, steps, epochs),
        "weitiao": {
            "model": model.model_dump(),
            "data": settings.model_dump(),
            "method": {"name": "lora", **LORA},
            "train": {**train, "scheduler": "constant"},
            "evaluate": {"question_count": 0},
        },
    }


def _peer_row(sequence: TokenSequence) -> Measured:
    ids = sequence.ids
    labels = [i if weight > 0 else -100 for i, weight in zip(ids, sequence.weights, strict=True)]
    return {"input_ids": list(ids), "attention_mask": [1] * len(ids), "labels": labels}


def _about(examples: Sequence[Example], steps: Sequence[Sequence[Example]], epochs: int) -> Measured:
    """Return the numbers that a reader needs to judge a scenario's rows by."""
    from weitiao.data.batching.packing import make_pack

    rows = [sequence.ids for example in examples for sequence in example.sequences]
    return {
        "rows": len(rows),
        "epochs": epochs,
        "steps": len(steps),
        "tokens": sum(map(len, rows)),
        "trained_tokens": sum(example.trained_tokens for example in examples),
        "shortest": min(map(len, rows)),
        "longest": max(map(len, rows)),
        "begin_alike": sum(
            1 for _ in takewhile(lambda column: len(set(column)) == 1, zip(*rows, strict=False))
        ),
        "different_tokens": sum(len(make_pack(step).ids_T) for step in steps) / epochs,
        "needed_flops": _needed_of(steps[1:]),
    }


def _needed_of(steps: Sequence[Sequence[Example]]) -> Measured:
    """Return the operations that LoRA needs for some steps: each row by itself, and what rows share once."""
    from transformers import AutoConfig

    from weitiao.data.batching.packing import make_pack

    config = AutoConfig.from_pretrained(model_folder())
    targets, rank = LORA["target_modules"], LORA["r"]
    alone = once = 0
    for step in steps:
        alone += needed_flops(
            config,
            [len(sequence.ids) for example in step for sequence in example.sequences],
            sum(example.trained_tokens for example in step),
            targets,
            rank=rank,
        ).total
        pack = make_pack(step)
        once += needed_flops(
            config,
            [segment.end - segment.start for segment in pack.segments],
            len(pack.kept_P),
            targets,
            rank=rank,
            contexts=[sum(end - start for start, end in segment.context) for segment in pack.segments],
        ).total
    return {"each row by itself": alone, "what rows share once": once}


def with_adapter(task: Measured, folder: Path) -> Measured:
    """Return a task whose sides all start from one adapter, which is written into a folder."""
    adapter = folder / "initial-adapter"
    wanted = {**task, "rows": [], "into": str(adapter)}
    run_child(Path(sys.executable), "initial_adapter", wanted, **on_threads(task["threads"]))
    ours = {**task["weitiao"], "model": {**task["weitiao"]["model"], "adapter": str(adapter)}}
    return {**task, "adapter": str(adapter), "weitiao": ours}


def freezing(task: Measured) -> Measured:
    """Return a task that trains the last blocks' own weights instead of LoRA."""
    return {**task, "weitiao": {**task["weitiao"], "method": {"name": "freeze", "last_n": TRAINED_LAST}}}
