"""Killed at any moment, a run goes on from where it was and ends in the very bytes it would have ended in."""

from __future__ import annotations

import json
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tiny_training import last_state
from weitiao.core.events import read_events, steps_that_count
from weitiao.engine.checkpoint import damage_of, list_checkpoints

STEPS = 120


class Server:
    """The fork server, and what it answered."""

    def __init__(self) -> None:
        script = Path(__file__).with_name("kill_server.py")
        self._process = subprocess.Popen(
            [sys.executable, str(script)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert "ready" in self._answer()

    def run(self, action: str, recipe: dict[str, Any], **how: Any) -> int:  # noqa: ANN401
        """Run one child to its end and return its exit code, negative for a signal."""
        assert self._process.stdin is not None
        job = {"action": action, "root": recipe["out"], "recipe": recipe, **how}
        self._process.stdin.write(json.dumps(job) + "\n")
        self._process.stdin.flush()
        return int(self._answer()["code"])

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith("{"):
                return dict(json.loads(line))
        raise AssertionError("the fork server ended")

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(timeout=240)


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    served = Server()
    yield served
    served.close()


def recipe_for(out: Path, model: Path, data: Path, **train: Any) -> dict[str, Any]:  # noqa: ANN401
    settings = {
        "steps": STEPS,
        "batch_size": 3,
        "lr": 1e-3,
        "save_every": 2,
        "eval_every": 3,
        "neftune_alpha": 5.0,
    }
    return {
        "model": str(model),
        "data": {"sources": str(data), "held_out": 2},
        "method": {"name": "lora", "r": 4, "dropout": 0.1},
        "train": {**settings, **train},
        "evaluate": {"question_count": 1, "generation": {"max_new_tokens": 2}},
        "out": str(out),
    }


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "rows.json"
    rows = [{"instruction": f"What is {n}?", "output": f"It is {n}, twice {2 * n}."} for n in range(24)]
    path.write_text(json.dumps(rows), encoding="utf-8")
    return path


def result_of(root: Path) -> tuple[bytes, Any, list[float]]:
    losses = [event["loss"] for event in steps_that_count(read_events(root / "events.jsonl"))]
    return (root / "adapter" / "adapter_model.safetensors").read_bytes(), last_state(root), losses


@pytest.mark.parametrize(("kills", "steps"), [(5, 40), pytest.param(20, STEPS, marks=pytest.mark.slow)])
def test_kills_change_no_bit(
    kills: int, steps: int, server: Server, tiny_model_folder: Path, data: Path, tmp_path: Path
) -> None:
    straight = recipe_for(tmp_path / "straight", tiny_model_folder, data, steps=steps)
    assert server.run("train", straight) == 0
    killed = recipe_for(tmp_path / "killed", tiny_model_folder, data, steps=steps)
    dice = random.Random(0)
    root = tmp_path / "killed"
    resumed_from = set()
    for number in range(kills):
        action = "resume" if (root / "run.yaml").is_file() else "train"
        code = server.run(action, killed, events=dice.randint(3, 20), seed=number)
        assert code == -signal.SIGKILL, f"kill {number} came too late: {code}"
        newest = next((path for path in list_checkpoints(root / "checkpoints") if not damage_of(path)), None)
        resumed_from.add(newest and newest.name)
    assert server.run("resume", killed) == 0
    assert len(resumed_from) > kills // 4, "the kills lie too close together to prove much"
    assert result_of(root) == result_of(tmp_path / "straight")
    assert len(result_of(root)[2]) == steps
    leftovers = [path for path in root.rglob("*") if ".staging" in path.name or path.name.endswith(".part")]
    assert not leftovers
    assert server.run("resume", killed) == 5, "a finished run has no step left"


@pytest.mark.parametrize("every", [8, pytest.param(1, marks=pytest.mark.slow)])
def test_dying_at_file_operations_of_a_save(
    every: int, server: Server, tiny_model_folder: Path, data: Path, tmp_path: Path
) -> None:
    """The newest checkpoint that verifies is the one before or the one being written, and the end is the same."""
    settings = {"steps": 2, "save_every": 1, "eval_every": 10, "keep_checkpoints": 1}
    straight = recipe_for(tmp_path / "straight", tiny_model_folder, data, **settings)
    assert server.run("train", straight) == 0
    begun = recipe_for(tmp_path / "begun", tiny_model_folder, data, **settings)
    events = [event["event"] for event in read_events(tmp_path / "straight" / "events.jsonl")]
    # The first event is told before there is a file to write it to.
    code = server.run("train", begun, events=events.index("checkpoint") + 2, seed=None)
    assert code == -signal.SIGKILL
    assert [path.name for path in list_checkpoints(tmp_path / "begun" / "checkpoints")] == ["step-00000001"]
    newest = set()

    def dies(count: int, goes_on: bool) -> bool:
        root = tmp_path / "again"
        shutil.copytree(tmp_path / "begun", root)
        again = recipe_for(root, tiny_model_folder, data, **settings)
        code = server.run("resume", again, operations=count)
        assert code in (0, 77)
        if code:
            whole = [path for path in list_checkpoints(root / "checkpoints") if not damage_of(path)]
            newest.add(whole[0].name)
            if goes_on:
                assert server.run("resume", again) == 0
                assert result_of(root) == result_of(tmp_path / "straight")
        shutil.rmtree(root)
        return code != 0

    tried = (1 + every * number for number in range(1000))
    count = next(count for count in tried if not dies(count, goes_on=count // every % 4 == 3))
    assert any(dies(last, goes_on=True) for last in range(count - 1, 0, -1)), "the last one"
    assert count > 20
    assert newest == {"step-00000001", "step-00000002"}
