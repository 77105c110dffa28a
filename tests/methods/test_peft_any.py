"""`peft:<name>`: every method of PEFT that has no file here trains, saves, loads and switches off, or says why not."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

import tiny_architectures as tiny
from tiny_methods import logits, make_config, make_model, train
from tiny_training import equal, make_examples, make_training, weights_of
from weitiao.core.errors import ModelError, SettingsError
from weitiao.core.settings import parse_settings
from weitiao.engine.checkpoint import list_checkpoints
from weitiao.engine.loop import Training
from weitiao.methods import METHODS
from weitiao.methods._alternatives import require_applicable
from weitiao.methods._base import FAMILIES, count_parameters
from weitiao.methods._peft.any import FILES_BY_OTHER_NAMES, NEEDS_MORE, WHAT_THEY_ARE, AnyPeft, names
from weitiao.methods._peft.attached import load_adapter
from weitiao.models.load import weightless
from weitiao.recipe.recipe import parse_recipe, read_recipe

TO_FIT: dict[str, dict[str, Any]] = {
    "c3a": {"block_size": 8},
    "fourierft": {"n_frequency": 20},
    "psoft": {"r": 8},
    "vblora": {"vector_length": 4, "num_vectors": 8},
    "waveft": {"n_frequency": 20},
}
"""What a method's defaults are too large for, on a model 32 wide."""
NOT_MERGED = {"beft": "no bias", "lily": "not supported"}
ONE, LONGEST = names()[0], max(names(), key=len)
"""Examples of tuners; one that is given a file here is no longer among them."""

every = pytest.mark.parametrize("name", names())


def of_tuner(tuner: str, *case: object) -> Any:  # noqa: ANN401  (what pytest makes of a case)
    """Return a case that only this tuner has, skipped where it has a file here."""
    return pytest.param(*case, marks=pytest.mark.skipif(tuner not in names(), reason=f"{tuner} has a file"))


def make(name: str, **changes: Any) -> AnyPeft:  # noqa: ANN401
    method = METHODS.load(f"peft:{name}")(**(TO_FIT.get(name, {}) | changes))
    assert isinstance(method, AnyPeft)
    return method


def test_each_of_pefts_methods_has_a_file_or_is_reached_or_says_what_it_needs() -> None:
    """Fails where PEFT gains a method that nobody looked at, or loses one that is spoken of here."""
    from peft import PeftType
    from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING

    theirs = {key.value.lower() for key in PEFT_TYPE_TO_CONFIG_MAPPING if isinstance(key, PeftType)}
    assert theirs >= {*NEEDS_MORE, *FILES_BY_OTHER_NAMES}
    assert {*names(), *METHODS.names()} >= set(theirs) - {*NEEDS_MORE, *FILES_BY_OTHER_NAMES}
    assert set(names()) == {
        "beft", "boft", "c3a", "deft", "fourierft", "glora", "gralora", "hra", "lily", "osf", "peanut",
        "psoft", "pvera", "randlora", "supertuning", "tinylora", "unilora", "vblora", "waveft",
    } - set(METHODS.names())  # fmt: skip


@every
def test_it_trains_saves_loads_and_switches_off(name: str, tmp_path: Path) -> None:
    base = logits(make_model("llama"))
    torch.manual_seed(0)
    attached = make(name).attach(make_model("llama"))
    train(attached)
    gradients = {n: p.grad for n, p in attached.trainable().items()}
    assert [n for n, g in gradients.items() if g is None or not g.isfinite().all() or not g.any()] == []
    trained = logits(attached.model)
    assert not torch.allclose(trained, base, atol=1e-4)
    with attached.disabled():
        assert torch.equal(logits(attached.model), base)
    attached.save(tmp_path)
    assert torch.equal(logits(load_adapter(make_model("llama"), tmp_path).model), trained)
    if name in NOT_MERGED:
        with pytest.raises(ModelError, match=f"(?s)says that {name} cannot be merged.*{NOT_MERGED[name]}"):
            load_adapter(make_model("llama"), tmp_path).merge()
        return
    torch.testing.assert_close(logits(attached.merge()), trained, atol=1e-5, rtol=0)


@every
def test_a_weightless_model_counts_the_same(name: str) -> None:
    method = make(name)
    planned = method.plan(weightless(make_config("llama")))
    assert count_parameters(planned.model)[0] == count_parameters(method.attach(make_model("llama")).model)[0]


@every
def test_a_resumed_run_is_bit_exact(name: str, tmp_path: Path) -> None:
    def training(folder: Path) -> Training:
        method = {"name": f"peft:{name}", **TO_FIT.get(name, {})}
        settings = {"lr": 1e-2, "steps": 2, "batch_size": 3, "save_every": 1}
        model = tiny.make_model("llama", num_hidden_layers=1)
        return make_training(folder, make_examples(6, seed=2), method=method, model=model, **settings)

    straight, resumed = training(tmp_path / "straight"), training(tmp_path / "resumed")
    straight.run()
    resumed.resume(
        next(p for p in list_checkpoints(tmp_path / "straight" / "checkpoints") if p.name.endswith("1"))
    )
    assert resumed.progress.step == 1
    resumed.run()
    assert equal(weights_of(resumed), weights_of(straight))


