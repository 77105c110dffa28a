"""Names that people bring along: read from files, words and Python alike, said once, refused where they clash."""

from __future__ import annotations

import dataclasses
import inspect
import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from peft import AdaLoraConfig, IA3Config, LoraConfig
from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING
from transformers import BitsAndBytesConfig, GenerationConfig, TrainingArguments

from weitiao.core.dotted_names import by_dotted_name
from weitiao.core.errors import Problem, SettingsError
from weitiao.core.locale.catalogue import chinese_catalogue
from weitiao.methods import METHODS
from weitiao.objectives import OBJECTIVES
from weitiao.recipe.blocks import BLOCKS, FIXED
from weitiao.recipe.names.entries import Context, Given, Name, read_group
from weitiao.recipe.names.layers import Layer
from weitiao.recipe.names.own import blocks_for, spelling
from weitiao.recipe.names.table import TABLE, entries
from weitiao.recipe.recipe import Recipe, parse_recipe, read_recipe

LEAST: dict[str, Any] = {"model": "m", "data": "my.json", "out": "runs/a"}
RUN_FILE = """\
model_name_or_path: models/small
stage: sft
do_train: true
finetuning_type: lora
lora_rank: 4
lora_target: q_proj,v_proj
dataset: mine,other
dataset_dir: lists
template: llama3
cutoff_len: 300
max_samples: 50
overwrite_cache: true
preprocessing_num_workers: 4
output_dir: saves/here
logging_steps: 5
save_steps: 70
plot_loss: true
per_device_train_batch_size: 2
gradient_accumulation_steps: 3
learning_rate: 3.0e-4
num_train_epochs: 2.0
lr_scheduler_type: cosine
warmup_ratio: 0.05
bf16: true
ddp_timeout: 1800
val_size: 0.2
eval_strategy: steps
eval_steps: 30
resume_from_checkpoint: null
report_to: none
"""


def value_of(recipe: Recipe, name: str) -> Any:  # noqa: ANN401  (a setting)
    """Return a recipe's setting by its dotted name."""
    return by_dotted_name(recipe.as_dict())[name]


def problems_of(*layers: dict[str, Any]) -> list[Problem]:
    with pytest.raises(SettingsError) as caught:
        parse_recipe(LEAST, *layers)
    return list(caught.value.problems)


def is_known(name: str, block: str = "", method: str = "lora") -> bool:
    """Whether a name is read or placed when it stands in a block, or at the top."""
    raw: dict[str, Any] = {name: None}
    for part in reversed(block.split(".") if block else []):
        raw = {part: raw}
    raw["method"] = {"name": method, **raw.get("method", {})}
    layer = Layer(raw)
    blocks = blocks_for({"method": METHODS.load(method)})
    for dotted in by_dotted_name(layer.own):
        path, _, key = dotted.rpartition(".")
        known = {**blocks[path].model_fields, "name": None} if path in blocks else BLOCKS
        if spelling(key, known) is None:
            return False
    return not layer.problems


