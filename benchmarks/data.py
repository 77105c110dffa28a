"""Rows to ready examples (ids and masks) beside datasets.map and LLaMA-Factory: rows/s and the peak of memory.

    python benchmarks/data.py [--data FILE] [--rows 200000] [--repeats 3] [--work FOLDER]

The rows of an Alpaca file (left out: those of examples/) are repeated, once as they are and once each made different by
a number before its question, since repeated rows profit from what is remembered. Every run is a process of its own
with a cache of its own; the sides alternate; medians are reported. LLaMA-Factory is installed into an environment of
its own below --work the first time, which takes minutes. Needs Linux (memory figures).
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import date
from importlib.metadata import version
from itertools import product
from pathlib import Path
from statistics import median
from typing import Any

from lib.environments import LLAMA_FACTORY, Measured, environment_of, in_lib, model_folder, versions_in
from lib.rows import rows_of, write_rows
from lib.runs import machine

HERE = Path(__file__).resolve().parent
RESULTS, PAGE = HERE / "results" / "data.json", HERE / "DATA.md"
COLD, WARM = "weitiao, first run", "weitiao, from its cache"
FACTORY = "LLaMA-Factory"
SIDES: dict[str, tuple[str, dict[str, Any]]] = {
    COLD: ("data_weitiao", {"from_cache": False}),
    WARM: ("data_weitiao", {"from_cache": True}),
    "datasets.map, row by row": ("data_datasets", {"batched": False}),
    "datasets.map, batched": ("data_datasets", {"batched": True}),
    FACTORY: ("data_llamafactory", {}),
}
"""What each run starts, and what it is told beside the common task. WARM follows COLD and shares its cache."""
KINDS = {"repeated": False, "different": True}
LOOKED_EVERY_SECONDS = 0.5
MIB = 2**20


def run_side(side: str, task: Measured, python: Path, home: Path) -> Measured:
    """Make one run in a process of its own; returns what it measured, with the peak of its process tree."""
    script, own = SIDES[side]
    environment = environment_of(python, WEITIAO_HOME=str(home))
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / name for name in ("task.json", "result.json", "said.txt")]
        paths[0].write_text(json.dumps({**task, **own, "folder": folder}), encoding="utf-8")
        command = [*in_lib(python, script), str(paths[0]), str(paths[1])]
        with paths[2].open("w", encoding="utf-8") as said:
            process = subprocess.Popen(command, env=environment, stdout=said, stderr=said)
            peak = 0
            while process.poll() is None:
                peak = max(peak, tree_bytes(process.pid))
                time.sleep(LOOKED_EVERY_SECONDS)
        if process.returncode:
            raise SystemExit(f"{side}: {paths[2].read_text(encoding='utf-8')[-3000:]}")
        measured: Measured = json.loads(paths[1].read_text(encoding="utf-8"))
    return {**measured, "peak_bytes": peak, "rows_per_second": measured["rows"] / measured["seconds"]}


def tree_bytes(root: int) -> int:
    """Return the memory of a process and all below it, pages they share counted once (the sum of their PSS)."""
    total, waiting = 0, [root]
    while waiting:
        own = Path("/proc") / str(waiting.pop())
        try:
            rollup = (own / "smaps_rollup").read_text(encoding="ascii")
            children = [(task / "children").read_text(encoding="ascii") for task in (own / "task").iterdir()]
        except OSError:  # it has ended meanwhile
            continue
        total += next(
            (1024 * int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Pss:")), 0
        )
        waiting += [int(child) for listed in children for child in listed.split()]
    return total


def measure(options: argparse.Namespace, folder: Path, python: Path) -> Measured:
    """Make all runs, the sides alternating; returns the medians by kind of rows and side."""
    rows = rows_of(options.data)
    runs: dict[tuple[str, str], list[Measured]] = {}
    for kind, different in KINDS.items():
        write_rows(folder / f"{kind}.jsonl", rows, options.rows, different)
    for repeat, kind in product(range(options.repeats), KINDS):
        task = {
            "data": str(folder / f"{kind}.jsonl"),
            "model": str(model_folder()),
            "processes": options.processes,
            "max_length": options.max_length,
        }
        home = folder / f"home-{repeat}-{kind}"
        for side in SIDES:
            used = python if side == FACTORY else Path(sys.executable)
            measured = run_side(side, task, used, home)
            runs.setdefault((kind, side), []).append(measured)
            print(f"{kind:10} {side:26} {measured['rows_per_second']:10,.0f} rows/s", flush=True)
    return {kind: {side: medians(runs[kind, side]) for side in SIDES} for kind in KINDS}


def medians(runs: list[Measured]) -> Measured:
    """Return the median of each number."""
    return {name: median(run[name] for run in runs) for name in runs[0]}


def report_of(options: argparse.Namespace, measured: Measured, python: Path) -> Measured:
    """Return everything that DATA.md is written from."""
    return {
        "date": date.today().isoformat(),
        "command": " ".join(["python benchmarks/data.py", *shown_words(options)]),
        "machine": machine(),
        "versions": {name: version(name) for name in ("weitiao", "transformers", "tokenizers", "datasets")},
        "peer_versions": versions_in(python),
        "different_rows": len(rows_of(options.data)),
        "rows": options.rows,
        "repeats": options.repeats,
        "processes": options.processes,
        "measured": measured,
    }


def shown_words(options: argparse.Namespace) -> Iterator[str]:
    """Yield the command line without folders."""
    if options.data:
        yield f"--data {options.data.name}"
    yield f"--rows {options.rows} --repeats {options.repeats}"


def page(report: Measured) -> str:
    """Write DATA.md."""
    versions = ", ".join(f"{name} {number}" for name, number in report["versions"].items())
    lines = [
        "# Rows to ready examples",
        "",
        f"{report['date']}; {report['machine']}; {versions}; in an environment of its own: {report['peer_versions']} "
        "(without torchvision, and with an empty torchaudio: their wheels need CUDA, and text needs nothing of them). "
        f"`{report['command']}`",
        "",
        f"{report['rows']:,} rows made of {report['different_rows']:,}, from a JSON lines file to ids and masks that "
        f"training can read, tokenizer of SmolLM2-135M, {report['processes']} processes, median of {report['repeats']} "
        "runs; imports and loading the tokenizer are not timed. weitiao does more in this time than the others: all "
        "its checks of the data, duplicates among them. Memory is the peak of the whole process tree (PSS); CPU is "
        "the time of all its processes, which other work on the machine disturbs less than rows/s.",
    ]
    for kind, sides in report["measured"].items():
        lines += [
            "",
            f"## {'The rows repeated' if kind == 'repeated' else 'Each row different'}",
            "",
            *table(sides),
        ]
    return "\n".join([*lines, ""])


def table(sides: Measured) -> Iterator[str]:
    """Yield one table."""
    yield "| side | rows/s | weitiao's first run is | CPU us a row | weitiao needs | tokens a row | peak memory |"
    yield "|---|---:|---:|---:|---:|---:|---:|"
    ours, ours_cpu = (sides[COLD][name] for name in ("rows_per_second", "cpu_seconds"))
    for side, own in sides.items():
        yield (
            f"| {side} | {own['rows_per_second']:,.0f} | {ours / own['rows_per_second']:.2f}x "
            f"| {1e6 * own['cpu_seconds'] / own['rows']:.0f} | {ours_cpu / own['cpu_seconds']:.2f}x "
            f"| {own['tokens'] / own['rows']:.1f} | {own['peak_bytes'] / MIB:,.0f} MiB |"
        )


def parse_options() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, help="an Alpaca file; left out: the rows of examples/")
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--processes", type=int, default=2, help="of the peers; weitiao takes all cores")
    parser.add_argument("--max-length", type=int, default=2048)
    parser.add_argument("--work", type=Path, help="where LLaMA-Factory is kept; left out: in weitiao's cache")
    return parser.parse_args()


def main() -> None:
    """Make the runs and write the tables."""
    from weitiao.core.files import cache_home

    options = parse_options()
    python = LLAMA_FACTORY.python(options.work or cache_home() / "benchmarks")
    model_folder()  # the alias is unpacked once, before homes of their own
    with tempfile.TemporaryDirectory() as folder:
        report = report_of(options, measure(options, Path(folder), python), python)
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    PAGE.write_text(page(report), encoding="utf-8")
    print(page(report))


if __name__ == "__main__":
    main()
