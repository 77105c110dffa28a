"""Matrix products from oneDNN: as exact as torch's, in any layout, the same twice, and only within the context."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from weitiao.core.errors import SettingsError
from weitiao.engine.kernels import matmul
from weitiao.engine.kernels.matmul import onednn_is_here, products_from, require_onednn, uses_onednn

needs_onednn = pytest.mark.skipif(not onednn_is_here(), reason="this torch has no oneDNN")
ROWS, INNER, COLUMNS = 37, 64, 50


@pytest.fixture
def onednn() -> Iterator[None]:
    with products_from("onednn"):
        yield


def _random(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)))


LAYOUTS = {
    "plain": (_random(ROWS, INNER), _random(INNER, COLUMNS)),
    "both transposed": (_random(INNER, ROWS).t(), _random(COLUMNS, INNER).t()),
    "slices of wider ones": (_random(ROWS, 2 * INNER)[:, :INNER], _random(INNER, 2 * COLUMNS)[:, COLUMNS:]),
    "every second": (_random(ROWS, 2 * INNER)[:, ::2], _random(2 * INNER, COLUMNS)[::2]),
    "expanded": (_random(1, INNER).expand(ROWS, INNER), _random(INNER, 1).expand(INNER, COLUMNS)),
    "one row": (_random(1, INNER), _random(INNER, COLUMNS)),
    "one column": (_random(ROWS, INNER), _random(INNER, 1)),
    "one number each": (_random(ROWS, 1), _random(1, COLUMNS)),
    "no rows": (_random(0, INNER), _random(INNER, COLUMNS)),
    "nothing to add up": (_random(ROWS, 0), _random(0, COLUMNS)),
    "nothing at all": (_random(0, 0), _random(0, 0)),
}


@needs_onednn
@pytest.mark.parametrize("name", LAYOUTS)
def test_products_are_those_of_float64(name: str, onednn: None) -> None:
    a, b = LAYOUTS[name]
    wanted = a.double() @ b.double()
    torch.testing.assert_close((a @ b).double(), wanted, rtol=1e-5, atol=1e-5)
    bias = _random(b.shape[1])
    torch.testing.assert_close(torch.addmm(bias, a, b).double(), wanted + bias, rtol=1e-5, atol=1e-5)
    added = _random(len(a), b.shape[1])
    found = torch.addmm(added, a, b, beta=0.5, alpha=2)
    torch.testing.assert_close(found.double(), 0.5 * added + 2 * wanted, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(torch.addmm(added, a, b).double(), added + wanted, rtol=1e-5, atol=1e-5)
    out = torch.empty(len(a), b.shape[1])
    for given, summand in ((bias, bias), (added, added)):
        torch.addmm(given, a, b, out=out)
        torch.testing.assert_close(out.double(), summand + wanted, rtol=1e-5, atol=1e-5)
    torch.mm(a, b, out=out)
    torch.testing.assert_close(out.double(), wanted, rtol=1e-5, atol=1e-5)


@needs_onednn
def test_what_does_not_fit_is_refused_in_torchs_words(onednn: None) -> None:
    a, b = _random(3, 4), _random(5, 6)
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        torch.mm(a, b)
    with pytest.raises(RuntimeError, match="must be a matrix"):
        torch.mm(_random(2, 3, 4), _random(4, 5))
    with pytest.raises(RuntimeError, match="batch"):
        torch.bmm(_random(2, 3, 4), _random(1, 4, 5).expand(7, 4, 5))


@needs_onednn
def test_compiled_code_multiplies_by_onednn_too(onednn: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Inductor has products write to a place of its own."""
    calls: list[int] = []
    real = matmul.multiply

    def counted(*given: Tensor) -> Tensor:
        calls.append(1)
        return real(*given)

    monkeypatch.setattr(matmul, "multiply", counted)
    out = torch.empty(ROWS, COLUMNS)
    torch.mm(_random(ROWS, INNER), _random(INNER, COLUMNS), out=out)
    torch.addmm(_random(COLUMNS), _random(ROWS, INNER), _random(INNER, COLUMNS), out=out)
    assert len(calls) == 2


@needs_onednn
def test_a_batch_by_one_matrix_and_by_several(onednn: None) -> None:
    a, b = _random(3, ROWS, INNER), _random(3, INNER, COLUMNS)
    wanted = torch.stack([one.double() @ b[0].double() for one in a])
    torch.testing.assert_close(torch.bmm(a, b[:1].expand(3, -1, -1)).double(), wanted, rtol=1e-5, atol=1e-5)
    assert torch.equal(torch.bmm(a, b[:1].expand(3, -1, -1)), a @ b[0])
    turned = torch.bmm(b[:1].mT.expand(3, -1, -1), a.mT)
    assert turned.is_contiguous()
    assert torch.equal(turned.mT, a @ b[0])
    torch.testing.assert_close(torch.bmm(a, b).double(), a.double() @ b.double(), rtol=1e-5, atol=1e-5)
    assert torch.bmm(a[:0], b[:0]).shape == (0, ROWS, COLUMNS)
    assert torch.bmm(a[:, :0], b[:1].expand(3, -1, -1)).shape == (3, 0, COLUMNS)


