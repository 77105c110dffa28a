"""Interrupted at any moment, a command ends in a documented code and in words, and leaves nothing half made.

Moments are drawn from what the undisturbed command has: a third from its changes of files and a third from its imports
and other opened files, however short those are, and a third from the time it takes. Ctrl-C, Ctrl-C twice and SIGTERM
take turns.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from interrupting import Case, Ended, Moment, Place, Server
from tiny import make_answering
from tiny_gguf import save_tiny_gguf
from tiny_run import make_run
from weitiao.cli._commands import FILES, commands
from weitiao.models.aliases import ALIASES

MOMENTS = 20
TURNS = (("SIGINT",), ("SIGTERM",), ("SIGINT",), ("SIGINT", "SIGINT"))
CODES = {"SIGINT": 130, "SIGTERM": 143}
FAULTS = ("Traceback", "fault in weitiao", "Exception ignored", "Fatal Python error", "leaked")
FINISHED = 5
"""What `--resume` ends in where nothing is left to do."""
SHOWN_CHARACTERS = 1000
ALIAS = ALIASES["smollm2-135m"]


def rows(count: int) -> list[dict[str, str]]:
    return [{"instruction": f"What is {n}?", "output": f"It is {n}, twice {2 * n}."} for n in range(count)]


def recipe(folder: Path, method: dict[str, Any], steps: int = 20) -> dict[str, Any]:
    """A run file with looks, checkpoints and questions, so that there is much to interrupt."""
    return {
        "model": str(folder / "model"),
        "data": {"sources": str(folder / "rows.json"), "held_out": 4},
        "method": method,
        "train": {
            "steps": steps,
            "batch_size": 4,
            "lr": 1e-3,
            "save_every": 4,
            "eval_every": 5,
            "keep_best": True,
        },
        "evaluate": {"question_count": 2, "generation": {"max_new_tokens": 12}},
    }


METHODS_TRAINED: dict[str, dict[str, Any]] = {
    "train": {"name": "lora", "r": 4, "dropout": 0.1},
    "train the whole model": {"name": "full"},
    "train over frozen blocks": {"name": "freeze", "last_n": 1},
}


@pytest.fixture(scope="module")
def materials(tmp_path_factory: pytest.TempPathFactory, tiny_model_folder: Path) -> Path:
    """A folder with what commands are given: models, rows, run files, runs, and a tiny model under the alias."""
    folder = tmp_path_factory.mktemp("materials")
    shutil.copytree(tiny_model_folder, folder / "model")
    (folder / "rows.json").write_text(json.dumps(rows(60)), encoding="utf-8")
    (folder / "many.json").write_text(json.dumps(rows(12_000)), encoding="utf-8")
    for number, method in enumerate(METHODS_TRAINED.values()):
        (folder / f"run{number}.yaml").write_text(yaml.safe_dump(recipe(folder, method)), encoding="utf-8")
    make_run(folder / "trained", folder / "model")
    package = folder / "packages" / ALIAS.package
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    save_tiny_gguf(package / ALIAS.file, model=make_answering())  # the demo asks it general questions
    return folder


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    served = Server()
    yield served
    served.close()


@pytest.fixture(scope="module")
def begun(materials: Path, server: Server, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that ended after a third of its steps."""
    case = cases(materials)["train"]
    place = Place(tmp_path_factory.mktemp("begun"), case)
    assert server.run(place, case.words).code == 0
    run = place.work / case.run
    for path in sorted((run / "checkpoints").iterdir())[3:]:
        shutil.rmtree(path)
    shutil.rmtree(run / "adapter")
    (run / "report.md").unlink()
    (run / "report.zh.md").unlink()
    return run


def cases(folder: Path) -> dict[str, Case]:
    """Return what is interrupted, by name; the first word of a name is the command."""
    trained, model = str(folder / "trained"), str(folder / "model")
    asked = "Who are you?\nWhat is LoRA?\n/base\nWhat is 5?\n"
    named = {
        "check": Case(("check", str(folder / "rows.json"))),
        "check with a model and a page": Case(
            ("check", str(folder / "many.json"), "--model", model, "--html", "page.html"), result="page.html"
        ),
        "merge": Case(("merge", trained, "merged"), result="merged/*"),
        "chat": Case(("chat", trained, "--max-new-tokens", "40"), typed=asked),
        "chat that waits": Case(("chat", trained), typed="Who are you?\n", waits=True),
        "demo": Case(
            ("demo", "--out", "run"), result="run/adapter/*.safetensors", run="run", path=str(folder / "packages")
        ),
        "train --dry-run": Case(("train", str(folder / "run0.yaml"), "--dry-run", "--out", "run")),
    }  # fmt: skip
    for number, name in enumerate(METHODS_TRAINED):
        words = ("train", str(folder / f"run{number}.yaml"), "--out", "run")
        named[name] = Case(words, result="run/[am][do]*/*.safetensors", run="run")
    covered = {name.partition(" ")[0] for name in named}
    return {**named, **{name: Case(least_words(name)) for name in FILES.names() if name not in covered}}


