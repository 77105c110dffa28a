"""Names from transformers' TrainingArguments, and from TRL's configs that extend them."""

from __future__ import annotations

from typing import Any

from ...core.settings import Unfit
from .entries import NotYet, converted, not_supported, nothing, of_source, reads, switched, together
from .readers import BATCH, BETAS, LOOKS, RESUME, SAVES, SHARDING, TO, precision
from .words import is_true, plain_value

OPTIMIZERS = {
    "adamw": "adamw",
    "adamw_torch": "adamw",
    "adamw_hf": "adamw",
    "adamw_torch_fused": "adamw_fused",
    "adamw_apex_fused": "adamw_fused",
    "adamw_torch_8bit": "adamw_8bit",
    "adamw_8bit": "adamw_8bit",
    "adamw_bnb_8bit": "adamw_8bit",
    "paged_adamw_8bit": "paged_adamw_8bit",
    "paged_adamw": "adamw",
    "paged_adamw_32bit": "adamw",
    "adafactor": "adafactor",
    "lion": "lion",
    "lion_32bit": "lion",
    "paged_lion_32bit": "lion",
}
"""transformers' optimizer names -> names here; paging does not change results, so it may be dropped."""


def optimizer(value: Any) -> Any:  # noqa: ANN401  (a text or an Enum)
    """Return an optimizer's name here; raises Unfit for one that is not supported."""
    name = str(plain_value(value)).lower()
    if name not in OPTIMIZERS:
        known = "adamw, adamw_fused, adamw_8bit, paged_adamw_8bit, adafactor, lion"
        raise NotYet(f"the optimizer {name}", f"one of {known}", "train.optimizer=adamw")
    return OPTIMIZERS[name]


def steps(value: Any) -> Any:  # noqa: ANN401
    """Return a number of steps; None for 0 and -1, which mean unset in transformers."""
    return None if value in (-1, "-1", 0, None) else value


def kept(value: Any) -> Any:  # noqa: ANN401
    """Return how many checkpoints are kept; raises Unfit for none, because resuming needs one."""
    if isinstance(value, int | float) and value < 1:
        raise Unfit("resuming a run needs a checkpoint", "a whole number of at least 1", "save_total_limit=1")
    return value


def scheduler(value: Any) -> Any:  # noqa: ANN401
    """Return the schedule's name, which is the same as in transformers."""
    return str(plain_value(value)).lower()


def held_out_measure(value: Any) -> Any:  # noqa: ANN401
    """Accept the held-out loss, by which the best step is chosen, and refuse other measures."""
    if str(value).lower() in ("none", "loss", "eval_loss"):
        return None
    raise Unfit(
        "the best step is chosen by the held-out loss", "eval_loss", "metric_for_best_model=eval_loss"
    )


def lower_is_better(value: Any) -> Any:  # noqa: ANN401
    """Accept false, which is right for a loss, and refuse true."""
    if value is None or not is_true(value):
        return None
    raise Unfit("the best step has the lowest held-out loss", "false", "greater_is_better=false")


LOGS = "every step is written to events.jsonl in the run's folder and shown"
PACKS = "rows go through in packs that fill the memory, without padding"
WHOLE = "each process holds the whole model, in packs that fit its memory"
LOADER = "rows are prepared once, before the first step, and read from the disk"
PROCESSES = "the launcher (torchrun, accelerate launch) decides how processes find and wait for each other"
SAVED = "checkpoints are saved as safetensors, with everything needed to resume, in the run's folder"
HUB = "nothing is uploaded while a run trains"
MEASURED = "held-out rows are measured by their loss, in packs that fit"