READ = [
    ({"learning_rate": 1e-4}, "train.lr", 1e-4),
    ({"num_train_epochs": 2}, "train.epochs", 2.0),
    ({"max_steps": 7}, "train.steps", 7),
    ({"max_steps": -1}, "train.steps", None),
    ({"optim": "adamw_torch_fused"}, "train.optimizer", "adamw_fused"),
    ({"optim": "paged_adamw_8bit"}, "train.optimizer", "paged_adamw_8bit"),
    ({"adam_beta2": 0.95}, "train.betas", [0.9, 0.95]),
    ({"adam_epsilon": 1e-6}, "train.eps", 1e-6),
    ({"lr_scheduler_type": "COSINE"}, "train.scheduler", "cosine"),
    ({"warmup_steps": 0.1}, "train.warmup_ratio", 0.1),
    ({"warmup_steps": 3}, "train.warmup_steps", 3),
    ({"bf16": True}, "model.dtype", "bf16"),
    ({"bf16": False}, "model.dtype", "auto"),
    ({"fp16": True}, "model.dtype", "fp16"),
    ({"torch_dtype": "torch.bfloat16"}, "model.dtype", "bf16"),
    ({"gradient_checkpointing": True}, "train.gradient_checkpointing", "full"),
    ({"per_device_train_batch_size": 2, "gradient_accumulation_steps": 4}, "train.batch_size", 8),
    ({"per_device_train_batch_size": 2}, "train.batch_size", 2),
    ({"micro_batch_size": 2, "gradient_accumulation_steps": 2}, "train.batch_size", 4),
    ({"micro_batch_size": 2, "global_batch_size": 64}, "train.batch_size", 64),
    ({"save_total_limit": 3}, "train.keep_checkpoints", 3),
    ({"evaluation_strategy": "steps", "eval_steps": 20}, "train.eval_every", 20),
    ({"eval_strategy": "epoch", "eval_steps": 20}, "train.eval_every", None),
    ({"save_strategy": "no", "save_steps": 20}, "train.save_every", None),
    ({"report_to": "wandb,tensorboard"}, "track.to", ["wandb", "tensorboard"]),
    ({"report_to": "none"}, "track.to", []),
    ({"run_name": "x"}, "track.name", "x"),
    ({"load_in_4bit": True}, "model.quantization", "nf4"),
    ({"load_in_4bit": True, "bnb_4bit_quant_type": "fp4"}, "model.quantization", "fp4"),
    ({"load_in_8bit": True}, "model.quantization", "int8"),
    ({"load_in_4bit": False, "bnb_4bit_quant_type": "nf4"}, "model.quantization", "none"),
    ({"quantization_bit": 4, "double_quantization": True}, "model.double_quantization", True),
    ({"quantization_config": {"load_in_4bit": True}}, "model.quantization", "nf4"),
    ({"lora_rank": 4}, "method.alpha", 8),
    ({"lora_rank": 4, "lora_alpha": 5}, "method.alpha", 5),
    ({"lora_dropout": 0.1}, "method.dropout", 0.1),
    ({"lora_target": "all"}, "method.target_modules", "all-linear"),
    ({"peft_config": {"r": 5, "task_type": "CAUSAL_LM"}}, "method.r", 5),
    ({"pissa_init": True, "pissa_iter": 4}, "method.init_lora_weights", "pissa_niter_4"),
    ({"finetuning_type": "freeze", "freeze_trainable_layers": -3}, "method.first_n", 3),
    ({"cutoff_len": 64}, "data.max_length", 64),
    ({"max_seq_length": 64}, "data.max_length", 64),
    ({"max_length": 64}, "data.max_length", 64),
    ({"template": "qwen3_nothink"}, "data.template", "auto"),
    ({"template": "alpaca"}, "data.template", "instruction"),
    ({"train_on_prompt": True}, "data.train_on", "all"),
    ({"val_size": 0.1}, "data.held_out", 0.1),
    ({"do_sample": True}, "evaluate.generation.temperature", 1.0),
    ({"do_sample": False}, "evaluate.generation.temperature", 0.0),
    ({"do_sample": True, "temperature": 0.7}, "evaluate.generation.temperature", 0.7),
    (
        {"max_new_tokens": 9, "evaluate": {"generation": {"max_length": 99}}},
        "evaluate.generation.max_new_tokens",
        9,
    ),
    ({"lr": 1e-3}, "train.lr", 1e-3),
    ({"r": 3}, "method.r", 3),
    ({"Learning-Rate": 1e-3}, "train.lr", 1e-3),
    ({"stage": "pt"}, "objective.name", "sft"),
    ({"neftune_noise_alpha": 5}, "train.neftune_alpha", 5.0),
    ({"use_cpu": True}, "model.device_map", "cpu"),
]


@pytest.mark.parametrize(("given", "setting", "value"), READ, ids=str)
def test_a_name_is_read_with_its_value(given: dict[str, Any], setting: str, value: object) -> None:
    recipe = parse_recipe(LEAST, given)
    assert value_of(recipe, setting) == value
    assert recipe.said, "and it is said"


def test_what_is_read_is_said_once_in_a_line() -> None:
    said = parse_recipe(LEAST, {"learning_rate": 1e-4, "logging_dir": "x", "fp16": True}).said
    assert said[0] == "learning_rate, read as train.lr"
    assert said[1].startswith("logging_dir means nothing here: ")
    assert said[2] == "fp16: true, read as model.dtype=fp16"
    assert len(said) == 3


