"""One, two and three processes make the same steps: gradients, losses and weights, lack of memory, NaN, stops."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import tiny_architectures as tiny
from tiny_objectives import Embeddings, OfSequences, Pairs, WholeStep, make_pairs
from tiny_ranks import EXAMPLES, MARK, Ended, NoRoom, NotANumber, differing, run_ranks, steps, whole_run
from tiny_training import behind, ends_in, equal, largest_difference, make_examples, weights_of
from weitiao.data.batching.packing import cut_into_packs
from weitiao.engine.checkpoint import list_checkpoints
from weitiao.engine.runtime.distributed import Ranks

SMALL = 25
"""A budget below a third of every step, so that one, two and three ranks cut it into the same packs."""


HEADERS = make_examples(3, seed=5, shortest=12, longest=16)
TREES = [behind(HEADERS[n % 3], row) for n, row in enumerate(EXAMPLES)]
"""Rows of which each begins like seven others."""


def alone(folder: Path, **settings: Any) -> Ended:  # noqa: ANN401
    found = steps(0, folder / "alone", **settings)
    return Ended(weights_of(found["training"]), found["gradients"], found["told"])


def alike(ranks: list[Ended]) -> Ended:
    """Return what all ranks came to, which must be equal bit by bit."""
    for other in ranks[1:]:
        assert equal(other.weights, ranks[0].weights)
        assert equal(other.gradients, ranks[0].gradients)
        assert other.told == ranks[0].told
    return ranks[0]


def assert_close(found: Ended, wanted: Ended) -> None:
    assert largest_difference(found.gradients, wanted.gradients) < 1e-6
    assert largest_difference(found.weights, wanted.weights) < 1e-6
    assert found.told["losses"] == pytest.approx(wanted.told["losses"], abs=1e-6)
    assert found.told["norms"] == pytest.approx(wanted.told["norms"], abs=1e-6)


@pytest.mark.parametrize(
    ("world_size", "settings"),
    [
        (2, {}),
        (2, {"method": "full", "architecture": "gpt2"}),
        (3, {"method": {"name": "lora", "r": 4, "dropout": 0.3}, "pack_tokens": SMALL}),
        (2, {"method": "adalora", "steps": 20}),
        (2, {"method": {"name": "diff_pruning", "gate_speed": 1.0}, "pack_tokens": SMALL, "steps": 4}),
        (2, {"rows": TREES}),
    ],
    ids=["lora", "full", "dropout", "a penalty", "a penalty and draws", "trees"],
)
def test_the_number_of_ranks_changes_nothing(
    world_size: int, settings: dict[str, Any], tmp_path: Path
) -> None:
    together = alike(run_ranks(world_size, steps, tmp_path / "ranks", **settings))
    assert_close(together, alone(tmp_path, **settings))


@pytest.mark.parametrize("kind", [Pairs, WholeStep, Embeddings])
def test_sequences_that_a_loss_couples_may_lie_on_several_ranks(
    kind: type[OfSequences], tmp_path: Path
) -> None:
    rows = make_pairs(12, tiny.VOCABULARY)
    settings = {"rows": rows, "objective": kind(), "pack_tokens": 1, "batch_size": 4}
    found, wanted = alike(run_ranks(2, steps, tmp_path / "ranks", **settings)), alone(tmp_path, **settings)
    assert largest_difference(found.weights, wanted.weights) < 1e-6
    assert found.told["losses"] == pytest.approx(wanted.told["losses"], abs=2e-6)


def test_a_process_group_of_one(tmp_path: Path) -> None:
    (found,) = run_ranks(1, steps, tmp_path / "ranks")
    wanted = alone(tmp_path)
    assert equal(found.weights, wanted.weights)
    assert found.told == wanted.told


def test_a_rank_without_a_pack_and_a_parameter_without_a_gradient(tmp_path: Path) -> None:
    """Where no rank has a gradient Adam must pass over the parameter, and not move it by its momentum."""
    settings = {
        "batch_size": 2,
        "pack_tokens": 1,
        "architecture": "llama",
        "method": {"name": "lora", "r": 4},
    }
    together = alike(run_ranks(3, steps, tmp_path / "ranks", **settings))
    assert_close(together, alone(tmp_path, **settings))
    pruned = {"method": "diff_pruning", "steps": 2, "pack_tokens": SMALL, "weight_decay": 0.1}
    gates = alike(run_ranks(2, steps, tmp_path / "pruned", **pruned))
    wanted = alone(tmp_path / "p", **pruned)
    moved_by = {n: w for n, w in gates.weights.items() if "gates" in n}
    assert moved_by
    assert largest_difference(moved_by, {n: wanted.weights[n] for n in moved_by}) < 1e-6


def test_memory_that_one_rank_lacks_halves_the_packs_of_all(tmp_path: Path) -> None:
    settings = {"method": {"name": "lora", "r": 4, "dropout": 0.3}, "pack_tokens": 60}
    found = alike(run_ranks(2, steps, tmp_path / "ranks", objective=NoRoom(rank=1, most=20), **settings))
    budget = found.told["budget"]
    assert budget in (30, 15)
    started_so = run_ranks(2, steps, tmp_path / "so", **(settings | {"pack_tokens": budget}))
    assert equal(found.weights, alike(started_so).weights)


def test_memory_that_never_suffices_ends_every_rank(tmp_path: Path) -> None:
    found = alike(run_ranks(2, steps, tmp_path / "ranks", objective=NoRoom(rank=1, most=0)))
    assert found.told["error"].startswith("ResourceError")


@pytest.mark.parametrize("place", [0, 3])
def test_a_row_that_is_not_finite_is_named_by_every_rank(place: int, tmp_path: Path) -> None:
    spoilt = [ends_in(MARK, example) for example in EXAMPLES[place : place + 1]]
    rows = [*EXAMPLES[:place], *spoilt, *EXAMPLES[place + 1 : 8]]
    found = alike(run_ranks(2, steps, tmp_path / "ranks", objective=NotANumber(), rows=rows))
    assert found.told["error"].startswith("NotFiniteError")
    assert f"the rows {EXAMPLES[place].place}" in found.told["error"]


@pytest.mark.parametrize("stops", [None, 0, 1])
def test_the_first_rank_alone_writes_and_all_stop_together(stops: int | None, tmp_path: Path) -> None:
    first, second = run_ranks(2, whole_run, tmp_path / "ranks", stops=stops)
    assert equal(first.weights, second.weights)
    assert all(first.told[key] == second.told[key] for key in ("step", "stopped", "best", "best_loss"))
    assert first.told["step"] == (4 if stops is None else 2)
    assert first.told["stopped"] is (stops is not None)
    assert first.told["events"].count("checkpoint") == first.told["step"]
    assert first.told["published"] >= first.told["step"]
    assert second.told["published"] == 0
    assert set(second.told["events"]) == {"parameters", "memory"}, "said before the engine begins"
    assert list_checkpoints(tmp_path / "ranks" / "checkpoints")


def test_all_begin_with_the_first_ranks_weights(tmp_path: Path) -> None:
    alike(run_ranks(2, differing, tmp_path / "ranks"))


def test_each_pack_is_one_ranks_and_the_tokens_are_spread() -> None:
    packs = cut_into_packs(make_examples(40, seed=1, shortest=4, longest=60), 60)
    for world_size in (1, 2, 3, 7):
        shares = [Ranks(rank, world_size).share(packs) for rank in range(world_size)]
        assert sorted(index for share in shares for index, _ in share) == list(range(len(packs)))
        assert all(pack is packs[index] for share in shares for index, pack in share)
        loads = [sum(len(pack.ids_T) for _, pack in share) for share in shares]
        assert max(loads) - min(loads) <= 60
    assert [index for index, _ in Ranks.alone().share(packs)] == list(range(len(packs)))


def test_every_rank_gets_a_pack_of_a_step_that_one_pack_would_hold() -> None:
    assert Ranks.alone().budget(EXAMPLES, 10_000) == 10_000
    for world_size in (2, 3):
        budget = replace(Ranks.alone(), world_size=world_size).budget(EXAMPLES, 10_000)
        packs = cut_into_packs(EXAMPLES, budget)
        assert all(Ranks(rank, world_size).share(packs) for rank in range(world_size))
    assert Ranks(0, 2).budget(EXAMPLES, 10) == 10


def test_there_is_one_rank_where_no_group_is() -> None:
    assert not torch.distributed.is_initialized()
    assert Ranks.current() == Ranks.alone()
    assert Ranks.current().first
