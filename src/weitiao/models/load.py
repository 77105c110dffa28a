"""Loads the config, the tokenizer and the model, or a model without weights (device `meta`) for checks of shapes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from ..core.errors import MALFORMED, ModelError, Problem
from .foreign_quantization import require_loader
from .hubs.fetch import fetch_model
from .hubs.hub_code import without_hub_code
from .precision import device_for, quantization_config, quantization_of, torch_dtype
from .resolve import Resolved, resolve
from .weights.complete import (
    drop_loading_report,
    require_finite_weights,
    require_float_files,
    require_packed,
    require_whole,
)

if TYPE_CHECKING:
    from pathlib import Path

    from torch import nn
    from transformers import GenerationConfig, PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

    from .settings import ModelSettings


GENERATION = "generation_config.json"
UNREADABLE = (OSError, ImportError, AssertionError, *MALFORMED)
"""What transformers raises for a file that exists but is malformed; its checks have no exception class of their own."""


TRUST = "model.trust_remote_code=true"
"""The setting that lets a model run its own code."""


def load_config(settings: ModelSettings) -> PretrainedConfig:
    """Load a model's config, with the requested quantisation written into it.

    Raises ModelError, also for a model of another task than causal language modelling.
    """
    where = resolve(settings)
    config = _config(settings, where)
    _require_causal(config)
    asked = quantization_config(settings)
    if asked is not None:
        if quantization_of(config) != "none":
            raise ModelError(
                Problem(
                    f"{where.name} is already quantised ({quantization_of(config)})",
                    f"quantization: {settings.quantization}",
                    "quantization: none",
                    "model.quantization=none",
                )
            )
        config.quantization_config = asked.to_dict()
    else:
        require_loader(config, where.name, settings.device_map)
    return config


def _config(settings: ModelSettings, where: Resolved) -> PretrainedConfig:
    from huggingface_hub.errors import StrictDataclassError
    from transformers import CONFIG_MAPPING, AutoConfig, PretrainedConfig

    try:
        raw, _ = PretrainedConfig.get_config_dict(where.path, **where.options)
        if (
            "auto_map" in raw
            and raw.get("model_type") not in CONFIG_MAPPING
            and not settings.trust_remote_code
        ):
            raise ModelError(_needs_trust(where, raw))
        return without_hub_code(
            AutoConfig.from_pretrained(
                where.path, trust_remote_code=settings.trust_remote_code, **where.options
            )
        )
    except (*UNREADABLE, StrictDataclassError) as error:
        raise ModelError(Problem(f"the config of {where.name} cannot be used", str(error))) from error


def _needs_trust(where: Resolved, raw: dict[str, Any]) -> Problem:
    files = ", ".join(sorted(set(map(str, raw["auto_map"].values()))))
    return Problem(
        f"{where.name} runs only with its own Python code, which can do anything on this machine",
        f"model_type {raw.get('model_type')!r}, code in {files}",
        "a model that transformers knows",
        f"{TRUST}, if you trust its authors and have read the code",
    )


def load_tokenizer(settings: ModelSettings) -> PreTrainedTokenizerBase:
    """Load a model's tokenizer; raises ModelError if it has none."""
    return _tokenizer(resolve(settings), settings.trust_remote_code)


def load_tokenizer_in(folder: Path, trust_remote_code: bool = False) -> PreTrainedTokenizerBase:
    """Load the tokenizer in a folder, which need not hold a model; raises ModelError if it cannot be read."""
    return _tokenizer(Resolved(str(folder), str(folder), None, True), trust_remote_code)


def _tokenizer(where: Resolved, trust_remote_code: bool) -> PreTrainedTokenizerBase:
    from huggingface_hub.errors import StrictDataclassError
    from transformers import AutoTokenizer

    try:
        with _BareExceptionsNamed(where):
            return AutoTokenizer.from_pretrained(
                where.path, trust_remote_code=trust_remote_code, **where.options
            )
    except (*UNREADABLE, StrictDataclassError) as error:
        raise ModelError(_no_tokenizer(where, error)) from error