def test_the_product_of_a_batch_is_shown_with_its_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    given = {"per_device_train_batch_size": 3, "gradient_accumulation_steps": 4}
    recipe = parse_recipe(LEAST, given)
    factors = "per_device_train_batch_size 3 x gradient_accumulation_steps 4 x WORLD_SIZE 2"
    assert recipe.said == (f"{factors}, read as train.batch_size=24",)


def test_a_secret_is_not_shown() -> None:
    said = parse_recipe(LEAST, {"hub_token": "hf_secret", "hf_hub_token": "hf_secret"}).said
    assert len(said) == 2
    assert "hf_secret" not in " ".join(said)


@pytest.mark.parametrize(
    "given",
    [
        {"learning_rate": 1e-4, "train": {"lr": 2e-4}},
        {"learning_rate": 1e-4, "lr": 2e-4},
        {"lr": 1e-4, "train": {"lr": 2e-4}},
        {"fp16": True, "bf16": True},
        {"torch_dtype": "float32", "bf16": True},
        {"cutoff_len": 64, "max_seq_length": 128},
        {"load_in_4bit": True, "load_in_8bit": True},
        {"load_in_4bit": True, "model": {"name": "m", "quantization": "int8"}},
        {"per_device_train_batch_size": 2, "micro_batch_size": 3},
        {"output_dir": "x", "out": "y"},
        {"do_sample": False, "temperature": 0.5},
    ],
    ids=str,
)
def test_names_that_say_different_things_are_refused_with_both(given: dict[str, Any]) -> None:
    (problem,) = problems_of(given)
    for name in by_dotted_name(given):
        if name != "model.name":
            assert name.rpartition(".")[2] in problem.got + problem.what, problem


@pytest.mark.parametrize(
    "given",
    [
        {"learning_rate": 1e-4, "train": {"lr": 1e-4}},
        {"cutoff_len": 64, "max_seq_length": 64},
        {"fp16": False, "bf16": True},
        {"bf16": True, "torch_dtype": "bfloat16"},
    ],
    ids=str,
)
def test_names_that_say_the_same_are_no_contradiction(given: dict[str, Any]) -> None:
    assert parse_recipe(LEAST, given).said


def test_a_layer_above_replaces_what_lies_below_under_any_name() -> None:
    below = {
        "learning_rate": 1e-4,
        "per_device_train_batch_size": 4,
        "gradient_accumulation_steps": 8,
        "lora_rank": 4,
    }
    recipe = parse_recipe({**LEAST, **below}, {"train": {"lr": 2e-4}}, {"gradient_accumulation_steps": 2})
    assert (recipe.train.lr, recipe.train.batch_size) == (2e-4, 8)
    assert not any("learning_rate" in line for line in recipe.said), "what is not in force is not said"
    recipe = parse_recipe({**LEAST, "train": {"lr": 2e-4, "batch_size": 3}}, {"learning_rate": 1e-4})
    assert (recipe.train.lr, recipe.train.batch_size) == (1e-4, 3)
    assert parse_recipe({**LEAST, **below}, {"train": {"batch_size": 5}}).train.batch_size == 5


def test_another_method_above_leaves_the_first_ones_names_without_meaning() -> None:
    recipe = parse_recipe({**LEAST, "finetuning_type": "lora", "lora_rank": 4}, {"method": "full"})
    assert recipe.method.name == "full"
    assert "lora_rank means nothing here: full has no such setting" in recipe.said
    recipe = parse_recipe({**LEAST, "method": {"name": "lora", "r": 4}}, {"finetuning_type": "full"})
    assert recipe.method.name == "full"


@pytest.mark.parametrize("typed", ["QLoRA", "qlora", "q-lora"])
def test_a_method_with_its_settings_in_its_name(typed: str) -> None:
    recipe = parse_recipe(LEAST, {"method": typed})
    assert (recipe.method.name, recipe.model.quantization) == ("lora", "nf4")
    assert any(typed in line and "model.quantization=nf4" in line for line in recipe.said)
    (problem,) = problems_of({"method": typed, "model": {"quantization": "int8"}})
    assert "int8" in problem.got


