"""Names, patterns and packed weights: what PEFT is told, what is refused, and what weight decay leaves alone."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

import tiny_architectures as tiny
from tiny_methods import every_method, make
from weitiao.core.errors import ModelError
from weitiao.engine.optim.optimizers import OptimizerSettings, group_parameters
from weitiao.methods import _checks
from weitiao.methods._alternatives import require_applicable
from weitiao.methods._checks import fully_matching
from weitiao.methods._experts import names_for
from weitiao.methods._peft.attached import CONFIG_FILE, load_adapter
from weitiao.methods.lora import Lora
from weitiao.models.load import weightless
from weitiao.models.precision import quantization_config
from weitiao.models.settings import ModelSettings

BACKTRACKS = r"(\w|\w\w|.)*?\d{9}"
"""Takes time exponential in a path's length."""


def test_names_mean_the_wanted_paths_and_no_others() -> None:
    every = ["h.0.attn.c_proj", "h.0.mlp.c_proj", "h.0.mlp.c_fc", "see.h.0.mlp.c_fc"]
    assert names_for(["h.0.mlp.c_proj"], every) == ["mlp.c_proj"]
    assert names_for(["h.0.mlp.c_proj", "h.0.attn.c_proj"], every) == ["c_proj"]
    assert names_for(["see.h.0.mlp.c_fc"], every) == ["see.h.0.mlp.c_fc"]


def test_a_pattern_that_never_ends_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="takes too long"):
        Lora(target_modules=BACKTRACKS).attach(tiny.make_model("llama"))
    Lora(target_modules="q_proj").attach(tiny.make_model("llama")).save(tmp_path)
    config = json.loads((tmp_path / CONFIG_FILE).read_text(encoding="utf-8"))
    for key, value in (("target_modules", BACKTRACKS), ("rank_pattern", {BACKTRACKS: 4})):
        (tmp_path / CONFIG_FILE).write_text(json.dumps(config | {key: value}), encoding="utf-8")
        with pytest.raises(ModelError, match="takes too long"):
            load_adapter(tiny.make_model("llama"), tmp_path)


def test_a_pattern_is_read_in_time() -> None:
    paths = [f"model.layers.{n}.mlp.up_proj" for n in range(3)]
    assert fully_matching(r".*[12]\.mlp\.(up|down)_proj", paths) == paths[1:]
    assert _checks.MATCHING_SECONDS > 0


@pytest.mark.parametrize("name", ["q_proj", "mlp", "model.layers.0"])
def test_packed_layers_are_not_trained_whole(name: str) -> None:
    config = tiny.make_config("llama")
    config.quantization_config = quantization_config(ModelSettings(name=".", quantization="nf4")).to_dict()
    with pytest.raises(ModelError, match="quantised weights"):
        require_applicable(Lora(modules_to_save=[name]), weightless(config), config)
    require_applicable(Lora(modules_to_save="lm_head,embed_tokens,norm"), weightless(config), config)


@every_method
def test_vectors_are_not_decayed(name: str) -> None:
    attached = make(name).attach(tiny.make_model("llama"))
    settings = OptimizerSettings(weight_decay=0.1)
    parameters, undecayed = attached.trainable(), attached.undecayed_parameters()
    groups = group_parameters(parameters, frozenset(), settings, 1e-3, undecayed)
    decayed = {id(p) for group in groups if group["weight_decay"] for p in group["params"]}
    ones = {n for n, p in parameters.items() if torch.equal(p, torch.ones_like(p)) and p.numel() > 1}
    assert not any(id(parameters[n]) in decayed for n in ones)
    assert all(id(p) in decayed for p in parameters.values() if p.ndim > 1 and min(p.shape) > 1)


def test_matrices_of_rank_one_are_decayed() -> None:
    attached = Lora(r=1).attach(tiny.make_model("llama"))
    assert attached.undecayed_parameters() == frozenset()
    assert len(make("ia3").attach(tiny.make_model("llama")).undecayed_parameters()) == 9
