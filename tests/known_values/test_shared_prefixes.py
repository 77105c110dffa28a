"""Examples that begin alike, in one tree, against the plain forward of each alone: losses, gradients, no leak."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.attention.flex_attention import create_block_mask

import tiny_architectures as tiny
from tiny_packs import MODELS, gradients, make, plain_loss_sum
from tiny_training import make_ids, make_training, sequence_of
from weitiao.data.batching.packing import Pack, cut_into_packs, make_pack
from weitiao.data.batching.prefix_tree import SHORTEST_SHARED, find_branches
from weitiao.data.example import Example
from weitiao.engine.attention.backends import LAYOUT, packed_attention
from weitiao.engine.attention.block_mask import BLOCK, Visibility
from weitiao.engine.attention.visibility import Layout
from weitiao.engine.forward import Forward, ForwardOptions
from weitiao.engine.loop import Training
from weitiao.engine.optim.precision import Precision
from weitiao.engine.probe import choose_forward

SHARING = [label for label, (_, _, packs) in MODELS.items() if packs]
LONG = SHORTEST_SHARED + 1
EVERYTHING = 10_000
"""A budget that holds a whole step."""


def ids(length: int, seed: int) -> tuple[int, ...]:
    return make_ids(length, seed)


def example(*parts: tuple[int, ...], trained_from: int = 1) -> Example:
    whole = sum(parts, ())
    return Example.of(
        whole, tuple(float(t >= trained_from) for t in range(len(whole))), f"rows.json:{len(whole)}"
    )


def tree(depth: int, trained_from: int = 5) -> list[Example]:
    """Return examples that go apart at `depth` places, three ways each, one of them deeper; and one by itself."""
    trunk, examples = (), []
    for level in range(depth):
        trunk += ids(LONG + level, 10 * level)
        examples += [example(trunk, (branch, 5 + branch, 7), trained_from=trained_from) for branch in (3, 9)]
    last = example(trunk, (30, 31, 32, 33), trained_from=trained_from)
    return [*examples, last, example(trunk[:-2], trained_from=2), last, example(ids(6, 99))]


def with_method(method: str | dict[str, Any], label: str, rows: Sequence[Example], folder: Path) -> Training:
    training = make_training(folder, rows, method=method, model=make(label, layers=3), pack_tokens=EVERYTHING)
    with torch.no_grad():  # so that LoRA's B is not zero, and the gradient of A neither
        for parameter in training.stepper.parameters.values():
            parameter += 0.05 * torch.ones_like(parameter)
    return training


def by_hand(training: Training, rows: Sequence[Example]) -> tuple[float, dict[str, torch.Tensor]]:
    """Return loss and gradients of the plain forward of one example after the other."""
    sums = [plain_loss_sum(training.attached.model, row) for row in rows]
    loss = torch.stack(sums).sum() / sum(row.loss_weight for row in rows)
    loss.backward()
    return float(loss.detach()), gradients(training.stepper.parameters)


def assert_equals_by_hand(training: Training, rows: Sequence[Example], rtol: float = 1e-5) -> None:
    expected_loss, expected = by_hand(training, rows)
    with training.stepper.forward.attention():
        assert training.stepper.gradients(rows, 0).loss == pytest.approx(expected_loss, abs=1e-5)
    found = gradients(training.stepper.parameters)
    assert found.keys() == expected.keys()
    for name in found:
        torch.testing.assert_close(found[name], expected[name], atol=1e-5, rtol=rtol, msg=name)


@pytest.mark.parametrize(
    ("label", "method", "depth"),
    [
        *(("llama", ("lora", "full")[depth % 2], depth) for depth in (1, 2, 3, 4)),
        *((label, "lora", 4) for label in SHARING[1::2]),
        *((label, "full", 3) for label in SHARING[2::2]),
    ],
)
def test_a_tree_is_the_plain_forward_of_its_samples(
    label: str, method: str, depth: int, tmp_path: Path
) -> None:
    rows = tree(depth)
    training = with_method({"name": "lora", "r": 4} if method == "lora" else method, label, rows, tmp_path)
    forward = training.stepper.forward
    assert forward.options.shares
    (pack,) = forward.cut(rows, EVERYTHING)
    assert len(pack.ids_T) < sum(row.tokens for row in rows)
    assert len(pack.kept_P) < len(
        pack.targets_K
    )  # one position predicts the first tokens of several branches
    assert_equals_by_hand(training, rows)


PROMPTS = ("prompt_tuning", "p_tuning", "prefix_tuning", "p_tuning_v2")


@pytest.mark.parametrize(
    ("label", "method", "checkpointing"),
    [
        *zip(["llama"] * 4, PROMPTS, (True, True, False, False), strict=True),
        *product(("gpt2",), PROMPTS[::2], (True,)),
        *product(("opt",), PROMPTS[1::2], (False,)),
        *product(("qwen2", "phi3"), ("prompt_tuning",), (False,)),
        *product(("gemma",), ("p_tuning_v2",), (True,)),
        ("mistral, window shorter than a sample", "prompt_tuning", True),
    ],
)
def test_a_tree_behind_virtual_tokens(label: str, method: str, checkpointing: bool, tmp_path: Path) -> None:
    """Each example alone goes through PEFT's own forward, which knows no packs."""
    rows = tree(2)
    training = make_training(
        tmp_path, rows, method={"name": method, "num_virtual_tokens": 5}, model=make(label),
        pack_tokens=EVERYTHING, gradient_checkpointing=checkpointing,
    )  # fmt: skip
    stepper = training.stepper
    assert stepper.forward.options.shares
    training.attached.model.train()
    with stepper.forward.attention():
        loss = stepper.gradients(rows, 0).loss
    found = gradients(stepper.parameters)
    stepper.forward = Forward(training.attached.model, Precision(), ForwardOptions(packs=False))
    assert loss == pytest.approx(stepper.gradients(rows, 0).loss, abs=1e-5)
    for name, gradient in gradients(stepper.parameters).items():
        torch.testing.assert_close(found[name], gradient, atol=1e-5, rtol=1e-4, msg=name)