NAMES = of_source(
    "TrainingArguments",
    reads(
        "train",
        {
            "output_dir": "out",
            "learning_rate": "train.lr",
            "num_train_epochs": "train.epochs",
            "num_epochs": "train.epochs",
            "lr_scheduler_kwargs": "train.scheduler_args",
            "adam_epsilon": "train.eps",
            "neftune_noise_alpha": "train.neftune_alpha",
            "torch_compile": "train.compile",
            "load_best_model_at_end": "train.keep_best",
            "early_stopping_threshold": "train.early_stopping_min_delta",
            "run_name": "track.name",
            "max_seq_length": "data.max_length",
            "max_seq_len": "data.max_length",
        },
    ),
    [
        converted("train", "max_steps", "train.steps", steps),
        converted("train", "save_total_limit", "train.keep_checkpoints", kept),
        converted("train", "lr_scheduler_type", "train.scheduler", scheduler),
        converted("train", "lr_scheduler", "train.scheduler", scheduler),
        converted("train", "optim", "train.optimizer", optimizer),
        switched("train", "bf16", "model.dtype", "bf16"),
        switched("train", "fp16", "model.dtype", "fp16"),
        switched("train", "use_liger_kernel", "train.kernels", "liger", "none"),
        converted("train", "activation_checkpointing", "train.gradient_checkpointing", is_true),
        switched("train", "use_cpu", "model.device_map", "cpu"),
        switched("train", "no_cuda", "model.device_map", "cpu"),
        converted("train", "metric_for_best_model", "train.keep_best", held_out_measure),
        converted("train", "greater_is_better", "train.keep_best", lower_is_better),
        switched("train", "completion_only_loss", "data.train_on", "answers", "all"),
        switched("train", "assistant_only_loss", "data.train_on", "answers"),
        converted("train", "dataset_text_field", "data.columns", lambda name: {"text": str(name)}),
        converted("train", "activation_offloading", "train.offload_activations", is_true),
    ],
    together(
        "train",
        BATCH,
        "train.batch_size: the product of examples per device, accumulation and processes",
        "per_device_train_batch_size per_gpu_train_batch_size/per_device_train_batch_size "
        "micro_batch_size/per_device_train_batch_size "
        "train_micro_batch_size_per_gpu/per_device_train_batch_size "
        "gradient_accumulation_steps",
    ),
    together("train", BETAS, "train.betas", "adam_beta1 adam_beta2"),
    together(
        "train",
        LOOKS,
        "train.eval_every",
        "eval_strategy evaluation_strategy/eval_strategy eval_steps",
    ),
    together("train", SAVES, "train.save_every", "save_strategy save_steps"),
    together("train", TO, "track.to", "report_to"),
    together("train", SHARDING, WHOLE, "deepspeed fsdp fsdp_config"),
    together("train", RESUME, "weitiao train --resume RUN", "resume_from_checkpoint"),
    nothing(
        "train",
        LOGS,
        "logging_dir logging_strategy logging_steps logging_first_step logging_nan_inf_filter log_level "
        "log_level_replica log_on_each_node disable_tqdm include_num_input_tokens_seen include_tokens_per_second",
    ),
    nothing(
        "train",
        PACKS,
        "per_device_eval_batch_size per_gpu_eval_batch_size eval_accumulation_steps auto_find_batch_size "
        "group_by_length train_sampling_strategy length_column_name packing padding_free data_collator "
        "average_tokens_across_devices torch_empty_cache_steps eval_packing pad_to_multiple_of max_tokens_per_batch "
        "pad_token",
    ),
    nothing(
        "train",
        LOADER,
        "dataloader_num_workers dataloader_pin_memory dataloader_persistent_workers dataloader_prefetch_factor "
        "dataloader_multiprocessing_context dataloader_in_order dataloader_drop_last dataset_num_proc "
        "dataset_kwargs remove_unused_columns label_names shuffle_dataset",
    ),
    nothing(
        "train",
        PROCESSES,
        "local_rank ddp_backend ddp_timeout ddp_find_unused_parameters ddp_bucket_cap_mb ddp_broadcast_buffers "
        "ddp_static_graph fsdp_min_num_params fsdp_transformer_layer_cls_to_wrap accelerator_config "
        "parallelism_config xpu_backend tpu_num_cores tpu_metrics_debug mp_parameters split_batches",
    ),
    nothing(
        "train",
        SAVED,
        "overwrite_output_dir save_safetensors save_only_model save_on_each_node enable_jit_checkpoint "
        "ignore_data_skip restore_callback_states_from_checkpoint",
    ),
    nothing(
        "train",
        HUB,
        "hub_token hub_model_id hub_strategy hub_private_repo hub_always_push hub_revision push_to_hub_model_id "
        "push_to_hub_organization push_to_hub_token trackio_space_id trackio_bucket_id trackio_static_space_id",
    ),
    nothing(
        "train",
        MEASURED,
        "do_eval eval_delay prediction_loss_only eval_on_start eval_do_concat_batches eval_use_gather_object "
        "include_for_metrics include_inputs_for_metrics batch_eval_metrics bf16_full_eval fp16_full_eval "
        "compute_metrics predict_with_generate",
    ),
    nothing("train", "training is what the command does", "do_train"),
    nothing("train", "matrix products in fp32 are exact; model.dtype=bf16 is faster", "tf32"),
    nothing("train", "activations are checkpointed without reentrance", "gradient_checkpointing_kwargs"),
    nothing("train", "activations are checkpointed without reentrance", "activation_checkpointing_kwargs"),
    nothing(
        "train", "blocks are compiled by torch's usual backend", "torch_compile_backend torch_compile_mode"
    ),
    nothing("train", "the kernels make this choice themselves", "liger_kernel_config"),
    nothing(
        "train",
        "half precision is torch's own autocast",
        "half_precision_backend fp16_backend fp16_opt_level",
    ),
    nothing("train", "the same seed gives the same run on a CPU without a switch", "full_determinism"),
    nothing("train", "the order of rows follows from train.seed", "data_seed"),
    nothing("train", "a cache serves generation only, which has one", "use_cache"),
    nothing("train", "memory is reported with each step", "skip_memory_metrics"),
    nothing("train", "every error says what to do", "debug past_index use_mps_device"),
    not_supported("train", "smoothing of the labels", "label_smoothing_factor"),
    not_supported("train", "an optimizer's own arguments", "optim_args optim_target_modules"),
    not_supported("train", "uploading what was trained", "push_to_hub"),
    not_supported("train", "predicting a test set", "do_predict"),
    not_supported("train", "arguments for loading the model", "model_init_kwargs"),
)
"""Names that TrainingArguments has or had, and those of TRL's SFTConfig."""

MODEL_NAMES = of_source(
    "from_pretrained",
    reads(
        "model",
        {
            "model_name_or_path": "model.name",
            "pretrained_model_name_or_path": "model.name",
            "model_name": "model.name",
            "model_id": "model.name",
            "base_model": "model.name",
            "model_revision": "model.revision",
        },
    ),
    reads("model", {"path": "model.name", "device": "model.device_map"}, inside_only=True),
    reads("model", {"adapter_path": "model.adapter"}),
    [
        converted("model", "torch_dtype", "model.dtype", precision),
        converted("model", "precision", "model.dtype", precision),
    ],
    nothing(
        "model",
        "the attention implementation is chosen by the device",
        "attn_implementation use_flash_attention_2",
    ),
    nothing("model", "weights are read without a second copy", "low_cpu_mem_usage use_safetensors"),
    nothing("model", "HF_HOME decides where downloads are stored", "cache_dir"),
    nothing("model", "the token of `hf auth login` or HF_TOKEN is used", "token use_auth_token"),
    nothing("model", "a fast tokenizer is used if there is one", "use_fast use_fast_tokenizer"),
)
"""Arguments of transformers' `from_pretrained`."""
