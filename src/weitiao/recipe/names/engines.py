"""Names of LLaMA-Factory's newer engines (v1, Megatron) and of accelerate's configs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...core.settings import Unfit, read_yaml
from .entries import converted, not_supported, nothing, of_source, together
from .llama_factory import SPEED
from .readers import BATCH
from .training_arguments import PACKS, PROCESSES, SAVED, WHOLE
from .words import is_true, plain_value


def precision_of_products(value: Any) -> Any:  # noqa: ANN401  (a text)
    """Return the dtype for a mixed-precision setting; None for `no`."""
    name = str(plain_value(value)).lower().partition("_")[0]
    return None if name in ("no", "none") else name


def listed_sources(value: Any) -> Any:  # noqa: ANN401  (a path)
    """Return a data file as a source, or the sources (path, size) of a YAML list; raises Unfit, SettingsError."""
    path = Path(str(value))
    if path.suffix not in (".yaml", ".yml"):
        return [{"path": str(value)}]
    if not path.is_file():
        raise Unfit(
            "the list of data sets is not there", "a file that exists, or a data file", "data=my.json"
        )
    entries = [one for one in read_yaml(path).values() if isinstance(one, Mapping) and one.get("path")]
    return [{"path": str(one["path"]), "take": one.get("size")} for one in entries]


NAMES = of_source(
    "LLaMA-Factory v1, Megatron, accelerate",
    [
        converted("data", "train_dataset", "data.sources", listed_sources),
        converted("train", "mixed_precision", "model.dtype", precision_of_products),
        converted("train", "enable_activation_checkpointing", "train.gradient_checkpointing", is_true),
    ],
    together("train", BATCH, "train.batch_size", "global_batch_size train_batch_size/global_batch_size"),
    nothing("train", PACKS, "batching_strategy use_packed_sequences"),
    nothing(
        "train",
        WHOLE,
        "tensor_model_parallel_size pipeline_model_parallel_size expert_model_parallel_size context_parallel_size "
        "virtual_pipeline_model_parallel_size sequence_parallel account_for_* use_distributed_optimizer overlap_* "
        "dp_size cp_size cp_mode mp_* dist_config zero_optimization zero_stage",
    ),
    nothing("train", PROCESSES, "dist_timeout batching_workers num_processes num_machines machine_rank"),
    nothing("train", SAVED, "save_ckpt_as_hf save_epochs"),
    nothing(
        "train",
        SPEED,
        "recompute_* bias_activation_fusion apply_rope_fusion masked_softmax_fusion cross_entropy_loss_fusion "
        "moe_grouped_gemm moe_token_dispatcher_type calculate_per_token_loss kernel_config init_config "
        "sample_backend",
    ),
    not_supported("model", "that kind of model", "model_class", harmless=("llm", "auto")),
    not_supported("data", "a custom template", "custom_chat_template"),
    not_supported("train", "that optimizer", "optim_config"),
    not_supported("train", "a schedule with a config of its own", "lr_scheduler_config"),
    not_supported("train", "weights of another engine", "megatron_pretrained_checkpoint extra_config"),
)
"""Names from LLaMA-Factory's `src/llamafactory/v1` and Megatron arguments, and from accelerate."""
