"""Diff pruning: gates, penalty and gradient against the paper's formulas, the phases, and what is stored."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

import tiny_architectures as tiny
from tiny_training import make_examples, make_training
from weitiao.core.errors import ModelError, SettingsError
from weitiao.core.settings import parse_settings
from weitiao.methods._layers.diff import DiffLayer, chance_open, hard_concrete
from weitiao.methods._peft.attached import load_adapter
from weitiao.methods.diff_pruning import DiffAttached, DiffPruning

WEIGHTS = 3 * (2 * 32 * 32 + 2 * 16 * 32 + 3 * 48 * 32)
"""Those of the tiny Llama's linear layers in blocks."""


def logits(model: nn.Module) -> Tensor:
    model.eval()
    with torch.no_grad():
        return model(tiny.ids()).logits


def attach(architecture: str = "llama", **settings: object) -> DiffAttached:
    """Attach with random differences and gates, so that nothing is zero."""
    attached = DiffPruning(**settings).attach(tiny.make_model(architecture))
    torch.manual_seed(1)
    for name, parameter in attached.trainable().items():
        nn.init.normal_(parameter, std=0.1 if "diff_weight" in name else 0.02)
    return attached


def drawn(alpha: Tensor, u: Tensor) -> Tensor:
    """Return z of section 3.1 written out: s = sigma(log u - log(1-u) + a); z = min(1, max(0, s (r-l) + l))."""
    s = 1 / (1 + torch.exp(-(torch.log(u) - torch.log(1 - u) + alpha)))
    return torch.minimum(torch.ones(()), torch.maximum(torch.zeros(()), s * 3.0 - 1.5))


@pytest.mark.parametrize("structured", [False, True])
@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
def test_forward_and_gradient_are_the_papers(architecture: str, structured: bool) -> None:
    """W + z w, and W + z_i z_group w where structured, with the same draws as torch's generator gives."""
    target = {"llama": "model.layers.1.mlp.down_proj", "gpt2": "transformer.h.1.mlp.c_proj"}[architecture]
    attached = attach(architecture, target_modules=[target], structured=structured)
    layer = attached.layers[f"base_model.model.{target}"]
    w, a = (d["default"].detach().clone().requires_grad_() for d in (layer.diff_weight, layer.diff_gates))
    group = layer.diff_group["default"].detach().clone().requires_grad_() if structured else None

    reference = tiny.make_model(architecture)
    torch.manual_seed(5)
    z = drawn(5 + 100 * a, torch.rand_like(a))
    if group is not None:
        z = z * drawn(5 + 100 * group, torch.rand_like(group))
    linear = reference.get_submodule(target)
    linear.register_forward_hook(lambda _, x, y: y + x[0] @ (z * w).T)
    wanted = reference(tiny.ids(), labels=tiny.ids()).loss
    wanted.backward()

    attached.model.train()
    torch.manual_seed(5)
    mine = attached.model(tiny.ids(), labels=tiny.ids()).loss
    mine.backward()
    torch.testing.assert_close(mine, wanted)
    torch.testing.assert_close(layer.diff_weight["default"].grad, w.grad)
    torch.testing.assert_close(layer.diff_gates["default"].grad, a.grad)
    assert a.grad.any()
    if group is not None:
        torch.testing.assert_close(layer.diff_group["default"].grad, group.grad)


def test_gates_are_open_as_often_as_the_formula_says() -> None:
    """P(z > 0) = sigma(alpha - log(-l / r)), by 200,000 draws."""
    torch.manual_seed(0)
    for alpha in (-2.0, 0.0, 1.5):
        gates = hard_concrete(torch.full((200_000,), alpha), noise=True)
        assert float((gates > 0).float().mean()) == pytest.approx(1 / (1 + math.exp(-alpha)), abs=5e-3)
        assert float(chance_open(torch.tensor(alpha))) == pytest.approx(1 / (1 + math.exp(-alpha)), abs=1e-6)
        assert 0 <= float(gates.min()) <= float(gates.max()) <= 1


@pytest.mark.parametrize("structured", [False, True])
def test_the_penalty_is_the_expected_share(structured: bool) -> None:
    attached = attach(structured=structured, l0_weight=0.7)
    expected = 0.0
    for layer in attached.layers.values():
        chance = torch.sigmoid(5 + 100 * layer.diff_gates["default"].double())
        if structured:
            chance = chance * torch.sigmoid(5 + 100 * layer.diff_group["default"].double())
        expected += chance.sum().item()
    penalty = attached.penalty()
    assert penalty is not None
    assert penalty.item() == pytest.approx(0.7 * expected / WEIGHTS, rel=1e-5)
    penalty.backward()
    gates = [layer.diff_gates["default"] for layer in attached.layers.values()]
    assert all(bool((gate.grad > 0).all()) for gate in gates)
    assert attach(l0_weight=0).penalty() is None


def test_pruning_keeps_the_largest_of_all_layers_together() -> None:
    attached = attach(target_sparsity=0.9)
    before = torch.cat(
        [layer.difference("default", noise=False).flatten() for layer in attached.layers.values()]
    )
    attached.prune()
    after = torch.cat(
        [layer.difference("default", noise=False).flatten() for layer in attached.layers.values()]
    )
    kept = after != 0
    assert int(kept.sum()) == round(0.1 * WEIGHTS)
    assert torch.equal(after[kept], before[kept])
    assert float(before[~kept].abs().max()) <= float(before[kept].abs().min())
    assert attached.pruned
    assert attached.penalty() is None


