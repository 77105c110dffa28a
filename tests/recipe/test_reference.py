"""The model before training, for objectives that compare the trained model with it."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import tiny_architectures as tiny
from tiny_objectives import Pairs, PairsBesideReference, make_pairs
from tiny_training import make_training
from weitiao.core.errors import ModelError
from weitiao.data.batching.packing import Pack
from weitiao.engine.loop import Training
from weitiao.engine.two_passes import MethodOff
from weitiao.methods import METHODS
from weitiao.objectives._base import SequenceObjective
from weitiao.recipe.preflight import preflight
from weitiao.recipe.recipe import parse_recipe
from weitiao.recipe.train import train_recipe

LOG_2 = math.log(2)
PAIRS = make_pairs(8, tiny.VOCABULARY)
STEPS = {"lr": 3e-2, "epochs": 1, "batch_size": 4}


@torch.no_grad()
def log_probs(training: Training, pack: Pack, objective: SequenceObjective) -> Tensor:
    """Return the features of the trained model, as a held-out evaluation sees them."""
    training.stepper.forward.model.eval()
    return objective.features(training.stepper.forward.outputs(pack))


@pytest.mark.parametrize(
    "method",
    [{"name": "lora", "r": 4, "dropout": 0.3}, "freeze", {"name": "bitfit", "add_bias": True}, "ia3"],
)
def test_the_reference_is_the_start_and_stays_it(method: str | dict[str, Any], tmp_path: Path) -> None:
    objective = PairsBesideReference()
    training = make_training(tmp_path, PAIRS, held_out=PAIRS, objective=objective, method=method, **STEPS)
    stepper, held_out_loss = training.stepper, training.held_out_loss
    assert stepper.reference is not None and held_out_loss is not None
    (pack,) = stepper.forward.cut(PAIRS, 10_000)
    with stepper.forward.attention():
        start_S = log_probs(training, pack, objective)
        assert torch.equal(stepper.reference.features(objective, pack), start_S)
        before = held_out_loss(lambda: False)
    training.run()
    with stepper.forward.attention():
        assert torch.equal(stepper.reference.features(objective, pack), start_S)
        assert float((log_probs(training, pack, objective) - start_S).abs().max()) > 0.1
        after = held_out_loss(lambda: False)
    assert before is not None and after is not None
    assert before["loss"] == pytest.approx(LOG_2, abs=1e-6)
    assert after["loss"] < LOG_2 - 1e-3


def test_an_objective_that_needs_no_reference_gets_none(tmp_path: Path) -> None:
    assert make_training(tmp_path, PAIRS, objective=Pairs()).stepper.reference is None
    given = make_training(tmp_path, PAIRS, objective=PairsBesideReference()).stepper.reference
    assert isinstance(given, MethodOff)


@pytest.fixture
def preferences(recipe: dict[str, Any], tmp_path: Path) -> dict[str, Any]:
    """The small run, over pairs of answers."""
    rows = [
        {"prompt": f"What is {n}?", "chosen": f"It is {n}.", "rejected": f"Who knows what {n} is?"}
        for n in range(14)
    ]
    (tmp_path / "rows.json").write_text(json.dumps(rows), encoding="utf-8")
    return {**recipe, "objective": PairsBesideReference()}


def test_a_run_begins_at_log_2_and_says_so(preferences: dict[str, Any]) -> None:
    train = {**preferences["train"], "lr": 3e-2, "eval_every": 2}
    run = train_recipe(parse_recipe({**preferences, "train": train}))
    assert run.losses[0] == pytest.approx(LOG_2, abs=0.01), "the model differs by its dropout alone"
    assert run.held_out["before"]["loss"] == pytest.approx(LOG_2, abs=1e-6)
    assert run.held_out["before"]["accuracy"] == 0
    assert run.held_out["after"]["loss"] < LOG_2
    assert run.held_out["after"]["accuracy"] > 0


def whole_model_methods() -> list[str]:
    """Return the methods that leave no base to switch back to."""
    found = []
    for name in METHODS.names():
        kind = METHODS.load(name)
        if kind(**kind.example).plan(tiny.make_model("llama")).saves_whole_model:
            found.append(name)
    return found


def test_a_method_that_cannot_be_switched_off_is_refused_before_loading(preferences: dict[str, Any]) -> None:
    methods = whole_model_methods()
    assert "full" in methods and "freeze" not in methods
    for method in methods:
        recipe = parse_recipe({**preferences, "method": {"name": method}})
        with pytest.raises(ModelError, match=rf"the model before training(.|\n)*{method}(.|\n)*method=lora"):
            preflight(recipe)
        preflight(recipe.model_copy(update={"objective": Pairs()}))


def test_an_adapter_that_is_continued_is_refused_with_what_to_do(preferences: dict[str, Any]) -> None:
    first = train_recipe(parse_recipe({**preferences, "out": f"{preferences['out']}-first"}))
    model = {"name": preferences["model"], "adapter": str(first.folder.adapter)}
    recipe = parse_recipe({**preferences, "model": model})
    with pytest.raises(ModelError, match=r"trained further(.|\n)*weitiao merge .*adapter"):
        preflight(recipe)
    preflight(recipe.model_copy(update={"objective": Pairs()}))
