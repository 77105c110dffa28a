"""Runs every method on every causal architecture, each pair in a process of its own.

    python tests/sweep/run.py [--methods lora ia3] [--architectures llama gpt2] [--jobs 2] [--again]

Finished pairs are kept in docs/architectures.jsonl and are not tried again, unless --again says so.
docs/generate.py makes the tables of docs/architectures.md of them.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from hashlib import sha256
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "docs" / "architectures.jsonl"
SECONDS = 240
"""How long one pair may take."""

Row = dict[str, Any]


def main(arguments: Sequence[str]) -> None:
    """Run the pairs that were asked for and are not there yet, a line each."""
    options = _parser().parse_args(arguments)
    methods, names = options.methods or _methods(), options.architectures or _architectures()
    _prepare()
    done = set() if options.again else {(row["method"], row["architecture"]) for row in rows(options.results)}
    pairs = sorted({(m, a) for m in methods for a in names} - done, key=_mixed)
    with options.results.open("a", encoding="utf-8") as file, ThreadPoolExecutor(options.jobs) as pool:
        for number, row in enumerate(pool.map(lambda pair: in_a_process(*pair), pairs), 1):
            print(f"{number}/{len(pairs)} {row.pop('seconds')} s {line(row)}", flush=True)
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
            file.flush()
    settle(options.results)


def _mixed(pair: tuple[str, str]) -> bytes:
    """Return what puts pairs into an order in which the first ones have some of every method and architecture."""
    return sha256(" ".join(pair).encode()).digest()


def settle(path: Path) -> None:
    """Write the last row of each pair, in order."""
    kept = sorted(rows(path), key=lambda row: (row["architecture"], row["method"]))
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in kept), encoding="utf-8")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--methods", nargs="*", metavar="METHOD", help="default: all")
    parser.add_argument("--architectures", nargs="*", metavar="MODEL_TYPE", help="default: all")
    parser.add_argument("--again", action="store_true", help="try pairs that were tried before")
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="processes at once")
    parser.add_argument("--results", type=Path, default=RESULTS, metavar="FILE")
    return parser


def _methods() -> list[str]:
    from weitiao.methods import METHODS

    return METHODS.names()


def _architectures() -> list[str]:
    from sweep import zoo

    return zoo.architectures()


def rows(path: Path = RESULTS) -> list[Row]:
    """Return the last row of each pair."""
    if not path.is_file():
        return []
    read = [json.loads(text) for text in path.read_text(encoding="utf-8").splitlines()]
    return list({(row["method"], row["architecture"]): row for row in read}.values())


def line(row: Row) -> str:
    """Return one pair's findings as a line of text."""
    shown = {key: value for key, value in row.items() if value and key not in ("method", "architecture")}
    return f"{row['method']} {row['architecture']} {shown}"


def _prepare() -> None:
    """Import what every pair needs, so that the processes of the pairs begin with it."""
    import torch
    import transformers

    import sweep.pair  # noqa: F401

    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()


def in_a_process(method: str, architecture: str) -> Row:
    """Check a pair in a process of its own; one that dies or takes too long is a fault."""
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_send, args=(theirs, method, architecture))
    process.start()
    theirs.close()
    row: Row | None = None
    if ours.poll(SECONDS):
        try:
            row = ours.recv()
        except EOFError:
            row = None
    process.join(5)
    if process.is_alive():
        process.kill()
        process.join()
    if row is None:
        why = f"the process ended with {process.exitcode}, or took more than {SECONDS} s"
        row = {"method": method, "architecture": architecture, "faults": [why], "seconds": SECONDS}
    return row


def _send(connection: Connection, method: str, architecture: str) -> None:
    from sweep.pair import check

    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.dup2(null, 2)
    connection.send(asdict(check(method, architecture)))


if __name__ == "__main__":
    sys.path[:0] = [str(ROOT / "src"), str(ROOT / "tests")]
    os.environ |= {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
    main(sys.argv[1:])