def least_words(name: str) -> tuple[str, ...]:
    """Return the shortest command line that works: the command's help if it needs arguments."""
    command = commands.get_command(click.Context(commands), name)
    assert command is not None
    needs = any(parameter.required for parameter in command.params)
    return (name, "--help") if needs else (name,)


def resuming(begun: Path) -> Case:
    """A run that is gone on with."""
    return Case(
        ("train", "--resume", "run"),
        result="run/adapter/*.safetensors",
        run="run",
        prepare=lambda work: shutil.copytree(begun, work / "run") and None,
    )


def moments(whole: Ended, count: int, seed: str) -> Iterator[Moment]:
    """Draw moments from all that an undisturbed command has."""
    dice = random.Random(seed)
    kinds = [kind for kind in ("change", "event") if whole.counts[kind]]
    for number in range(count):
        signals = TURNS[number // 3 % len(TURNS)]
        kind = [*kinds, ""][number % (len(kinds) + 1)]
        if kind:
            yield Moment(signals, kind, dice.randint(1, whole.counts[kind]), dice.uniform(0, 0.01))
        else:
            yield Moment(signals, seconds=dice.uniform(0, whole.seconds))


def few_moments(whole: Ended, seed: str) -> Iterator[Moment]:
    """Draw a moment for each kind of signals, where files are changed if the command changes any."""
    dice = random.Random(seed)
    kind = "change" if whole.counts["change"] else "event"
    for signals in sorted(set(TURNS)):
        yield Moment(signals, kind, dice.randint(1, whole.counts[kind] * 3 // 4 + 1), dice.uniform(0, 0.002))


def faults(place: Place, ended: Ended, moment: Moment, whole: Place, server: Server) -> Iterator[str]:
    """Yield what is wrong with how a command ended, and with what it left."""
    case, code = place.case, CODES[moment.signals[0]]
    if ended.code not in (0, code):
        yield f"code {ended.code}"
    yield from (f"says {words!r}" for words in FAULTS if words in ended.shown)
    if ended.code and not any(name in ended.shown for name in ("Ctrl-C", "SIGTERM")):
        yield "says nothing of the signal"
    if case.waits and ended.code == 0 and code != CODES["SIGINT"]:
        yield "waited on"
    if ended.left_processes:
        yield "left a process"
    yield from (f"left {path}" for path in sorted(place.written() - whole.written()))
    yield from _faults_of_the_result(place, ended, whole, server)


def _faults_of_the_result(place: Place, ended: Ended, whole: Place, server: Server) -> Iterator[str]:
    """Yield what is wrong with the result at once, and after the work was gone on with."""
    there = place.result()
    if there and there != whole.result():
        yield "left half a result"
    if ended.code == 0 and there != whole.result():
        yield "code 0 without the result"
    resumable = bool(place.case.run) and (place.work / place.case.run / "run.yaml").is_file()
    if ended.code == 0 or not place.case.result or (there and not resumable):
        return
    words = ("train", "--resume", place.case.run) if resumable else place.case.words
    again = server.run(place, words)
    if again.code not in ((0, FINISHED) if there else (0,)):
        yield f"cannot be gone on with: code {again.code}\n{again.shown[-SHOWN_CHARACTERS:]}"
    elif place.result() != whole.result():
        yield "gone on with, it ends in another result"
    yield from (f"in the end left {path}" for path in sorted(place.written() - whole.written()))


def wrong_moments(
    folder: Path, whole: Place, drawn: Iterable[Moment], run: Callable[[Place, Moment], Ended], server: Server
) -> Iterator[str]:
    """Interrupt a command at each moment and yield what went wrong; one of them must have come in time."""
    codes = []
    for number, moment in enumerate(drawn):
        place = Place(folder / str(number), whole.case)
        ended = run(place, moment)
        codes.append(ended.code)
        found = [*faults(place, ended, moment, whole, server)]
        told = "\n".join([f"{number}: {moment}, code {ended.code}", *found])
        print(told, flush=True)
        if found:
            yield f"{told}\n{ended.shown[-SHOWN_CHARACTERS:]}"
        shutil.rmtree(place.root)
    assert any(codes), "every signal came too late"


NAMES = [*cases(Path()), "train --resume"]


def test_every_command_is_interrupted() -> None:
    assert {name.partition(" ")[0] for name in NAMES} == set(FILES.names())


@pytest.fixture(params=NAMES)
def case(request: pytest.FixtureRequest, materials: Path) -> Case:
    named = cases(materials)
    return named.get(request.param) or resuming(request.getfixturevalue("begun"))


@pytest.mark.slow
def test_a_few_moments_after_the_imports(case: Case, server: Server, tmp_path: Path) -> None:
    whole = Place(tmp_path / "whole", case)
    undisturbed = server.run(whole, case.words)
    assert undisturbed.code == 0, undisturbed.shown
    drawn = few_moments(undisturbed, str(case.words[0]))
    wrong = [
        *wrong_moments(tmp_path, whole, drawn, lambda place, at: server.run(place, case.words, at), server)
    ]
    assert not wrong, "\n\n".join(wrong)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_twenty_moments(case: Case, server: Server, tmp_path: Path) -> None:
    whole = Place(tmp_path / "whole", case)
    undisturbed = whole.run()
    assert undisturbed.code == 0, undisturbed.shown
    assert bool(whole.result()) == bool(case.result)
    drawn = moments(undisturbed, MOMENTS, " ".join(case.words[:1]))
    wrong = [*wrong_moments(tmp_path, whole, drawn, Place.run, server)]
    assert not wrong, "\n\n".join(wrong)


RAISED_AT_THE_END = """
import ctypes, sys
libc = ctypes.CDLL(None)
libc.__cxa_atexit(getattr(libc, "raise"), int(sys.argv.pop()), None)  # called when Python has ended
from weitiao.cli import main
main()
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_when_all_is_done_changes_no_code(number: signal.Signals) -> None:
    words = [sys.executable, "-c", RAISED_AT_THE_END, "methods", "lora", str(int(number))]
    done = subprocess.run(words, capture_output=True, text=True, timeout=240)
    assert (done.returncode, done.stderr) == (0, "")
    assert "(method.name=lora)" in done.stdout


AGAIN_AT_THE_END = """
import signal, time
from weitiao.cli._signals import SAME_PRESS_SECONDS, Signals

signals = Signals()
signals.install()
try:
    signal.raise_signal(signal.SIGINT)
except KeyboardInterrupt:
    print("what was printed")
    signals.ends()
time.sleep(SAME_PRESS_SECONDS)
signal.raise_signal(signal.SIGINT)
print("what comes afterwards")
"""


def test_a_signal_at_the_end_loses_nothing_printed() -> None:
    """Text for a pipe waits in the process until it ends."""
    buffered = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    words = [sys.executable, "-c", AGAIN_AT_THE_END]
    done = subprocess.run(words, capture_output=True, text=True, timeout=240, env=buffered)
    assert (done.returncode, done.stderr) == (130, "\nstopped by Ctrl-C\n")
    assert done.stdout == "what was printed\n"


LOST_BEFORE_A_WAIT = """
import os, signal, sys, threading
from weitiao.cli._signals import Signals
from weitiao.core.errors import Terminated

class Loses:
    def __del__(self):
        signal.raise_signal(int(sys.argv[1]))  # its exception leaves a destructor, where nothing catches it

def type_something():
    print("something was typed", flush=True)
    os.write(typed, b"x")

signals = Signals()
signals.install()
sys.unraisablehook = lambda _: signals.send_again()
read, typed = os.pipe()
late = threading.Timer(30, type_something)
late.daemon = True
late.start()
Loses()
print("waits", flush=True)
try:
    os.read(read, 1)
except (KeyboardInterrupt, Terminated) as stop:
    print(type(stop).__name__)
"""


@pytest.mark.parametrize(
    ("number", "ends"), [(signal.SIGINT, "KeyboardInterrupt"), (signal.SIGTERM, "Terminated")]
)
def test_a_signal_that_a_destructor_lost_ends_a_wait_for_input(number: signal.Signals, ends: str) -> None:
    words = [sys.executable, "-c", LOST_BEFORE_A_WAIT, str(int(number))]
    done = subprocess.run(words, capture_output=True, text=True, timeout=240)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"waits\n{ends}\n", "")
