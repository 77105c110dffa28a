"""Mixtures of experts of every architecture: all that can be adapted is, merged and continued it answers the same."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

import tiny_experts as experts
from sweep import zoo
from tiny_methods import logits, make, train
from weitiao.core.errors import ModelError
from weitiao.core.locale import in_language
from weitiao.methods import METHODS
from weitiao.methods._base import Attached
from weitiao.methods._peft.attached import load_adapter
from weitiao.methods.lora import Lora
from weitiao.models.anatomy import anatomy

every_mixture = pytest.mark.parametrize("architecture", experts.SETTINGS)
SEVEN = "q_proj,k_proj,v_proj,o_proj,gate_proj,up_proj,down_proj"
"""The names that LLaMA-Factory writes for the layers of a block."""
MIXTURES = ("qwen2_moe", "gpt_oss", "llama4_text", "jamba")


def trained(method: Lora, architecture: str) -> Attached:
    attached = method.attach(experts.make_model(architecture))
    train(attached)
    return attached


@every_mixture
def test_its_experts_are_found(architecture: str) -> None:
    model = experts.make_model(architecture)
    found = {path: model.get_parameter(path) for path in anatomy(model).experts}
    assert found and {parameter.shape[0] for parameter in found.values()} == {6}
    others = [name for name, p in model.named_parameters() if p.ndim == 3 and name not in found]
    assert all("conv" in name for name in others)


@every_mixture
def test_all_linear_reaches_every_matrix_and_saved_continued_and_merged_it_answers_the_same(
    architecture: str, tmp_path: Path
) -> None:
    method, model = Lora(target_modules="all-linear"), experts.make_model(architecture)
    parts, before = anatomy(model), dict(model.named_parameters())
    attached = trained(method, architecture)
    assert [n for n, p in attached.trainable().items() if p.grad is None or not p.grad.any()] == []
    wanted = logits(attached.model)
    attached.save(tmp_path / "adapter")
    continued = method.continue_from(experts.make_model(architecture), tmp_path / "adapter")
    assert torch.equal(logits(continued.model), wanted)
    plain = PeftModel.from_pretrained(experts.make_model(architecture), str(tmp_path / "adapter"))
    assert torch.equal(logits(plain), wanted)
    merged = attached.merge()
    moved = {name for name, weight in merged.named_parameters() if not torch.equal(weight, before[name])}
    assert moved == {*parts.experts, *(f"{path}.weight" for path in parts.projections)}
    torch.testing.assert_close(logits(merged), wanted, atol=1e-5, rtol=0)
    merged.save_pretrained(tmp_path / "merged")
    read = AutoModelForCausalLM.from_pretrained(tmp_path / "merged")
    torch.testing.assert_close(logits(read), wanted, atol=1e-5, rtol=0)


@pytest.mark.parametrize("architecture", ["qwen2_moe", "mixtral", "gpt_oss", "granitemoeshared", "phimoe"])
def test_seven_names_mean_the_experts_as_well(architecture: str) -> None:
    model = experts.make_model(architecture)
    method = Lora(target_modules=SEVEN, r=8)
    assert method.experts(model) == list(anatomy(model).experts)
    config = method.peft_config(model)
    fused = [rank for pattern, rank in config.rank_pattern.items() if pattern.endswith("gate_up_proj")]
    assert set(fused) == {16}  # a rank of 8 for each of the two matrices


@pytest.mark.parametrize(
    ("settings", "architecture"),
    [
        (settings, MIXTURES[(number + more) % len(MIXTURES)])
        for number, settings in enumerate(
            [{"init_lora_weights": "pissa", "r": 4}, {"use_dora": True}, {"dropout": 0.1}]
        )
        for more in range(2)
    ],
)
def test_other_kinds_of_lora_merge_too(
    settings: dict[str, object], architecture: str, tmp_path: Path
) -> None:
    attached = trained(Lora(target_modules="all-linear", **settings), architecture)
    wanted = logits(attached.model)
    attached.save(tmp_path)
    loaded = load_adapter(experts.make_model(architecture), tmp_path)
    torch.testing.assert_close(logits(loaded.model), wanted, atol=1e-5, rtol=0)
    torch.testing.assert_close(logits(attached.merge()), wanted, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("name", "architecture"),
    [(name, MIXTURES[number % len(MIXTURES)]) for number, name in enumerate(METHODS.names())],
)
def test_every_method_merges_or_says_why_not(name: str, architecture: str) -> None:
    method, model = make(name), experts.make_model(architecture)
    refusals = method.problems(model, model.config)
    if refusals:
        assert all(problem.what and problem.got for problem in refusals)
        return
    try:
        attached = method.attach(model)
    except ModelError as refusal:  # Jamba has a state beside keys and values
        assert architecture == "jamba"
        assert "does not keep all of the virtual tokens" in str(refusal)
        return
    train(attached)
    wanted = logits(attached.model)
    try:
        merged = attached.merge()
    except ModelError as refusal:
        assert re.search("cannot be merged into|no plain model", str(refusal))
        assert not method.merges or name == "bitfit"  # which gives layers biases that no plain model has
        merged = attached.model
    torch.testing.assert_close(logits(merged), wanted, atol=1e-5, rtol=0)


def test_eva_is_refused_on_experts() -> None:
    method = Lora(target_modules="all-linear", init_lora_weights="eva")
    with pytest.raises(ModelError, match="eva needs the inputs"):
        method.attach(experts.make_model("qwen3_moe"))


def test_half_of_a_fused_parameter_is_refused() -> None:
    with pytest.raises(ModelError, match="two matrices as one parameter"):
        Lora(target_modules="q_proj,gate_proj").attach(experts.make_model("qwen3_moe"))


def test_a_router_is_refused_by_name() -> None:
    with pytest.raises(ModelError, match="routers of experts"):
        Lora(target_modules="q_proj,router").attach(experts.make_model("llama4_text"))


def test_experts_named_to_a_method_that_cannot() -> None:
    with pytest.raises(ModelError, match="names experts, which cannot be adapted"):
        METHODS.load("loha")(target_modules=SEVEN).attach(experts.make_model("qwen3_moe"))


def test_what_stays_as_it_is_is_said_with_its_share() -> None:
    model = experts.make_model("qwen2_moe")
    assert Lora(target_modules="all-linear").left_out(model) == [
        "left as they are: routers of experts, 0.68 % of the weights"
    ]


ROUTERS = re.compile(r"\.(router|gate|wg|shared_expert_gate)(\.layer|\.wg)?\.(weight|bias)$")
"""The routers' names in these architectures, against which what is found by structure is held."""
AS_WIDE_AS_EXPERTS = [
    ("qwen2_moe", {"shared_expert_intermediate_size": 6}),
    ("qwen2_moe", {"num_experts": 32}),
    ("granitemoeshared", {"shared_intermediate_size": 3}),
    ("granitemoeshared", {"shared_intermediate_size": 6}),
    ("deepseek_v3", {"moe_intermediate_size": 6}),
    ("deepseek_v3", {"n_routed_experts": 32}),
    ("llama4_text", {"intermediate_size": 6}),
]
"""Mixtures whose shared experts have as many rows, or columns, as there are experts."""


