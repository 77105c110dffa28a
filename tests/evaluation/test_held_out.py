"""The held-out loss where there is none: examples of which no token is trained are refused in words."""

from __future__ import annotations

import math

import pytest
import torch

import tiny_architectures as tiny
from weitiao.core.errors import DataError
from weitiao.data.example import Example
from weitiao.engine.optim.precision import Precision
from weitiao.engine.probe import choose_forward
from weitiao.evaluation.held_out import HeldOut, measure_held_out
from weitiao.objectives.sft import SupervisedFineTuning

UNTRAINED = Example.of((5, 6, 7), (0.0, 0.0, 0.0), "rows.json:1")
FIRST_ALONE = Example.of((5, 6, 7), (1.0, 0.0, 0.0), "rows.json:2")
TRAINED = Example.of((5, 6, 7), (0.0, 0.0, 1.0), "rows.json:3")


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


@pytest.mark.parametrize("pack_tokens", [1, 16, 64])
@pytest.mark.parametrize(
    "architecture", ["llama", "bloom"]
)  # bloom mixes packed examples, so they go one at a time
def test_each_row_has_the_loss_that_plain_transformers_gives_it_alone(
    architecture: str, pack_tokens: int
) -> None:
    """Rows that share their beginning, a row given twice and one with a weight between 0 and 1 among them."""
    shared = Example.of((5, 6, 7, 8), (0.0, 1.0, 1.0, 1.0), "rows.json:4")
    branch = Example.of((5, 6, 9, 4, 3), (0.0, 1.0, 0.25, 1.0, 0.0), "rows.json:5")
    examples = [shared, UNTRAINED, branch, shared, TRAINED]
    model = tiny.make_model(architecture)
    forward = choose_forward(model, Precision())
    with forward.attention():
        measured = measure_held_out(forward, SupervisedFineTuning(), examples, pack_tokens)
    assert measured is not None
    for example, (loss, weight) in zip(examples, measured.rows, strict=True):
        (one,) = example.sequences
        ids, weights = torch.tensor([list(one.ids)]), torch.tensor(one.weights)
        with torch.no_grad():
            log_probs = model.eval()(ids).logits[0, :-1].log_softmax(-1)
        expected = -(weights[1:] * log_probs.gather(1, ids[0, 1:, None])[:, 0]).sum()
        assert weight == pytest.approx(float(weights[1:].sum()))
        assert loss == pytest.approx(float(expected), abs=1e-5)
    total, weights_sum = (sum(column) for column in zip(*measured.rows, strict=True))
    assert measured.loss == pytest.approx(total / weights_sum)
    assert measured.measures == {"perplexity": pytest.approx(math.exp(measured.loss))}
    assert HeldOut.from_fields({**measured.as_fields(), "rows": measured.rows}) == measured
