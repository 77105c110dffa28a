"""Names from LLaMA-Factory's run files, where they differ from transformers' and PEFT's."""

from __future__ import annotations

import re
from typing import Any

from ...data.settings import DataSettings
from ...objectives import OBJECTIVES
from .entries import NotYet, converted, not_supported, nothing, of_source, reads, switched, together
from .methods_names import ALPHA_TOO, LAYERS, PISSA, method_name, of_method
from .readers import DATA_SET, TO
from .training_arguments import PACKS, PROCESSES, SAVED, steps

STAGES = {"pt": "sft", "rm": "reward"}
"""LLaMA-Factory's stage -> the objective, where the names differ."""


def objective(stage: Any) -> Any:  # noqa: ANN401  (a text)
    """Return the objective for a stage; raises Unfit if it is not supported yet."""
    name = STAGES.get(str(stage).lower(), str(stage).lower())
    known = OBJECTIVES.names()
    if name not in known:
        raise NotYet(f"the objective {name}", "one of " + ", ".join(known), "stage=sft")
    return name


PREFERENCES = "it is a setting of preference and reward objectives, and this run's objective has none"
USED_LATER = "it is about using a model, not about training it"
SEEN_AND_HEARD = "images, video and sound are not trained on"
OF_AN_OPTIMIZER = "it is a setting of an optimizer that is not used"
SPEED = "what is fast on this machine is chosen automatically"
TOKENS = "the token of `hf auth login` or HF_TOKEN is used"

