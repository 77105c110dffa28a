"""The GPU benchmark, small, on the CPU."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

sys.path.append(str(Path(__file__).resolve().parents[2] / "benchmarks"))

import gpu

BENCHMARKS = Path(gpu.__file__).parent


def run(*words: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, str(BENCHMARKS / "gpu.py"), *words]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def test_the_script_runs_small_on_a_cpu_and_writes_nothing() -> None:
    page = (BENCHMARKS / "RESULTS.md").read_text(encoding="utf-8")
    done = run("--tiny", "--device", "cpu", "--steps", "1")
    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stdout.splitlines() if line.startswith("| tiny |")]
    assert [line.split("|")[2].strip() for line in lines] == ["fp32", "nf4"] * 2
    assert "measured: a product of two" in done.stdout
    assert (BENCHMARKS / "RESULTS.md").read_text(encoding="utf-8") == page


def test_without_a_gpu_it_says_so_and_writes_nothing() -> None:
    page = (BENCHMARKS / "RESULTS.md").read_text(encoding="utf-8")
    done = run()
    assert done.returncode == 0, done.stderr
    assert "There is no GPU here" in done.stdout
    assert (BENCHMARKS / "RESULTS.md").read_text(encoding="utf-8") == page


def test_the_loss_of_both_sides_is_the_same() -> None:
    """What the plain loop computes of the rows is what the engine computes of them; else a ratio compares nothing."""
    case, device = gpu.TINY_CASES[0], torch.device("cpu")
    rows = gpu.make_rows(case)
    _, stepper = gpu.our_side(case, rows, device)
    with stepper.forward.attention():
        ours = stepper._gradients(rows, 0).loss
    model = gpu.make_model(case, device)
    batch = gpu._padded(rows, device)
    plain = model(**batch, num_items_in_batch=(batch["labels"][:, 1:] != -100).sum()).loss
    assert ours == pytest.approx(float(plain.detach()), rel=1e-5)
