"""Whether the defaults learn: LoRA's beside a grid around them on five data sets, every other method's on two.

    python benchmarks/defaults.py --alpaca FILE [--tasks identity style] [--methods lora ia3] [--threads 2]
                                   [--dtype bf16]

FILE holds rows of instruction, input and output, such as LLaMA-Factory's data/alpaca_en_demo.json. Every run is a
process of its own and takes a minute or two on two cores; all of them take some four hours, on a processor that
multiplies in bf16 with --dtype bf16. Finished runs are kept in defaults.jsonl by their settings: started again, it goes
on where it was broken off, and after a default has moved it makes only the runs that are new. Two started at once, with
one thread each and other methods, finish sooner; a third call without --methods then writes the page.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Iterator
from datetime import date
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path
from typing import Any

from lib.default_data import TASKS, rows_of
from lib.runs import finished_rows, keep, key_of, machine, run_one

HERE = Path(__file__).resolve().parent
MODEL, WIDTH = "smollm2-135m", 576
BATCH_SIZE = 8
FACTORS = (1 / 3, 1.0, 3.0)
"""Times the default rate."""
LENGTHS = (0.5, 1.0, 2.0)
"""Times the default number of epochs."""
TWO_TASKS = ("identity", "routing")
"""What every other method is tried on."""
WITHIN_LORA, WITHIN_OTHERS = 1.03, 1.10
"""Largest loss of a default, as a multiple of the best one found."""
NEAR_RATE = 1.05
"""Rates count as the same up to this factor."""
NEAR_NATS = 0.05
"""A difference in nats a token that counts as none where losses end near 0."""

Values = dict[str, Any]


def recipe_of(task: str, method: Values, options: argparse.Namespace, rate: float, length: float) -> Values:
    """Return the run file of a method with its defaults on a task, at so many times its rate and epochs."""
    from weitiao.data.gate.split import rows_held_out
    from weitiao.methods import METHODS
    from weitiao.recipe.auto_settings import PATIENCE, epochs_at_most

    rows = rows_of(task, options.alpaca)
    epochs = epochs_at_most(len(rows) - rows_held_out("auto", len(rows)), BATCH_SIZE)
    lr = METHODS.load(method["name"]).model_validate(_settings(method)).lr_for(WIDTH)
    return {
        "model": {"name": MODEL, "device_map": "cpu", "dtype": options.dtype},
        "data": {"sources": [{"rows": rows}]},
        "method": method,
        "train": {
            "lr": float(f"{lr * rate:.2g}"),
            "epochs": epochs * length,
            "batch_size": BATCH_SIZE,
            "early_stopping_patience": PATIENCE,
        },
        "evaluate": {"question_count": 0},
        "out": "runs/x",
    }


def _settings(method: Values) -> Values:
    return {key: value for key, value in method.items() if key != "name"}


def full_method(name: str) -> Values:
    """Return a method with all its default settings, or its example's where some have none."""
    from weitiao.methods import METHODS

    cls = METHODS.load(name)
    return {"name": name, **cls.model_validate(dict(cls.example)).model_dump(mode="json")}


