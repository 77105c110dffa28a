"""Trained prompts in the attention of the last blocks, behind a gate that starts at zero."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from ..core.errors import Problem
from ..core.settings import left_out
from ..models.anatomy import anatomy, task_type
from ._alternatives import DoesNotApply, no_place_for_head
from ._peft.attached import PeftMethod

if TYPE_CHECKING:
    from peft import AdaptionPromptConfig
    from transformers import PretrainedConfig, PreTrainedModel

DRAWING = """\
the last blocks:
    x                            P   n x d   trained
    │                            │
W_q, W_k, W_v   frozen       W_k, W_v        frozen, the same
    │                            │
attention(Q, K, V)           attention(Q, W_k P, W_v P)
    │                            │
    │                            * g         trained, begins at 0
    └────────────── + ───────────┘
                    │
                   W_o                       frozen"""


class LlamaAdapter(PeftMethod):
    """Settings of LLaMA-Adapter: how long the prompts are, and how many blocks have them."""

    title: ClassVar[str] = "LLaMA-Adapter"
    paper: ClassVar[str] = "https://arxiv.org/abs/2303.16199"
    formula: ClassVar[str] = (
        "y = attention(Q, K, V) + g attention(Q, W_k P, W_v P), P (n x d) and g trained, g = 0"
    )
    trains: ClassVar[str] = "n prompts and a gate in each of the last blocks"
    family: ClassVar[str] = "prompts"
    share: ClassVar[str] = "0.015 %"
    inference_cost: ClassVar[str] = "attention to 10 prompts per block"
    memory: ClassVar[str] = "very low"
    drawing: ClassVar[str] = DRAWING
    merges: ClassVar[bool] = False
    when: ClassVar[str] = "A prompt method that starts exactly at the base; for Llama, Mistral and GPT-2."
    suggested_lr: ClassVar[float] = 3e-2
    lr_falls_with_width: ClassVar[bool] = False

    known_elsewhere: ClassVar[Mapping[str, str]] = {
        "num_virtual_tokens": "adapter_len",
        "prompt_length": "adapter_len",
        "last_n": "adapter_layers",
    }

    adapter_len: int = Field(default=10, ge=1)
    """Number of prompts in each block; the paper uses 10."""
    adapter_layers: int | None = left_out("(all but the first two)", ge=1)
    """Number of blocks with prompts, counted from the last. Default: all but the first two, as in the paper."""

    def layers(self, model: PreTrainedModel) -> int:
        """Return the number of blocks that get prompts."""
        return self.adapter_layers or max(1, anatomy(model).depth - 2)

    def peft_config(self, model: PreTrainedModel) -> AdaptionPromptConfig:
        """Return PEFT's config."""
        from peft import AdaptionPromptConfig

        return AdaptionPromptConfig(
            task_type=task_type(model), adapter_len=self.adapter_len, adapter_layers=self.layers(model)
        )

    def problems(self, model: PreTrainedModel, config: PretrainedConfig) -> list[Problem]:
        """Return a problem for an architecture that PEFT does not support, and for more blocks than the model has."""
        from peft.tuners.adaption_prompt.config import TRANSFORMERS_MODEL_CONFIG as KNOWN

        problems: list[Problem] = []
        count = anatomy(model).depth
        if config.model_type not in KNOWN:
            what = "LLaMA-Adapter supports the attention of a few architectures only, and this is not one of them"
            problems.append(DoesNotApply(what, config.model_type, ", ".join(sorted(KNOWN))))
        elif anatomy(model).classifier:
            problems.append(no_place_for_head(self.name, model))
        if self.layers(model) > count:
            got = f"adapter_layers: {self.adapter_layers}"
            what = "method.adapter_layers is more than the number of blocks"
            problems.append(Problem(what, got, f"1 to {count}", f"method.adapter_layers={count}"))
        return problems