@pytest.mark.parametrize("label", SHARING)
def test_another_branch_changes_no_bit(label: str) -> None:
    forward = choose_forward(make(label), Precision())
    header = ids(LONG, 1)
    rest = [example(header, ids(7, 3)), example(header, ids(5, 4)[:-1]), example(ids(6, 5))]
    packs = [make_pack([example(header, tail), *rest]) for tail in ((4, *ids(8, 6)), (50, *ids(8, 7)))]
    own = slice(LONG + 9, None)
    with torch.no_grad(), forward.attention():
        one, other = (forward.outputs(pack).logits_PV() for pack in packs)
    kept = torch.from_numpy(packs[0].kept_P)
    assert packs[0].shares
    assert torch.equal(one[kept >= own.start], other[kept >= own.start])
    assert torch.equal(one[kept < LONG], other[kept < LONG])
    assert not torch.equal(one, other)


@pytest.mark.parametrize("label", ["llama", "gpt2", "qwen2"])
def test_budget_and_order_change_nothing(label: str, tmp_path: Path) -> None:
    rows = [*tree(3), *tree(2)]
    training = with_method({"name": "lora", "r": 4}, label, rows, tmp_path)
    stepper = training.stepper

    def found(order: Sequence[Example], budget: int) -> tuple[float, dict[str, torch.Tensor]]:
        stepper.pack_tokens = budget
        with stepper.forward.attention():
            return stepper.gradients(order, 0).loss, gradients(stepper.parameters)

    loss, expected = found(rows, EVERYTHING)
    for order, budget in ((rows[::-1], EVERYTHING), (rows, 60), (rows[::-1], 33), (rows, 1)):
        other_loss, other = found(order, budget)
        assert other_loss == pytest.approx(loss, abs=1e-6)
        for name, gradient in other.items():
            torch.testing.assert_close(gradient, expected[name], atol=1e-6, rtol=1e-6, msg=name)


