"""Resuming with other settings of memory and speed: they are taken, and the result stays what it would have been."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tiny_training import Events
from weitiao.cli import run
from weitiao.core.errors import Stopped
from weitiao.core.events import Event
from weitiao.engine.checkpoint import list_checkpoints
from weitiao.recipe.recipe import parse_recipe
from weitiao.recipe.train import resume_run, train_recipe

STOPPED_AT, STEPS = 2, 5
FREEZE = {"name": "freeze", "last_n": 1}
LORA = {"name": "lora", "r": 4}
"""Without dropout, whose draws follow the packs."""


@pytest.fixture
def recipe(recipe: dict[str, Any]) -> dict[str, Any]:
    return {**recipe, "train": {**recipe["train"], "steps": STEPS, "pack_tokens": 256}}


def interrupted(recipe: dict[str, Any]) -> Path:
    """Train until a signal stops it; return the run's folder."""

    def listen(event: Event) -> None:
        if event["event"] == "step" and event["step"] == STOPPED_AT:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(Stopped):
        train_recipe(parse_recipe(recipe), [listen])
    return Path(recipe["out"])


def tensors_of(root: Path) -> dict[str, torch.Tensor]:
    return {
        path.name + name: tensor
        for path in sorted((root / "adapter").glob("*.safetensors"))
        for name, tensor in load_file(path).items()
    }


def pack_tokens_at_the_end(root: Path) -> int:
    state = json.loads((list_checkpoints(root / "checkpoints")[0] / "state.json").read_text("utf-8"))
    return int(state["progress"]["pack_tokens"])


@pytest.mark.parametrize(
    ("method", "words"),
    [
        (None, ["train.gradient_checkpointing=full"]),
        (LORA, ["train.gradient_checkpointing=every-2", "train.pack_tokens=32"]),
        (
            FREEZE,
            [
                "train.frozen_cache=off",
                "train.gradient_checkpointing=full",
                "train.offload_activations=false",
            ],
        ),
    ],
    ids=str,
)
def test_settings_of_memory_may_change_and_change_no_weight(
    method: dict[str, Any] | None, words: list[str], recipe: dict[str, Any], tmp_path: Path
) -> None:
    recipe["method"] = method or recipe["method"]
    train_recipe(parse_recipe({**recipe, "out": tmp_path / "straight"}))
    root, heard = interrupted(recipe), Events()
    resume_run(root, words, [heard])
    assert [event["step"] for event in heard.of("resumed")] == [STOPPED_AT]
    if "train.gradient_checkpointing=full" in words:
        assert heard.of("memory")[0]["gradient_checkpointing"] == "full"
    straight, resumed = tensors_of(tmp_path / "straight"), tensors_of(root)
    assert straight and straight.keys() == resumed.keys()
    for name, tensor in straight.items():
        torch.testing.assert_close(resumed[name], tensor, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize(
    ("words", "size"),
    [
        ([], 256),
        (["train.pack_tokens=64"], 64),
        (["train.save_every=1"], 256),
    ],
    ids=str,
)
def test_the_size_of_packs_is_taken_where_it_is_typed(
    words: list[str], size: int, recipe: dict[str, Any]
) -> None:
    root = interrupted(recipe)
    resume_run(root, words)
    assert pack_tokens_at_the_end(root) == size


@pytest.mark.parametrize(("words", "size"), [([], 16), (["train.pack_tokens=256"], 256)], ids=str)
def test_packs_once_halved_stay_so_unless_their_size_is_typed(
    words: list[str], size: int, recipe: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    from weitiao.engine.loop import Training

    save = Training.save

    def save_halved(training: Training) -> None:
        training.stepper.pack_tokens = 16
        save(training)

    with monkeypatch.context() as patch:
        patch.setattr(Training, "save", save_halved)
        root = interrupted(recipe)
    resume_run(root, words)
    assert pack_tokens_at_the_end(root) == size


def test_the_command_takes_what_it_is_told(recipe: dict[str, Any]) -> None:
    root = interrupted(recipe)
    words = ["train.pack_tokens=1024", "train.gradient_checkpointing=full", "train.frozen_cache=off"]
    assert run(["train", "--resume", str(root), *words]) == 0
    assert pack_tokens_at_the_end(root) == 1024