CONSTANT = {"scheduler": "constant"}
"""So that the last steps, few as they are, move what is left."""


def test_the_phases_of_a_run(tmp_path: Path) -> None:
    """Of 8 steps 6 have gates; then exactly the kept share is left, moves, and nothing else does."""
    method = {"name": "diff_pruning", "target_sparsity": 0.95}
    rows = make_examples(8)
    run = make_training(tmp_path, rows, method=method, layers=3, steps=8, lr=1e-2, batch_size=4, **CONSTANT)
    attached = run.attached
    assert isinstance(attached, DiffAttached)
    seen: list[list[Tensor]] = []
    states: list[tuple[bool, bool]] = []
    apply = run.stepper.apply
    for step in range(8):
        apply(run.plan.batch(step), step)
        states.append((attached.pruned, attached.penalty() is None))
        seen.append([layer.difference("default", noise=False).detach() for layer in attached.layers.values()])
    assert states == [(False, False)] * 5 + [(True, True)] * 3
    zero = [torch.cat([d.flatten() == 0 for d in differences]) for differences in seen[5:]]
    assert int((~zero[0]).sum()) == round(0.05 * WEIGHTS)
    assert torch.equal(zero[0], zero[2])
    moved = torch.cat([(a != b).flatten() for a, b in zip(seen[5], seen[7], strict=True)])
    assert moved.any()
    assert not (moved & zero[0]).any()


def test_the_file_holds_indices_and_values_of_the_kept_share(tmp_path: Path) -> None:
    attached = attach(target_sparsity=0.99)
    attached.starts(10)
    attached.save(tmp_path)  # ended early: pruned all the same
    file = load_file(tmp_path / "adapter_model.safetensors")
    assert {name.rpartition(".")[2] for name in file} == {"diff_indices", "diff_values"}
    assert sum(t.numel() for n, t in file.items() if n.endswith("diff_values")) == round(0.01 * WEIGHTS)
    name = "base_model.model.model.layers.0.self_attn.q_proj"
    dense = attached.layers[name].difference("default", noise=False).detach().flatten()
    assert torch.equal(file[f"{name}.diff_indices"], dense.nonzero()[:, 0].int())
    assert {tensor.dtype for tensor in file.values()} == {torch.int32, torch.float32}  # 8 bytes a value
    loaded = load_adapter(tiny.make_model("llama"), tmp_path)
    assert torch.equal(logits(loaded.model), logits(attached.model))
    assert not loaded.trainable()


def test_a_file_with_longer_indices_loads_alike(tmp_path: Path) -> None:
    """As files were written before, and as a layer of more than 2^31 weights needs them."""
    attached = attach(target_sparsity=0.9)
    attached.prune()
    attached.save(tmp_path)
    path = tmp_path / "adapter_model.safetensors"
    longer = {name: t.long() if name.endswith("diff_indices") else t for name, t in load_file(path).items()}
    save_file(longer, path, {"format": "pt"})
    assert torch.equal(logits(load_adapter(tiny.make_model("llama"), tmp_path).model), logits(attached.model))


@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
def test_merging_adds_the_difference_and_nothing_else(architecture: str) -> None:
    base = dict(tiny.make_model(architecture).named_parameters())
    attached = attach(architecture, target_sparsity=0.9)
    attached.prune()
    kept = sum(
        int((layer.difference("default", noise=False) != 0).sum()) for layer in attached.layers.values()
    )
    wanted = logits(attached.model)
    merged = attached.merge()
    torch.testing.assert_close(logits(merged), wanted, atol=1e-5, rtol=0)
    assert sum(int((p != base[n]).sum()) for n, p in merged.named_parameters()) == kept


def test_a_file_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    attached = attach(target_sparsity=0.5)
    attached.save(tmp_path)
    with pytest.raises(ModelError, match="does not fit"):
        load_adapter(tiny.make_model("llama", intermediate_size=16), tmp_path)


def test_too_few_steps_are_refused() -> None:
    with pytest.raises(SettingsError, match="at least 2 steps"):
        attach().starts(1)


@pytest.mark.parametrize(
    "wrong", [{"target_sparsity": 1}, {"fixed_mask_share": 0}, {"l0_weight": -1}, {"gate_speed": 0}]
)
def test_settings_out_of_range_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(SettingsError):
        parse_settings(DiffPruning, wrong, "method")


def test_targets_are_chosen_as_loras() -> None:
    attached = DiffPruning(target_modules="q_proj,v_proj", layers_to_transform=[1]).attach(
        tiny.make_model("llama")
    )
    names = {path.removeprefix("base_model.model.model.layers.") for path in attached.layers}
    assert names == {"1.self_attn.q_proj", "1.self_attn.v_proj"}
    assert all(isinstance(layer, DiffLayer) for layer in attached.layers.values())
    with pytest.raises(ModelError, match="q_porj"):
        DiffPruning(target_modules="q_porj").attach(tiny.make_model("llama"))
