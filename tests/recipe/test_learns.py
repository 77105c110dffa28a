"""Every method learns at the rate of its own recipe, so that a default with which nothing is learnt is caught.

A small Llama first learns to add: a marker says how much, and each digit of the row comes back with that added, modulo
ten. Behind one more marker the amount is drawn for every digit anew, so the base can only guess: ln 5, 1.6 nats a
digit. Each method then has to make that marker mean one of the amounts. It takes minutes; that twenty steps lower the
loss of every method is in the contract of methods.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

import pytest

import tiny
from tiny_training import make_training
from weitiao.data.example import Example
from weitiao.engine.loop import Training
from weitiao.methods import METHODS
from weitiao.models.load import load_model
from weitiao.models.settings import ModelSettings
from weitiao.recipe.recipe import read_recipe

BARE = {"model": {"name": "smollm2-135m"}, "data": {"sources": ["x.json"]}, "out": "runs/x"}
pytestmark = pytest.mark.slow
RECIPES = Path(__file__).resolve().parents[2] / "recipes"
# Ids of tokens: what the open marker means is to be learnt, and is among those that trainable_tokens' recipe names.
OPEN, EQUALS = 2, 3
ADDED = {10: 1, 11: 3, 12: 4, 13: 7, 14: 8}
LEARNT = 7
DIGITS, FIRST_DIGIT, LENGTH = 10, 20, 6

BASE_STEPS, BASE_BATCH = 300, 32
STEPS, BATCH = 100, 4
BOUND = 0.8
"""The held-out loss to come below, in nats a digit: half of what guessing costs."""
STEPS_OF = {"llama_adapter": 300}
"""Its gates begin at zero and open slowly: until they have, the prompts behind them hardly learn."""
FOR_A_SMALL_MODEL: dict[str, dict[str, object]] = {
    "diff_pruning": {"target_sparsity": 0.9},
    "trainable_tokens": {"token_indices": [OPEN]},
}
"""Settings that the model decides: one weight in a hundred of 150 000 is too few; token 1 is padding here."""


def row(dice: random.Random, marker: int, amounts: Sequence[int], number: int) -> Example:
    """Return a row of digits behind a marker, and trained behind them the digits with an amount added to each."""
    digits = [dice.randrange(DIGITS) for _ in range(LENGTH)]
    sums = [(digit + dice.choice(amounts)) % DIGITS for digit in digits]
    ids = (marker, *(FIRST_DIGIT + d for d in digits), EQUALS, *(FIRST_DIGIT + d for d in sums))
    return Example.of(ids, (0.0,) * (LENGTH + 2) + (1.0,) * LENGTH, f"rows.json:{number}")


def mixture(count: int) -> list[Example]:
    """Return rows of every marker; three in ten have the open one."""
    dice = random.Random(0)
    kinds = [(marker, [amount]) for marker, amount in ADDED.items()]
    return [
        row(dice, *((OPEN, list(ADDED.values())) if dice.random() < 0.3 else dice.choice(kinds)), number)
        for number in range(1, count + 1)
    ]


def one_amount(count: int, seed: int) -> list[Example]:
    """Return rows in which the open marker means one amount."""
    dice = random.Random(seed)
    return [row(dice, OPEN, [LEARNT], number) for number in range(1, count + 1)]


def held_out_loss(training: Training) -> float:
    assert training.held_out_loss is not None
    with training.stepper.forward.attention():
        found = training.held_out_loss(lambda: False)
    assert found is not None
    return found["loss"]


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a small model that adds, with a tokenizer (prefix_tuning's recipe begins as a text)."""
    folder = tmp_path_factory.mktemp("adds")
    training = make_training(
        folder / "run",
        mixture(BASE_STEPS * BASE_BATCH),
        method="full",
        model=tiny.make_llama(hidden=64, layers=4),
        steps=BASE_STEPS,
        batch_size=BASE_BATCH,
        lr=2e-3,
        warmup_ratio=0.1,
        scheduler="cosine",
        save_every=BASE_STEPS,
    )
    training.run()
    training.attached.save(folder / "model")
    tiny.make_tokenizer().save_pretrained(folder / "model")
    return folder / "model"


def learn(name: str, base: Path, folder: Path, slower: float = 1.0) -> tuple[float, float]:
    """Train a method as its recipe says, at its rate divided by `slower`; returns the held-out losses.

    A method without a recipe trains with its defaults.
    """
    path = RECIPES / f"{name}.yaml"
    bare = {**BARE, "method": {"name": name, **METHODS.load(name).example}}
    recipe = read_recipe(path, {}, []) if path.exists() else read_recipe(None, bare, [])
    steps = STEPS_OF.get(name, STEPS)
    short = {"steps": steps, "batch_size": BATCH, "save_every": steps, "keep_best": False}
    training = make_training(
        folder,
        one_amount(steps * BATCH, seed=1),
        held_out=one_amount(64, seed=2),
        model=load_model(ModelSettings(name=str(base))),
        method={"name": name, **recipe.method.model_dump(), **FOR_A_SMALL_MODEL.get(name, {})},
        **{**recipe.train.model_dump(), **short, "lr": recipe.lr / slower},
    )
    before = held_out_loss(training)
    training.run()
    return before, held_out_loss(training)


@pytest.mark.parametrize("name", METHODS.names())
def test_it_learns_with_its_recipe(name: str, base: Path, tmp_path: Path) -> None:
    before, after = learn(name, base, tmp_path)
    assert before > 1.5
    assert after < BOUND


@pytest.mark.parametrize("name", ["lora", "ia3", "bitfit"])
def test_a_rate_thirty_times_lower_is_caught(name: str, base: Path, tmp_path: Path) -> None:
    assert learn(name, base, tmp_path, slower=30)[1] > BOUND
