"""Every attention backend on a GPU, forward and backward, against the formula in fp32 on each example by itself."""

from __future__ import annotations

import pytest
import torch

from tiny_gpu import (
    DEVICE,
    ON_GPU,
    alike,
    attention_by_formula,
    distance,
    gpu_only,
    rehearsed,
    with_gradients,
)
from tiny_training import make_examples
from weitiao.data.batching.packing import Pack, make_pack
from weitiao.engine.attention.backends import BACKENDS, Backend, Call, choose_backend
from weitiao.engine.attention.visibility import Layout

BF16, FP16, FP32 = torch.bfloat16, torch.float16, torch.float32
TOLERANCES = {BF16: 2.5e-2, FP16: 5e-3, FP32: 5e-5}
CAPABILITY = torch.cuda.get_device_capability() if ON_GPU else None

APART = make_pack(make_examples(5, seed=3, shortest=20, longest=70), share=False)
ALIKE = make_pack(alike(count=4, header=40, own=15))
LONG_APART = make_pack(make_examples(4, seed=4, shortest=100, longest=400), share=False)
LONG_ALIKE = make_pack(alike(count=5, header=300, own=150))
FILLED = make_pack(make_examples(3, seed=5), share=False, fill_to=200)


def make_call(
    pack: Pack,
    dtype: torch.dtype,
    heads: tuple[int, int] = (4, 2),
    size: int = 64,
    window: int | None = None,
    front: tuple[int, int] = (0, 0),
    scaling: float | None = None,
) -> Call:
    """Return queries, keys and values of a pack; `front` are keys and queries that a method puts before them."""
    generator = torch.Generator().manual_seed(0)
    rows = len(pack.ids_T)
    query, key, value = (
        torch.randn(1, count, rows + before, size, generator=generator).to(DEVICE, dtype)
        for count, before in zip((heads[0], heads[1], heads[1]), (front[1], front[0], front[0]), strict=True)
    )
    return Call(query, key, value, Layout.of(pack).behind(*front), scaling, window)


def in_fp32(call: Call) -> Call:
    whole = (call.query_BHTD.float(), call.key_BHkD.float(), call.value_BHkD.float())
    return Call(*whole, call.layout, call.scaling, call.window)


def assert_right(backend: Backend, call: Call, pack: Pack) -> None:
    shape = call.query_BHTD.transpose(1, 2).shape
    like = torch.randn(shape, generator=torch.Generator().manual_seed(1)).to(DEVICE)
    wanted = with_gradients(lambda exact: attention_by_formula(exact, pack), in_fp32(call), like)
    found = with_gradients(backend.attend, call, like)
    tolerance = TOLERANCES[call.query_BHTD.dtype]
    names = ("output", "gradient of the queries", "of the keys", "of the values")
    far = {name: distance(one, other) for name, one, other in zip(names, found, wanted, strict=True)}
    assert max(far.values()) < tolerance, (backend.name, far)


def by_name(name: str) -> Backend:
    return next(backend for backend in BACKENDS if backend.name == name)


@pytest.mark.parametrize("pack", [APART, ALIKE, FILLED], ids=["apart", "alike", "filled"])
@pytest.mark.parametrize("window", [None, 2, 7])
@pytest.mark.parametrize("front", [(0, 0), (5, 0), (5, 5)], ids=["plain", "prefix", "virtual"])
class TestSegments:
    pytestmark = rehearsed

    def test_in_fp32(self, pack: Pack, window: int | None, front: tuple[int, int]) -> None:
        assert_right(by_name("segments"), make_call(pack, FP32, size=16, window=window, front=front), pack)


@pytest.mark.parametrize("dtype", [BF16, FP16], ids=["bf16", "fp16"])
@pytest.mark.parametrize("pack", [APART, LONG_APART, FILLED], ids=["apart", "long", "filled"])
@pytest.mark.parametrize(
    ("heads", "size", "window", "scaling"),
    [
        ((4, 4), 64, None, None),
        ((14, 2), 64, None, None),
        ((32, 8), 128, None, None),
        ((4, 1), 128, 2, None),
        ((4, 2), 64, 7, None),
        ((4, 2), 96, 100, 0.3),
        ((4, 2), 16, None, None),
        ((4, 2), 80, None, None),
        ((4, 2), 192, None, None),
    ],
    ids=str,
)
class TestVarlen:
    pytestmark = gpu_only

    def test_with_groups_of_heads_windows_and_sizes(
        self,
        pack: Pack,
        dtype: torch.dtype,
        heads: tuple[int, int],
        size: int,
        window: int | None,
        scaling: float | None,
    ) -> None:
        call = make_call(pack, dtype, heads, size, window, scaling=scaling)
        if CAPABILITY is not None and CAPABILITY >= (8, 0):
            assert choose_backend(call, CAPABILITY).name == "varlen"
            assert_right(by_name("varlen"), call, pack)
        assert_right(by_name("segments"), call, pack)


@pytest.mark.parametrize(
    ("pack", "dtype", "heads", "size", "window", "front"),
    [
        (ALIKE, BF16, (4, 2), 64, None, (0, 0)),
        (LONG_ALIKE, BF16, (4, 2), 64, None, (0, 0)),
        (LONG_ALIKE, BF16, (4, 2), 64, 7, (0, 0)),
        (LONG_ALIKE, BF16, (4, 2), 64, 200, (5, 5)),
        (LONG_APART, BF16, (4, 2), 64, None, (20, 0)),
        (LONG_ALIKE, BF16, (4, 2), 64, 100, (20, 0)),
        (LONG_ALIKE, BF16, (14, 2), 64, None, (0, 0)),
        (LONG_ALIKE, BF16, (32, 8), 128, None, (0, 0)),
        (LONG_ALIKE, BF16, (4, 2), 80, None, (0, 0)),
        (LONG_ALIKE, BF16, (2, 1), 256, None, (0, 0)),
        (LONG_ALIKE, FP16, (4, 2), 64, None, (0, 0)),
        (LONG_ALIKE, FP32, (4, 2), 64, None, (0, 0)),
    ],
    ids=str,
)
class TestFlex:
    pytestmark = gpu_only

    def test_with_what_is_shared_and_what_is_in_front(
        self,
        pack: Pack,
        dtype: torch.dtype,
        heads: tuple[int, int],
        size: int,
        window: int | None,
        front: tuple[int, int],
    ) -> None:
        call = make_call(pack, dtype, heads, size, window, front)
        assert choose_backend(call, CAPABILITY).name == "flex"
        assert_right(by_name("flex"), call, pack)
        assert_right(by_name("segments"), call, pack)


class TestGraphs:
    pytestmark = gpu_only

    def test_flex_attention_is_compiled_once_for_packs_of_any_content(self) -> None:
        from torch._dynamo.utils import counters

        def graphs() -> int:
            return int(counters["stats"]["unique_graphs"])

        def attend(count: int, header: int, front: tuple[int, int], window: int | None) -> None:
            pack = make_pack(alike(count, header, own=30))
            by_name("flex").attend(make_call(pack, BF16, window=window, front=front))

        attend(5, 300, (0, 0), None)
        before = graphs()
        for count, header, front, window in (
            (4, 280, (0, 0), None),
            (7, 333, (3, 3), 9),
            (6, 400, (9, 9), 50),
        ):
            attend(count, header, front, window)
        assert graphs() == before
