"""The GPU benchmark, small, on the CPU."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

sys.path.append(str(Path(__file__).resolve().parents[2] / "benchmarks"))

from lib import gpu_cases, gpu_sides

import gpu
from forked_python import python_server

BENCHMARKS = Path(gpu.__file__).parent
CPU = torch.device("cpu")


def run(*words: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, str(BENCHMARKS / "gpu.py"), *words]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_the_script_runs_small_on_a_cpu_and_prints_the_table_last(tmp_path: Path) -> None:
    page = (BENCHMARKS / "RESULTS.md").read_text(encoding="utf-8")
    done = run("--tiny", "--device", "cpu", "--steps", "1", "--out", str(tmp_path))
    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stdout.splitlines() if line.startswith("| tiny ")]
    assert done.stdout.strip().endswith(lines[-1])
    names = [case.name for case in gpu_cases.TINY_CASES]
    assert [line.split(" | ")[0] for line in lines] == [f"| {name}" for name in names]
    assert all("liger-kernel is not installed" in line or "Liger needs a GPU" in line for line in lines)
    assert "DIFFERENT" not in done.stdout
    assert "measured: a product of two" in done.stdout
    assert (tmp_path / "gpu.md").read_text(encoding="utf-8").strip() == done.stdout.strip()
    measured = json.loads((tmp_path / "gpu.json").read_text(encoding="utf-8"))["measured"]
    assert len(measured) == 3 * len(names)
    assert all(line["share_of_peak"] > 0 for line in measured if line["side"] != gpu.LIGER)
    assert (BENCHMARKS / "RESULTS.md").read_text(encoding="utf-8") == page


def test_without_a_gpu_it_says_so_and_writes_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    page = (BENCHMARKS / "RESULTS.md").read_text(encoding="utf-8")
    if gpu.has_gpu():  # which only another process can be kept from
        said = run().stdout
    else:
        gpu.main([])
        said = capsys.readouterr().out
    assert "There is no GPU here" in said
    assert (BENCHMARKS / "RESULTS.md").read_text(encoding="utf-8") == page


def forked(command: list[str], env: dict[str, str], **_: object) -> subprocess.CompletedProcess[str]:
    """Run Python in a process that has torch already."""
    return python_server().run(command[1:], environment=env)


def test_what_ends_the_process_is_a_line_and_the_rest_is_measured(capfd: pytest.CaptureFixture[str]) -> None:
    broken = replace(gpu_cases.TINY_CASES[0], model="no such model")
    good = gpu_cases.TINY_CASES[0]
    lines, _ = gpu.measured([(broken, gpu.OURS), (good, gpu.OURS)], "cpu", 1, 300, forked)
    assert [line["case"] for line in lines] == [broken.name, good.name]
    assert "failed" in lines[0]
    assert lines[1]["loss"] > 0
    rows = list(gpu.table(lines))
    assert len(rows) == 4
    assert lines[0]["failed"] in rows[2]
    assert "Traceback" in capfd.readouterr().err


def test_when_the_time_is_over_the_rest_is_left_out() -> None:
    lines, _ = gpu.measured(gpu.jobs_of(gpu_cases.TINY_CASES[:1]), "cpu", 1, 0)
    assert [line["failed"] for line in lines] == ["no time was left (--seconds)"] * 3


@pytest.mark.parametrize("case", gpu_cases.TINY_CASES, ids=lambda case: case.name)
def test_the_loss_of_both_sides_is_the_same(case: gpu_cases.Case) -> None:
    """What the plain loop computes of the rows is what the engine computes of them; else a ratio compares nothing."""
    ours, plain = (gpu_sides.measure(case, side, CPU, 1) for side in (gpu.OURS, gpu.PADDED))
    assert ours["loss"] == pytest.approx(plain["loss"], rel=1e-5)


def test_different_losses_are_said() -> None:
    assert gpu.losses([{"loss": 2.0}, {"loss": 2.01}, None]) == "2.0000"
    assert (
        gpu.losses([{"loss": 2.0}, {"failed": "out of memory"}, {"loss": 2.3}]) == "DIFFERENT: 2.0000 2.3000"
    )


@pytest.mark.parametrize("case", gpu_cases.CASES, ids=lambda case: case.name)
def test_every_case_is_of_a_known_shape_and_counts_its_operations(case: gpu_cases.Case) -> None:
    config = gpu_cases.make_config(case)
    assert config.model_type == case.shape["model_type"]
    rows = gpu_cases.make_rows(case)
    tokens = sum(row.tokens for row in rows)
    assert max(row.longest for row in rows) == case.length
    assert gpu_sides.flops_of(case) > 4 * tokens * config.hidden_size * config.intermediate_size
    if case.header:
        assert gpu_sides.flops_of(case) < gpu_sides.flops_of(replace(case, header=0)) * 2