@pytest.mark.parametrize("typed", ["LoRA", "LORA", "IA3", "P-Tuning v2", "prefix-tuning"])
def test_the_case_of_a_method_does_not_matter(typed: str) -> None:
    assert parse_recipe(LEAST, {"method": typed}).method.name == METHODS.spelling(typed)
    assert parse_recipe(LEAST, {"method": {"name": typed}}).method.name == METHODS.spelling(typed)


STAGES: dict[str, dict[str, Any]] = {
    "dpo": {"stage": "dpo", "pref_beta": 0.1, "pref_loss": "sigmoid"},
    "kto": {"stage": "kto"},
    "reward": {"stage": "rm"},
}
"""An objective, and a LLaMA-Factory run file that asks for it."""


@pytest.mark.parametrize(
    ("given", "said"),
    [
        *(
            (given, f"objective {name} is not there yet")
            for name, given in STAGES.items()
            if name not in OBJECTIVES.names()
        ),
        ({"use_galore": True, "galore_rank": 8, "galore_scale": 2.0}, "optimizer is not there yet"),
        ({"label_smoothing_factor": 0.1}, "smoothing of the labels is not there yet"),
        ({"optim": "sgd"}, "optimizer sgd is not there yet"),
        ({"quantization_bit": 3}, "3 bits is not there yet"),
        ({"quantization_bit": 4, "quantization_method": "hqq"}, "is not there yet"),
        ({"name": "x"}, "a setting of several blocks"),
        ({"gradient_accumulation_steps": "auto"}, "it is not a number"),
        ({"report_to": "all"}, "depends on what is installed"),
        ({"dataset": "a", "dataset_dir": "REMOTE:x/y"}, "not there yet"),
        ({"resume_from_checkpoint": "saves/x"}, "is resumed by a command"),
    ],
    ids=str,
)
def test_what_is_not_there_is_one_problem_that_names_it(given: dict[str, Any], said: str) -> None:
    (problem,) = problems_of(given)
    assert said in problem.what
    assert problem.got
    assert problem.remedy


def test_the_case_of_a_setting_does_not_matter() -> None:
    recipe = parse_recipe(
        LEAST, {"Train": {"LR": 1e-3, "scheduler": "Cosine"}, "model": {"quantization": "NF4"}}
    )
    assert (recipe.train.lr, recipe.train.scheduler, recipe.model.quantization) == (1e-3, "cosine", "nf4")


def test_a_problem_of_a_value_shows_the_name_that_was_typed() -> None:
    (problem,) = problems_of({"learning_rate": -1})
    assert problem.got == "train.lr: -1, written as learning_rate"


@pytest.mark.parametrize(
    "given", [{"learning_rat": 1e-4}, {"lora_rnk": 8}, {"train": {"learning_rat": 1}}], ids=str
)
def test_a_misspelt_name_is_refused_with_the_nearest(given: dict[str, Any]) -> None:
    (problem,) = problems_of(given)
    assert "lr" in problem.remedy or "learning_rate" in problem.remedy or "lora_rank" in problem.remedy


def test_an_own_name_goes_before_anothers_reading() -> None:
    for path, cls in FIXED.items():
        for name in cls.model_fields:
            raw: dict[str, Any] = {name: None}
            for part in reversed(path.split(".")):
                raw = {part: raw}
            if path != "data.sources" and f"{path}.{name}" not in FIXED:
                assert by_dotted_name(Layer(raw).own) == {f"{path}.{name}": None}, (path, name)


@pytest.mark.parametrize("field", dataclasses.fields(TrainingArguments), ids=lambda field: field.name)
def test_every_name_of_training_arguments_is_known(field: Any) -> None:  # noqa: ANN401
    assert is_known(field.name)
    assert is_known(field.name, "train")


def test_every_name_of_bits_and_bytes_and_of_generation_is_known() -> None:
    bits = [
        name
        for name in inspect.signature(BitsAndBytesConfig.__init__).parameters
        if name not in ("self", "kwargs")
    ]
    generation = [name for name in vars(GenerationConfig()) if not name.startswith("_")]
    assert [name for name in bits if not (is_known(name) and is_known(name, "model"))] == []
    assert [
        name for name in generation if not (is_known(name) and is_known(name, "evaluate.generation"))
    ] == []