def grown(draw: st.DrawFn) -> list[Example]:
    """Return examples each of which begins with some tokens of an earlier one."""
    rows: list[Example] = []
    for number in range(draw(st.integers(1, 8))):
        trunk = draw(st.sampled_from([(), *(sequence_of(row).ids for row in rows)]))
        kept = trunk[: draw(st.integers(min(len(trunk), SHORTEST_SHARED), len(trunk)) | st.just(0))]
        own = tuple(draw(st.lists(st.integers(3, 12), min_size=0 if len(kept) > 1 else 2, max_size=14)))
        whole = (*kept, *own)[:40]
        some = draw(st.lists(st.sampled_from([0.0, 1.0, 0.5]), min_size=1, max_size=12))
        weights = (some * len(whole))[: len(whole)]  # drawn one by one they would take half the time
        rows.append(Example.of(whole, tuple(weights), f"rows.json:{number}"))
    return rows


trees = st.composite(grown)()


def sees_by_definition(pack: Pack) -> torch.Tensor:
    """Return (T, T): whether a row's token stands before another's, or is it, in an example."""
    places: dict[tuple[int, ...], int] = {}
    for segment in pack.segments:
        rows = [row for interval in segment.context for row in range(*interval)]
        for row in range(segment.start, segment.end):
            rows.append(row)
            places[tuple(int(i) for i in pack.ids_T[rows])] = row
    sees = torch.zeros(len(pack.ids_T), len(pack.ids_T), dtype=torch.bool)
    for row_of_prefix in pack.sequences:
        ids_of = row_of_prefix.ids
        rows = [places[ids_of[: t + 1]] for t in range(len(ids_of))]
        for t, row in enumerate(rows):
            sees[row, rows[: t + 1]] = True
    return sees


@settings(max_examples=150, deadline=None)
@given(trees)
def test_what_a_pack_holds(rows: list[Example]) -> None:
    """Every example can be read off the tree, its targets weigh what they weigh, and nothing stands there twice."""
    pack = make_pack(rows)
    assert pack.examples == tuple(rows)
    sequences = [sequence_of(row) for row in rows]
    assert sorted(one.ids for one in pack.sequences) == sorted(one.ids for one in sequences)
    assert len(pack.ids_T) <= len(make_pack(rows, share=False).ids_T)
    assert pack.weights_K.sum() == pytest.approx(sum(row.loss_weight for row in rows))
    assert sum(end - start for start, end in zip(pack.starts, pack.starts[1:], strict=False)) == len(
        pack.ids_T
    )
    pairs = list(zip(pack.rows_K.tolist(), pack.targets_K.tolist(), strict=True))
    if len({one.ids[:SHORTEST_SHARED] for one in sequences}) == 1 and all(row.tokens >= LONG for row in rows):
        assert len(pairs) == len(set(pairs))
        prefixes = {one.ids[: t + 1] for one in sequences for t in range(len(one.ids))}
        assert len(pack.ids_T) == len(prefixes)


