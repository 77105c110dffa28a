"""Names from PEFT's configs and BitsAndBytesConfig; names of a method's settings are next to the method."""

from __future__ import annotations

from .entries import converted, inside, not_supported, nothing, of_source, together
from .methods_names import method_name
from .readers import QUANTIZATION

FOUND = "it follows from the model"
OWN_SEED = "first values follow from train.seed"
WRITTEN = "what was trained is saved so that PEFT loads it"

NAMES = of_source(
    "PEFT",
    [converted("method", "peft_type", "method.name", method_name)],
    nothing(
        "method",
        FOUND,
        "task_type fan_in_fan_out base_model_name_or_path auto_mapping token_dim num_layers num_attention_heads "
        "num_transformer_submodules tokenizer_name_or_path tokenizer_kwargs target_parameters",
    ),
    nothing(
        "method",
        WRITTEN,
        "inference_mode peft_version save_projection save_indices save_precomputed_indices save_only_topk_weights",
    ),
    nothing("method", "it is Megatron's own", "megatron_config megatron_core"),
    nothing("method", "memory is fitted by packs", "runtime_config runtime_offload_base_weight progressbar"),
    nothing("method", "loraplus_lr_ratio alone says how much faster B learns", "loraplus_lr_embedding"),
    not_supported("method", "another rank or strength for some layers", "rank_pattern alpha_pattern"),
    not_supported(
        "method", "that way of choosing layers", "layers_pattern exclude_modules layer_replication"
    ),
    not_supported("method", "a bias of the added matrices", "lora_bias use_lora_bias"),
    not_supported(
        "method",
        "that variant of LoRA",
        "alora_invocation_tokens arrow_config corda_config eva_config loftq_config lora_ga_config kasa_config "
        "monteclora_config velora_config use_qalora use_bdlora ensure_weight_tying",
    ),
    not_supported("method", "that variant of LoRA", "qalora_group_size", harmless=(16,)),
    not_supported("method", "training tokens beside an adapter", "trainable_token_indices"),
    nothing("method", "it follows from the run's steps", "total_step"),
    inside(
        not_supported(
            "method", "other first values", "init_weights init_ia3_weights init_lora_weights", (True,)
        )
    ),
    inside(not_supported("method", "training biases beside it", "bias", ("none",))),
    inside(not_supported("method", "choosing its layers by name", "target_modules modules_to_save")),
    inside(not_supported("method", "another mask", "mask_type", ("random",))),
    inside(not_supported("method", "that variant", "lambda_pattern use_effective_conv2d")),
)
"""Names common to all of PEFT's configs, and those for which the methods here have no setting."""

QUANTIZATION_NAMES = of_source(
    "BitsAndBytesConfig",
    together(
        "model",
        QUANTIZATION,
        "model.quantization",
        "load_in_4bit load_in_8bit bnb_4bit_quant_type quantization_bit "
        "quantization_type/bnb_4bit_quant_type",
    ),
    together(
        "model",
        QUANTIZATION,
        "model.double_quantization",
        "bnb_4bit_use_double_quant double_quant/bnb_4bit_use_double_quant",
    ),
    together("model", QUANTIZATION, "model.compute_dtype", "bnb_4bit_compute_dtype/compute"),
    nothing("model", "packed weights are held as bytes", "bnb_4bit_quant_storage llm_int8_has_fp16_weight"),
    nothing("model", "bitsandbytes is what quantises here", "quant_method"),
    not_supported("model", "int8 other than bitsandbytes' default", "llm_int8_threshold", harmless=(6.0,)),
    not_supported(
        "model",
        "int8 other than bitsandbytes' default",
        "llm_int8_skip_modules llm_int8_enable_fp32_cpu_offload",
    ),
)
"""Names from BitsAndBytesConfig, and LLaMA-Factory's names for the same settings."""
