"""The scenarios of throughput.py: each makes its runs and returns what its section of the page is written from."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random
from statistics import median

from .environments import HERE, Measured, environment_of, model_folder, on_threads, run_child
from .rows import rows_of, write_rows
from .sides import WEITIAO, Side, alternate, compare, environments_of, fastest, sides_for
from .tasks import BATCH_SIZE, freezing, make_task, read_rows, with_adapter

EXAMPLES = HERE.parent / "examples"
FILL = {"name": "Xiaowei", "author": "the weitiao team"}
ALPACA_ROWS, FULL_ALPACA_ROWS = 200, 1000
IDENTITY_ROWS, IDENTITY_EPOCHS = 46, 3
FREEZE_ROWS, FREEZE_EPOCHS = 96, 3
LINEAR_ROWS = 10_000
FEWEST_LINEAR_ROWS = 3 * BATCH_SIZE
"""Fewer make too few steps to time."""
FROZEN_CACHE = "frozen_cache"
OFF, AUTO = "weitiao, frozen_cache=off", "weitiao, frozen_cache=auto"
TINY = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}
"""The model of the linear scenario: what a row costs besides the model shows the more."""


def alpaca(options: argparse.Namespace, reports: Measured) -> Measured:
    """LoRA on rows of an Alpaca file, beside the peers."""
    count = options.rows or (FULL_ALPACA_ROWS if options.full else ALPACA_ROWS)
    return _beside_peers(options, make_task(read_rows(options.data, count), options.threads))


def identity(options: argparse.Namespace, reports: Measured) -> Measured:
    """LoRA on the short rows of `weitiao demo`, which all begin with the same system prompt, beside the peers.

    Five in six are Chinese, as in the sample that LLaMA-Factory brings (data/identity.json).
    """
    chinese = read_rows(EXAMPLES / "identity_zh.json", options.rows or IDENTITY_ROWS)
    rows = [*chinese, *read_rows(EXAMPLES / "identity_en.json", -len(chinese) % BATCH_SIZE + BATCH_SIZE)]
    return _beside_peers(options, make_task(rows, options.threads, IDENTITY_EPOCHS, FILL))


def _beside_peers(options: argparse.Namespace, task: Measured) -> Measured:
    with tempfile.TemporaryDirectory() as folder:
        task = with_adapter(task, Path(folder))
        chosen = [side for side in sides_for(task) if side == WEITIAO or _is_chosen(side, options.sides)]
        environments = environments_of(chosen, options.work)  # makes them, before anything is measured
        runs = alternate(chosen, task, options.repeats, options.work)
    compared = compare(runs, WEITIAO.name)
    return {
        "about": task["about"],
        "environments": environments,
        "says": {side.name: side.says for side in chosen if side.says},
        "sides": compared,
        "fastest": {tool: name for tool, name, _ in fastest(chosen, compared)},
        "runs": runs,
    }


def _is_chosen(side: Side, words: Sequence[str]) -> bool:
    """Tell whether a side's name has one of the words in it, or is one that follows a "="."""
    name = side.name.lower()
    return not words or any(
        name == word[1:].lower() if word.startswith("=") else word.lower() in name for word in words
    )


def freeze(options: argparse.Namespace, reports: Measured) -> Measured:
    """The last blocks' own weights, with what is below them computed once an epoch or once at all."""
    from weitiao.engine.settings import TrainSettings

    known = FROZEN_CACHE in TrainSettings.model_fields
    rows = read_rows(options.data, options.rows or FREEZE_ROWS)
    task = freezing(make_task(rows, options.threads, FREEZE_EPOCHS))
    sides = [
        Side(
            name,
            "weitiao",
            WEITIAO.script,
            own={"train": {FROZEN_CACHE: name.rpartition("=")[2]}} if known else {},
        )
        for name in (AUTO, OFF)
    ]
    runs = alternate(sides, task, options.repeats, options.work)
    return {
        "about": task["about"],
        "environments": environments_of(sides, options.work),
        "known": known,
        "sides": compare(runs, AUTO),
        "runs": runs,
    }


def peak(options: argparse.Namespace, reports: Measured) -> Measured:
    """What the machine's matrix products reach, and how much of that the needed operations of `alpaca` do."""
    from weitiao.engine.memory.budget import PACK_TOKENS_CPU

    found = reports.get("alpaca")
    if found is None:
        count = options.rows or (FULL_ALPACA_ROWS if options.full else ALPACA_ROWS)
        task = make_task(read_rows(options.data, count), options.threads)
        with tempfile.TemporaryDirectory() as folder:
            runs = alternate([WEITIAO], with_adapter(task, Path(folder)), options.repeats, options.work)
        found = {"about": task["about"], "sides": compare(runs, WEITIAO.name)}
    products = {
        "model": str(model_folder()),
        "threads": options.threads,
        "rows_at_once": PACK_TOKENS_CPU,
    }
    python = Path(sys.executable)
    speeds = [
        run_child(python, "peak", products, **on_threads(options.threads))["flops_per_second"]
        for _ in range(options.repeats)
    ]
    best = {name: max(one[name] for one in speeds) for name in speeds[0]}
    return {
        "about": found["about"],
        "environments": environments_of([WEITIAO], options.work),
        "flops_per_second": best,
        "reached": {side: list(_reached(found["about"], own)) for side, own in found["sides"].items()},
    }