@settings(max_examples=150, deadline=None)
@given(trees, st.sampled_from([None, 3, 10]), st.sampled_from([(0, 0), (4, 0), (4, 4)]))
def test_the_block_mask_and_the_segments_say_what_the_tree_does(
    rows: list[Example], window: int | None, front: tuple[int, int]
) -> None:
    pack, (keys_in_front, queries_in_front) = make_pack([row for row in rows if row.tokens > 1]), front
    total = len(pack.ids_T)
    layout = Layout.of(pack).behind(keys_in_front, queries_in_front)
    wanted = torch.zeros(total + keys_in_front, total + keys_in_front, dtype=torch.bool)
    beginnings = {sequence_of(row).ids[:8] for row in rows}
    if not any(row.tokens < SHORTEST_SHARED for row in rows) and len(beginnings) == 1:
        torch.testing.assert_close(sees_by_definition(pack), _dense(Layout.of(pack), None))
    positions = torch.cat([torch.arange(keys_in_front), torch.from_numpy(pack.positions_T) + keys_in_front])
    wanted[keys_in_front:, keys_in_front:] = _dense(Layout.of(pack), None)
    wanted[:, :keys_in_front] = positions[:, None] >= positions[None, :keys_in_front]
    if window is not None:
        wanted &= positions[:, None] - positions < window
    wanted = wanted[keys_in_front - queries_in_front :]
    torch.testing.assert_close(_dense(layout, window)[keys_in_front - queries_in_front :], wanted)
    queries = total + queries_in_front
    keys = total + keys_in_front
    torch.testing.assert_close(_seen(layout.visibility(keys, queries, window)), wanted)
    _assert_blocks_hold(layout.block_mask(keys, queries, window, torch.device("cpu")), wanted)


def _seen(visible: Visibility) -> torch.Tensor:
    """Return (Q, k) of what the function says that FlexAttention asks."""
    zero = torch.zeros(())
    queries, keys = len(visible.earliest_q), len(visible.from_k)
    return visible.as_function(torch.device("cpu"))(
        zero, zero, torch.arange(queries)[:, None], torch.arange(keys)[None]
    )