@dataclass(frozen=True)
class _BareExceptionsNamed:
    """Within the context, a plain `Exception` becomes a ModelError: the tokenizers library raises no subclass."""

    where: Resolved

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, _: object) -> Literal[False]:
        if kind is Exception and error is not None:
            raise ModelError(_no_tokenizer(self.where, error)) from error
        return False


def _no_tokenizer(where: Resolved, error: BaseException) -> Problem:
    return Problem(
        f"{where.name} has no tokenizer that can be read", str(error), "tokenizer.json beside the weights"
    )


def load_weightless(settings: ModelSettings) -> PreTrainedModel:
    """Build a model without weights (device `meta`), for checks and for counting parameters; raises ModelError.

    Its layers are plain ones even if quantisation is requested: `model.config` records it, and the shapes are the same.
    """
    return weightless(load_config(settings), settings.trust_remote_code)


def weightless(config: PretrainedConfig, trust_remote_code: bool = False) -> PreTrainedModel:
    """Build the model of a config on device `meta`; raises ModelError if that fails or it is no causal language
    model."""
    import torch
    from transformers import AutoModelForCausalLM

    try:
        with torch.device("meta"):
            return AutoModelForCausalLM.from_config(config, trust_remote_code=trust_remote_code)
    except UNREADABLE as error:
        if isinstance(error, ValueError) and "Unrecognized configuration class" in str(error):
            raise ModelError(_not_causal(config)) from error
        what = f"no {config.model_type} model can be built from these settings"
        got = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
        raise ModelError(Problem(what, got, "config.json as its authors wrote it")) from error


def weightless_like(model: PreTrainedModel, config: PretrainedConfig | None = None) -> PreTrainedModel:
    """Build a model of the same class on device `meta`, with its config or the one given."""
    import torch

    with torch.device("meta"):
        return type(model)(config or model.config)


def _require_causal(config: PretrainedConfig) -> None:
    """Raise ModelError if the weights were saved from a model for another task, such as classification."""
    from transformers.models.auto import modeling_auto as auto

    others = (
        auto.MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES,
        auto.MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING_NAMES,
        auto.MODEL_FOR_QUESTION_ANSWERING_MAPPING_NAMES,
        auto.MODEL_FOR_MULTIPLE_CHOICE_MAPPING_NAMES,
        auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES,
        auto.MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES,
    )
    causal = set(auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.values())
    other = {name for table in others for name in table.values() if isinstance(name, str)} - causal
    saved = _architectures(config)
    if saved and set(saved) <= other:
        raise ModelError(_not_causal(config))


def _architectures(config: PretrainedConfig) -> list[str]:
    """Return the names of the classes that, by the config, the weights were saved from."""
    named: object = config.architectures or []
    return [named] if isinstance(named, str) else list(map(str, named)) if isinstance(named, list) else []


def _not_causal(config: PretrainedConfig) -> Problem:
    names = ", ".join(_architectures(config)) or "no class named"
    return Problem(
        "this model does not generate text, so it cannot be fine-tuned here",
        f"{names} (model_type {config.model_type})",
        "a causal language model (...ForCausalLM)",
    )


def load_model(settings: ModelSettings) -> PreTrainedModel:
    """Load a model's weights in the requested precision, quantisation and device placement; raises ModelError.

    Reads safetensors only, which must hold every weight of the model: none is initialised at random. A quantised base
    is returned frozen, since its integers have no gradient.
    """
    from safetensors import SafetensorError
    from transformers import AutoModelForCausalLM

    fetch_model(settings)  # without progress; callers that show it have fetched the model before
    where = resolve(settings)
    load_config(settings)  # for its checks only
    load_generation_config(settings)  # transformers ignores one that cannot be read
    drop_loading_report()
    try:
        model, info = AutoModelForCausalLM.from_pretrained(
            where.path,
            config=_config(settings, where),
            **where.options,
            adapter_kwargs={
                "local_files_only": where.options["local_files_only"]
            },  # from_pretrained also looks for an adapter
            dtype=torch_dtype(settings.dtype, settings.device_map),
            device_map=device_for(settings.device_map),
            quantization_config=quantization_config(settings),
            use_safetensors=True,
            trust_remote_code=settings.trust_remote_code,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # refused below, by name
        )
    except (*UNREADABLE, SafetensorError) as error:
        if "allocate" in str(error):  # out of memory, which the caller reports
            raise
        raise ModelError(_not_loaded(where, error)) from error
    require_whole(model, info, where.name)
    require_packed(model, where.name)
    require_float_files(model, weights_folder(settings), where.name)
    require_finite_weights(model, where.name)
    if quantization_of(model.config) != "none":
        model.requires_grad_(False)
        _keep_four_bits_trainable(model)
        _keep_int8_scales(model)
    return model


