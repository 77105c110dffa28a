"""Resuming with other settings of memory and speed: they are taken, and the result stays what it would have been."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tiny_training import Events
from weitiao.cli import run
from weitiao.core.errors import RunFolderError, Stopped
from weitiao.core.events import Event
from weitiao.engine.checkpoint import list_checkpoints
from weitiao.recipe.recipe import parse_recipe
from weitiao.recipe.train import resume_run, train_recipe

STOPPED_AT, STEPS = 2, 5
FREEZE = {"name": "freeze", "last_n": 1}
LORA = {"name": "lora", "r": 4}
"""Without dropout, whose draws follow the packs."""


def in_packs(recipe: dict[str, Any]) -> dict[str, Any]:
    return {**recipe, "train": {**recipe["train"], "steps": STEPS, "pack_tokens": 256}}


@pytest.fixture
def recipe(recipe: dict[str, Any]) -> dict[str, Any]:
    return in_packs(recipe)


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


@pytest.fixture(scope="module")
def stopped_once(
    recipe_in: Callable[[Path], dict[str, Any]], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The folder of a run with LoRA that was stopped; read only."""
    return interrupted(in_packs(recipe_in(tmp_path_factory.mktemp("stopped"))))


@pytest.fixture
def stopped(stopped_once: Path, tmp_path: Path) -> Path:
    return shutil.copytree(stopped_once, tmp_path / "run")


@pytest.mark.parametrize(
    ("words", "size"),
    [
        ([], 256),
        (["train.pack_tokens=64"], 64),
        (["train.save_every=1"], 256),
    ],
    ids=str,
)
def test_the_size_of_packs_is_taken_where_it_is_typed(words: list[str], size: int, stopped: Path) -> None:
    resume_run(stopped, words)
    assert pack_tokens_at_the_end(stopped) == size


@pytest.fixture(scope="module")
def stopped_halved(
    recipe_in: Callable[[Path], dict[str, Any]], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The folder of a run that was stopped after its packs had been halved to 16 tokens; read only."""
    from weitiao.engine.loop import Training

    save = Training.save

    def save_halved(training: Training) -> None:
        training.stepper.pack_tokens = 16
        save(training)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Training, "save", save_halved)
        return interrupted(in_packs(recipe_in(tmp_path_factory.mktemp("halved"))))


@pytest.mark.parametrize(("words", "size"), [([], 16), (["train.pack_tokens=256"], 256)], ids=str)
def test_packs_once_halved_stay_so_unless_their_size_is_typed(
    words: list[str], size: int, stopped_halved: Path, tmp_path: Path
) -> None:
    root = shutil.copytree(stopped_halved, tmp_path / "run")
    resume_run(root, words)
    assert pack_tokens_at_the_end(root) == size


QUESTIONS = ["What is 3?", "What is 30?"]


@pytest.fixture(scope="module")
def stopped_with_answers(
    recipe_in: Callable[[Path], dict[str, Any]], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The folder of a run that was stopped after its questions had been asked; read only."""
    evaluate = {"questions": QUESTIONS, "panel": False, "generation": {"max_new_tokens": 8}}
    recipe = in_packs(recipe_in(tmp_path_factory.mktemp("asked")))
    return interrupted({**recipe, "method": {"name": "full"}, "evaluate": evaluate})


@pytest.mark.parametrize(
    ("word", "asked_again"),
    [
        ("evaluate.generation.max_new_tokens=2", True),
        ("evaluate.generation.repetition_penalty=1.5", True),
        ("evaluate.generation.stop=[is]", True),
        ("evaluate.panel=true", True),
        ("evaluate.questions=[Why]", True),
        ("evaluate.generation.max_new_tokens=8", False),
        ("train.save_every=1", False),
    ],
)
def test_answers_before_training_are_kept_only_if_the_same_is_asked(
    word: str, asked_again: bool, stopped_with_answers: Path, tmp_path: Path
) -> None:
    root = shutil.copytree(stopped_with_answers, tmp_path / "run")
    heard = Events()
    resume_run(root, [word], [heard])
    assert len(heard.of("before")) == asked_again
    if "max_new_tokens=2" in word:
        (answers,) = heard.of("answers")
        assert all(row["before_cut"] or len(row["before"].split()) <= 2 for row in answers["rows"])


def files_of(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Return when each file was written, and what it holds."""
    return {
        str(path.relative_to(folder)): (path.stat().st_mtime_ns, path.read_bytes())
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.fixture(scope="module", params=[LORA, {"name": "full"}], ids=str)
def finished_once(
    request: pytest.FixtureRequest,
    recipe_in: Callable[[Path], dict[str, Any]],
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """The folder of a finished run of a method; read only."""
    recipe = in_packs(recipe_in(tmp_path_factory.mktemp("finished")))
    return train_recipe(parse_recipe({**recipe, "method": request.param})).folder.root


@pytest.fixture
def finished(finished_once: Path, tmp_path: Path) -> Path:
    return shutil.copytree(finished_once, tmp_path / "run")


def test_a_finished_run_is_left_as_it_is(finished: Path) -> None:
    root = finished
    before = files_of(root)
    with pytest.raises(RunFolderError, match="has finished"):
        resume_run(root, ["train.save_every=2"])
    assert files_of(root) == before
    (root / "report.md").unlink()
    shutil.rmtree(root / "checkpoints")
    before = files_of(root)
    with pytest.raises(RunFolderError, match="is saved, and no checkpoint is left"):
        resume_run(root)
    assert files_of(root) == before


def test_a_saved_result_is_not_saved_again_for_its_report(finished: Path) -> None:
    root = finished
    (result,) = (root / name for name in ("model", "adapter") if (root / name).is_dir())
    (root / "report.md").unlink()
    before, heard = files_of(result), Events()
    resume_run(root, [], [heard])
    after = files_of(result)
    # The card is written again with the scores, as in a run that was not interrupted.
    assert {name for name in before if before[name] != after[name]} <= {"README.md"}
    assert (root / "report.md").is_file() and heard.of("finished") and not heard.of("saved")
    assert any("saved before" in event["text"] for event in heard.of("note"))


def test_the_command_takes_what_it_is_told(stopped: Path) -> None:
    words = ["train.pack_tokens=1024", "train.gradient_checkpointing=full", "train.frozen_cache=off"]
    assert run(["train", "--resume", str(stopped), *words]) == 0
    assert pack_tokens_at_the_end(stopped) == 1024
