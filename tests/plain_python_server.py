"""A process that has torch, transformers and PEFT, and runs each script it is told in a process forked from it.

    python plain_python_server.py ADDRESS

Whoever connects to the Unix socket ADDRESS gets an empty line, sends lines of JSON, the arguments of `run`, and gets
one back for each: the script's exit code, and what it wrote. weitiao is not imported here, so a script begins as a
fresh process does that imported those three. It ends when nobody is connected any more.
"""

from __future__ import annotations

import json
import os
import selectors
import socket
import sys
import tempfile
import traceback
from typing import IO, Any


def run(script: str, arguments: list[str], folder: str, path: str, typed: str) -> dict[str, Any]:
    """Run a script in `folder`, with `path` before all others that modules are found in, in a process of its own."""
    with tempfile.TemporaryFile() as stdin, tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        stdin.write(typed.encode())
        stdin.seek(0)
        number = os.fork()
        if number == 0:
            _be(script, arguments, folder, path, [stdin, out, err])
        code = os.waitstatus_to_exitcode(os.waitpid(number, 0)[1])
        return {"code": code, "out": _text(out), "err": _text(err)}


def _text(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode("utf-8", "replace")


def _be(script: str, arguments: list[str], folder: str, path: str, streams: list[IO[bytes]]) -> None:
    """Become a process that runs a script, and end with it."""
    for descriptor, stream in enumerate(streams):
        os.dup2(stream.fileno(), descriptor)
    sys.stdin, sys.stdout, sys.stderr = open(0), open(1, "w"), open(2, "w")  # noqa: SIM115
    code = 1
    try:
        os.chdir(folder)
        sys.argv = ["-c", *arguments]
        sys.path[:1] = ["", path] if path else [""]
        assert not [name for name in sys.modules if name.partition(".")[0] == "weitiao"]
        exec(compile(script, "<script>", "exec"), {"__name__": "__main__"})
        code = 0
    except SystemExit as ended:
        code = _code_of(ended)
    except BaseException:  # noqa: BLE001  (as Python itself does with whatever ends a script)
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _code_of(ended: SystemExit) -> int:
    """Return the exit code that Python ends with, which writes what is no number."""
    if ended.code is None or isinstance(ended.code, int):
        return ended.code or 0
    print(ended.code, file=sys.stderr)
    return 1


def main(address: str) -> None:
    """Import what scripts need, then serve until the last connection is closed."""
    import peft
    import safetensors.torch
    import torch
    import transformers.models.llama.modeling_llama
    from peft import AutoPeftModelForCausalLM
    from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

    assert peft and safetensors.torch and torch and transformers
    assert AutoPeftModelForCausalLM and AutoModelForCausalLM and PreTrainedTokenizerFast
    with socket.socket(socket.AF_UNIX) as listener, selectors.DefaultSelector() as waiting:
        listener.bind(address)
        listener.listen()
        print("ready", flush=True)
        waiting.register(listener, selectors.EVENT_READ)
        begun = False
        while not begun or len(waiting.get_map()) > 1:
            for key, _ in waiting.select():
                if key.fileobj is listener:
                    connection, begun = listener.accept()[0], True
                    waiting.register(connection, selectors.EVENT_READ, connection.makefile("rw"))
                    connection.sendall(b"\n")
                elif not _answer(key.data):
                    waiting.unregister(key.fileobj)


def _answer(connection: IO[str]) -> bool:
    """Do what the next line of a connection says; False if it is closed."""
    line = connection.readline()
    if line:
        connection.write(json.dumps(run(**json.loads(line))) + "\n")
        connection.flush()
    return bool(line)


if __name__ == "__main__":
    main(sys.argv[1])