@pytest.mark.parametrize("kind", sorted(map(str, PEFT_TYPE_TO_CONFIG_MAPPING)))
def test_every_name_of_a_peft_config_is_known_to_its_method(kind: str) -> None:
    """A new file may offer fewer settings than PEFT's config has; it refuses the others by name."""
    config = next(cls for known, cls in PEFT_TYPE_TO_CONFIG_MAPPING.items() if str(known) == kind)
    peft_type = kind.rpartition(".")[2]
    named = Layer({"peft_type": peft_type}).method_name
    for method in (named, f"peft:{peft_type}"):
        try:
            METHODS.load(method)
        except SettingsError:
            continue
        unknown = [f.name for f in dataclasses.fields(config) if not is_known(f.name, "method", method)]
        if method.startswith("peft:") or chinese_catalogue().has(METHODS.summary(method)):
            assert unknown == []
        for name in unknown:
            given = {"name": method, **METHODS.load(method).example, name: 1}
            assert any(name in problem.what for problem in problems_of({"method": given}))
        return


def test_every_setting_that_the_table_names_is_there() -> None:
    """A target that no block has would be refused only when somebody types the name."""
    methods = [blocks_for({"method": METHODS.load(name)}) for name in METHODS.names()]
    for one in TABLE:
        for target in one.group.targets:
            path, _, key = target.rpartition(".")
            if key != "name" and path:
                known = [blocks[path].model_fields for blocks in methods if path in blocks]
                assert any(key in fields for fields in known), (one.name, target)


def test_no_name_of_one_block_has_two_meanings() -> None:
    for one in TABLE:
        same = [other for other in entries(one.name) if other.home == one.home]
        assert len({id(other.group) for other in same}) == 1, one.name


def groups_of_several() -> dict[str, list[Name]]:
    """Return the table's names by group, for groups that read several together."""
    groups: dict[int, list[Name]] = {}
    for name in TABLE:
        if "*" not in name.name:
            groups.setdefault(id(name.group), []).append(name)
    return {" ".join(one.name for one in names): names for names in groups.values() if len(names) > 1}


@pytest.mark.parametrize("value", [None, True, False, 7, 0.5, "auto", "text", [], ["a"], {"a": 1}])
@pytest.mark.parametrize("names", groups_of_several().values(), ids=groups_of_several())
def test_names_of_a_group_may_come_together(names: list[Name], value: object) -> None:
    """Whatever their values: they are read, or refused in words."""
    given = {one.key: Given(one.name, value) for one in names}
    context = Context({}, "lora", frozenset({"r", "alpha"}), {}, 1)
    reading = read_group(names[0].group, given, context)
    assert reading.settings or reading.said or reading.problems


def test_both_names_of_the_longest_answer_and_of_sharding_are_read() -> None:
    lengths = {"max_length": 9, "generation_max_length": 9}
    both = parse_recipe({**LEAST, "evaluate": {"generation": lengths}})
    assert parse_recipe({**LEAST, "generation_max_length": 9}).evaluate == both.evaluate
    assert both.evaluate.generation.max_new_tokens == 9
    sharded = parse_recipe({**LEAST, "fsdp": "full_shard", "fsdp_config": {"fsdp_version": 2}})
    assert any("fsdp and fsdp_config means nothing here" in line for line in sharded.said)
    with pytest.raises(SettingsError, match="max_length and generation_max_length"):
        parse_recipe({**LEAST, "evaluate": {"generation": {**lengths, "max_length": 10}}})


def test_every_way_to_type_a_name_means_the_same(tmp_path: Path) -> None:
    given = {"learning_rate": 1e-4, "lora_r": 3, "load_in_4bit": True}
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump({**LEAST, **given}), encoding="utf-8")
    words = [f"{name}={json.dumps(value)}" for name, value in given.items()]
    blocks = {
        "train": {"learning_rate": 1e-4},
        "method": {"lora_r": 3},
        "model": {"load_in_4bit": True, "name": "m"},
    }
    recipes = [
        read_recipe(path, {}),
        read_recipe(None, LEAST, words),
        parse_recipe({**LEAST, **blocks}),
        parse_recipe(LEAST, given),
    ]
    assert all(recipe == recipes[0] for recipe in recipes)
    assert [set(recipe.said) for recipe in recipes[1:]] == [set(recipes[0].said)] * 3


