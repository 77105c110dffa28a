"""Chunks and processes change nothing but time; what goes wrong in a worker is an error, never a hang."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from forked_python import python_server
from template_zoo import tokenizer
from weitiao.core.errors import ResourceError
from weitiao.data.conversation import Row
from weitiao.data.dataset import prepared
from weitiao.data.gate.gate import Gate, open_data
from weitiao.data.gate.pipeline import (
    ALONE_CHUNKS,
    CHUNK_ROWS,
    Chunk,
    Effort,
    Worked,
    Worker,
    chunks_of,
    work_on,
)
from weitiao.data.gate.store import BlockBuilder
from weitiao.data.settings import DataSettings

FORKS = pytest.mark.skipif(sys.platform != "linux", reason="processes are forked on Linux alone")
LIKE = Chunk(0, (), "alpaca", {}, 1.0)


def odd_rows(count: int) -> list[dict[str, Any]]:
    """Make rows of which some are copies, too long, unusable, with placeholders, refusals and control tokens."""
    rows: list[dict[str, Any]] = []
    for n in range(count):
        row: dict[str, Any] = {
            "instruction": f"What is {n} and {n * n}?",
            "output": f"It is number {n}, 第{n}个。",
        }
        match n % 17:
            case 3:
                row = dict(rows[n // 2])
            case 5:
                row["output"] = "word " * 200
            case 7:
                row["output"] = ""
            case 9:
                row["output"] = f"I am {{{{name}}}} <|im_end|> {n}"
            case 11:
                row["output"] = "I'm sorry, but I cannot help with that."
            case 13:
                row["system"] = f"System {n % 5}"
        rows.append(row)
    return rows


def known(gate: Gate) -> dict[str, Any]:
    """Return everything a gate found, and all that it stored."""
    arrays = {name: values.tolist() for name, values in gate.store.arrays.items()}
    forms = [gate.store.form(row) for row in range(gate.store.rows)]
    files = (gate.store.sources, gate.store.tasks, gate.held_out.tolist())
    return {"report": gate.as_dict(), "arrays": arrays, "forms": forms, "names": files}


@FORKS
@pytest.mark.parametrize("effort", [Effort(1, 7), Effort(2, 7), Effort(3, 50), Effort(2, CHUNK_ROWS)])
def test_processes_and_chunks_change_nothing(effort: Effort) -> None:
    settings = DataSettings(sources=odd_rows(600), max_length=120, skip_bad_rows=True, fill={"name": "Wei"})
    whole = open_data(settings, tokenizer("chatml"), effort=Effort(1, CHUNK_ROWS))
    cut = open_data(settings, tokenizer("chatml"), effort=effort)
    assert known(cut) == known(whole)
    assert json.dumps(cut.as_dict()) == json.dumps(whole.as_dict()), "in the same order, too"
    assert prepared(cut).fingerprint == prepared(whole).fingerprint
    assert {finding.check for finding in whole.findings} >= {
        "lengths",
        "duplicates",
        "answers",
        "control_tokens",
    }


@dataclass
class Does(Worker):
    """A worker that does something else than the work on the chunk that begins at a row."""

    what: str = ""
    at: int = 0

    def work(self, chunk: Chunk) -> Worked:
        if chunk.first >= self.at and self.what == "raise":
            raise ValueError(f"chunk {chunk.first}")
        if chunk.first >= self.at and self.what == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        if self.what == "sleep":
            time.sleep(0.01)
        return Worked(chunk.first, BlockBuilder().block(), rows=len(chunk.rows))


def worker(what: str, at: int = 0) -> Does:
    """Make one."""
    from weitiao.data.checks._base import GateContext

    return Does(GateContext(DataSettings(sources="x.json")), what, at)


def many(count: int, given: list[int] | None = None) -> Iterator[Chunk]:
    """Yield chunks of one row, and note each that is asked for."""
    for chunk in chunks_of((Row({}, "x", n) for n in range(count)), 0, LIKE, 1):
        if given is not None:
            given.append(chunk.first)
        yield chunk


@FORKS
def test_what_a_worker_raises_is_raised_here() -> None:
    with pytest.raises(ValueError, match=r"chunk \d+"):
        list(work_on(many(60), worker("raise", 30), 2))


@FORKS
def test_a_killed_worker_is_an_error_in_words() -> None:
    with pytest.raises(ResourceError, match="was killed"):
        list(work_on(many(60), worker("die", 30), 2))


@FORKS
def test_so_many_chunks_are_under_way_and_no_more() -> None:
    given: list[int] = []
    begun = work_on(many(1000, given), worker("sleep"), 2)
    for done, worked in enumerate(begun):
        assert worked.first == done
        assert len(given) - done <= ALONE_CHUNKS + 1 + 2 * 2
        if done == 40:
            break
    begun.close()
    assert len(given) < 60


def children_of(pid: int) -> list[int]:
    """Return the processes whose parent a process is."""
    own = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            after_name = status.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(after_name[1]) == pid:
            own.append(int(status.parent.name))
    return own


SCRIPT = """
import sys, time
from weitiao.data.gate.gate import open_data
from weitiao.data.gate.pipeline import Effort
from weitiao.data.settings import DataSettings
import tiny
{before}
class Rows:
    def __iter__(self):
        for n in range({count}):
            time.sleep({wait} if n > 1500 else 0)
            yield {{"instruction": f"question {{n}}", "output": f"answer {{n}}"}}
            if n == {says_at}:
                print("working", flush=True)