def _reached(about: Measured, own: Measured) -> Iterator[float]:
    """Yield the needed operations a second, one for each way to count them; none where a side trained otherwise."""
    if not own["unlike"]:
        yield from (flops / own["timed_seconds"] for flops in about["needed_flops"].values())


def linear(options: argparse.Namespace, reports: Measured) -> Measured:
    """A tiny model on a hundredth, a tenth and all of many rows: what a row costs must not depend on their number."""
    largest = options.rows or LINEAR_ROWS
    counts = [n for n in (largest // 100, largest // 10) if n >= FEWEST_LINEAR_ROWS] + [largest]
    with tempfile.TemporaryDirectory() as folder:
        model = _tiny_model(Path(folder) / "model")
        runs: dict[str, list[Measured]] = {str(count): [] for count in counts}
        for repeat in range(options.repeats):
            for count in counts:
                run = _train_tiny(Path(folder) / f"{repeat}-{count}", model, count, options.threads)
                runs[str(count)].append(run)
                print(
                    f"{repeat + 1}/{options.repeats} {count} rows: {run['training_seconds']:.1f} s",
                    flush=True,
                )
    sizes = {
        count: {name: median(run[name] for run in own) for name in own[0] if name != "losses"}
        for count, own in runs.items()
    }
    for own in (run for each in runs.values() for run in each):
        del own["losses"]  # one a step, and nobody compares them
    return {"environments": environments_of([WEITIAO], options.work), "sizes": sizes, "runs": runs}


def _tiny_model(folder: Path) -> Path:
    """Write a model with random weights and the tokenizer of SmolLM2-135M; returns its folder."""
    import torch
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    tokenizer = AutoTokenizer.from_pretrained(model_folder())
    torch.manual_seed(0)
    LlamaForCausalLM(LlamaConfig(vocab_size=len(tokenizer), **TINY)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def _train_tiny(folder: Path, model: Path, count: int, threads: int) -> Measured:
    """Train once on so many rows, from a file that was not read before."""
    folder.mkdir()
    data = folder / "rows.jsonl"
    rows = list(rows_of(None))
    Random(0).shuffle(rows)  # as they stand the first hundred are a third shorter than the rest
    write_rows(data, rows, count, different=True)
    recipe = {
        "model": {"name": str(model), "dtype": "fp32", "device_map": "cpu"},
        "data": {"sources": [{"path": str(data)}], "held_out": 0, "max_length": 512, "fill": FILL},
        "method": {"name": "lora"},
        "train": {"batch_size": BATCH_SIZE, "epochs": 1},
        "evaluate": {"question_count": 0},
    }
    task = {"threads": threads, "weitiao": recipe, "own": {}}
    home = str(folder / "home")
    return run_child(Path(sys.executable), WEITIAO.script, task, **on_threads(threads), WEITIAO_HOME=home)


def start(options: argparse.Namespace, reports: Measured) -> Measured:
    """How soon `weitiao --help` answers, and a run on the alias begins and ends its first step."""
    command = [sys.executable, "-c", "from weitiao.cli import main; main()"]
    seconds = []
    for _ in range(max(5, options.repeats)):
        started = time.perf_counter()
        subprocess.run([*command, "--help"], capture_output=True, check=True)
        seconds.append(time.perf_counter() - started)
    runs = [_first_step(command, options.threads) for _ in range(1 + max(3, options.repeats))]
    return {
        "environments": environments_of([WEITIAO], options.work),
        "help_seconds": median(seconds),
        # The first reads and keeps the data.
        **{f"{event}_seconds": median(run[event] for run in runs[1:]) for event in FIRST},
    }


FIRST = ("started", "step")
"""Events of a run: the first step begins, and has ended."""


def _first_step(command: list[str], threads: int) -> dict[str, float]:
    """Return after how many seconds of a command the first of each event came, for one short run on the alias."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "run"
        rows = str(EXAMPLES / "identity_en.json")
        words = ["train", "--model", "smollm2-135m", "--data", rows, "--out", str(out), "train.steps=1"]
        filled = [f"data.fill.{key}={value}" for key, value in FILL.items()]
        begun = time.time()
        environment = environment_of(Path(sys.executable), **on_threads(threads))
        subprocess.run(
            [*command, *words, *filled, "evaluate.question_count=0"],
            capture_output=True,
            check=True,
            env=environment,
        )
        lines = (out / "events.jsonl").read_text(encoding="utf-8").splitlines()
    events = [json.loads(line) for line in lines]
    return {kind: next(event["time"] for event in events if event["event"] == kind) - begun for kind in FIRST}


SCENARIOS = {
    "alpaca": alpaca,
    "identity": identity,
    "freeze": freeze,
    "peak": peak,
    "linear": linear,
    "start": start,
}
