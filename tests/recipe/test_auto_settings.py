"""What a run file leaves open is chosen from model and data, shown with its reason, and kept for a resumed run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from weitiao.core.settings import read_yaml
from weitiao.methods import METHODS
from weitiao.recipe.auto_settings import epochs_at_most
from weitiao.recipe.preflight import Ready, preflight
from weitiao.recipe.recipe import parse_recipe
from weitiao.recipe.train import train_recipe

ROWS = [{"instruction": f"What is {n} plus one?", "output": f"It is {n + 1}."} for n in range(48)]
OPEN = {"lr", "epochs", "steps", "eval_every", "early_stopping_patience"}


def chosen(recipe: dict[str, Any], rows: int = 48, **train_settings: float) -> Ready:
    """Return what is ready to train on so many rows, where only these settings of the training are given."""
    data = {"sources": [{"rows": (ROWS * (rows // 48 + 1))[:rows]}]}
    return preflight(parse_recipe({**recipe, "data": data, "train": train_settings}))


def settings_of(ready: Ready) -> dict[str, Any]:
    return {choice.setting: choice.value for choice in ready.choices}


def test_with_nothing_set_rate_epochs_and_patience_are_chosen(recipe: dict[str, Any]) -> None:
    ready = chosen(recipe)
    width = 32  # of the tiny model
    assert len(ready.data.held_out) == 10
    assert settings_of(ready) == {
        "train.lr": METHODS.load("lora")().lr_for(width),
        "train.epochs": epochs_at_most(38, 8),
        "train.early_stopping_patience": 2,
    }
    assert f"width {width}" in ready.choices[0].reason and "38 rows" in ready.choices[1].reason
    assert ready.recipe.train.lr == ready.choices[0].value


@pytest.mark.parametrize("given", [{"epochs": 1.5}, {"steps": 7}])
def test_a_length_that_is_given_is_kept_and_nothing_stops_it_early(
    recipe: dict[str, Any], given: dict[str, Any]
) -> None:
    ready = chosen(recipe, **given)
    assert set(settings_of(ready)) == {"train.lr"}
    assert ready.recipe.train.early_stopping_patience == "off"
    assert ready.recipe.train.model_dump().items() >= given.items()


def test_what_is_given_is_not_chosen(recipe: dict[str, Any]) -> None:
    ready = chosen(recipe, lr=3e-4, early_stopping_patience=5)
    assert set(settings_of(ready)) == {"train.epochs"}
    assert (ready.recipe.train.lr, ready.recipe.train.early_stopping_patience) == (3e-4, 5)


def test_without_held_out_rows_small_data_is_seen_less_often(recipe: dict[str, Any]) -> None:
    ready = chosen(recipe, rows=3)
    assert not ready.data.held_out
    assert settings_of(ready)["train.epochs"] == epochs_at_most(3, 8) / 2
    assert "train.early_stopping_patience" not in settings_of(ready)


def test_large_data_is_seen_once_with_several_looks(recipe: dict[str, Any]) -> None:
    rows = [{"instruction": f"Count to {n}.", "output": f"{n}!"} for n in range(5300)]
    ready = preflight(parse_recipe({**recipe, "data": {"sources": [{"rows": rows}]}, "train": {}}))
    assert len(ready.data.held_out) == 200
    assert settings_of(ready)["train.epochs"] == 1
    assert settings_of(ready)["train.eval_every"] == 128  # a fifth of 638 steps, rounded up


@pytest.mark.parametrize(
    ("rows", "batch_size", "epochs"),
    [
        (2, 8, 30),
        (8, 8, 30),
        (20, 8, 12),
        (38, 8, 7),
        (100, 8, 6),
        (1000, 8, 5),
        (4999, 8, 2),
        (5000, 8, 1),
        (10**6, 64, 1),
    ],
)
def test_the_fewer_rows_the_more_often_they_are_seen(rows: int, batch_size: int, epochs: int) -> None:
    assert epochs_at_most(rows, batch_size) == epochs


@pytest.mark.parametrize("name", METHODS.names())
def test_rates_fall_with_the_width_only_for_methods_that_train_matrices(name: str) -> None:
    method = METHODS.load(name)
    made = method.model_validate(dict(method.example))
    assert made.lr_for(64) == made.lr_for(576) == made.suggested_lr
    falls = made.lr_for(4096) / made.suggested_lr
    assert falls == (pytest.approx(0.2167, rel=0.05) if method.lr_falls_with_width else 1)


def test_the_run_file_of_a_run_holds_what_was_chosen_and_resumes(
    recipe: dict[str, Any], tmp_path: Path
) -> None:
    data = {"sources": [{"rows": ROWS}]}
    heard: list[dict[str, Any]] = []
    run = train_recipe(parse_recipe({**recipe, "data": data, "train": {"pack_tokens": 1024}}), [heard.append])
    written = read_yaml(tmp_path / "run" / "run.yaml")["train"]
    shown = {
        row["setting"]: row["value"]
        for event in heard
        if event["event"] == "choices"
        for row in event["rows"]
    }
    assert {f"train.{key}": written[key] for key in ("lr", "epochs", "early_stopping_patience")} == shown
    kinds = [event["event"] for event in heard]
    assert kinds.index("choices") < kinds.index("started"), "before the first step"
    assert run.recipe.train.lr == written["lr"]
    again = preflight(parse_recipe(run.recipe.as_dict()), new_folder=False)
    assert again.choices == []
    assert again.recipe == run.recipe
