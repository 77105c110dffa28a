"""LoRA: what each setting does, against PEFT and the papers' arithmetic; and what is refused, in words."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, LlamaConfig

import tiny_architectures as tiny
from plain_python import output_of_plain
from tiny_methods import make_model
from weitiao.core.errors import ModelError, RunFolderError, SettingsError
from weitiao.core.settings import parse_settings
from weitiao.methods import METHODS
from weitiao.methods._alternatives import require_applicable
from weitiao.methods._base import count_parameters
from weitiao.methods._peft.attached import PeftAttached, load_adapter
from weitiao.methods.lora import Lora
from weitiao.models.load import load_model, weightless
from weitiao.models.settings import ModelSettings


def logits(model: torch.nn.Module) -> torch.Tensor:
    model.eval()
    with torch.no_grad():
        return model(tiny.ids()).logits


def train(attached: PeftAttached, steps: int = 3) -> None:
    optimizer = torch.optim.AdamW(attached.trainable().values(), lr=1e-2)
    for _ in range(steps):
        optimizer.zero_grad()
        attached.model(tiny.ids(), labels=tiny.ids()).loss.backward()
        optimizer.step()


def batches(count: int = 4) -> Iterator[dict[str, object]]:
    for seed in range(count):
        ids = tiny.ids(4, 16, seed)
        yield {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": ids}


VARIANTS: dict[str, dict[str, Any]] = {
    "gaussian": {"init_lora_weights": "gaussian"},
    "rslora": {"use_rslora": True, "r": 4},
    "dora": {"use_dora": True},
    "bias-all": {"bias": "all"},
    "bias-lora-only": {"bias": "lora_only"},
    "whole-head": {"modules_to_save": ["lm_head"]},
    "head": {"target_modules": ["lm_head", "all_query"]},
    "all-linear": {"target_modules": "all-linear"},
    "one-block": {"target_modules": "all-linear", "layers_to_transform": [1]},
    "pissa": {"target_modules": "all-linear", "init_lora_weights": "pissa"},
    "pissa-fast-rslora-dora": {"init_lora_weights": "pissa_niter_4", "use_rslora": True, "use_dora": True},
    "olora-bias": {"init_lora_weights": "olora", "bias": "lora_only", "modules_to_save": ["lm_head"]},
    # The search for the directions of six layers takes PEFT ten times as long as for two.
    "eva": {"init_lora_weights": "eva", "target_modules": "auto", "layers_to_transform": [1]},
}
QUERY = {"llama": "q_proj", "qwen2": "q_proj", "gpt2": "c_attn", "opt": "q_proj"}


@pytest.mark.parametrize(
    ("variant", "architecture"),
    [
        *((variant, "llama") for variant in VARIANTS),
        # EVA runs PEFT's own search of a second or two, which knows no architectures.
        *((v, [*QUERY][1 + number % 3]) for number, v in enumerate(VARIANTS) if v != "eva"),
    ],
)
def test_each_variant_keeps_the_contract(variant: str, architecture: str, tmp_path: Path) -> None:
    """Start, switch off, save and load on the untouched base, merge, write and read the merged model."""
    settings = dict(VARIANTS[variant])
    if variant == "head":
        settings["target_modules"] = ["lm_head", QUERY[architecture]]
    base = logits(make_model(architecture))
    method = Lora(**settings)
    attached = method.attach(make_model(architecture))
    method.prepare(attached.model, batches())
    torch.testing.assert_close(logits(attached.model), base, atol=1e-5, rtol=0)
    train(attached)
    trained = logits(attached.model)
    assert not torch.allclose(trained, base, atol=1e-2)
    with attached.disabled():
        assert torch.equal(logits(attached.model), base)
    assert torch.equal(logits(attached.model), trained)

    attached.save(tmp_path / "adapter")
    loaded = load_adapter(make_model(architecture), tmp_path / "adapter")
    torch.testing.assert_close(logits(loaded.model), trained, atol=1e-5, rtol=0)
    assert not loaded.trainable()
    with loaded.disabled():
        assert torch.equal(logits(loaded.model), base)

    merged = attached.merge()
    torch.testing.assert_close(logits(merged), trained, atol=1e-5, rtol=0)
    merged.save_pretrained(tmp_path / "merged")
    read = AutoModelForCausalLM.from_pretrained(tmp_path / "merged", dtype=torch.float32)
    torch.testing.assert_close(logits(read), trained, atol=1e-5, rtol=0)


def test_llama_2_7b_counts_as_the_papers_count() -> None:
    config = LlamaConfig(
        vocab_size=32000,
        hidden_size=4096,
        intermediate_size=11008,
        num_hidden_layers=32,
        num_attention_heads=32,
        tie_word_embeddings=False,
    )
    model = weightless(config)
    assert count_parameters(model)[1] == 6_738_415_616
    attached = Lora(r=8, target_modules=["q_proj", "v_proj"]).attach(model)
    assert count_parameters(attached.model) == (4_194_304, 6_742_609_920)


@pytest.mark.parametrize("init", ["pissa", "olora"])
def test_initial_values_are_pefts(init: str) -> None:
    ours = (
        Lora(r=8, alpha=16, target_modules="auto", init_lora_weights=init)
        .attach(tiny.make_model("llama"))
        .model
    )
    peft = get_peft_model(
        tiny.make_model("llama"),
        LoraConfig(
            r=8,
            lora_alpha=16,
            target_modules=["q_proj", "v_proj"],
            init_lora_weights=init,
            task_type="CAUSAL_LM",
        ),
    )
    theirs = dict(peft.named_parameters())
    for name, parameter in ours.named_parameters():
        if "lora_A" in name or "base_layer" in name:
            torch.testing.assert_close(parameter.abs(), theirs[name].abs(), atol=1e-4, rtol=1e-4)


def test_pissa_takes_the_largest_singular_values_out() -> None:
    whole = tiny.make_model("llama").model.layers[0].self_attn.q_proj.weight.detach().clone()
    attached = Lora(r=4, init_lora_weights="pissa", target_modules=["q_proj"]).attach(
        tiny.make_model("llama")
    )
    rest = attached.model.get_base_model().model.layers[0].self_attn.q_proj.base_layer.weight
    torch.testing.assert_close(
        torch.linalg.svdvals(rest)[:8], torch.linalg.svdvals(whole)[4:12], atol=1e-5, rtol=0
    )


ORIGINAL_BASE = """
import sys
sys.modules["weitiao"] = None  # importing it now fails
import torch
from peft import AutoPeftModelForCausalLM
for folder in sys.argv[1:]:
    model = AutoPeftModelForCausalLM.from_pretrained(folder).eval()
    ids, expected = torch.load(folder + ".expected", weights_only=True)
    torch.testing.assert_close(model(ids).logits.detach(), expected, atol=1e-5, rtol=0)