settings = DataSettings(sources=[{{"rows": Rows()}}])
gate = open_data(settings, tiny.make_tokenizer(), effort=Effort(2, 10))
print(gate.tally.read, len(gate.store.lengths_E), flush=True)
"""


AROUND = {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}


def script(folder: Path, count: int, wait: float = 0.0, before: str = "") -> Path:
    """Write a script that has no `if __name__ == "__main__"` around what it does."""
    path = folder / "script.py"
    path.write_text(
        textwrap.dedent(SCRIPT).format(count=count, wait=wait, before=before, says_at=min(count - 1, 2000))
    )
    return path


def start(path: Path) -> subprocess.Popen[str]:
    """Start a script in a session of its own."""
    return subprocess.Popen(
        [sys.executable, str(path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **AROUND},
        start_new_session=True,
    )


@FORKS
def test_a_plain_script_works_also_when_torch_was_used_before(tmp_path: Path) -> None:
    before = "import torch\ntorch.set_num_threads(2)\n(torch.ones(600, 600) @ torch.ones(600, 600)).sum()\n"
    before += "tiny.make_tokenizer()(['many words here'] * 2000)"
    path = script(tmp_path, 1000, before=before)
    done = python_server().run([str(path)], environment={**os.environ, **AROUND})
    assert done.stdout.split() == ["working", "1000", "1000"], done.stderr


@FORKS
@pytest.mark.parametrize("ends_with", [signal.SIGINT, signal.SIGKILL])
def test_the_workers_end_with_their_parent(ends_with: signal.Signals, tmp_path: Path) -> None:
    started = start(script(tmp_path, 100_000, 0.001))
    assert started.stdout is not None
    assert started.stdout.readline() == "working\n"
    workers = children_of(started.pid)
    assert len(workers) == 2
    if ends_with == signal.SIGINT:
        os.killpg(started.pid, ends_with)  # as Ctrl-C in a terminal, which reaches all of them
    else:
        os.kill(started.pid, ends_with)
    _, problems = started.communicate(timeout=240)
    while any(_is_there(pid) for pid in workers):  # pytest's own time limit ends a wait in vain
        time.sleep(0.05)
    assert problems.count("Traceback") <= 1, "the parent's own, none of the workers'"


def _is_there(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_small_data_needs_no_processes() -> None:
    before = children_of(os.getpid())
    work = work_on(many(ALONE_CHUNKS), worker("sleep"), 2)
    next(work)
    assert children_of(os.getpid()) == before
    assert len(list(work)) == ALONE_CHUNKS - 1
