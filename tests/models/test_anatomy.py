"""Where the parts are, on every architecture, judged against names written down by hand."""

from __future__ import annotations

import pytest
from transformers import PretrainedConfig

import tiny_architectures as tiny
import tiny_kinds as kinds
from weitiao.core.errors import ModelError
from weitiao.models.anatomy import anatomy, is_inside, task_type
from weitiao.models.load import weightless

LLAMA = {
    "stack": "model.layers",
    "attention": ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj"],
    "mlp": ["mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"],
    "outer_norms": ["model.norm"],
    "embeddings": ["model.embed_tokens"],
    "norms_a_block": 2,
    "tied": False,
}
EXPECTED: dict[str, dict[str, object]] = {
    "llama": LLAMA,
    "mistral": LLAMA,
    "qwen2": LLAMA | {"tied": True},
    "qwen3": LLAMA | {"norms_a_block": 4},
    "gemma": LLAMA | {"tied": True},
    "gemma2": LLAMA | {"tied": True, "norms_a_block": 4},
    "phi3": LLAMA
    | {"attention": ["self_attn.o_proj", "self_attn.qkv_proj"], "mlp": ["mlp.gate_up_proj", "mlp.down_proj"]},
    "gpt2": {
        "stack": "transformer.h",
        "attention": ["attn.c_attn", "attn.c_proj"],
        "mlp": ["mlp.c_fc", "mlp.c_proj"],
        "outer_norms": ["transformer.ln_f"],
        "embeddings": ["transformer.wte", "transformer.wpe"],
        "norms_a_block": 2,
        "tied": True,
    },
    "opt": {
        "stack": "model.decoder.layers",
        "attention": ["self_attn.k_proj", "self_attn.v_proj", "self_attn.q_proj", "self_attn.out_proj"],
        "mlp": ["fc1", "fc2"],
        "outer_norms": ["model.decoder.final_layer_norm"],
        "embeddings": ["model.decoder.embed_tokens", "model.decoder.embed_positions"],
        "norms_a_block": 2,
        "tied": True,
    },
    "gemma3_text": {
        "stack": "model.layers",
        "attention": ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj"],
        "mlp": ["mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"],
        "outer_norms": ["model.norm"],
        "embeddings": ["model.embed_tokens"],
        "norms_a_block": 6,
        "tied": True,
    },
    "bloom": {
        "stack": "transformer.h",
        "attention": ["self_attention.query_key_value", "self_attention.dense"],
        "mlp": ["mlp.dense_h_to_4h", "mlp.dense_4h_to_h"],
        "outer_norms": ["transformer.word_embeddings_layernorm", "transformer.ln_f"],
        "embeddings": ["transformer.word_embeddings"],
        "norms_a_block": 2,
        "tied": True,
    },
}


def test_every_tiny_architecture_is_written_down() -> None:
    assert set(EXPECTED) == set(tiny.SETTINGS)


@pytest.mark.parametrize("architecture", EXPECTED)
def test_parts(architecture: str) -> None:
    expected, stack = EXPECTED[architecture], EXPECTED[architecture]["stack"]
    parts = anatomy(tiny.make_model(architecture))
    assert parts.blocks == (f"{stack}.0", f"{stack}.1", f"{stack}.2")
    assert parts.attention == tuple(
        f"{block}.{name}" for block in parts.blocks for name in expected["attention"]
    )
    assert parts.mlp == tuple(f"{block}.{name}" for block in parts.blocks for name in expected["mlp"])
    assert parts.outer_norms == tuple(expected["outer_norms"])
    assert len(parts.block_norms) == 3 * expected["norms_a_block"]
    assert parts.embeddings == tuple(expected["embeddings"])
    assert (parts.head, parts.tied) == ("lm_head", expected["tied"])
    assert [parts.block_of(path) for path in (*parts.mlp, parts.head)][-3:] == [2, 2, None]


@pytest.mark.parametrize("architecture", EXPECTED)
def test_a_weightless_model_has_the_same_parts(architecture: str) -> None:
    assert anatomy(weightless(tiny.make_config(architecture))) == anatomy(tiny.make_model(architecture))


def test_a_classifier_has_no_head_onto_the_vocabulary() -> None:
    llama, bert = (anatomy(kinds.make_model(f"{name} classifier")) for name in ("llama", "bert"))
    assert (llama.head, llama.classifier, llama.tied) == (None, "score", False)
    assert (bert.head, bert.classifier, bert.depth) == (None, "classifier", kinds.LAYERS)
    assert bert.attention[:4] == tuple(
        f"bert.encoder.layer.0.attention.{name}"
        for name in ("self.query", "self.key", "self.value", "output.dense")
    )
    assert anatomy(tiny.make_model("llama")).classifier is None


def test_an_encoder_and_its_decoder() -> None:
    parts = anatomy(kinds.make_model("t5"))
    assert parts.stacks == tuple(
        tuple(f"{half}.block.{n}" for n in range(kinds.LAYERS)) for half in ("encoder", "decoder")
    )
    assert (len(parts.blocks), parts.depth, parts.head) == (2 * kinds.LAYERS, kinds.LAYERS, "lm_head")
    assert len(parts.attention) == kinds.LAYERS * (4 + 8)
    assert {path.rpartition(".")[2] for path in parts.mlp} == {"wi", "wo"}
    assert [parts.block_of(f"{half}.block.1.layer.0") for half in ("encoder", "decoder")] == [1, 1]


def test_a_state_space_model() -> None:
    parts = anatomy(kinds.make_model("mamba"))
    assert parts.attention == ()
    assert parts.projections == tuple(f"backbone.layers.{n}.mixer.in_proj" for n in range(kinds.LAYERS))
    assert {path.rpartition(".")[2] for path in parts.unreachable} == {"x_proj", "dt_proj", "out_proj"}


@pytest.mark.parametrize(
    ("kind", "task"),
    [
        ("llama classifier", "SEQ_CLS"),
        ("bert classifier", "SEQ_CLS"),
        ("t5", "SEQ_2_SEQ_LM"),
        ("mamba", "CAUSAL_LM"),
    ],
)
def test_what_a_model_is_for(kind: str, task: str) -> None:
    assert task_type(kinds.make_model(kind)) == task


def test_paths_are_compared_by_segments() -> None:
    assert is_inside("model.layers.1.mlp", "model.layers.1")
    assert is_inside("model.layers.1", "model.layers.1")
    assert not is_inside("model.layers.10.mlp", "model.layers.1")
    assert not is_inside("model.norm_extra", "model.norm")


def test_a_model_without_blocks_is_refused() -> None:
    from torch import nn
    from transformers import PreTrainedModel

    class Flat(PreTrainedModel):
        def __init__(self) -> None:
            super().__init__(PretrainedConfig())
            self.linear = nn.Linear(2, 2)

    with pytest.raises(ModelError, match="no list of blocks"):
        anatomy(Flat())


def test_a_model_that_was_changed_is_looked_at_again() -> None:
    model = tiny.make_model("llama")
    before = anatomy(model)
    model.lm_head.weight = model.model.embed_tokens.weight
    assert (before.tied, anatomy(model).tied) == (False, True)
    model.model.layers = model.model.layers[:1]
    assert (len(anatomy(model).blocks), len(before.blocks) > 1) == (1, True)