"""


def test_pissa_and_olora_load_in_plain_peft_on_the_original_base(tmp_path: Path) -> None:
    tiny.make_model("llama").save_pretrained(tmp_path / "base")
    folders = []
    for init in ("pissa", "olora"):
        for use_rslora in (False, True):
            method = Lora(r=4, init_lora_weights=init, use_rslora=use_rslora)
            attached = method.attach(load_model(ModelSettings(name=str(tmp_path / "base"))))
            train(attached)
            folders.append(str(tmp_path / f"{init}-{use_rslora}"))
            attached.save(Path(folders[-1]))
            torch.save((tiny.ids(), logits(attached.model)), folders[-1] + ".expected")
    output_of_plain(ORIGINAL_BASE, *folders)


def test_a_resumed_pissa_run_goes_on_bit_equal() -> None:
    """The randomised SVD differs every time, so the checkpoint carries what was taken out of the base."""
    method = Lora(r=4, init_lora_weights="pissa_niter_1")
    first = method.attach(tiny.make_model("llama"))
    train(first)
    values = {n: p.detach().clone() for n, p in first.trainable().items()}
    second = method.attach(tiny.make_model("llama"))
    assert not torch.equal(logits(second.model), logits(first.model))
    second.load_checkpoint_state(first.checkpoint_state())
    for name, parameter in second.trainable().items():
        parameter.data.copy_(values[name])
    assert torch.equal(logits(second.model), logits(first.model))
    with second.disabled():
        assert torch.equal(logits(second.model), logits(tiny.make_model("llama")))


def test_a_checkpoint_of_another_method_is_refused() -> None:
    state = Lora(init_lora_weights="pissa").attach(tiny.make_model("llama")).checkpoint_state()
    with pytest.raises(RunFolderError):
        METHODS.load("freeze")().attach(tiny.make_model("llama")).load_checkpoint_state(state)
    with pytest.raises(RunFolderError):
        Lora().attach(tiny.make_model("llama")).load_checkpoint_state(state)


def test_eva_begins_with_the_directions_of_the_data() -> None:
    """The rows of A span the main directions of the layer's inputs, as an SVD of those inputs gives them."""
    model = tiny.make_model("llama")
    inputs: list[torch.Tensor] = []
    layer = model.model.layers[0].self_attn.q_proj
    hook = layer.register_forward_hook(lambda _, args, __: inputs.append(args[0].detach().reshape(-1, 32)))
    data = list(batches(8))
    with torch.no_grad():
        for batch in data:
            model(batch["input_ids"])
    hook.remove()
    rows = torch.cat(inputs)
    wanted = torch.linalg.svd(rows - rows.mean(0), full_matrices=False)[2][:2]

    method = Lora(r=4, init_lora_weights="eva", target_modules=["q_proj"])
    attached = method.attach(model)
    before = {name: tensor.clone() for name, tensor in attached.state().items()}
    method.prepare(attached.model, iter(data))
    adapted = attached.model.get_base_model().model.layers[0].self_attn.q_proj
    a = adapted.lora_A["default"].weight.detach()
    assert not torch.equal(before["base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight"], a)
    basis = torch.linalg.qr(a.T)[0]
    kept = (wanted @ basis).norm(dim=1)
    assert kept.min() > 0.95


