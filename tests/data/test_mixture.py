"""The order of an epoch: a pure function of seed and epoch, with each example as often as it is weighted."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from weitiao.data.batching.sampling import epoch_order


def test_order_is_pure_and_leaves_the_global_state_alone() -> None:
    random.seed(1)
    state = random.getstate()
    first = epoch_order([1.0] * 50, seed=3, epoch=2)
    assert random.getstate() == state
    assert first == epoch_order([1.0] * 50, seed=3, epoch=2)
    assert sorted(first) == list(range(50))
    assert len({tuple(epoch_order([1.0] * 50, s, e)) for s in range(3) for e in range(3)}) == 9


def test_order_stays_what_it_was() -> None:
    """A checkpoint of another day, machine or Python continues in the same order."""
    assert epoch_order([1, 2, 0.5, 0.5], seed=0, epoch=0) == EXPECTED


EXPECTED = [1, 2, 1, 0]


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(0.01, 3), min_size=1, max_size=30), st.integers(0, 2**40))
def test_counts_are_the_draws_over_epochs(draws: list[float], seed: int) -> None:
    total: Counter[int] = Counter()
    for epoch in range(4):
        counts = Counter(epoch_order(draws, seed, epoch))
        assert all(int(times) <= counts[i] <= int(times) + 1 for i, times in enumerate(draws))
        total += counts
        assert abs(total.total() - sum(draws) * (epoch + 1)) <= 0.5 + 1e-6


def test_fractions_reach_every_example() -> None:
    seen = {i for epoch in range(60) for i in epoch_order([0.25] * 8, 0, epoch)}
    assert seen == set(range(8))
    assert all(len(epoch_order([0.25] * 8, 0, epoch)) == 2 for epoch in range(9))
    with pytest.raises(ValueError, match="from 0"):
        epoch_order([1.0], 0, -1)