NAMES = of_source(
    "LLaMA-Factory",
    [
        converted("objective", "stage", "objective.name", objective),
        converted("method", "finetuning_type", "method.name", method_name),
        converted("model", "adapter_name_or_path", "model.adapter", lambda name: name or None),
        switched("train", "enable_liger_kernel", "train.kernels", "liger", "none"),
        switched("train", "disable_gradient_checkpointing", "train.gradient_checkpointing", "none"),
        switched("train", "pure_bf16", "model.dtype", "bf16"),
        converted("train", "early_stopping_steps", "train.early_stopping_patience", steps),
        switched("data", "train_on_prompt", "data.train_on", "all", None, "answers"),
        switched("data", "mask_history", "data.train_on", "last", None, "answers"),
        converted("data", "max_samples", "data.sources.take", lambda count: count),
        converted("train", "swanlab_mode", "track.offline", lambda mode: str(mode).lower() != "cloud"),
    ],
    reads(
        "data",
        {
            "cutoff_len": "data.max_length",
            "default_system": "data.system",
            "val_size": "data.held_out",
        },
    ),
    reads("train", {"swanlab_project": "track.project", "swanlab_run_name": "track.name"}),
    together("data", DATA_SET, "data.sources", "dataset dataset_dir"),
    together("data", DATA_SET, "data.held_out_path", "eval_dataset"),
    together("train", TO, "track.to", "use_swanlab"),
    together("method", ALPHA_TOO, "method.r", "lora_rank"),
    together("method", ALPHA_TOO, "method.alpha", "lora_alpha"),
    of_method("dropout", "lora_dropout"),
    of_method("target_modules", "lora_target oft_target"),
    of_method("modules_to_save", "additional_target"),
    of_method("r", "oft_rank"),
    of_method("use_rslora", "use_rslora"),
    of_method("use_dora", "use_dora"),
    of_method("oft_block_size", "oft_block_size"),
    of_method("module_dropout", "module_dropout"),
    together("method", PISSA, "method.init_lora_weights", "pissa_init pissa_iter"),
    together("method", LAYERS, "method.last_n, or method.first_n", "freeze_trainable_layers"),
    nothing("method", "an adapter that is continued stays one adapter", "create_new_adapter"),
    nothing("method", "a PiSSA adapter is saved as one of LoRA on the base as it was", "pissa_convert"),
    not_supported("method", "freezing parts of a block", "freeze_trainable_modules", harmless=("all",)),
    not_supported("method", "training modules outside the blocks by name", "freeze_extra_modules"),
    nothing("data", PACKS, "neat_packing sample_packing ignore_pad_token_for_loss block_diag_attn"),
    nothing(
        "data",
        "rows are read once and their tokens kept for later runs",
        "streaming buffer_size overwrite_cache preprocessing_batch_size preprocessing_num_workers tokenized_path "
        "data_shared_file_system model_max_length eval_on_each_dataset",
    ),
    not_supported("data", "that way of mixing data sets", "mix_strategy", harmless=("concat",)),
    not_supported("data", "mixing data sets by probabilities", "interleave_probs"),
    nothing("data", SEEN_AND_HEARD, "media_dir"),
    nothing("data", "calls of tools are written as the model's template writes them", "tool_format"),
    nothing("data", "data.reasoning decides what happens to thoughts", "enable_thinking preserve_thinking"),
    not_supported("train", "leaving rows in their order", "disable_shuffling"),
    nothing("train", "the report shows the loss curves", "plot_loss compute_accuracy"),
    nothing(
        "train",
        PROCESSES,
        "ray_* master_addr master_port use_ray hyper_parallel_args hyper_parallel_cp_size megatron_bridge_args",
    ),
    nothing("train", "each step reports its speed", "include_effective_tokens_per_second"),
    nothing("train", SAVED, "adapter_folder"),
    nothing(
        "train",
        "torch's own profiler can be run around the command",
        "enable_torch_profiler profiler_* profile_modules",
    ),
    nothing("train", "the tracker's own settings decide it", "swanlab_*"),
    not_supported("train", "training in 8-bit floating point", "fp8"),
    nothing("train", "it is a setting of 8-bit floating point, which is not used", "fp8_*"),
    not_supported(
        "train", "training by another engine", "use_mca use_megatron_bridge use_hyper_parallel use_kt"
    ),
    nothing("train", "it is a setting of another engine", "kt_*"),
    not_supported(
        "train",
        "that optimizer",
        "use_galore use_apollo use_badam use_adam_mini use_muon",
    ),
    nothing("train", OF_AN_OPTIMIZER, "galore_* apollo_* badam_*"),
    not_supported("train", "that loss", "use_dft_loss use_asft_loss use_eaft_loss"),
    nothing("train", "it is a setting of a loss that is not used", "asft_alpha eaft_alpha"),
    nothing(
        "train",
        PREFERENCES,
        "pref_* dpo_* kto_* simpo_* orpo_* ppo_* ref_model* reward_model* ld_alpha beta",
    ),
    not_supported("method", "training blocks that were added", "use_llama_pro"),
    not_supported(
        "model",
        "changing the vocabulary",
        "resize_vocab add_tokens add_special_tokens new_special_tokens_config split_special_tokens",
    ),
    nothing("model", "the vocabulary is not changed", "init_special_tokens"),
    not_supported("model", "stretching positions", "rope_scaling"),
    not_supported("model", "changing the model's attention", "shift_attn mixture_of_depths"),
    not_supported("model", "a loss for a mixture's router", "moe_aux_loss_coef"),
    not_supported("model", "starting from random weights", "train_from_scratch"),
    not_supported("model", "training vision and audio parts", "freeze_language_model"),
    not_supported(
        "model",
        "quantisation other than bitsandbytes'",
        "quantization_method",
        harmless=("bnb", "bitsandbytes"),
    ),
    nothing("model", SPEED, "flash_attn use_unsloth use_unsloth_gc use_v1_kernels use_reentrant_gc"),
    nothing("model", "norms and logits are computed in fp32", "upcast_layernorm upcast_lmhead_output"),
    nothing(
        "model", "model.device_map decides where weights are placed", "offload_folder quantization_device_map"
    ),
    nothing("model", TOKENS, "hf_hub_token ms_hub_token om_hub_token"),
    nothing("model", "the run reports which parameters train", "print_param_status"),
    nothing("model", USED_LATER, "infer_* vllm_* sglang_* export_*"),
    nothing(
        "model",
        SEEN_AND_HEARD,
        "image_* video_* audio_* use_audio_in_video crop_to_patches freeze_vision_tower "
        "freeze_multi_modal_projector",
    ),
)
"""Names from LLaMA-Factory's arguments for model, data, finetuning, training and generation."""

WORD = re.compile(r"[\w.+-]+")
TEMPLATES = re.compile(
    r"aeva|alpaca|atom|aquila|baichuan|bailing|belle|bloom|blue|breeze|chatglm|chatml|cogvlm|cohere|command|"
    r"cpm4|custom|dbrx|deepseek|default|dots_ocr|empty|ernie|exaone|falcon|fewshot|gemma|glm|gpt_oss|granite|"
    r"hunyuan|hy|index|intern|keye|kimi|lfm2|llama|llava|mimo|minicpm|minimax|ministral|mistral|mllama|"
    r"moonlight|moss|olmo|openchat|opencoder|orion|paligemma|phi|pixtral|qwen|sailor|seed|skywork|smollm|solar|"
    r"spark|starchat|telechat2|vicuna|video|xuanyuan|xverse|yi|youtu|yuan|zephyr|ziya"
)
"""What template names that belong to a model family begin with."""

INSTRUCTIONS = frozenset({"alpaca", "default", "empty", "fewshot"})
"""Template names for base models, which have no template of their own."""


def template(name: object) -> str | None:
    """Return the setting here for another tool's template name; None for an unknown name."""
    own = DataSettings.model_fields["template"].annotation
    text = str(name).lower()
    word = isinstance(name, str) and WORD.fullmatch(text) and text not in str(own)
    if not word or not TEMPLATES.match(text):
        return None
    return "instruction" if text in INSTRUCTIONS else "auto"
