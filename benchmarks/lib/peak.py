"""Measures how many operations a second this machine's fp32 matrix products reach, in a process of its own.

Each product is made by MKL, which torch takes by itself, and by oneDNN, which weitiao takes on some processors.
"""

from __future__ import annotations

import json
import time

import torch
from torch import Tensor
from transformers import AutoConfig

from weitiao.engine.kernels.matmul import products_from
from weitiao.engine.memory.allocator import freed_memory_kept

from .flops import block_shapes
from .peak_names import BY, LIBRARIES
from .peer import read_task

SQUARES = (1024, 2048, 4096)
TRIALS, TRIAL_SECONDS = 5, 0.3


def best_flops_per_second(rows: int, inner: int, columns: int) -> float:
    """Return the best of several trials of (rows, inner) times (inner, columns)."""
    # The second as a layer keeps its weight.
    left, right = torch.randn(rows, inner), torch.randn(columns, inner).t()
    return max(_trial(left, right) for _ in range(TRIALS))


def _trial(left: Tensor, right: Tensor) -> float:
    torch.mm(left, right)
    begun, count = time.perf_counter(), 0
    while (seconds := time.perf_counter() - begun) < TRIAL_SECONDS:
        torch.mm(left, right)
        count += 1
    return 2 * left.shape[0] * left.shape[1] * right.shape[1] * count / seconds


def main() -> None:
    """Measure squares and the model's own shapes at the task's `rows_at_once`, there and backwards."""
    task, result = read_task()
    config, rows = AutoConfig.from_pretrained(task["model"]), task["rows_at_once"]
    shapes = {f"{size} square": (size, size, size) for size in SQUARES}
    linears = {**block_shapes(config), "lm_head": (config.hidden_size, config.vocab_size)}
    for name, (fan_in, fan_out) in linears.items():
        shapes[f"{name}, {rows} rows"] = (rows, fan_in, fan_out)
        shapes[f"{name}, {rows} rows, backwards"] = (rows, fan_out, fan_in)
    measured = {}
    for library in LIBRARIES:
        with products_from(library), freed_memory_kept():
            for name, shape in shapes.items():
                measured[f"{name}{BY}{library}"] = best_flops_per_second(*shape)
    result.write_text(json.dumps({"flops_per_second": measured}), encoding="utf-8")


if __name__ == "__main__":
    main()
