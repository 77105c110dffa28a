"""The table of all names from other tools; the documentation's lists are generated from it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from fnmatch import fnmatchcase
from functools import cache

from . import engines, generation, llama_factory, other_tools, peft_names, training_arguments
from .entries import Name

TABLE: tuple[Name, ...] = (
    *training_arguments.NAMES,
    *training_arguments.MODEL_NAMES,
    *peft_names.QUANTIZATION_NAMES,
    *peft_names.NAMES,
    *generation.NAMES,
    *llama_factory.NAMES,
    *engines.NAMES,
    *other_tools.NAMES,
)
"""Every name, in the order of the documentation."""

CONTAINERS: Mapping[str, str] = {
    "quantization_config": "model",
    "bnb_config": "model",
    "quant_config": "model",
    "peft_config": "method",
    "lora_config": "method",
    "training_args": "train",
    "training_arguments": "train",
    "sft_config": "train",
    "generation_config": "evaluate.generation",
    "generation_kwargs": "evaluate.generation",
    "gen_kwargs": "evaluate.generation",
}
"""Names of configs inside configs -> the block that their settings belong to."""


SWITCH_NAMES = (
    "bf16 fp16 tf32 pure_bf16 do_train do_eval do_predict load_in_4bit load_in_8bit bnb_4bit_use_double_quant "
    "double_quant gradient_checkpointing packing neat_packing overwrite_output_dir overwrite_cache plot_loss "
    "load_best_model_at_end torch_compile use_liger_kernel enable_liger_kernel group_by_length push_to_hub streaming "
    "logging_first_step save_only_model save_safetensors use_cpu no_cuda full_determinism train_on_prompt mask_history "
    "use_rslora use_dora pissa_init use_galore use_apollo use_badam use_unsloth do_sample disable_tqdm "
    "remove_unused_columns auto_find_batch_size trust_remote_code activation_checkpointing upcast_layernorm "
    "resize_vocab disable_gradient_checkpointing inference_mode predict_with_generate use_swanlab"
)
SWITCHES = frozenset(SWITCH_NAMES.split())
"""Names that may have no value on a command line, which then means yes."""

LISTED = frozenset(
    {"target_modules", "lora_target", "modules_to_save", "additional_target", "report_to", "to"}
)
"""Names that may have several words as values on a command line."""


@cache
def _by_name() -> Mapping[str, tuple[Name, ...]]:
    found: dict[str, tuple[Name, ...]] = {}
    for one in TABLE:
        found[one.name] = (*found.get(one.name, ()), one)
    return found


def letters(name: str) -> str:
    """Return a name as the table spells it: lower case with `_`."""
    return name.lower().replace("-", "_")


def entries(name: str) -> tuple[Name, ...]:
    """Return the table's entries for a name, one per block; table names that end in `*` are patterns."""
    exact = _by_name().get(name) or _by_name().get(letters(name), ())
    many = (one for one in TABLE if "*" in one.name and fnmatchcase(letters(name), one.name))
    return exact or tuple(replace(one, name=letters(name)) for one in many)


def entry(name: str, block: str) -> Name | None:
    """Return the entry for a name inside a block (`""` for none); entries of that block take precedence.

    None if there is no entry, or if blocks read the name differently.
    """
    found = entries(name)
    inside = [one for one in found if one.home == block]
    anywhere = [one for one in found if not one.inside_only]
    chosen = inside or anywhere
    return chosen[0] if len({id(one.group) for one in chosen}) == 1 else None


def names_of_other_tools() -> Iterator[str]:
    """Yield every name, to find the nearest spelling of an unknown one."""
    return (name for name in _by_name() if "*" not in name)