@pytest.mark.parametrize(
    ("architecture", "changes"), [*((name, {}) for name in experts.SETTINGS), *AS_WIDE_AS_EXPERTS], ids=str
)
def test_routers_and_nothing_else_are_said_to_be_left(architecture: str, changes: dict[str, Any]) -> None:
    model = experts.make_model(architecture, **changes)
    weights = dict(model.named_parameters())
    routers = [name for name in weights if ROUTERS.search(name)]
    share = sum(weights[name].numel() for name in routers) / sum(map(torch.numel, weights.values()))
    (said,) = [one for one in Lora().left_out(model) if "routers of experts" in one]
    assert said.endswith(f"routers of experts, {100 * share:.2g} % of the weights")


OBSTACLES = {"dropout": {"dropout": 0.1}, "DoRA": {"use_dora": True}}


@every_mixture
@pytest.mark.parametrize("obstacle", OBSTACLES)
def test_a_setting_that_keeps_lora_from_experts_is_named_with_their_share(
    architecture: str, obstacle: str
) -> None:
    model = experts.make_model(architecture)
    said = Lora(target_modules="all-linear", **OBSTACLES[obstacle]).left_out(model)[0]
    sizes = {name: parameter.numel() for name, parameter in model.named_parameters()}
    held = sum(sizes[path] for path in anatomy(model).experts)
    share = f"{100 * held / sum(sizes.values()):.2g} %"
    assert said.startswith(f"left as they are: experts ({obstacle} needs")
    assert said.endswith(f"adapts them), {share} of the weights")
    chinese = in_language(said, "zh")
    assert chinese.startswith(f"保持不变：专家（{obstacle} ") and chinese.endswith(f"，占权重的 {share}")
    assert "weights" not in chinese and "expert" not in chinese


