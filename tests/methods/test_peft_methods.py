"""The thin methods over PEFT's: they compute what PEFT's own model does, count as papers print, refuse in words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from transformers import LlamaConfig

import tiny_architectures as tiny
from tiny_methods import make_model
from weitiao.core.errors import ModelError, SettingsError
from weitiao.core.settings import parse_settings
from weitiao.methods import METHODS
from weitiao.methods._alternatives import require_applicable
from weitiao.methods._base import count_parameters
from weitiao.methods._peft.attached import PeftAttached, PeftMethod, load_adapter
from weitiao.models.load import weightless

QV = ["q_proj", "v_proj"]

# (our settings, PEFT's settings by hand)
SAME: dict[str, tuple[str, dict[str, Any], peft.PeftConfig]] = {
    "loha": ("loha", {"r": 4, "alpha": 6}, peft.LoHaConfig(r=4, alpha=6, target_modules=QV)),
    "lokr": ("lokr", {"r": 2, "alpha": 6, "decompose_factor": 4, "decompose_both": True},
             peft.LoKrConfig(r=2, alpha=6, decompose_factor=4, decompose_both=True, target_modules=QV)),
    "lokr-lycoris": ("lokr", {"r": 2, "init_weights": "lycoris"},
                     peft.LoKrConfig(r=2, init_weights="lycoris", target_modules=QV)),
    "adalora": ("adalora", {"init_r": 4, "target_r": 2, "alpha": 8},
                peft.AdaLoraConfig(init_r=4, target_r=2, lora_alpha=8, total_step=100, target_modules=QV)),
    "ia3": ("ia3", {}, peft.IA3Config(target_modules=["k_proj", "v_proj", "down_proj"],
                                      feedforward_modules=["down_proj"])),
    "oft": ("oft", {"oft_block_size": 8}, peft.OFTConfig(oft_block_size=8, target_modules=QV)),
    "oft-blocks": ("oft", {"r": 4, "coft": True, "eps": 1e-3, "block_share": True, "use_cayley_neumann": False},
                   peft.OFTConfig(r=4, oft_block_size=0, coft=True, eps=1e-3, block_share=True,
                                  use_cayley_neumann=False, target_modules=QV)),
    "vera": ("vera", {"r": 16, "d_initial": 0.2, "projection_prng_key": 3},
             peft.VeraConfig(r=16, d_initial=0.2, projection_prng_key=3, target_modules=QV)),
    "hira": ("hira", {"r": 4, "init_hira_weights": "gaussian"},
             peft.HiraConfig(r=4, init_weights="gaussian", target_modules=QV)),
    "shira": ("shira", {"r": 4, "random_seed": 5}, peft.ShiraConfig(r=4, random_seed=5, target_modules=QV)),
    "miss": ("miss", {"r": 8}, peft.MissConfig(r=8, target_modules=QV)),
    "miss-bat": ("miss", {"r": 8, "variant": "bat"}, peft.MissConfig(r=8, init_weights="bat", target_modules=QV)),
    "miss-mini": ("miss", {"r": 8, "variant": "mini", "mini_r": 4},
                  peft.MissConfig(r=8, init_weights="mini", mini_r=4, target_modules=QV)),
    "delora": ("delora", {"r": 4, "delora_lambda": 9}, peft.DeloraConfig(r=4, delora_lambda=9, target_modules=QV)),
    "road": ("road", {"variant": "road_2", "group_size": 8},
             peft.RoadConfig(variant="road_2", group_size=8, target_modules=QV)),
    "ln_tuning": ("ln_tuning", {}, peft.LNTuningConfig()),
    "trainable_tokens": ("trainable_tokens", {"token_indices": [14, 16]},
                         peft.TrainableTokensConfig(token_indices=[14, 16])),
}  # fmt: skip
BLOCKS = (
    "loha",
    "lokr",
    "adalora",
    "ia3",
    "oft",
    "vera",
    "hira",
    "shira",
    "miss",
    "delora",
    "road",
    "ln_tuning",
)


def make(name: str, **settings: Any) -> PeftMethod:  # noqa: ANN401
    method = parse_settings(METHODS.load(name), settings)
    assert isinstance(method, PeftMethod)
    return method


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


@pytest.mark.parametrize("case", SAME)
def test_trained_it_computes_what_pefts_own_model_does(case: str, tmp_path: Path) -> None:
    """With every setting that changes the mathematics away from its default; switched off, saved, merged as well."""
    name, settings, config = SAME[case]
    base = logits(make_model("llama"))
    attached = make(name, **settings).attach(make_model("llama"))
    torch.testing.assert_close(logits(attached.model), base, atol=1e-6, rtol=0)
    train(attached)
    theirs = peft.get_peft_model(make_model("llama"), config)
    values = dict(theirs.named_parameters())
    names = [n.removeprefix("base_model.model.") for n, p in theirs.named_parameters() if p.requires_grad]
    assert names == [n.removeprefix("base_model.model.") for n in attached.trainable()]
    for n, parameter in attached.trainable().items():
        values[n].data.copy_(parameter.data)
    trained = logits(attached.model)
    assert torch.equal(logits(theirs), trained)
    assert not torch.allclose(trained, base, atol=1e-3)
    with attached.disabled():
        assert torch.equal(logits(attached.model), base)
    attached.save(tmp_path)
    loaded = logits(load_adapter(make_model("llama"), tmp_path).model)
    if settings.get("coft"):  # PEFT projects the rotations anew in every forward, which moves the last bits
        torch.testing.assert_close(loaded, trained, atol=1e-6, rtol=0)
    else:
        assert torch.equal(loaded, trained)
    again = make(name, **settings).continue_from(make_model("llama"), tmp_path)
    torch.testing.assert_close(logits(again.model), trained, atol=1e-6, rtol=0)
    assert list(again.trainable()) == list(attached.trainable())
    torch.testing.assert_close(logits(attached.merge()), trained, atol=1e-5, rtol=0)


BLOCKS_OF_7B, FEW = 32, 4
"""How many blocks Llama-2-7B has, and how many are enough where a formula holds for any number."""
ADAPTED = 2 * FEW
"""Each method's default adapts two layers of a block."""
LORA_OF_8 = ADAPTED * 8 * (4096 + 4096)
COUNTS = {
    "ia3": ({}, BLOCKS_OF_7B, 614_400),  # as PEFT prints it for k_proj, v_proj, down_proj
    "loha": ({"r": 8}, FEW, 2 * LORA_OF_8),  # two LoRA of the same rank
    "adalora": ({"init_r": 12}, FEW, ADAPTED * (12 * (4096 + 4096) + 12)),
    "vera": ({"r": 256}, FEW, ADAPTED * (256 + 4096)),  # L_tuned (d_model + r), section 3.2 of the paper
    "shira": ({"r": 8}, FEW, LORA_OF_8),  # as many as LoRA
    "miss": ({"r": 32}, FEW, ADAPTED * 32 * 4096),
    "delora": ({"r": 8}, FEW, LORA_OF_8 + ADAPTED),
    "oft": ({"oft_block_size": 32}, FEW, ADAPTED * 128 * 32 * 31 // 2),
    "road": ({}, FEW, ADAPTED * 4096),
    "hira": ({"r": 8}, FEW, LORA_OF_8),
    "ln_tuning": ({}, FEW, (2 * FEW + 1) * 4096),
    "trainable_tokens": ({"token_indices": [5, 7]}, FEW, 2 * 4096),
}


@pytest.mark.parametrize("name", COUNTS)
def test_parameters_of_llama_2_7bs_widths_count_as_the_formulas_do(name: str) -> None:
    settings, blocks, expected = COUNTS[name]
    config = LlamaConfig(
        vocab_size=32000, hidden_size=4096, intermediate_size=11008, num_hidden_layers=blocks,
        num_attention_heads=32, tie_word_embeddings=False,
    )  # fmt: skip
    assert count_parameters(make(name, **settings).attach(weightless(config)).model)[0] == expected


@pytest.mark.parametrize("name", BLOCKS)
def test_chosen_blocks_alone_are_adapted(name: str, tmp_path: Path) -> None:
    attached = make(name, layers_to_transform=[1]).attach(tiny.make_model("llama"))
    assert {n.split(".layers.")[1][0] for n in attached.trainable()} == {"1"}
    train(attached)
    attached.save(tmp_path)
    loaded = load_adapter(tiny.make_model("llama"), tmp_path)
    assert torch.equal(logits(loaded.model), logits(attached.model))


@pytest.mark.parametrize("name", sorted(set(BLOCKS) - {"ln_tuning"}))
def test_targets_are_chosen_as_for_lora(name: str) -> None:
    fitting = {"oft_block_size": 16} if name == "oft" else {}
    every = make(name, target_modules="all-linear", **fitting).attach(tiny.make_model("llama"))
    assert {n.split(".")[6] for n in every.trainable() if ".layers." in n} == {
        "q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}  # fmt: skip
    pattern = make(name, target_modules=r".*\.layers\.[02]\..*o_proj").attach(tiny.make_model("llama"))
    assert {tuple(n.split(".")[4:7:2]) for n in pattern.trainable() if ".layers." in n} == {
        ("0", "o_proj"), ("2", "o_proj")}  # fmt: skip
    with pytest.raises(ModelError, match=r"q_porj(.|\n)*q_proj"):
        make(name, target_modules="q_porj").attach(tiny.make_model("llama"))


def test_modules_trained_whole_are_kept(tmp_path: Path) -> None:
    for name in BLOCKS:
        attached = make(name, modules_to_save="lm_head").attach(make_model("llama"))
        train(attached)
        attached.save(tmp_path / name)
        loaded = load_adapter(make_model("llama"), tmp_path / name)
        assert torch.equal(logits(loaded.model), logits(attached.model)), name
        with attached.disabled():
            assert torch.equal(logits(attached.model), logits(make_model("llama"))), name


def test_ia3_on_an_architecture_peft_does_not_know() -> None:
    model = tiny.make_model("phi3", pad_token_id=0)
    attached = make("ia3").attach(model)
    assert attached.config.target_modules == {"qkv_proj", "down_proj"}
    assert attached.config.feedforward_modules == {"down_proj"}
    base = logits(tiny.make_model("phi3", pad_token_id=0))
    assert torch.equal(logits(attached.model), base)


@pytest.mark.parametrize(
    ("architecture", "expected"),
    [
        ("llama", {"k_proj", "v_proj", "down_proj"}),
        ("qwen2", {"k_proj", "v_proj", "down_proj"}),
        ("gemma", {"k_proj", "v_proj", "down_proj"}),
        ("opt", {"k_proj", "v_proj", "fc2"}),
        ("gpt2", {"c_attn", "mlp.c_proj"}),
        ("bloom", {"query_key_value", "dense_4h_to_h"}),
    ],
)
def test_ia3_scales_keys_and_values_and_the_feed_forward(architecture: str, expected: set[str]) -> None:
    attached = make("ia3").attach(tiny.make_model(architecture))
    assert attached.config.target_modules == expected


def test_ln_tuning_takes_every_norm_of_a_block() -> None:
    attached = make("ln_tuning").attach(tiny.make_model("qwen2"))
    assert set(attached.config.target_modules) == {"input_layernorm", "post_attention_layernorm", "norm"}


def test_norms_of_an_architecture_peft_does_not_know() -> None:
    attached = make("ln_tuning").attach(tiny.make_model("opt"))
    assert attached.config.target_modules == ["final_layer_norm", "self_attn_layer_norm"]
    with pytest.raises(
        ModelError, match=r"not a normalisation layer(.|\n)*q_proj \(Linear\)(.|\n)*final_layer_norm"
    ):
        make("ln_tuning", target_modules="q_proj").attach(tiny.make_model("opt"))


REFUSED_BY_SHAPE = {
    "shira": ({"r": 11}, r"r: 11 on .*v_proj(.|\n)*r up to 10"),
    "miss": ({"r": 33}, r"more than the inputs"),
    "miss-bat": ({"r": 5, "variant": "bat"}, r"squares of r by r"),
    "miss-mini": ({"r": 4, "variant": "mini", "mini_r": 5}, r"does not divide"),
    "road": ({"group_size": 12}, r"group_size: 12; .*q_proj \(32 outputs\)"),
    "oft": ({"oft_block_size": 12}, r"oft_block_size: 12(.|\n)*one of 2, 4, 8, 16, 32"),
    "oft-blocks": ({"r": 32}, r"blocks of two or more"),
    "ia3": ({"feedforward_modules": ["up_proj"]}, r"some of method.target_modules(.|\n)*up_proj"),
    "trainable_tokens": ({"token_indices": [60, 61, 99]}, r"61, 99(.|\n)*0 to 60"),
    "trainable_tokens-padding": ({"token_indices": [0, 5]}, r"no gradient(.|\n)*token_indices=5"),
    "trainable_tokens-table": (
        {"token_indices": [3], "target_modules": ["q_proj"]},
        r"one row for each token",
    ),
    "loha": ({"layers_to_transform": [3, 9]}, r"3, 9(.|\n)*0 to 2"),
    "ia3-blocks": ({"layers_to_transform": [3, 9]}, r"3, 9(.|\n)*0 to 2"),
}


@pytest.mark.parametrize("case", REFUSED_BY_SHAPE)
def test_what_does_not_fit_a_model_is_refused_before_weights(case: str) -> None:
    settings, words = REFUSED_BY_SHAPE[case]
    method, config = make(case.partition("-")[0], **settings), tiny.make_config("llama")
    with pytest.raises(ModelError, match=words):
        require_applicable(method, weightless(config), config)


REFUSED = {
    "ia3": ({"target_modules": ["k_proj"], "feedforward_modules": ["up_proj"]}, "up_proj is not"),
    "oft": ({"r": 4, "oft_block_size": 8}, "one of them"),
    "vera": ({"d_initial": 0}, "neither would ever change"),
    "lokr": ({"decompose_factor": 0}, "-1 to let the layer"),
    "road": ({"group_size": 7}, "multiple of 2"),
    "ln_tuning": ({"target_modules": "all-linear"}, "not linear"),
    "trainable_tokens": ({"token_indices": [3, 3]}, "3 more than once"),
    "miss": ({"variant": "bat", "dropout": 0.1}, "not used by the variant bat"),
    "oft-share": ({"block_share": True, "module_dropout": 0.1}, "all share one"),
    "trainable_tokens-none": ({}, "token_indices is missing"),
    "hira": ({"hira_dropout": 0.1}, r"method\.dropout|dropout"),
    "shira": ({"layers_to_transform": [0], "target_modules": "a.*b"}, "regular expression"),
}


WITH_BLOCKS = [n for n in METHODS.names() if "layers_to_transform" in METHODS.load(n).model_fields]


@pytest.mark.parametrize("name", WITH_BLOCKS)
def test_an_empty_list_of_blocks_is_refused(name: str) -> None:
    """PEFT takes it for all blocks."""
    with pytest.raises(SettingsError, match=r"layers_to_transform cannot be used: it names no block"):
        parse_settings(
            METHODS.load(name), {**METHODS.load(name).example, "layers_to_transform": []}, "method"
        )
    needed = dict(METHODS.load(name).example)
    assert parse_settings(METHODS.load(name), {**needed, "layers_to_transform": None}, "method")


@pytest.mark.parametrize("case", REFUSED)
def test_settings_out_of_range_are_refused_without_a_model(case: str) -> None:
    settings, words = REFUSED[case]
    with pytest.raises(SettingsError, match=words):
        parse_settings(METHODS.load(case.partition("-")[0]), settings)


@pytest.mark.parametrize(
    ("made", "other"), [("lora", "ia3"), ("ia3", "lora"), ("loha", "lokr"), ("prompt_tuning", "lora")]
)
def test_an_adapter_of_another_method_is_refused_with_the_method_that_made_it(
    made: str, other: str, tmp_path: Path
) -> None:
    METHODS.load(made)().attach(tiny.make_model("llama")).save(tmp_path)
    with pytest.raises(ModelError) as caught:
        METHODS.load(other)().continue_from(tiny.make_model("llama"), tmp_path)
    assert [problem.remedy for problem in caught.value.problems] == [f"method.name={made}"]