def weights_folder(settings: ModelSettings) -> Path | None:
    """Return the folder that holds a model's files: its own, or the hub cache's; None if they are not on this disk."""
    from pathlib import Path

    from huggingface_hub import try_to_load_from_cache

    where = resolve(settings)
    if where.local:
        return Path(where.path)
    config = try_to_load_from_cache(where.path, "config.json", revision=where.revision)
    return Path(config).parent if isinstance(config, str) else None


def _keep_four_bits_trainable(model: PreTrainedModel) -> None:
    """Keep bitsandbytes from repacking 4-bit weights at the first evaluation on a CPU with AVX512-bf16.

    Repacked weights round their constants to bf16, refuse sizes that are not a multiple of 32 and of the block size,
    and pass no gradient to the layers below: after an evaluation, training would silently update only the top layers
    (bitsandbytes 0.50, `Linear4bit.forward` and `matmul_4bit`).
    """
    if quantization_of(model.config) not in ("nf4", "fp4"):
        return
    from bitsandbytes.nn import Linear4bit

    for module in model.modules():
        if isinstance(module, Linear4bit):
            module.support_avx512bf16_for_cpu = False


def _keep_int8_scales(model: PreTrainedModel) -> None:
    """Keep 8-bit weights on a CPU from losing their scales once PEFT has dequantised a weight (as DoRA does).

    PEFT then moves the weight to its device, which creates a new one without scales, and the layer replaces its own
    state by that of the weight (PEFT 0.21 `dequantize_module_weight`, bitsandbytes 0.50 `Linear8bitLt.forward`).
    """
    if quantization_of(model.config) != "int8":
        return
    from bitsandbytes.nn import Linear8bitLt

    for module in model.modules():
        if isinstance(module, Linear8bitLt):
            module.register_forward_pre_hook(_keep_scales)


def _keep_scales(layer: nn.Module, _: object) -> None:
    from bitsandbytes.nn import Int8Params

    weight = layer.weight
    if isinstance(weight, Int8Params) and weight.CB is not None and weight.SCB is None:
        weight.CB = None  # the layer's own state holds both


def _not_loaded(where: Resolved, error: Exception) -> Problem:
    """Describe why the weights could not be loaded."""
    expected = "complete weights as safetensors, in the shapes that config.json gives"
    remedy = (
        "download the model again"
        if where.local
        else f"hf download {where.path}, to check that its files are complete"
    )
    if isinstance(error, ImportError):
        expected, remedy = "the packages that its quantisation needs", f"pip install {error.name or 'them'}"
    return Problem(f"the weights of {where.name} cannot be loaded", str(error), expected, remedy)


def load_generation_config(settings: ModelSettings) -> GenerationConfig | None:
    """Load the generation settings of a model's authors (its stop tokens), or None if there are none.

    Raises ModelError for a file that exists but cannot be read: otherwise answers would silently end at other tokens.
    """
    from transformers import GenerationConfig

    where = resolve(settings)
    try:
        return GenerationConfig.from_pretrained(where.path, **where.options)
    except UNREADABLE as error:
        folder = weights_folder(settings)
        if isinstance(error, OSError) and not (folder and (folder / GENERATION).is_file()):
            return None  # the file is optional
        what, got = f"{GENERATION} of {where.name} cannot be read", " ".join(str(error).split())[:300]
        raise ModelError(
            Problem(what, got, "a JSON file of settings", "download it again, or remove it")
        ) from error


def hub_id_of(settings: ModelSettings) -> str | None:
    """Return a model's id on Hugging Face, or None for a folder, a file, a packaged alias or a model of ModelScope."""
    where = resolve(settings)
    return where.source.id if where.source and where.source.hub == "huggingface" else None