@pytest.mark.parametrize(("architecture", "share"), [("dbrx", "66 %"), ("longcat_flash", "44 %")])
def test_experts_of_another_form_are_said_to_be_out_of_reach(architecture: str, share: str) -> None:
    """Those of DBRX lie below each other in one matrix, and LongCat's two parameters are for different numbers."""
    model = zoo.make_model(architecture)
    assert anatomy(model).experts == ()
    [said] = [
        one for one in Lora(target_modules="all-linear").left_out(model) if "no adapter can change" in one
    ]
    assert said.endswith(f" {share} of the weights")


def older(name: str, tensor: torch.Tensor, rank: int) -> dict[str, torch.Tensor]:
    """Return an expert parameter's tensor as up to transformers 4: a layer for each expert, gate and up apart."""
    place, _, rest = name.partition(".experts.")
    kind = "lora_A" if "lora_A" in rest else "lora_B"
    layers = ("w1", "w3") if rest.startswith("base_layer") else ("w2",)
    count = rank * len(layers)
    if kind == "lora_A":
        each = tensor.reshape(6, len(layers), rank, -1)
        return {
            f"{place}.experts.{e}.{layer}.lora_A.weight": each[e, n].clone()
            for e in range(6)
            for n, layer in enumerate(layers)
        }
    per_expert = tensor.reshape(tensor.shape[0], count, 6).permute(2, 0, 1)
    rows = tensor.shape[0] // len(layers)
    return {
        f"{place}.experts.{e}.{layer}.lora_B.weight": per_expert[
            e, n * rows : (n + 1) * rows, n * rank : (n + 1) * rank
        ].clone()
        for e in range(6)
        for n, layer in enumerate(layers)
    }


def test_an_adapter_with_the_names_of_transformers_4(tmp_path: Path) -> None:
    from peft import LoraConfig

    method = Lora(target_modules="q_proj,v_proj,w1,w2,w3", r=4, alpha=16)
    attached = trained(method, "mixtral")
    attached.save(tmp_path)
    saved = load_file(tmp_path / "adapter_model.safetensors")
    as_then: dict[str, torch.Tensor] = {}
    for name, tensor in saved.items():
        as_then |= older(name, tensor, 4) if ".experts." in name else {name: tensor}
    save_file(as_then, tmp_path / "adapter_model.safetensors")
    names = ["q_proj", "v_proj", "w1", "w2", "w3"]
    LoraConfig(r=4, lora_alpha=16, target_modules=names, task_type="CAUSAL_LM").save_pretrained(tmp_path)
    plain = PeftModel.from_pretrained(experts.make_model("mixtral"), str(tmp_path))
    loaded = load_adapter(experts.make_model("mixtral"), tmp_path)
    assert torch.equal(logits(loaded.model), logits(plain))
    assert not torch.allclose(logits(plain), logits(experts.make_model("mixtral")), atol=1e-3)
    continued = method.continue_from(experts.make_model("mixtral"), tmp_path)
    assert torch.equal(logits(continued.model), logits(plain))