@every
def test_a_run_file_reads_back_as_written(name: str, tmp_path: Path) -> None:
    rest = {"model": "m", "data": "my.json", "out": "runs/x"}
    recipe = parse_recipe({"method": {"name": f"peft:{name}", **TO_FIT.get(name, {})}, **rest})
    path = tmp_path / "run.yaml"
    path.write_text(recipe.as_yaml(), encoding="utf-8")
    again = read_recipe(path, {})
    assert again.method == recipe.method
    assert again.as_dict() == recipe.as_dict() == yaml.safe_load(recipe.as_yaml())
    assert again.method.name == f"peft:{name}"


@pytest.mark.parametrize("name", [of_tuner(tuner, tuner) for tuner in ("fourierft", "waveft")])
def test_words_of_the_command_line_reach_it(name: str) -> None:
    words = [
        "method.n_frequency=100",
        "method.target_modules=k_proj",
        "model=m",
        "data=my.json",
        "out=runs/x",
    ]
    recipe = read_recipe(None, {"method": {"name": f"peft:{name}"}}, words)
    assert recipe.method.model_dump()["n_frequency"] == 100
    attached = recipe.method.attach(tiny.make_model("llama"))
    assert all(".k_proj." in parameter for parameter in attached.trainable())
    assert count_parameters(attached.model)[0] == 3 * 100


@pytest.mark.parametrize(
    ("method", "reason"),
    [
        ({"name": "peft:lora"}, r"method=lora"),
        ({"name": "peft:adaption_prompt"}, r"method=llama_adapter"),
        ({"name": f"peft:{LONGEST[1]}{LONGEST[0]}{LONGEST[2:]}"}, LONGEST),
        ({"name": "peft:weitiao_bitfit"}, r"no PEFT method"),
        ({"name": f"pfet:{ONE}"}, r"no method"),
        ({"name": "peft:"}, r"no method"),
        *(
            ({"name": f"peft:{name}"}, re.escape(reason))
            for name, reason in NEEDS_MORE.items()
            if name not in METHODS.names()
        ),
        of_tuner("c3a", {"name": "peft:c3a", "blok_size": 8}, r"method\.block_size"),
        of_tuner("c3a", {"name": "peft:c3a", "block_size": "many"}, r"block_size.*whole number"),
        of_tuner("hra", {"name": "peft:hra", "layers_pattern": "layers"}, r"layers_to_transform"),
        of_tuner(
            "glora",
            {"name": "peft:glora", "config_A_B": "matrix"},
            r"(?s)config_A_B.*expected  lora, vector",
        ),
    ],
)
def test_what_cannot_be_is_refused_as_settings(method: dict[str, Any], reason: str) -> None:
    with pytest.raises(SettingsError, match=reason):
        parse_recipe({"method": method, "model": "m", "data": "my.json", "out": "runs/x"})


@pytest.mark.parametrize("name", [of_tuner("c3a", "c3a")])
def test_pefts_reasons_are_told_before_weights_are_loaded(name: str) -> None:
    config = tiny.make_config("llama")
    with pytest.raises(ModelError, match="block size"):
        require_applicable(
            parse_settings(METHODS.load(f"peft:{name}"), {"block_size": 7}), weightless(config), config
        )


def test_a_misspelt_layer_and_a_quantised_base_are_refused_before_weights_are_loaded() -> None:
    config = tiny.make_config("llama")
    with pytest.raises(ModelError, match="q_proj"):
        require_applicable(make(ONE, target_modules=["q_porj"]), weightless(config), config)
    config.quantization_config = {"quant_method": "bitsandbytes", "load_in_8bit": True}
    with pytest.raises(ModelError, match=rf"peft:{ONE}(.|\n)*lora"):
        require_applicable(make(ONE), weightless(tiny.make_config("llama")), config)


@pytest.mark.parametrize(
    ("name", "settings", "key"),
    [
        of_tuner("boft", "boft", {"boft_block_size": 7}, "boft_block_size"),
        of_tuner("c3a", "c3a", {}, "block_size"),
    ],
)
def test_where_a_size_is_the_cause_one_that_fits_is_named(
    name: str, settings: dict[str, Any], key: str
) -> None:
    config = tiny.make_config("llama")
    with pytest.raises(ModelError) as refused:
        require_applicable(METHODS.load(f"peft:{name}")(**settings), weightless(config), config)
    (problem,) = refused.value.problems
    setting, _, size = problem.remedy.removeprefix("method.").partition("=")
    assert setting == key
    METHODS.load(f"peft:{name}")(**{key: int(size)}).attach(tiny.make_model("llama"))


def test_they_say_what_they_are_and_only_what_is_known() -> None:
    assert set(WHAT_THEY_ARE) - set(METHODS.names()) == set(names())
    for name in names():
        method = METHODS.load(f"peft:{name}")
        assert method.family in FAMILIES
        assert method.merges is None
        assert method.__doc__ == WHAT_THEY_ARE[name][1]
        described = [str(field.description) for field in method.model_fields.values()]
        assert not any(text.startswith(("('", '("')) for text in described)


def test_names_that_are_none_are_answered_with_names_to_type() -> None:
    with pytest.raises(SettingsError) as refused:
        METHODS.load(f"peft:{LONGEST[:-1]}")
    (problem,) = refused.value.problems
    assert problem.remedy.split(" or ")[0] == f"peft:{LONGEST}"
    assert all(f"peft:{name}" in problem.expected for name in names())


@pytest.mark.parametrize("name", [of_tuner(tuner, tuner) for tuner in ("hra", "osf")])
def test_only_chosen_blocks_where_peft_knows_them_or_not(name: str) -> None:
    trained = make(name, layers_to_transform=[1]).attach(tiny.make_model("llama")).trainable()
    assert trained
    assert all(".layers.1." in parameter for parameter in trained)