class Bench:
    """The runs that were made, by their settings."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.kept: Path = options.out / "defaults.jsonl"
        self.done = finished_rows(self.kept)

    def loss(self, task: str, method: Values, rate: float = 1.0, length: float = 1.0) -> Values:
        """Return the row of a run, made now if it is not among those kept."""
        recipe = recipe_of(task, method, self.options, rate, length)
        work = {"recipe": recipe, "threads": self.options.threads}
        named = {"task": task, "method": method, "train": recipe["train"], "dtype": self.options.dtype}
        row = self.done.get(key_of(named))
        if row is None:
            row = {**run_one(method["name"], work), "task": key_of(named)}
            keep(row, self.kept)
            if "error" not in row:
                self.done[key_of(named)] = row
            result = (
                row.get("error") or f"{row['before']:.3f} -> {row['after']:.3f} in {row['seconds']:.0f} s"
            )
            print(f"{task:9} {method['name']:17} rate {rate:.2g} length {length:g}: {result}", flush=True)
        return row


def lora_rows(bench: Bench, task: str) -> list[Values]:
    """Return LoRA's runs on a task: the grid, and at its best other ranks and targets."""
    method = full_method("lora")
    grid = [
        {"rate": rate, "length": length, **bench.loss(task, method, rate, length)}
        for rate in FACTORS
        for length in LENGTHS
    ]
    best = min(grid, key=loss_of)
    others = [
        {"r": method["r"] // 2, "alpha": method["alpha"] / 2},
        {"r": method["r"] * 4, "alpha": method["alpha"] * 4},
        {"target_modules": ["q_proj", "v_proj"]},
    ]
    return [
        *grid,
        *(
            {
                "rate": best["rate"],
                "length": best["length"],
                "other": other,
                **bench.loss(task, {**method, **other}, best["rate"], best["length"]),
            }
            for other in others
        ),
    ]


def method_rows(bench: Bench, name: str) -> dict[str, list[Values]]:
    """Return another method's runs at three rates, by task."""
    method = full_method(name)
    return {
        task: [{"rate": rate, **bench.loss(task, method, rate)} for rate in FACTORS] for task in TWO_TASKS
    }


def loss_of(row: Values) -> float:
    """Return a run's held-out loss; infinite where it failed."""
    return float(row.get("after", float("inf")))


def default_of(rows: Iterable[Values]) -> Values:
    """Return the run with the default settings."""
    return next(row for row in rows if row["rate"] == row.get("length", 1.0) == 1.0 and "other" not in row)


def ratio(rows: list[Values]) -> float:
    """Return the default's loss over the best."""
    return loss_of(default_of(rows)) / min(map(loss_of, rows))


def above_best(rows: list[Values]) -> float:
    """Return the default's loss minus the best, in nats a token."""
    return loss_of(default_of(rows)) - min(map(loss_of, rows))


def is_near(rows: list[Values]) -> bool:
    """Return whether the default's loss is within WITHIN_OTHERS of the best, or within NEAR_NATS."""
    return ratio(rows) <= WITHIN_OTHERS or above_best(rows) <= NEAR_NATS


def page(report: Values) -> str:
    """Write DEFAULTS.md."""
    return "\n".join([*_head(report), *_lora_lines(report), *_method_lines(report), ""])


def _head(report: Values) -> Iterator[str]:
    versions = ", ".join(f"{name} {number}" for name, number in report["versions"].items())
    yield from (
        "# Whether the defaults learn",
        "",
        f"{report['date']}; {report['machine']}; {versions}. `{report['command']}`",
        "",
        f"Each number is the held-out loss (nats a token) that a run on SmolLM2-135M, in {report['dtype']}, ends with, "
        "its best weights kept. "
        "One run each: differences of one per cent mean nothing.",
        "",
    )


def _lora_lines(report: Values) -> Iterator[str]:
    yield "## LoRA"
    for task, rows in report["lora"].items():
        grid = [row for row in rows if "other" not in row]
        rate, epochs = default_of(rows)["lr"], default_of(rows)["epochs"]
        yield from ("", f"### {task}: {grid[0]['before']:.3f} before training", "")
        heads = " | ".join(f"{epochs * length:g} epochs" for length in LENGTHS)
        yield from (f"| rate | {heads} |", "|---|" + "---:|" * len(LENGTHS))
        for factor in FACTORS:
            cells = (_cell(row) for row in grid if row["rate"] == factor)
            yield f"| {float(f'{rate * factor:.2g}'):g} | {' | '.join(cells)} |"
        others = ", ".join(f"{_named(row['other'])} {loss_of(row):.3f}" for row in rows if "other" in row)
        yield from ("", f"At the best of these: {others}. {_told(rows, WITHIN_LORA)}")
    good = sum(ratio(rows) <= WITHIN_LORA for rows in report["lora"].values())
    yield from ("", f"**Within 3 % of the best on {good} of {len(report['lora'])} data sets.**", "")


def _method_lines(report: Values) -> Iterator[str]:
    yield from (
        "## Every other method",
        "",
        "Held-out losses at a third of the default rate, at the default rate (in bold) and at three times it; behind "
        "them how far the default is above the best of the three, as a share and in nats a token. On routing a label "
        "is learnt, and losses end near 0, where a share says little; the limit in nats was added after that was seen.",
    )
    heads = " | ".join(f"{task} | above the best" for task in TWO_TASKS)
    yield from ("", f"| method | rate | {heads} |", "|---|---:|" + "---|---:|" * len(TWO_TASKS))
    for name, by_task in report["methods"].items():
        cells = " | ".join(f"{' · '.join(map(_cell, rows))} | {_above(rows)}" for rows in by_task.values())
        yield f"| {name} | {default_of(by_task[TWO_TASKS[0]])['lr']:g} | {cells} |"
    yield from ("", _summary(report["methods"]))
    if report["pairs"]:
        yield from (
            "",
            "How much is chance: runs at nearly the same rate, of methods whose default has moved.",
            "",
        )
        yield from ("| method | data set | two rates | two losses |", "|---|---|---:|---:|")
        for one, other in report["pairs"]:
            rates, losses = f"{one['lr']:g}, {other['lr']:g}", f"{one['after']:.3f}, {other['after']:.3f}"
            yield f"| {one['name']} | {json.loads(one['task'])['task']} | {rates} | {losses} |"


def _above(rows: list[Values]) -> str:
    return f"{ratio(rows) - 1:+.0%}, {above_best(rows):.3f}"


def _summary(methods: dict[str, dict[str, list[Values]]]) -> str:
    """Say how many methods keep within the limits, and name the others."""
    within = [name for name, by_task in methods.items() if max(map(ratio, by_task.values())) <= WITHIN_OTHERS]
    nearly = [name for name, by_task in methods.items() if all(map(is_near, by_task.values()))]
    others = ", ".join(name for name in methods if name not in nearly) or "none"
    return (
        f"**Within {WITHIN_OTHERS - 1:.0%} of the best on both data sets: {len(within)} of {len(methods)} methods; "
        f"within {WITHIN_OTHERS - 1:.0%} or {NEAR_NATS:g} nats: {len(nearly)}; not: {others}.**"
    )


def _cell(row: Values) -> str:
    text = f"{row['after']:.3f}" if "after" in row else "failed"
    return f"**{text}**" if row["rate"] == row.get("length", 1.0) == 1.0 else text


def _named(other: Values) -> str:
    return ", ".join(
        f"{key} {','.join(value) if isinstance(value, list) else value}" for key, value in other.items()
    )


def _told(rows: list[Values], within: float) -> str:
    over = ratio(rows) - 1
    return f"The default ends {over:.1%} above the best{'' if over <= within - 1 else ': too far'}."


def nearly_equal(rows: Iterable[Values]) -> Iterator[tuple[Values, Values]]:
    """Yield pairs of runs that differ only in their rates, and there by at most NEAR_RATE."""
    alike: dict[str, list[Values]] = {}
    for row in rows:
        task = json.loads(row["task"])
        del task["train"]["lr"]
        alike.setdefault(json.dumps(task), []).append(row)
    for group in alike.values():
        ordered = sorted(group, key=lambda row: float(row["lr"]))
        yield from ((a, b) for a, b in pairwise(ordered) if b["lr"] <= NEAR_RATE * a["lr"])


def measure(options: argparse.Namespace) -> Values:
    """Make every run that is missing and return all of them."""
    from weitiao.methods import METHODS

    bench = Bench(options)
    names = options.methods or METHODS.names()
    lora = {task: lora_rows(bench, task) for task in options.tasks} if "lora" in names else {}
    for rows in lora.values():
        for row in rows:
            row["epochs"] = json.loads(row["task"])["train"]["epochs"]
    return {
        "date": date.today().isoformat(),
        "command": " ".join(["python benchmarks/defaults.py --alpaca FILE", *_words(options)]),
        "machine": machine(),
        "dtype": options.dtype,
        "versions": {name: version(name) for name in ("weitiao", "torch", "transformers", "peft")},
        "lora": lora,
        "methods": {name: method_rows(bench, name) for name in names if name != "lora"},
        "pairs": sorted(nearly_equal(bench.done.values()), key=lambda pair: str(pair[0]["name"])),
    }


def _words(options: argparse.Namespace) -> Iterator[str]:
    if tuple(options.tasks) != TASKS:
        yield " ".join(["--tasks", *options.tasks])
    if options.dtype != "fp32":
        yield f"--dtype {options.dtype}"
    if options.methods:
        yield " ".join(["--methods", *options.methods])


def parse_options() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--alpaca", type=Path, help="the file of the task alpaca")
    parser.add_argument("--tasks", nargs="+", default=list(TASKS), choices=TASKS, help="LoRA's data sets")
    parser.add_argument("--methods", nargs="+", metavar="METHOD", help="left out: every one")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--dtype", default="fp32", choices=("fp32", "bf16"), help="of the base's weights")
    parser.add_argument("--out", type=Path, default=HERE, help="the folder of DEFAULTS.md and its data")
    return parser.parse_args()


def main() -> None:
    """Make the runs and write the table."""
    options = parse_options()
    options.out.mkdir(parents=True, exist_ok=True)
    report = measure(options)
    (options.out / "DEFAULTS.md").write_text(page(report), encoding="utf-8")
    print(page(report))


if __name__ == "__main__":
    sys.exit(main())
