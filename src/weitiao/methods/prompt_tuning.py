"""Virtual tokens before every text, trained as embeddings; the model itself stays as it is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

from ._prompt import BegunMethod

if TYPE_CHECKING:
    from peft import PromptTuningConfig
    from transformers import PreTrainedModel

    from ._peft.prompt import PromptModel

DRAWING = """\
p_1 .. p_n            text
n x d, trained         │
     │             embeddings    frozen
     │                 │
     └── [ p ; E(text) ]
              │
        blocks 1 .. L            frozen
              │
            head                 frozen"""


class PromptTuning(BegunMethod):
    """Settings of prompt tuning: how many virtual tokens, and how they are initialised.

    They precede every text from the first step, so the model's output does not start as the base's.
    """

    title: ClassVar[str] = "Prompt tuning"
    paper: ClassVar[str] = "https://arxiv.org/abs/2104.08691"
    formula: ClassVar[str] = "x = [p_1 .. p_n ; E(text)], p trained (n d numbers)"
    trains: ClassVar[str] = "n embeddings before every text"
    family: ClassVar[str] = "prompts"
    share: ClassVar[str] = "0.001 %"
    inference_cost: ClassVar[str] = "20 more tokens of context"
    memory: ClassVar[str] = "very low"
    drawing: ClassVar[str] = DRAWING
    when: ClassVar[str] = (
        "One small task and a large model: 81,920 parameters per task on Llama-3.1-8B, many tasks on one base."
    )
    starts_as_base: ClassVar[bool] = False
    suggested_lr: ClassVar[float] = 2e-2
    lr_falls_with_width: ClassVar[bool] = False

    known_elsewhere: ClassVar[Mapping[str, str]] = {
        "prompt_tuning_init": "init",
        "prompt_tuning_init_text": "init_text",
        "prompt_length": "num_virtual_tokens",
        "n_tokens": "num_virtual_tokens",
    }

    def peft_config(self, model: PreTrainedModel) -> PromptTuningConfig:
        """Return PEFT's config; `begin` initialises the tokens, so that no tokenizer is needed to load them."""
        from peft import PromptTuningConfig

        from ._peft.prompt import shape_of

        return PromptTuningConfig(num_virtual_tokens=self.count(model), **shape_of(model, self.per_block))

    def begin(self, model: PromptModel) -> None:
        """Initialise the embeddings from the vocabulary."""
        from ._peft.prompt import begin_embeddings

        begin_embeddings(model, self.start, self.text_ids(model.get_base_model()))