@needs_onednn
def test_a_slice_takes_no_reference_kernel(onednn: None) -> None:
    """oneDNN's kernel for operands it has no other for is 500 times as slow; one is never handed to it."""
    handed = []

    def note(a: Tensor, weight: Tensor, *others: object) -> Tensor:
        handed.append(weight)
        return a.new_zeros(len(a), len(weight))

    original, matmul.linear_pointwise = matmul.linear_pointwise, lambda: note
    try:
        matmul.multiply(_random(ROWS, INNER), _random(INNER, 2 * COLUMNS)[:, ::2])
    finally:
        matmul.linear_pointwise = original
    (weight,) = handed
    assert weight.is_contiguous() or weight.t().is_contiguous()


@needs_onednn
def test_layers_and_their_gradients_are_those_of_float64(onednn: None) -> None:
    for bias in (True, False):
        layer, inputs = nn.Linear(INNER, COLUMNS, bias=bias), _random(3, ROWS, INNER).requires_grad_()
        exact, exact_inputs = nn.Linear(INNER, COLUMNS, bias=bias).double(), inputs.detach().double()
        exact.load_state_dict(layer.state_dict())
        exact_inputs.requires_grad_()
        layer(inputs).square().sum().backward()
        exact(exact_inputs).square().sum().backward()
        pairs = [(inputs, exact_inputs), *zip(layer.parameters(), exact.parameters(), strict=True)]
        for ours, theirs in pairs:
            assert ours.grad is not None
            torch.testing.assert_close(ours.grad.double(), theirs.grad, rtol=1e-4, atol=1e-4)


@needs_onednn
def test_last_bits_do_not_depend_on_where_an_operand_lies(onednn: None) -> None:
    wanted = None
    for offset in range(0, 4096, 16):
        buffer = torch.empty(ROWS * INNER + 4096 + 16)
        first = (-buffer.data_ptr() // 4) % 1024 + offset  # from the beginning of a page
        a = buffer[first % 4096 : first % 4096 + ROWS * INNER].view(ROWS, INNER)
        a.copy_(LAYOUTS["plain"][0])
        found = a @ LAYOUTS["plain"][1]
        wanted = found if wanted is None else wanted
        assert torch.equal(found, wanted)


@needs_onednn
def test_long_rows_are_added_up_exactly(onednn: None) -> None:
    a, b = torch.rand(7, 150_000, generator=torch.Generator().manual_seed(0)), _random(150_000, 6)
    assert float((a @ b - a.double() @ b.double()).abs().max()) < 1e-3


def test_other_types_stay_as_they_are(onednn: None) -> None:
    for dtype in (torch.float64, torch.bfloat16, torch.int64):
        a, b = (_random(4, 4) * 9).to(dtype), (_random(4, 4) * 9).to(dtype)
        found = a @ b
        assert found.dtype is dtype
        torch.testing.assert_close(found.double(), a.double() @ b.double(), rtol=2e-2, atol=1)


OUTSIDE = """
import torch
from weitiao.engine.kernels.matmul import onednn_in_use, products_from
a, b = torch.randn(200, 300), torch.randn(300, 100)
before = a @ b
with products_from("onednn"):
    with products_from("mkl"):
        assert not onednn_in_use() and torch.equal(a @ b, before)
    within = a @ b
    assert onednn_in_use()
assert not onednn_in_use()
assert torch.equal(a @ b, before)
assert torch.allclose(within, before, atol=1e-4)
with products_from("mkl"):
    assert not onednn_in_use() and torch.equal(a @ b, before)
"""


@needs_onednn
def test_outside_everything_is_torchs_own_and_nothing_is_said() -> None:
    done = subprocess.run([sys.executable, "-c", OUTSIDE], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("machine", "vendor", "expected"),
    [
        ("x86_64", "AuthenticAMD", True),
        ("AMD64", "HygonGenuine", True),
        ("x86_64", "GenuineIntel", False),
        ("x86_64", "", False),
        ("aarch64", "", False),
        ("arm64", "Apple", False),
    ],
)
def test_auto_goes_by_the_maker(
    machine: str, vendor: str, expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(matmul.platform, "machine", lambda: machine)
    monkeypatch.setattr(matmul, "processor_vendor", lambda: vendor)
    monkeypatch.setattr(matmul, "onednn_is_here", lambda: True)
    assert uses_onednn("auto") is expected
    assert uses_onednn("onednn")
    assert not uses_onednn("mkl")


def test_a_torch_without_onednn_is_refused_or_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(matmul, "onednn_is_here", lambda: False)
    assert not uses_onednn("auto")
    require_onednn("auto")
    with pytest.raises(SettingsError, match=r"train\.matmul"):
        require_onednn("onednn")


def test_the_makers_name_is_read_where_linux_tells_it(monkeypatch: pytest.MonkeyPatch) -> None:
    if not matmul.CPU_INFO.is_file():
        monkeypatch.setattr(matmul.platform, "processor", lambda: "AMD64 Family 26, AuthenticAMD")
        assert matmul.processor_vendor.__wrapped__() == "AuthenticAMD"
        return
    assert matmul.processor_vendor() in matmul.CPU_INFO.read_text(encoding="utf-8", errors="replace")