def test_config_objects_of_other_libraries_are_read() -> None:
    recipe = parse_recipe(
        LEAST,
        {
            "method": LoraConfig(r=5, lora_alpha=7, target_modules=["q_proj"], task_type="CAUSAL_LM"),
            "train": TrainingArguments(output_dir="x", learning_rate=3e-4, per_device_train_batch_size=2),
            "quantization_config": BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_use_double_quant=True),
            "generation_config": GenerationConfig(max_new_tokens=11),
        },
    )
    method = recipe.method.model_dump()
    assert (method["r"], method["alpha"], method["target_modules"]) == (5, 7, ["q_proj"])
    assert (recipe.train.lr, recipe.train.batch_size) == (3e-4, 2)
    assert (recipe.model.quantization, recipe.model.double_quantization) == ("fp4", True)
    assert recipe.evaluate.generation.max_new_tokens == 11
    for config, name in ((IA3Config(), "ia3"), (AdaLoraConfig(total_step=9), "adalora")):
        assert parse_recipe(LEAST, {"method": config}).method.name == name


def test_a_run_file_of_llama_factory_is_read_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "theirs.yaml"
    path.write_text(RUN_FILE, encoding="utf-8")
    recipe = read_recipe(path, {})
    assert [source.path for source in recipe.data.sources] == [
        "lists/dataset_info.json:mine",
        "lists/dataset_info.json:other",
    ]
    assert {source.take for source in recipe.data.sources} == {50}
    assert (recipe.model.name, recipe.model.dtype, str(recipe.out)) == ("models/small", "bf16", "saves/here")
    assert (recipe.data.max_length, recipe.data.held_out, recipe.data.template) == (300, 0.2, "auto")
    assert (recipe.train.batch_size, recipe.train.save_every, recipe.train.eval_every) == (6, 70, 30)
    assert (recipe.train.lr, recipe.train.epochs, recipe.train.scheduler) == (3e-4, 2.0, "cosine")
    assert recipe.method.model_dump()["target_modules"] == ["q_proj", "v_proj"]
    said = " ".join(recipe.said)
    assert [name for name in yaml.safe_load(RUN_FILE) if name not in said] == [], "each name is spoken of"


@pytest.mark.parametrize(
    ("dataset", "folder", "path"),
    [
        ("identity", None, "data/dataset_info.json:identity"),
        ("identity", "ONLINE", "identity"),
        ("owner/name", None, "owner/name"),
        ("rows.jsonl", None, "rows.jsonl"),
    ],
)
def test_where_a_data_set_lies(dataset: str, folder: str | None, path: str) -> None:
    given = {"dataset": dataset, **({"dataset_dir": folder} if folder else {})}
    recipe = parse_recipe({"model": "m", "out": "x", **given})
    assert [source.path for source in recipe.data.sources] == [path]


def test_sources_in_a_list_may_have_their_names_elsewhere() -> None:
    recipe = parse_recipe({**LEAST, "data": {"sources": [{"file": "a.json", "num_samples": 5}]}})
    assert (recipe.data.sources[0].path, recipe.data.sources[0].take) == ("a.json", 5)
    rows = [{"file": "a.py", "instruction": "q", "output": "a"}]
    assert parse_recipe({**LEAST, "data": rows}).data.sources[0].rows == rows, "a row is left as it is"


def test_keywords_of_python_are_read_under_any_name(tiny_model_folder: Path, tmp_path: Path) -> None:
    import weitiao

    rows = [{"instruction": f"What is {n}?", "output": f"It is {n}."} for n in range(12)]
    run = weitiao.train(
        model=str(tiny_model_folder),
        data=rows,
        method=LoraConfig(r=2, lora_alpha=4, target_modules="all-linear"),
        learning_rate=1e-3,
        max_steps=1,
        per_device_train_batch_size=2,
        question_count=0,
        output_dir=tmp_path / "run",
    )
    assert (run.recipe.train.lr, run.recipe.train.steps, run.recipe.train.batch_size) == (1e-3, 1, 2)
    assert run.recipe.method.model_dump()["r"] == 2
    with pytest.raises(SettingsError, match="there is no setting learning_rat\n"):
        weitiao.train(model="m", data=rows, out=tmp_path / "x", learning_rat=1)
