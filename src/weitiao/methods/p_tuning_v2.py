"""Deep prompts: trained keys and values in every block's attention, without a network that generates them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

from ._prompt import BegunMethod

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
 Q    [P_k ; K] [P_v ; V]             P_k, P_v   n tokens, trained,
                                      with no network behind
 └─────────┼─────────┘
       attention                      frozen
           │
feed-forward                          frozen"""


class PTuningV2(BegunMethod):
    """Settings of P-tuning v2: how long the prefix is, and how it is initialised.

    Attention sees its keys and values from the first step, so the model's output does not start as the base's.
    """

    title: ClassVar[str] = "P-tuning v2"
    paper: ClassVar[str] = "https://arxiv.org/abs/2110.07602"
    formula: ClassVar[str] = (
        "attention(Q, [P_k ; K], [P_v ; V]) in each of L blocks, P trained as it is (2 L n d)"
    )
    trains: ClassVar[str] = "n keys and values in every block"
    family: ClassVar[str] = "prompts"
    share: ClassVar[str] = "0.016 %"
    inference_cost: ClassVar[str] = "20 more tokens in the cache"
    memory: ClassVar[str] = "very low"
    drawing: ClassVar[str] = DRAWING
    when: ClassVar[str] = (
        "Deep prompts without the network of prefix tuning; also for understanding tasks and small models."
    )
    starts_as_base: ClassVar[bool] = False
    suggested_lr: ClassVar[float] = 3e-2
    lr_falls_with_width: ClassVar[bool] = False
    per_block: ClassVar[bool] = True

    known_elsewhere: ClassVar[Mapping[str, str]] = {
        "pre_seq_len": "num_virtual_tokens",
        "prefix_length": "num_virtual_tokens",
    }

    def peft_config(self, model: PreTrainedModel) -> PrefixTuningConfig:
        """Return PEFT's config: that of prefix tuning without its projection."""
        from .prefix_tuning import PrefixTuning

        return PrefixTuning(num_virtual_tokens=self.count(model)).peft_config(model)

    def begin(self, model: PromptModel) -> None:
        """Initialise the keys and values with those that the base computes for words."""
        from ._peft.prompt import begin_prefix

        begin_prefix(model, self.start, self.text_ids(model.get_base_model()))
