"""The held-out loss where there is none: examples of which no token is trained are refused in words."""

from __future__ import annotations

import pytest

import tiny_architectures as tiny
from weitiao.core.errors import DataError
from weitiao.data.conversation import Example
from weitiao.engine.forward import choose_forward
from weitiao.engine.precision import Precision
from weitiao.evaluation.held_out import measure_held_out
from weitiao.objectives.sft import SupervisedFineTuning

UNTRAINED = Example((5, 6, 7), (0.0, 0.0, 0.0), "rows.json:1")
FIRST_ALONE = Example((5, 6, 7), (1.0, 0.0, 0.0), "rows.json:2")
TRAINED = Example((5, 6, 7), (0.0, 0.0, 1.0), "rows.json:3")


@pytest.mark.parametrize("examples", [[], [UNTRAINED], [FIRST_ALONE], [UNTRAINED, FIRST_ALONE]])
def test_what_trains_no_token_has_no_loss(examples: list[Example]) -> None:
    forward = choose_forward(tiny.make_model("llama"), Precision())
    forward.model.train()
    with (
        forward.attention(),
        pytest.raises(DataError, match="no token of these examples is trained") as error,
    ):
        measure_held_out(forward, SupervisedFineTuning(), examples, 64)
    assert all(example.place in error.value.problems[0].got for example in examples)
    assert forward.model.training


def test_they_change_nothing_beside_one_that_trains() -> None:
    forward = choose_forward(tiny.make_model("llama"), Precision())
    with forward.attention():
        alone = measure_held_out(forward, SupervisedFineTuning(), [TRAINED], 64)
        beside = measure_held_out(forward, SupervisedFineTuning(), [UNTRAINED, TRAINED, FIRST_ALONE], 64)
    assert alone is not None and beside is not None
    assert beside.loss == pytest.approx(alone.loss, abs=1e-6)