def _assert_blocks_hold(mask: Any, wanted_Qk: torch.Tensor) -> None:  # noqa: ANN401
    """Check that all that is seen lies in blocks computed, each named once, and that full ones are whole and seen."""
    queries, keys = wanted_Qk.shape
    assert mask.seq_lengths == (queries, keys)
    by_element = torch.zeros(-(-queries // BLOCK) * BLOCK, -(-keys // BLOCK) * BLOCK, dtype=torch.int32)
    kinds = [(mask.kv_num_blocks, mask.kv_indices), (mask.full_kv_num_blocks, mask.full_kv_indices)]
    for full, (counts, indices) in enumerate(kinds):
        for row, count in enumerate(counts[0, 0].tolist()):
            for column in indices[0, 0, row, :count].tolist():
                place = (slice(row * BLOCK, (row + 1) * BLOCK), slice(column * BLOCK, (column + 1) * BLOCK))
                by_element[place] += 1
                assert not full or (wanted_Qk[place].numel() == BLOCK**2 and wanted_Qk[place].all())
    assert by_element.max() <= 1
    assert not (wanted_Qk & (by_element[:queries, :keys] == 0)).any()


@pytest.mark.parametrize("window", [None, 100, 500])
@pytest.mark.parametrize("front", [(0, 0), (200, 0), (200, 200)])
def test_blocks_of_long_rows_are_those_of_torch(window: int | None, front: tuple[int, int]) -> None:
    """Packs of several blocks, some of them full, beside what create_block_mask finds by asking for every pair."""
    keys_in_front, queries_in_front = front
    header = tuple(range(3, 303))
    rows = [
        Example.of(
            (*header, *(400 + n + t for t in range(own))), (0.0,) * 300 + (1.0,) * own, f"rows.json:{n}"
        )
        for n, own in enumerate((300, 20, 150))
    ]
    layout = Layout.of(make_pack(rows)).behind(*front)
    keys = layout.end
    queries = keys - keys_in_front + queries_in_front
    visible = layout.visibility(keys, queries, window)
    torchs = create_block_mask(visible.as_function(torch.device("cpu")), None, None, queries, keys, "cpu")
    mask = layout.block_mask(keys, queries, window, torch.device("cpu"))
    _assert_blocks_hold(mask, _seen(visible))
    assert (mask.full_kv_num_blocks.sum() > 0) == (torchs.full_kv_num_blocks.sum() > 0)
    if window is None:
        for name in ("kv_num_blocks", "full_kv_num_blocks", "q_num_blocks", "full_q_num_blocks"):
            torch.testing.assert_close(getattr(mask, name), getattr(torchs, name))


def _dense(layout: Layout, window: int | None) -> torch.Tensor:
    """Return (end, end) of what the segments' own masks say."""
    dense = torch.zeros(layout.end, layout.end, dtype=torch.bool)
    for segment in layout.segments:
        columns = [row for part in (*segment.context, (segment.start, segment.end)) for row in range(*part)]
        own = segment.end - segment.start
        mask = layout.mask(segment, window, torch.device("cpu"))
        dense[segment.start : segment.end, columns] = (
            torch.ones(own, own).tril() > 0 if mask is None else mask
        )
    return dense


@settings(max_examples=60, deadline=None)
@given(trees, st.sampled_from([None, 4]), st.sampled_from([1, 2]))
def test_attention_is_that_of_a_dense_mask(rows: list[Example], window: int | None, groups: int) -> None:
    pack = make_pack(rows)
    total = len(pack.ids_T)
    generator = torch.Generator().manual_seed(total)
    query, key, value = (
        torch.randn(1, heads, total, 8, generator=generator) for heads in (2, 2 // groups, 2 // groups)
    )
    layout = Layout.of(pack)
    found, _ = packed_attention(
        torch.nn.Identity(), query, key, value, None, sliding_window=window, **{LAYOUT: layout}
    )
    sees = layout.visibility(total, total, window).as_function(torch.device("cpu"))
    zero = torch.zeros(())
    mask = sees(zero, zero, torch.arange(total)[:, None], torch.arange(total)[None])
    wanted = torch.nn.functional.scaled_dot_product_attention(
        query, key, value, attn_mask=mask, enable_gqa=True
    )
    torch.testing.assert_close(found, wanted.transpose(1, 2), atol=1e-5, rtol=1e-5)


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Training:
    return with_method("full", "llama", tree(1), tmp_path_factory.mktemp("full"))


@settings(max_examples=25, deadline=None)
@given(rows=trees, budget=st.sampled_from([1, 30, 60, EVERYTHING]))
def test_random_trees_give_the_gradients_of_separate_samples(
    full: Training, rows: list[Example], budget: int
) -> None:
    trained = [row for row in rows if row.trained_tokens]
    if trained:
        full.stepper.pack_tokens = budget
        assert_equals_by_hand(full, trained, rtol=1e-4)


@settings(max_examples=100, deadline=None)
@given(trees, st.integers(1, 80))
def test_packs_keep_to_their_budget_and_lose_no_example(rows: list[Example], budget: int) -> None:
    packs = cut_into_packs(rows, budget)
    trained = [row for row in rows if row.trained_tokens]
    found = sorted(one.ids for pack in packs for one in pack.sequences)
    assert found == sorted(sequence_of(row).ids for row in trained)
    assert sorted(number for pack in packs for number in pack.numbers) == [
        number for number, row in enumerate(rows) if row.trained_tokens
    ]
    for pack in packs:
        assert len(pack.ids_T) <= budget or len(pack.segments) == 1
    assert len(packs) <= len(cut_into_packs(rows, budget, share=False)) + len(packs) // 2


def gathered(draw: st.DrawFn) -> list[Example]:
    """Return examples of one to three sequences, some of which weigh less than nothing, as rejected answers do."""
    left = [sequence_of(row) for row in draw(trees)]
    examples: list[Example] = []
    while left:
        own, left = left[: (count := draw(st.integers(1, 3)))], left[count:]
        signs = [draw(st.sampled_from([1, -1])) for _ in own]
        weighed = [
            replace(one, weights=tuple(sign * weight for weight in one.weights))
            for one, sign in zip(own, signs, strict=True)
        ]
        examples.append(Example(tuple(weighed), f"rows.json:{len(examples)}"))
    return examples


@settings(max_examples=100, deadline=None)
@given(st.composite(gathered)(), st.integers(1, 80), st.booleans())
def test_packs_know_whose_their_sequences_and_targets_are(
    examples: list[Example], budget: int, share: bool
) -> None:
    packs = cut_into_packs(examples, budget, share)
    trained = [number for number, one in enumerate(examples) if one.trained_tokens]
    found = [(pack.numbers[example], number) for pack in packs for example, number in pack.owners]
    assert sorted(found) == [(at, number) for at in trained for number in range(len(examples[at].sequences))]
    for at in trained:
        if len(make_pack([examples[at]], share).ids_T) <= budget:
            assert sum(at in pack.numbers for pack in packs) == 1, "what fits together stays together"
    for pack in packs:
        assert pack.examples == tuple(examples[at] for at in pack.numbers)
        assert [pack.owners[number] for number in pack.by_example] == sorted(pack.owners)
        member = pack.membership
        for number, (one, (example, own)) in enumerate(zip(pack.sequences, pack.owners, strict=True)):
            assert one == pack.examples[example].sequences[own]
            mine = member.sequences_M == number
            pairs = zip(one.ids[1:], one.weights[1:], strict=True)
            assert [*zip(pack.targets_K[member.targets_M[mine]], member.weights_M[mine], strict=True)] == [
                (token, weight) for token, weight in pairs if weight
            ]
        summed_K = np.zeros(len(pack.targets_K), np.float32)
        np.add.at(summed_K, member.targets_M, member.weights_M)
        np.testing.assert_array_equal(summed_K, pack.weights_K)


def test_a_system_prompt_stands_once_and_its_rows_go_into_one_pack() -> None:
    system = ids(30, 1)
    rows = [example(system, ids(10, 2 + n), trained_from=32) for n in range(8)]
    others = [example(ids(40, 20 + n)) for n in range(2)]
    (together, apart) = cut_into_packs([*others[:1], *rows, *others[1:]], 30 + 8 * 10)
    assert together.examples == tuple(rows)
    assert len(together.ids_T) == 30 + 8 * 10
    assert apart.examples == tuple(others)


def test_branches_come_deepest_first_so_that_all_below_a_row_follows_it() -> None:
    trunk = ids(30, 1)
    leaving = [example(trunk[:at], (70 + at, 5, 6)) for at in (12, 20, 20, 12)]
    leaving[2] = example(trunk[:20], (99, 5, 6))
    pack = make_pack([example(trunk), *leaving])
    assert [segment.context for segment in pack.segments] == [(), *[((0, n),) for n in (20, 20, 12)]]
    assert [pack.examples[owner] for owner, _ in pack.owners[1:3]] == [leaving[1], leaving[2]]
    assert {owner for owner, _ in pack.owners[3:]} == {1, 4}  # the same row twice
    assert pack.sequences == tuple(sequence_of(pack.examples[owner]) for owner, _ in pack.owners)


def test_what_little_is_shared_is_not_worth_a_branch() -> None:
    header = ids(SHORTEST_SHARED - 1, 1)
    assert all(
        b.parent is None for b in find_branches([sequence_of(example(header, (last,))) for last in (3, 4)])
    )
    longer = (*header, 20)
    assert [b.parent for b in find_branches([sequence_of(example(longer, (last,))) for last in (3, 4)])] == [
        None,
        0,
    ]


def test_noise_on_embeddings_is_drawn_for_each_example(tmp_path: Path) -> None:
    rows = tree(2)
    training = make_training(tmp_path, rows, neftune_alpha=5.0)
    assert training.stepper.forward.options.packs
    assert not training.stepper.forward.options.shares
    assert not any(pack.shares for pack in training.stepper.forward.cut(rows, EVERYTHING))


def test_a_tree_on_a_model_that_takes_one_example_at_a_time() -> None:
    """Whoever shares by hand gets the same from it."""
    forward = choose_forward(tiny.make_model("bloom"), Precision())
    assert not forward.options.shares
    with torch.no_grad(), forward.attention():
        found, wanted = (forward.outputs(make_pack(tree(2), share=share)) for share in (True, False))
    assert len(found.targets_K) == len(wanted.targets_K)
    assert float(found.weights_K.sum()) == float(wanted.weights_K.sum())