@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
def test_loftq_brings_a_four_bit_base_nearer_to_the_whole_one(architecture: str, tmp_path: Path) -> None:
    whole = tiny.make_model(architecture)
    whole.save_pretrained(tmp_path)
    settings = ModelSettings(name=str(tmp_path), quantization="nf4")
    base = load_model(settings)
    distance = (logits(base) - logits(whole)).square().mean()
    attached = Lora(r=16, init_lora_weights="loftq", target_modules="all-linear").attach(base)
    assert (logits(attached.model) - logits(whole)).square().mean() < 0.5 * distance


def test_merging_an_int8_base_gives_a_plain_model_near_it(tmp_path: Path) -> None:
    tiny.make_model("llama").save_pretrained(tmp_path)
    attached = Lora().attach(load_model(ModelSettings(name=str(tmp_path), quantization="int8")))
    train(attached)
    trained = logits(attached.model)
    merged = attached.merge()
    assert all(p.is_floating_point() for p in merged.parameters())
    # int8 layers round their inputs to 8 bits too; the merged model does not.
    assert (logits(merged) - trained).abs().max() < 0.05


def test_gpt2_merged_from_four_bits_has_its_own_layers_again(tmp_path: Path) -> None:
    tiny.make_model("gpt2").save_pretrained(tmp_path / "base")
    attached = Lora(target_modules="all-linear").attach(
        load_model(ModelSettings(name=str(tmp_path / "base"), quantization="nf4"))
    )
    train(attached)
    trained = logits(attached.model)
    attached.merge().save_pretrained(tmp_path / "merged")
    read = AutoModelForCausalLM.from_pretrained(tmp_path / "merged", dtype=torch.float32)
    torch.testing.assert_close(logits(read), trained, atol=1e-5, rtol=0)


