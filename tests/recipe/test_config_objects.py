"""Config objects of other libraries: each value counts, also one that is the library's own default."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from peft import (
    AdaLoraConfig,
    IA3Config,
    LoHaConfig,
    LoraConfig,
    PrefixTuningConfig,
    PromptTuningConfig,
)
from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING
from transformers import BitsAndBytesConfig, GenerationConfig, TrainingArguments

from weitiao.core.dotted_names import by_dotted_name
from weitiao.core.errors import SettingsError
from weitiao.recipe.names.configs import Stated, as_mapping, usual_values
from weitiao.recipe.recipe import Recipe, parse_recipe

LEAST: dict[str, Any] = {"model": "m", "data": "my.json", "out": "runs/a"}
ARGUMENTS = {"num_train_epochs": 3, "learning_rate": 5e-5, "lr_scheduler_type": "linear", "save_steps": 500}


def values(recipe: Recipe) -> dict[str, Any]:
    return by_dotted_name(recipe.as_dict())


STATED: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"method": LoraConfig(r=8, lora_alpha=16)}, {"method.r": 8, "method.alpha": 16.0}),
    ({"method": LoraConfig()}, {"method.r": 8, "method.alpha": 8.0, "method.target_modules": "all-linear"}),
    ({"method": LoraConfig(r=32)}, {"method.r": 32, "method.alpha": 8.0}),
    (
        {"method": LoraConfig(r=4, lora_alpha=8, target_modules=["q_proj"])},
        {"method.r": 4, "method.alpha": 8.0, "method.target_modules": ["q_proj"]},
    ),
    ({"peft_config": LoraConfig(r=16)}, {"method.r": 16, "method.alpha": 8.0}),
    ({"method": IA3Config()}, {"method.name": "ia3"}),
    (
        {"method": PrefixTuningConfig(num_virtual_tokens=5)},
        {"method.name": "prefix_tuning", "method.num_virtual_tokens": 5},
    ),
    ({"method": PromptTuningConfig(num_virtual_tokens=5)}, {"method.init": "random"}),
    ({"method": LoHaConfig(r=8)}, {"method.name": "loha", "method.r": 8, "method.alpha": 8.0}),
    ({"method": AdaLoraConfig(total_step=9)}, {"method.name": "adalora", "method.alpha": 8.0}),
    (
        {"quantization_config": BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="fp4")},
        {"model.quantization": "fp4", "model.compute_dtype": "fp32", "model.double_quantization": False},
    ),
    (
        {"model": {"name": "m", "quantization_config": BitsAndBytesConfig(load_in_4bit=True)}},
        {"model.quantization": "fp4"},
    ),
    (
        {"quantization_config": BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4")},
        {"model.quantization": "nf4"},
    ),
    ({"quantization_config": BitsAndBytesConfig(load_in_8bit=True)}, {"model.quantization": "int8"}),
    ({"quantization_config": BitsAndBytesConfig()}, {"model.quantization": "none"}),
    (
        {"train": TrainingArguments(output_dir="runs/b", **ARGUMENTS)},
        {
            "out": "runs/b",
            "train.epochs": 3.0,
            "train.lr": 5e-5,
            "train.scheduler": "linear",
            "train.save_every": 500,
            "train.batch_size": 8,
            "train.warmup_ratio": 0.0,
            "train.weight_decay": 0.0,
            "train.max_grad_norm": 1.0,
            "train.seed": 42,
            "train.gradient_checkpointing": "auto",
        },
    ),
    (
        {"train": TrainingArguments(gradient_accumulation_steps=4), "out": "runs/b"},
        {"train.batch_size": 32, "out": "runs/b"},
    ),
    (
        {"train": TrainingArguments(warmup_steps=7)},
        {"train.warmup_steps": 7, "train.warmup_ratio": None},
    ),
    ({"generation_config": GenerationConfig(num_beams=2)}, {"evaluate.generation.num_beams": 2}),
    ({"generation_config": GenerationConfig(do_sample=True)}, {"evaluate.generation.temperature": 1.0}),
]


@pytest.mark.parametrize(("given", "settings"), STATED, ids=[str(number) for number in range(len(STATED))])
def test_an_object_states_all_its_values(given: dict[str, Any], settings: dict[str, Any]) -> None:
    run = {key: value for key, value in LEAST.items() if key != "out" or "out" not in settings}
    found = values(parse_recipe({**run, **given}))
    assert {name: found[name] for name in settings} == settings


def test_an_object_goes_before_the_run_file_and_behind_plain_keywords() -> None:
    run = {**LEAST, "method": {"name": "lora", "r": 64}, "train": {"lr": 1e-4, "warmup_ratio": 0.3}}
    blocks = {"method": LoraConfig(), "train": TrainingArguments(output_dir="runs/a")}
    found = values(parse_recipe(run, blocks))
    assert (found["method.r"], found["train.lr"], found["train.warmup_ratio"]) == (8, 5e-5, 0.0)
    above = {"r": 3, "learning_rate": 1e-3, "warmup_ratio": 0.2, "save_steps": 9}
    found = values(parse_recipe(run, blocks, above))
    assert (found["method.r"], found["train.lr"], found["train.warmup_ratio"]) == (3, 1e-3, 0.2)
    assert (found["train.save_every"], found["method.alpha"]) == (9, 8.0)
    found = values(parse_recipe({**LEAST, "method": {"name": "ia3"}}, {"method": LoraConfig()}))
    assert (found["method.name"], found["method.r"]) == ("lora", 8)


def test_what_an_object_left_as_it_was_is_one_line_where_it_differs_from_here() -> None:
    said = parse_recipe(LEAST, {"method": LoraConfig(r=32)}).said
    assert [line for line in said if "defaults of" in line] == [
        "defaults of LoraConfig that hold here: method.alpha=8"
    ]
    assert len(said) == 2, "and the method that peft_type names"
    both = {"method": LoraConfig(), "train": TrainingArguments(output_dir="runs/a")}
    (line,) = [one for one in parse_recipe(LEAST, both).said if "defaults of" in one]
    assert line.startswith("defaults of LoraConfig and TrainingArguments that hold here: ")
    assert {"method.r=8", "train.lr=5e-05", "train.epochs=3"} <= set(line.partition(": ")[2].split(", "))
    assert "seed" not in line
    assert "dropout" not in line
    lr = parse_recipe(LEAST, both, {"lr": 1e-3}).said
    assert not any("train.lr=" in one for one in lr), "what is not in force is not said"


@pytest.mark.parametrize("config", [BitsAndBytesConfig(load_in_8bit=True), IA3Config(), GenerationConfig()])
def test_an_object_with_nothing_else_to_say_says_little(config: object) -> None:
    key = {"IA3Config": "method", "GenerationConfig": "generation_config"}.get(
        type(config).__name__, "quantization_config"
    )
    assert len(parse_recipe(LEAST, {key: config}).said) <= 1


def test_what_was_given_in_an_object_still_clashes() -> None:
    with pytest.raises(SettingsError) as caught:
        parse_recipe({**LEAST, "out": "x", "train": TrainingArguments(output_dir="y")})
    assert "output_dir: y" in caught.value.problems[0].got


@pytest.mark.parametrize("kind", sorted(map(str, PEFT_TYPE_TO_CONFIG_MAPPING)))
def test_each_field_of_a_peft_config_is_stated_once(kind: str) -> None:
    """No value is dropped on the way, whichever default it has."""
    config = next(cls for known, cls in PEFT_TYPE_TO_CONFIG_MAPPING.items() if str(known) == kind)
    names = {field.name for field in dataclasses.fields(config)} - {"peft_version"}
    try:
        stated = as_mapping(config())
    except (ImportError, TypeError, ValueError):  # a config that needs a value or a package
        return
    assert isinstance(stated, Stated)
    assert set(stated) | set(stated.usual) == names
    assert not set(stated) & set(stated.usual)
    assert usual_values({"method": stated}) == {"method": stated.usual}
