"""Trained keys and values before the text's own in the attention of every block, on request through a small network."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

from pydantic import model_validator

from ..core.settings import Unfit, left_out
from ._prompt import BegunMethod, Start

if TYPE_CHECKING:
    from peft import PrefixTuningConfig
    from transformers import PreTrainedModel

    from ._peft.prompt import PromptModel

DRAWING = """\
    each of the L blocks:
               x
     ┌─────────┼─────────┐
    W_q       W_k       W_v               frozen
     │         │         │
     Q    [P_k ; K] [P_v ; V]             P_k, P_v  n tokens, trained
                                          (or a network's output)
     └─────────┼─────────┘
           attention                      frozen
               │
    feed-forward                          frozen"""


class PrefixTuning(BegunMethod):
    """Settings of prefix tuning: how long the prefix is, how it is initialised, and whether a network computes it.

    Attention sees its keys and values from the first step, so the model's output does not start as the base's.
    """

    title: ClassVar[str] = "Prefix tuning"
    paper: ClassVar[str] = "https://arxiv.org/abs/2101.00190"
    formula: ClassVar[str] = (
        "attention(Q, [P_k ; K], [P_v ; V]) in each of L blocks, P trained (2 L n d numbers)"
    )
    trains: ClassVar[str] = "n keys and values in every block"
    family: ClassVar[str] = "prompts"
    share: ClassVar[str] = "0.016 %"
    inference_cost: ClassVar[str] = "20 tokens more in the cache"
    memory: ClassVar[str] = "very low"
    drawing: ClassVar[str] = DRAWING
    when: ClassVar[str] = (
        "More room than a soft prompt, still no weight of the model touched; begins well as a text."
    )
    starts_as_base: ClassVar[bool] = False
    suggested_lr: ClassVar[float] = 1e-2
    lr_falls_with_width: ClassVar[bool] = False
    per_block: ClassVar[bool] = True

    known_elsewhere: ClassVar[Mapping[str, str]] = {
        "prefix_projection": "projection",
        "encoder_hidden_size": "projection_size",
        "prefix_length": "num_virtual_tokens",
        "pre_seq_len": "num_virtual_tokens",
    }

    projection: bool = False
    """Let a network of two layers make the prefix while it trains, as in the paper; steadier, many more numbers."""
    projection_size: int | None = left_out("(the width of a block's keys)", ge=1)
    """Width inside that network; that of one block's keys where left out."""

    @model_validator(mode="after")
    def _check_projection(self) -> PrefixTuning:
        if self.projection and (self.init not in (None, "random") or self.init_text is not None):
            raise Unfit(
                "with projection a network makes the prefix, so it begins random",
                "projection, or init and init_text",
                "method.projection=false",
            )
        if self.projection_size is not None and not self.projection:
            raise Unfit(
                "projection_size is the width of the network that projection puts behind the prefix",
                "projection: true beside it",
                f"method.projection=true method.projection_size={self.projection_size}",
            )
        return self

    @property
    def reparameterised(self) -> bool:
        """Whether `projection` is set."""
        return self.projection

    @property
    def start(self) -> Start:
        """The initialisation: random with a projection, else as set or by default."""
        return "random" if self.projection else super().start

    def peft_config(self, model: PreTrainedModel) -> PrefixTuningConfig:
        """Return PEFT's config, with the width of keys and values (smaller with grouped-query attention)."""
        from peft import PrefixTuningConfig

        from ._peft.prompt import shape_of

        shape = shape_of(model, self.per_block)
        return PrefixTuningConfig(
            num_virtual_tokens=self.count(model),
            prefix_projection=self.projection,
            encoder_hidden_size=self.projection_size or shape["token_dim"],
            **shape,
        )

    def begin(self, model: PromptModel) -> None:
        """Initialise the keys and values with those that the base computes for words."""
        from ._peft.prompt import begin_prefix

        begin_prefix(model, self.start, self.text_ids(model.get_base_model()))
