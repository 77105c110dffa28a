"""The command line as its console script runs it, in a process that tells how far it has come; or many, one by one.

Arguments: a descriptor, a kind of events, a number, the command's words. To the descriptor is written "b" when the file
of the command line begins to run, "m" at the event of that number, and in the end how many of each kind there were.
With the one argument "serve" it imports what a run needs, and runs in a process forked from it what each line of its
input says, as JSON: the arguments of `_serve_one`. It answers with the process's number, and then with its exit code.
"""

from __future__ import annotations

import atexit
import json
import os
import signal
import sys
from pathlib import Path
from types import CodeType
from typing import Any

BEGINNING = str(Path("weitiao", "cli", "__init__.py"))
CHANGES = ("os.rename", "os.remove", "os.rmdir", "os.mkdir")
WRITES = os.O_WRONLY | os.O_RDWR


def kind_of(event: str, arguments: tuple[Any, ...]) -> str | None:
    """Return what an audit event is: a change of files, another event that is counted, or None."""
    if event in CHANGES or (event == "open" and arguments[2] & WRITES and not isinstance(arguments[0], int)):
        return "change"
    return "event" if event in ("import", "open", "exec", "os.listdir", "os.fork") else None


def tell_moments(descriptor: int, wanted: str, number: int, begun: bool = False) -> None:
    """Write to the descriptor where the process stands; processes forked from it write nothing."""
    counts = {"event": 0, "change": 0}
    itself = os.getpid()

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal begun
        kind = kind_of(event, arguments)
        if kind is None or os.getpid() != itself:
            return
        if begun:
            counts[kind] += 1
            if kind == wanted and counts[kind] == number:
                os.write(descriptor, b"m")
        elif isinstance(arguments[0], CodeType) and arguments[0].co_filename.endswith(BEGINNING):
            begun = True
            os.write(descriptor, b"b")

    def end() -> None:
        if os.getpid() == itself:
            os.write(descriptor, json.dumps(counts).encode())

    if begun:
        os.write(descriptor, b"b")
    sys.addaudithook(hook)
    atexit.register(end)


def serve() -> None:
    """Run commands one after the other, each in a process that has everything imported already."""
    import peft
    import transformers
    import transformers.models.llama.modeling_llama

    import weitiao.cli.merge
    import weitiao.recipe.build
    import weitiao.recipe.train
    from weitiao.cli._environment import prepare_environment

    assert peft and transformers and weitiao
    prepare_environment()
    for line in sys.stdin:
        number = os.fork()
        if number == 0:
            _serve_one(**json.loads(line))
        print(number, flush=True)
        print(os.waitstatus_to_exitcode(os.waitpid(number, 0)[1]), flush=True)


def _serve_one(
    words: list[str],
    folder: str,
    surroundings: dict[str, str],
    path: str,
    streams: list[str],
    told: str,
    moment: tuple[str, int],
) -> None:
    from weitiao.cli import main

    os.setsid()
    os.chdir(folder)
    os.environ.update(surroundings)
    if path:
        sys.path.insert(0, path)
    for descriptor, stream in enumerate(streams):
        mode = os.O_WRONLY | os.O_CREAT | os.O_APPEND if descriptor else os.O_RDONLY
        os.dup2(os.open(stream, mode), descriptor)
    tell_moments(os.open(told, os.O_WRONLY), *moment, begun=True)
    sys.argv = ["weitiao", *words]
    main()


if __name__ == "__main__":
    # A shell gives a program in the background SIGINT ignored, and a test run there hands it on.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if sys.argv[1] == "serve":
        serve()
    else:
        descriptor, kind, number, *words = sys.argv[1:]
        tell_moments(int(descriptor), kind, int(number))
        sys.argv = ["weitiao", *words]
        from weitiao.cli import main

        main()
