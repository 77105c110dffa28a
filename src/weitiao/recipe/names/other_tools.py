"""Names shared by several tools, besides those of the tools with a table of their own."""

from __future__ import annotations

from .entries import nothing, of_source, reads, switched
from .training_arguments import PACKS

NAMES = of_source(
    "other tools",
    reads(
        "train",
        {
            "clip": "train.max_grad_norm",
            "loraplus_ratio": "train.loraplus_lr_ratio",
            "gradient_clipping": "train.max_grad_norm",
            "offload": "train.offload_activations",
            "activations_offloading": "train.offload_activations",
            "blas": "train.matmul",
            "early_stopping": "train.early_stopping_patience",
        },
        inside_only=True,
    ),
    reads("track", {"logger": "track.to"}),
    reads(
        "data",
        {
            "sequence_len": "data.max_length",
            "val_set_size": "data.held_out",
            "test_size": "data.held_out",
            "chat_template": "data.template",
            "prompt_template": "data.template",
            "system_prompt": "data.system",
            "datasets": "data.sources",
        },
    ),
    reads("data", {"data_path": "data.sources"}),
    reads("data", {"path": "data.sources", "file": "data.sources"}, inside_only=True),
    [switched("data", "train_on_inputs", "data.train_on", "all", None, "answers")],
    nothing("data", PACKS, "pad_to_sequence_len"),
    reads(
        "data.sources",
        {
            "file": "data.sources.path",
            "data_path": "data.sources.path",
            "dataset": "data.sources.path",
            "name": "data.sources.subset",
            "formatting": "data.sources.format",
            "num_samples": "data.sources.take",
            "max_samples": "data.sources.take",
            "sheet_name": "data.sources.sheet",
            "remove_columns": "data.sources.ignore_columns",
        },
        inside_only=True,
    ),
)
"""Names from axolotl, unsloth, TRL's scripts and datasets."""
