"""A process that has imported everything and run no torch operation, and forks a child for each line it is told.

Line in: JSON {"action": "train" | "resume", "root": RUN, "recipe": RUN FILE, "events": n, "operations": k}. The child
dies with SIGKILL after hearing its n-th event (at once, or a moment drawn from `seed` later), or with exit code 77 at
the k-th file operation inside the folder checkpoints; left out, never. Line out: JSON {"code": exit code, minus the
signal where one killed it}.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from pathlib import Path
from typing import Any

OPERATIONS = ("open", "os.rename", "os.mkdir", "os.remove", "os.rmdir")


def die_at_event(count: int, seed: int | None) -> Any:  # noqa: ANN401
    """Return a listener that kills this process a moment after its `count`-th event."""
    left = [count]

    def listen(_: dict[str, Any]) -> None:
        left[0] -= 1
        if left[0] > 0:
            return
        if seed is None:
            os.kill(os.getpid(), signal.SIGKILL)
        elif left[0] == 0:
            signal.signal(signal.SIGALRM, lambda *_: os.kill(os.getpid(), signal.SIGKILL))
            signal.setitimer(signal.ITIMER_REAL, random.Random(seed).uniform(1e-6, 0.02))

    return listen


def die_at_operation(count: int, folder: Path) -> None:
    """End this process at the `count`-th file operation under `folder`, from now on."""
    left = [count]
    inside = str(folder)

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event in OPERATIONS and inside in str(arguments[0]):
            left[0] -= 1
            if left[0] == 0:
                os._exit(77)

    sys.addaudithook(hook)


def child(job: dict[str, Any]) -> None:
    """Train or resume a run, and die where the job says."""
    from weitiao.core.errors import WeitiaoError
    from weitiao.recipe.recipe import parse_recipe
    from weitiao.recipe.train import resume_run, train_recipe

    root = Path(job["root"])
    listeners = [die_at_event(job["events"], job["seed"])] if job.get("events") else []
    if job.get("operations"):
        die_at_operation(job["operations"], root / "checkpoints")
    try:
        if job["action"] == "train":
            train_recipe(parse_recipe(job["recipe"]), listeners)
        else:
            resume_run(root, (), listeners)
    except WeitiaoError as error:
        print(error, file=sys.stderr, flush=True)
        os._exit(error.exit_code)
    os._exit(0)


def main() -> None:
    """Import what a run needs, then serve."""
    import peft
    import torch
    import transformers
    import transformers.models.llama.modeling_llama

    import weitiao.recipe.baseline
    import weitiao.recipe.build
    import weitiao.recipe.outcome
    import weitiao.recipe.train

    assert peft
    assert transformers
    assert weitiao.recipe.train
    torch.set_num_threads(1)
    print(json.dumps({"ready": time.time()}), flush=True)
    for line in sys.stdin:
        number = os.fork()
        if number == 0:
            child(json.loads(line))
        code = os.waitstatus_to_exitcode(os.waitpid(number, 0)[1])
        print(json.dumps({"code": code}), flush=True)


if __name__ == "__main__":
    main()
