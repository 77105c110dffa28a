"""Speed, share of the card's peak, and memory of LoRA steps on one GPU, beside HF + PEFT, padded, and that with Liger.

    python benchmarks/gpu.py [--only Qwen3-4B] [--steps 3] [--seconds 210] [--out FOLDER]
    python benchmarks/gpu.py --note-none            write into RESULTS.md that there was no GPU
    python benchmarks/gpu.py --tiny --device cpu    small models in seconds, to see that the script works

The shapes of known models with random weights, made on the device; nothing is downloaded. LoRA r=8 on all linear
layers, bf16, and 8B also on an nf4 base. All sides see the same rows of random ids, the second half of each trained,
and one after the other have the card to themselves. What cannot be measured is a line with the reason.

Results go to gpu.json and gpu.md in FOLDER; without --out to results/gpu.json and a section of RESULTS.md.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any

from lib.environments import in_lib
from lib.gpu_cases import CASES, SHAPES, TINY_CASES, Case
from lib.gpu_sides import LIGER, OURS, PADDED, SIDES, WARM_UP_STEPS
from lib.page import put_section

from weitiao.core.version import VERSION

HERE = Path(__file__).resolve().parent
SOURCE = HERE.parent / "src"
RESULTS, PAGE = HERE / "results" / "gpu.json", HERE / "RESULTS.md"
HEADING = "## GPU: LoRA beside HF + PEFT and Liger"
NO_GPU = "No GPU was available; not measured."
GIB = 2**30
SECONDS = 210
LOSS_TOLERANCE = 2e-2
"""How far the first losses of two sides may lie apart in bf16, as a share: both are of the same untrained model."""

Measured = dict[str, Any]
Job = tuple[Case, str]
Run = Callable[..., "subprocess.CompletedProcess[str]"]


def jobs_of(cases: Sequence[Case]) -> list[Job]:
    """Return what is to be measured, in order; compiled blocks are compared with our own that are not."""
    return [(case, side) for case in cases for side in ((OURS,) if case.compile else SIDES)]


def measured(
    jobs: Sequence[Job], device: str, steps: int, seconds: float, run: Run = subprocess.run
) -> tuple[list[Measured], Measured]:
    """Measure jobs in a process of their own, in another where one ends it, until the time is over.

    `run` starts these processes. Returns a line for each job, and what is known of the machine.
    """
    until = time.monotonic() + seconds
    left, lines, machine = list(jobs), [], {"device": device, "peak": "unknown", "peak_flops": 0.0}
    while left:
        remaining = until - time.monotonic()
        if remaining <= 0:
            lines += [_line(job, "no time was left (--seconds)") for job in left]
            break
        written, reason = _worker(left, device, steps, remaining, not lines, run)
        found = [line for line in written if "side" in line]
        machine = next((line["machine"] for line in written if "machine" in line), machine)
        lines += found
        left = left[len(found) :]
        if left:
            lines.append(_line(left.pop(0), reason))
    for line in lines:
        if "seconds" in line and machine["peak_flops"]:
            line["tokens_per_second"] = line["tokens"] / line["seconds"]
            line["share_of_peak"] = line["flops"] / line["seconds"] / machine["peak_flops"]
    return lines, machine


def _line(job: Job, reason: str) -> Measured:
    case, side = job
    return {"case": case.name, "side": side, **asdict(case), "failed": reason}


def _worker(
    jobs: Sequence[Job], device: str, steps: int, seconds: float, first: bool, run: Run
) -> tuple[list[Measured], str]:
    """Run a process over jobs; return the lines it wrote, and why it ended before all were done."""
    wanted = [(asdict(case), side) for case, side in jobs]
    asked = json.dumps({"device": device, "steps": steps, "machine": first, "jobs": wanted})
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "lines.jsonl"
        out.touch()
        command = [*in_lib(sys.executable, "gpu_sides"), asked, str(out)]
        environment = {**os.environ, "PYTHONPATH": _python_path(), "HF_HUB_OFFLINE": "1"}
        try:
            done = run(
                command, env=environment, stderr=subprocess.PIPE, text=True, timeout=seconds, check=False
            )
            said = [line for line in done.stderr.splitlines() if line.strip()]
            reason = said[-1][:200] if said else f"the process ended with {done.returncode}"
            if done.returncode:
                print("\n".join(said[-25:]), file=sys.stderr)
        except subprocess.TimeoutExpired:
            reason = "no time was left (--seconds)"
        return [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()], reason


def _python_path() -> str:
    return os.pathsep.join([str(SOURCE), str(HERE), *filter(None, [os.environ.get("PYTHONPATH")])])


def cell(line: Measured | None) -> str:
    """Write what a side reached: tokens a second and memory, or why it was not measured."""
    if line is None:
        return "-"
    if "failed" in line:
        return str(line["failed"]).replace("|", "/")
    memory = "" if line["peak_bytes"] is None else f", {line['peak_bytes'] / GIB:.1f} GiB"
    return f"{line['tokens'] / line['seconds']:.0f}{memory}"


def ratio(ours: Measured | None, other: Measured | None) -> str:
    """Write how many times faster we are."""
    if ours is None or other is None or "seconds" not in ours or "seconds" not in other:
        return "-"
    return f"{other['seconds'] / ours['seconds']:.2f}x"


def losses(sides: Sequence[Measured | None]) -> str:
    """Write the first loss, and whether all sides have it."""
    found = [line["loss"] for line in sides if line is not None and "loss" in line]
    if not found:
        return "-"
    if max(found) - min(found) <= LOSS_TOLERANCE * abs(found[0]):
        return f"{found[0]:.4f}"
    return "DIFFERENT: " + " ".join(f"{loss:.4f}" for loss in found)


def table(lines: Sequence[Measured]) -> Iterator[str]:
    """Yield the table, a line for each case."""
    sides = f"{OURS}: tokens/s, memory | of the peak | {PADDED} | {LIGER}"
    yield f"| case | {sides} | faster than | and than | first loss |"
    yield "|---|---:|---:|---:|---:|---:|---:|---:|"
    by_side = {(line["case"], line["side"]): line for line in lines}
    for case in dict.fromkeys(line["case"] for line in lines):
        ours, plain, liger = found = [by_side.get((case, side)) for side in SIDES]
        share = f"{100 * ours['share_of_peak']:.1f} %" if ours and "share_of_peak" in ours else "-"
        cells = [case, cell(ours), share, cell(plain), cell(liger), ratio(ours, plain), ratio(ours, liger)]
        yield "| " + " | ".join([*cells, losses(found)]) + " |"


def page(report: Measured) -> str:
    """Write the section of RESULTS.md."""
    versions = ", ".join(f"{name} {number}" for name, number in report["versions"].items())
    return "\n".join(
        [
            HEADING,
            "",
            f"{report['date']}; {report['device']}; {versions}. `{report['command']}`",
            "",
            "Random weights, LoRA r=8 on all linear layers; rows of an eighth to the whole length, the second half "
            f"trained. Tokens are those of the rows, padding does not count. {report['steps']} steps after "
            f"{WARM_UP_STEPS}. Share of the peak: needed operations over {report['peak']}. Beside it transformers and "
            "peft on padded batches of the same rows, alone and with Liger's kernels.",
            "",
            *table(report["measured"]),
            "",
        ]
    )


def write_none() -> None:
    """Say in RESULTS.md that there was no GPU to measure on."""
    put_section(
        PAGE, f"{HEADING}\n\n{date.today().isoformat()}: {NO_GPU} `python benchmarks/gpu.py` fills this in.\n"
    )


def report_of(cases: Sequence[Case], options: argparse.Namespace) -> Measured:
    """Measure all cases."""
    lines, machine = measured(jobs_of(cases), options.device, options.steps, options.seconds)
    return {
        "date": date.today().isoformat(),
        "command": "python benchmarks/gpu.py" + (f" --only {options.only}" if options.only else ""),
        "steps": options.steps,
        "versions": {"weitiao": VERSION}
        | {name: version(name) for name in ("torch", "transformers", "peft")},
        **machine,
        "measured": lines,
    }


def write(report: Measured, folder: Path | None) -> None:
    """Write the report as JSON and as a page into a folder, or where the project keeps its results."""
    if folder is None:
        RESULTS.parent.mkdir(exist_ok=True)
        put_section(PAGE, page(report))
    else:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "gpu.md").write_text(page(report), encoding="utf-8")
    file = RESULTS if folder is None else folder / "gpu.json"
    file.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


def has_gpu() -> bool:
    """Whether torch can use a GPU here."""
    import torch

    return torch.cuda.is_available()


def options_of(words: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", choices=[name for name in SHAPES if name != "tiny"])
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument(
        "--seconds", type=float, default=SECONDS, help="after so long nothing more is measured"
    )
    parser.add_argument("--out", type=Path, help="the folder for gpu.json and gpu.md")
    parser.add_argument("--device", default="cuda", choices=["cuda", "cpu"])
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--note-none", action="store_true")
    options = parser.parse_args(words)
    if options.device == "cpu" and not (options.tiny or options.note_none):
        parser.error("on a CPU only --tiny: these models are made for a GPU")
    return options


def main(words: Sequence[str] | None = None) -> None:
    """Measure, write the results and print the table; without a GPU say so and write nothing."""
    options = options_of(words)
    if options.note_none:
        write_none()
        return
    if options.device == "cuda" and not has_gpu():
        print("There is no GPU here that torch can use, so nothing was measured and nothing written.")
        return
    cases = TINY_CASES if options.tiny else [case for case in CASES if options.only in (None, case.model)]
    report = report_of(cases, options)
    if options.out or not options.tiny:
        write(report, options.out)
    print(page(report))


if __name__ == "__main__":
    main()