def test_a_merged_tied_head_leaves_the_embeddings_alone() -> None:
    model = tiny.make_model("qwen2")
    embeddings = model.get_input_embeddings().weight.detach().clone()
    attached = Lora(target_modules=["lm_head"]).attach(model)
    train(attached)
    merged = attached.merge()
    assert torch.equal(merged.get_input_embeddings().weight, embeddings)
    assert not merged.config.tie_word_embeddings


def test_fast_parameters_are_the_b_matrices() -> None:
    attached = Lora(target_modules="auto").attach(tiny.make_model("llama"))
    assert attached.fast_parameters() == {n for n in attached.trainable() if ".lora_B." in n}
    assert len(attached.fast_parameters()) == len(attached.trainable()) // 2 == 6


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("q_proj", ["q_proj"]),
        ("q_proj, v_proj", ["q_proj", "v_proj"]),
        ("auto", "auto"),
        ("all-linear", "all-linear"),
        (r".*\.(q|v)_proj", r".*\.(q|v)_proj"),
        (["k_proj"], ["k_proj"]),
    ],
)
def test_targets_are_read_as_people_write_them(written: object, meant: object) -> None:
    assert Lora(target_modules=written).target_modules == meant


@pytest.mark.parametrize(
    ("targets", "adapted"),
    [
        ("auto", 6),
        ("q_proj", 3),
        ("all-linear", 21),
        (r".*layers\.(0|2)\..*_proj", 14),
        ("model.layers.1.self_attn.k_proj", 1),
    ],
)
def test_how_many_layers_are_adapted(targets: str, adapted: int) -> None:
    attached = Lora(target_modules=targets).attach(tiny.make_model("llama"))
    assert len(attached.fast_parameters()) == adapted


def test_layers_to_transform_counts_blocks() -> None:
    attached = Lora(layers_to_transform=[0, 2], target_modules="all-linear").attach(tiny.make_model("gpt2"))
    assert {name.split(".h.")[1].split(".")[0] for name in attached.trainable()} == {"0", "2"}


def test_everything_out_of_range_is_refused_at_once() -> None:
    raw = {
        "r": 0,
        "alpha": -1,
        "dropout": 1,
        "bias": "some",
        "target_modules": "a(b",
        "init_lora_weights": "pisa",
        "lora_alpha": 3,
        "rank": 4,
    }
    with pytest.raises(SettingsError) as refusal:
        parse_settings(Lora, raw, "method")
    text = str(refusal.value)
    assert len(refusal.value.problems) == 8
    assert "try       method.alpha" in text
    assert "try       method.r" in text
    with pytest.raises(SettingsError, match="regular expression"):
        parse_settings(Lora, {"target_modules": ".*q", "layers_to_transform": 1})


def test_targets_that_match_nothing_show_what_there_is() -> None:
    method = Lora(
        target_modules=["q_prj", "v_proj", "nothing"], modules_to_save=["lm_hed"], layers_to_transform=[3]
    )
    with pytest.raises(ModelError) as refusal:
        require_applicable(method, weightless(tiny.make_config("llama")), tiny.make_config("llama"))
    text = str(refusal.value)
    assert len(refusal.value.problems) == 4
    assert "q_proj (3)" in text
    assert "lm_head (1)" in text
    assert "try       q_proj" in text
    assert "0 to 2" in text
    with pytest.raises(ModelError, match="no module's full path"):
        Lora(target_modules=".*q_prj").attach(tiny.make_model("llama"))
    with pytest.raises(ModelError, match="LlamaAttention"):
        Lora(target_modules="self_attn").attach(tiny.make_model("llama"))


