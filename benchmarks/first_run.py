"""Speed and memory of a LoRA run beside plain peft + transformers.Trainer, in one environment, side by side.

    python benchmarks/first_run.py [--data FILE] [--repeats 3] [--threads 2]

SmolLM2-135M, LoRA r=8 on q_proj and v_proj, the first 48 rows of an Alpaca file, max_length 512, batch 8, fp32, one
epoch. Every run is a process of its own; the sides alternate; medians are reported. Needs Linux (memory figures).
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from datetime import date
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results" / "first_run.json"
PAGE = HERE / "RESULTS.md"
HEADING = "## First run: LoRA on a CPU"
LOSS_TOLERANCE = 1e-3
MIB = 2**20

SIDES = {
    "Trainer, padded to 512": ["_plain_peft.py", "--padding", "max_length"],
    "Trainer, padded to the longest": ["_plain_peft.py", "--padding", "longest"],
    "weitiao": ["_weitiao.py"],
}
OURS = "weitiao"
BATCH_SIZE, MAX_LENGTH, LR, MAX_GRAD_NORM, SEED = 8, 512, 2e-4, 1.0, 42

Measured = dict[str, Any]


def make_task(data: Path, rows: int, threads: int) -> Measured:
    """Return what every side trains on: weitiao's own settings, and its tokens, labels and order for the peer."""
    from weitiao.data.dataset import load_data
    from weitiao.data.settings import DataSettings
    from weitiao.engine.plan import StepPlan
    from weitiao.models.load import load_generation_config, load_tokenizer
    from weitiao.models.resolve import resolve
    from weitiao.models.settings import ModelSettings

    model = ModelSettings(name="smollm2-135m", dtype="fp32", device_map="cpu")
    chosen = json.loads(data.read_text(encoding="utf-8"))[:rows]
    settings = DataSettings.model_validate(
        {"sources": chosen, "held_out": 0, "max_length": MAX_LENGTH, "overlong": "cut"}
    )
    prepared = load_data(settings, load_tokenizer(model), SEED, load_generation_config(model))
    plan = StepPlan(prepared.train, BATCH_SIZE, SEED, epochs=1)
    steps = [plan.batch(step) for step in range(plan.total_steps)]
    examples = [example for step in steps for example in step]
    train = {"batch_size": BATCH_SIZE, "epochs": 1, "lr": LR, "max_grad_norm": MAX_GRAD_NORM, "seed": SEED}
    lora = {"r": 8, "alpha": 16, "dropout": 0.0, "target_modules": ["q_proj", "v_proj"]}
    return {
        "model": str(resolve(model).path),
        "threads": threads,
        "seed": SEED,
        "batch_size": BATCH_SIZE,
        "max_length": MAX_LENGTH,
        "lr": LR,
        "max_grad_norm": MAX_GRAD_NORM,
        "rows": [_peer_row(example.ids, example.weights) for example in examples],
        "real_tokens": [sum(len(example.ids) for example in step) for step in steps],
        "trained_tokens": sum(example.trained_tokens for example in examples),
        "weitiao": {
            "model": model.model_dump(),
            "data": settings.model_dump(),
            "method": {"name": "lora", **lora},
            "train": {**train, "scheduler": "constant"},
            "evaluate": {"question_count": 0},
        },
    }


def _peer_row(ids: tuple[int, ...], weights: tuple[float, ...]) -> Measured:
    labels = [i if weight > 0 else -100 for i, weight in zip(ids, weights, strict=True)]
    return {"input_ids": list(ids), "attention_mask": [1] * len(ids), "labels": labels}


def run_side(side: str, task_path: Path, threads: int) -> Measured:
    """Run one side in a process of its own; raises CalledProcessError with its output shown."""
    result = task_path.with_name("result.json")
    script, *words = SIDES[side]
    command = [sys.executable, str(HERE / script), *words, "--task", str(task_path), "--result", str(result)]
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        print(done.stdout, done.stderr, sep="\n", file=sys.stderr)
        done.check_returncode()
    measured: Measured = json.loads(result.read_text(encoding="utf-8"))
    return measured


def compare_losses(runs: dict[str, list[Measured]]) -> float:
    """Return the largest difference between a peer's loss and ours at the same step."""
    ours = runs[OURS][0]["losses"]
    theirs = [run["losses"] for side, own in runs.items() if side != OURS for run in own]
    return max(abs(a - b) for losses in theirs for a, b in zip(losses, ours, strict=True))


def summarize(runs: dict[str, list[Measured]]) -> dict[str, Measured]:
    """Return the medians of each side's repeats, and the losses of its first."""
    return {
        side: {key: own[0][key] if key == "losses" else median(run[key] for run in own) for key in own[0]}
        for side, own in runs.items()
    }


