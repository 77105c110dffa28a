"""Speed and memory of training on a CPU beside LLaMA-Factory, TRL and plain peft + transformers, side by side.

    python benchmarks/throughput.py [--data FILE] [--scenarios alpaca peak] [--repeats 3] [--threads 2] [--full]

    alpaca    LoRA on rows of an Alpaca file, one epoch, beside the peers
    identity  LoRA on short rows under one system prompt, beside the peers
    freeze    the last blocks' own weights, three epochs, with and without the cache of what is frozen below them
    peak      the machine's matrix products, and the share of them that the needed operations of alpaca reach
    linear    a tiny model on more and more rows: time a row and memory
    start     how soon `weitiao --help` answers, and a run begins and ends its first step

Every run is a process of its own; the sides alternate; medians are reported, and ratios with the range of the repeats,
but only of sides that trained alike, loss by loss. LLaMA-Factory and TRL are installed into environments of their own
below --work the first time, which takes minutes; the plain script runs in weitiao's. Needs Linux (memory figures).
"""

from __future__ import annotations

import argparse
import json
from datetime import date
from pathlib import Path

from lib.environments import HERE, Measured
from lib.page import put_section, section
from lib.scenarios import SCENARIOS

from methods import machine


def command_of(options: argparse.Namespace) -> str:
    """Return the command line without folders."""
    words = [f"--data {options.data.name}", f"--repeats {options.repeats} --threads {options.threads}"]
    words += [f"--rows {options.rows}"] if options.rows else []
    words += [f"--sides {' '.join(options.sides)}"] if options.sides else []
    words += ["--full"] if options.full else []
    return " ".join(["python benchmarks/throughput.py", f"--scenarios {' '.join(options.scenarios)}", *words])


def parse_options() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=HERE.parent / "examples" / "tcm_en.json")
    parser.add_argument("--scenarios", nargs="+", choices=SCENARIOS, default=list(SCENARIOS))
    parser.add_argument("--rows", type=int, help="rows of each scenario, the largest number of linear")
    parser.add_argument("--full", action="store_true", help="1,000 rows of --data instead of 200")
    parser.add_argument(
        "--sides", nargs="+", default=[], metavar="WORD", help="only peers with such a name; =NAME: this one"
    )
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--work", type=Path, help="where environments are kept; left out: in weitiao's cache")
    parser.add_argument("--out", type=Path, default=HERE, help="the folder of RESULTS.md and results/")
    return parser.parse_args()


def main() -> None:
    """Run the scenarios; each one's results are kept as soon as it ends, and replace those of its last run."""
    from weitiao.core.files import cache_home

    options = parse_options()
    options.work = (options.work or cache_home() / "benchmarks").absolute()
    kept = options.out / "results" / "throughput.json"
    kept.parent.mkdir(parents=True, exist_ok=True)
    made: Measured = {}
    for name in options.scenarios:
        print(f"== {name}", flush=True)
        made[name] = {
            "date": date.today().isoformat(),
            "command": command_of(options),
            "machine": machine(),
            "threads": options.threads,
            "repeats": options.repeats,
            **SCENARIOS[name](options, made),
        }
        before = json.loads(kept.read_text(encoding="utf-8")) if kept.is_file() else {}
        kept.write_text(json.dumps({**before, name: made[name]}, indent=1) + "\n", encoding="utf-8")
        text = section(name, made[name])
        put_section(options.out / "RESULTS.md", text)
        print(text, flush=True)


if __name__ == "__main__":
    main()
