"""Which examples a step sees: a pure function of (seed, epoch, index), whatever was asked before."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tiny_training import make_examples
from weitiao.core.errors import DataError
from weitiao.engine.runtime.batches import StepPlan


def plan(count: int = 10, batch_size: int = 4, draws: float = 1.0, **changes: float | None) -> StepPlan:
    asked = {"seed": 7, "epochs": 3.0, "steps": None, **changes}
    return StepPlan(make_examples(count, longest=6, draws=draws), batch_size, **asked)  # type: ignore[arg-type]


def places(made: StepPlan, step: int) -> list[str]:
    return [example.place for example in made.batch(step)]


def test_an_epoch_sees_every_example_once_and_its_last_step_holds_the_rest() -> None:
    made = plan()
    for epoch in range(3):
        steps = [places(made, 3 * epoch + n) for n in range(3)]
        assert [len(step) for step in steps] == [4, 4, 2]
        assert sorted(place for step in steps for place in step) == sorted(
            example.place for example in made.examples
        )
    assert made.total_steps == 9
    assert [step for step in range(9) if made.ends_epoch(step)] == [2, 5, 8]


def test_epochs_differ_and_so_do_seeds() -> None:
    made = plan(batch_size=10)
    assert len({tuple(places(made, epoch)) for epoch in range(3)}) == 3
    assert places(made, 0) != places(plan(batch_size=10, seed=8), 0)
    assert places(made, 0) == places(plan(batch_size=10), 0)


@given(
    count=st.integers(1, 12),
    batch_size=st.integers(1, 20),
    draws=st.sampled_from([0.5, 1.0, 1.3, 2.0]),
    order=st.permutations(range(12)),
)
@settings(max_examples=40, deadline=None)
def test_it_does_not_matter_what_was_asked_before(
    count: int, batch_size: int, draws: float, order: list[int]
) -> None:
    if count * draws < 1:
        return
    straight, jumping = (plan(count, batch_size, draws) for _ in range(2))
    expected = [places(straight, step) for step in range(12)]
    assert all(expected), "a step without examples"
    assert {step: places(jumping, step) for step in order} == dict(enumerate(expected))
    assert [jumping.epoch_of(step) for step in range(12)] == sorted(
        jumping.epoch_of(step) for step in range(12)
    )


def test_a_batch_larger_than_the_data_is_the_whole_data() -> None:
    made = plan(count=3, batch_size=8)
    assert (made.total_steps, len(made.batch(0)), len(made.batch(7))) == (3, 3, 3)


@pytest.mark.parametrize(("epochs", "steps"), [(0.01, 1), (0.5, 2), (1.0, 3), (1.25, 4), (2.67, 9), (3.0, 9)])
def test_a_fraction_of_an_epoch_is_rounded_up_to_a_step(epochs: float, steps: int) -> None:
    assert plan(epochs=epochs).total_steps == steps


def test_steps_replace_epochs() -> None:
    made = plan(steps=50)
    assert made.total_steps == 50
    assert len(made.batch(49)) in (2, 4)


@pytest.mark.parametrize(("draws", "seen"), [(0.5, 5), (2.0, 20), (1.5, 15)])
def test_draws_say_how_often_an_epoch_sees_an_example(draws: float, seen: int) -> None:
    made = plan(draws=draws, batch_size=100)
    counts = [Counter(places(made, epoch)) for epoch in range(4)]
    assert [sum(count.values()) for count in counts] == [seen] * 4
    low = int(draws)
    assert {times for count in counts for times in count.values()} <= {low, low + 1} - {0}
    assert len({frozenset(count.items()) for count in counts}) > 1 or draws == 2.0


def test_an_epoch_that_may_be_empty_is_refused() -> None:
    with pytest.raises(DataError, match="less than one example"):
        plan(count=3, draws=0.25)


def test_a_late_step_of_many_epochs_is_found_at_once() -> None:
    made = plan(count=2, batch_size=2, steps=20_000)
    assert made.epoch_of(19_999) == 19_999
    assert len(made.batch(19_999)) == 2
