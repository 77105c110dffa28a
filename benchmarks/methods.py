"""Every method's recipe on one model and one file of rows: what it learns, how long it takes and what it needs.

    python benchmarks/methods.py [--methods lora ia3] [--lrs 1e-4 1e-3] [--rows 60] [--epochs 1] [--threads 2]

Every run is a process of its own, so that peak memory is its own and a failure is a row. Finished runs are kept in
methods.jsonl by their settings: started again, it goes on where it was broken off, and tries failed runs once more.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any

from lib.runs import finished_rows, keep, key_of, machine, run_one

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
MODEL = "smollm2-135m"
DATA = "examples/tcm_en.json"
BESIDES_METHODS = ("qlora",)
"""Recipes that are no method of their own."""
MIB = 2**20

Values = dict[str, Any]


def names() -> list[str]:
    """Return the recipes that are measured where none are named."""
    from weitiao.methods import METHODS

    return [*METHODS.names(), *BESIDES_METHODS]


def tasks(options: argparse.Namespace) -> Iterator[tuple[str, Values]]:
    """Yield each run to make: the recipe's name, and what the child needs."""
    for name in options.methods or names():
        own = recipe_of(name, options)
        rates = options.lrs or [own["train"]["lr"] * factor for factor in options.factors]
        for lr in rates:
            train = {**own["train"], "lr": float(f"{lr:.3g}")}
            yield name, {"recipe": {**own, "train": train}, "threads": options.threads}


def recipe_of(name: str, options: argparse.Namespace) -> Values:
    """Return a recipe with the model and data that all are compared on, and the changes asked for."""
    from weitiao.methods._base import MEASURED_WIDTH
    from weitiao.recipe.recipe import read_recipe

    read = read_recipe(ROOT / "recipes" / f"{name}.yaml", {}, [])
    recipe = read.as_dict()
    recipe["train"]["lr"] = read.train.lr or read.method.lr_for(MEASURED_WIDTH)
    rows = json.loads((ROOT / DATA).read_text(encoding="utf-8"))[: options.rows]
    data = {**recipe["data"], "sources": [{"rows": rows}], "held_out": options.held_out, "max_length": 512}
    changes = {"epochs": options.epochs, "batch_size": options.batch_size}
    train = {**recipe["train"], **{key: value for key, value in changes.items() if value is not None}}
    model = {**recipe["model"], "name": MODEL, "device_map": "cpu"}
    return {
        **recipe,
        "model": model,
        "data": data,
        "train": train,
        "evaluate": {"question_count": 0},
        "out": "runs/x",
    }


def measure(options: argparse.Namespace) -> list[Values]:
    """Make every run that is not done yet, each kept as soon as it ends; returns all rows asked for."""
    kept = options.out / "methods.jsonl"
    done = finished_rows(kept)
    rows = []
    for name, task in tasks(options):
        row = done.get(key_of(task))
        if row is None:
            row = run_one(name, task)
            keep(row, kept)
        rows.append(row)
        print(told(row), flush=True)
    return sorted(rows, key=lambda row: (row.get("after", float("inf")), row["name"]))


def told(row: Values) -> str:
    """Return one row for the terminal."""
    result = row.get("error") or f"{row['before']:.4f} -> {row['after']:.4f} in {row['seconds']:.0f} s"
    return f"{row['name']:17} lr {row['lr']:<8g} {result}"


def report_of(options: argparse.Namespace, rows: list[Values]) -> Values:
    """Return everything that METHODS.md is written from."""
    words = [word for word in sys.argv[1:] if str(options.out) not in word and word != "--out"]
    return {
        "date": date.today().isoformat(),
        "command": " ".join(["python benchmarks/methods.py", *words]),
        "machine": machine(),
        "versions": {name: version(name) for name in ("weitiao", "torch", "transformers", "peft")},
        "threads": options.threads,
        "rows": [{key: value for key, value in row.items() if key != "task"} for row in rows],
    }


def page(report: Values, options: argparse.Namespace) -> str:
    """Write METHODS.md."""
    versions = ", ".join(f"{name} {number}" for name, number in report["versions"].items())
    failed = [row for row in report["rows"] if "error" in row]
    lines = [
        "# Every method on one task",
        "",
        f"{report['date']}; {report['machine']}, threads: {report['threads']}; {versions}. `{report['command']}`",
        "",
        f"Each row is `recipes/NAME.yaml` on SmolLM2-135M and {counted(options)} of `{DATA}`, at the rate named. The "
        "losses are those of the held-out rows, in nats a token; memory is the whole process's peak. One run each and "
        "a small file of one kind: differences of a few hundredths mean nothing, and other tasks may order the "
        "methods otherwise.",
        "",
        *([options.note, ""] if options.note else []),
        "| recipe | trained parameters | share | lr | loss before | loss after | seconds | peak memory | saved |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|",
        *(line(row) for row in report["rows"] if "error" not in row),
        "",
    ]
    if failed:
        lines += [
            "Failed:",
            "",
            *(f"- {row['name']}, lr {row['lr']:g}: {row['error']}" for row in failed),
            "",
        ]
    return "\n".join(lines)


def counted(options: argparse.Namespace) -> str:
    """Say how many rows there are and how many of them are held out."""
    total = f"the first {options.rows} rows" if options.rows else "all rows"
    held_out = options.held_out
    return f"{total} ({held_out:g} held out)" if held_out >= 1 else f"{total} ({held_out:.0%} held out)"


def line(row: Values) -> str:
    """Write one row of the table."""
    return (
        f"| {row['name']} | {row['trained']:,} | {row['percent']:.3g} % | {row['lr']:g} | {row['before']:.3f} "
        f"| {row['after']:.3f} | {row['seconds']:.0f} | {row['peak_bytes'] / MIB:.0f} MiB "
        f"| {row['adapter_bytes'] / MIB:.3g} MiB |"
    )


def parse_options() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--methods", nargs="+", metavar="RECIPE", help="left out: every method's, and qlora")
    parser.add_argument("--lrs", nargs="+", type=float, default=[], help="each recipe at these rates")
    parser.add_argument(
        "--factors", nargs="+", type=float, default=[1.0], help="each recipe at its own rate times these"
    )
    parser.add_argument("--rows", type=int, help="the first N rows only, held-out ones among them")
    parser.add_argument("--held-out", type=float, default=0.2, help="a share or a number of the rows")
    parser.add_argument("--epochs", type=float)
    parser.add_argument("--batch-size", type=int)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--note", default="", help="what a reader of the table should know of this run")
    parser.add_argument("--out", type=Path, default=HERE, help="the folder of METHODS.md and its data")
    return parser.parse_args()


def main() -> None:
    """Make the runs and write the table."""
    options = parse_options()
    options.out.mkdir(parents=True, exist_ok=True)
    report = report_of(options, measure(options))
    (options.out / "methods.json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    (options.out / "METHODS.md").write_text(page(report, options), encoding="utf-8")
    print(page(report, options))


if __name__ == "__main__":
    main()