@pytest.mark.parametrize(
    ("settings", "quantization", "reason"),
    [
        ({"init_lora_weights": "loftq"}, "none", "not in 4 bits"),
        ({"init_lora_weights": "loftq"}, "int8", "not in 4 bits"),
        ({"init_lora_weights": "pissa"}, "nf4", "quantised"),
        ({"init_lora_weights": "olora", "r": 17, "target_modules": "all-linear"}, "none", "smallest side 16"),
        ({"init_lora_weights": "pissa", "target_modules": "embed_tokens"}, "none", "embeddings"),
    ],
)
def test_initialisations_that_cannot_be_are_refused(
    settings: dict[str, Any], quantization: str, reason: str, tmp_path: Path
) -> None:
    tiny.make_model("llama").save_pretrained(tmp_path)
    from weitiao.models.load import load_weightless

    model = load_weightless(ModelSettings(name=str(tmp_path), quantization=quantization))
    with pytest.raises(ModelError, match=reason):
        require_applicable(Lora(**settings), model, model.config)


@pytest.fixture
def saved(tmp_path: Path) -> tuple[Path, torch.Tensor]:
    attached = Lora(r=4, target_modules="all-linear").attach(tiny.make_model("llama"))
    train(attached)
    attached.save(tmp_path / "saved")
    return tmp_path / "saved", logits(attached.model)


def test_training_continues_from_an_adapter(saved: tuple[Path, torch.Tensor]) -> None:
    folder, expected = saved
    attached = Lora(r=4, target_modules="all-linear").continue_from(tiny.make_model("llama"), folder)
    assert torch.equal(logits(attached.model), expected)
    train(attached)
    assert not torch.equal(logits(attached.model), expected)


def test_an_adapter_of_other_settings_is_refused_with_every_difference(
    saved: tuple[Path, torch.Tensor],
) -> None:
    with pytest.raises(ModelError) as refusal:
        Lora(r=8, dropout=0.1, use_dora=True).continue_from(tiny.make_model("llama"), saved[0])
    text = str(refusal.value)
    assert len(refusal.value.problems) == 3
    assert all(word in text for word in ("method.r=4", "method.dropout=0.0", "method.use_dora=False"))
    with pytest.raises(ModelError, match="other modules"):
        Lora(r=4, target_modules="auto").continue_from(tiny.make_model("llama"), saved[0])


@pytest.mark.parametrize(
    "other", [{"hidden_size": 64}, {"num_hidden_layers": 2}, {"num_hidden_layers": 4}], ids=str
)
def test_an_adapter_of_another_base_is_refused(
    saved: tuple[Path, torch.Tensor], other: dict[str, int]
) -> None:
    with pytest.raises(ModelError, match="does not fit"):
        load_adapter(tiny.make_model("llama", **other), saved[0])


def test_a_folder_without_an_adapter_is_refused(saved: tuple[Path, torch.Tensor], tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"adapter_config\.json"):
        load_adapter(tiny.make_model("llama"), tmp_path / "nowhere")
    run = tmp_path / "run"
    run.mkdir()
    saved[0].rename(run / "adapter")
    with pytest.raises(ModelError, match="run/adapter"):
        load_adapter(tiny.make_model("llama"), run)
    (run / "adapter" / "adapter_model.safetensors").rename(run / "adapter" / "adapter_model.bin")
    with pytest.raises(ModelError, match=r"adapter_model\.safetensors"):
        load_adapter(tiny.make_model("llama"), run / "adapter")


def test_all_that_trains_on_a_half_precision_base_is_fp32() -> None:
    model = tiny.make_model("gpt2").bfloat16()
    attached = Lora(bias="all", modules_to_save=["lm_head"]).attach(model)
    assert {p.dtype for p in attached.trainable().values()} == {torch.float32}


def test_eva_says_in_words_which_layers_it_cannot_read() -> None:
    """OPT's MLP is given all rows in one matrix, where PEFT's eva expects them apart."""
    model = tiny.make_model("opt")
    method = Lora(init_lora_weights="eva", target_modules=["fc1"])
    with pytest.raises(ModelError, match="eva cannot read") as refusal:
        method.prepare(method.attach(model).model, batches())
    assert "target_modules=auto" in refusal.value.problems[0].remedy