def time_help(repeats: int = 5) -> float:
    """Return the median seconds of `weitiao --help`."""
    command = [sys.executable, "-c", "from weitiao.cli import main; main()", "--help"]
    seconds = []
    for _ in range(repeats):
        started = time.perf_counter()
        subprocess.run(command, capture_output=True, check=True)
        seconds.append(time.perf_counter() - started)
    return median(seconds)


def table(medians: dict[str, Measured]) -> list[str]:
    """Write the medians as a table, each side's ratio to ours behind its number."""
    ours = medians[OURS]
    lines = [
        "| side | real tokens/s | weitiao is | peak memory | weitiao needs | above the model | weitiao needs |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for side, own in medians.items():
        speed = ours["tokens_per_second"] / own["tokens_per_second"]
        peak = ours["peak_bytes"] / own["peak_bytes"]
        growth = ours["training_growth_bytes"] / own["training_growth_bytes"]
        lines.append(
            f"| {side} | {own['tokens_per_second']:.0f} | {speed:.2f}x "
            f"| {own['peak_bytes'] / MIB:.0f} MiB | {peak:.2f}x "
            f"| {own['training_growth_bytes'] / MIB:.0f} MiB | {growth:.2f}x |"
        )
    return lines


def machine() -> str:
    """Describe the processor and the system."""
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    model = next(
        (line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown"
    )
    return f"{model}, {os.cpu_count()} cores, {platform.system()}"


def page(report: Measured) -> str:
    """Write the section of RESULTS.md."""
    versions = ", ".join(f"{name} {number}" for name, number in report["versions"].items())
    return "\n".join(
        [
            HEADING,
            "",
            f"{report['date']}; {report['machine']}; {versions}. `{report['command']}`",
            "",
            f"SmolLM2-135M, LoRA r=8 on q_proj and v_proj, {report['rows']} rows, {report['real_tokens']} real "
            f"tokens ({report['trained_tokens']} trained), max_length {MAX_LENGTH}, batch {BATCH_SIZE}, fp32, "
            f"{report['threads']} threads, one epoch; median of {report['repeats']} runs, first step not timed.",
            "",
            *table(report["medians"]),
            "",
            f"Largest difference of a step's loss between the sides: {report['largest_loss_difference']:.1e}. "
            f"`weitiao --help`: {report['help_seconds']:.2f} s.",
            "",
        ]
    )


def report_of(options: argparse.Namespace, task: Measured, runs: dict[str, list[Measured]]) -> Measured:
    """Return everything that RESULTS.md is written from."""
    return {
        "date": date.today().isoformat(),
        "command": f"python benchmarks/first_run.py --data {options.data.name} --rows {options.rows} "
        f"--repeats {options.repeats} --threads {options.threads}",
        "machine": machine(),
        "versions": {name: version(name) for name in ("weitiao", "torch", "transformers", "peft")},
        "rows": len(task["rows"]),
        "real_tokens": sum(task["real_tokens"]),
        "trained_tokens": task["trained_tokens"],
        "threads": options.threads,
        "repeats": options.repeats,
        "largest_loss_difference": compare_losses(runs),
        "help_seconds": time_help(),
        "medians": summarize(runs),
        "runs": runs,
    }


def put_section(path: Path, section: str) -> None:
    """Put a section into a page in place of the one with the same heading, or at its end."""
    old = path.read_text(encoding="utf-8") if path.is_file() else "# Benchmark results\n\n"
    heading = section.partition("\n")[0]
    before, found, rest = old.partition(heading + "\n")
    after = rest[at:] if found and (at := rest.find("\n## ") + 1) else ""
    parts = [part.strip("\n") for part in (before, section, after)]
    path.write_text("\n\n".join(filter(None, parts)) + "\n", encoding="utf-8")


def main() -> None:
    """Run all sides, compare, print and write the results; exits with 1 where the losses differ."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=HERE.parent / "examples" / "tcm_en.json")
    parser.add_argument("--rows", type=int, default=48)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    task = make_task(options.data, options.rows, options.threads)
    runs: dict[str, list[Measured]] = {side: [] for side in SIDES}
    with tempfile.TemporaryDirectory() as folder:
        task_path = Path(folder) / "task.json"
        task_path.write_text(json.dumps(task), encoding="utf-8")
        for repeat in range(options.repeats):
            for side, own in runs.items():
                own.append(run_side(side, task_path, options.threads))
                print(
                    f"{repeat + 1}/{options.repeats} {side}: {own[-1]['tokens_per_second']:.0f} tokens/s",
                    flush=True,
                )
    report = report_of(options, task, runs)
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    put_section(PAGE, page(report))
    print(page(report))
    for side, own in report["medians"].items():
        print(f"{side:32} losses {' '.join(f'{loss:.4f}' for loss in own['losses'])}")
    if not report["largest_loss_difference"] <= LOSS_TOLERANCE:
        sys.exit(f"the sides did not train alike: losses differ by more than {LOSS_TOLERANCE}")


if __name__ == "__main__":
    main()
