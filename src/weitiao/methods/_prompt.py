"""Base classes of the methods that put virtual tokens before the text."""

from __future__ import annotations

from abc import abstractmethod
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal, cast

from pydantic import Field, model_validator

from ..core.errors import ModelError, Problem, raise_all
from ..core.settings import Unfit, left_out
from ..models.anatomy import anatomy, context_tokens, task_type
from ..models.text_path import cache_shape, text_path
from ._alternatives import DoesNotApply, require_applicable
from ._peft.attached import PeftAttached, PeftMethod, load_adapter, saved_config
from ._peft.quiet import renamed_in_transformers

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel

    from ._peft.prompt import PromptModel

Start = Literal["random", "vocabulary", "text"]
DEFAULT_TOKENS = 20
ROW_LAYERS = frozenset({"full_attention", "sliding_attention", "chunked_attention"})
"""The types of blocks that cache keys and values."""


class PromptMethod(PeftMethod):
    """A method that trains virtual tokens; a subclass defines settings, `peft_config` and `begin`."""

    merges: ClassVar[bool] = False
    per_block: ClassVar[bool] = False
    """Whether the virtual tokens are keys and values of every block instead of embeddings."""

    num_virtual_tokens: int | None = left_out(str(DEFAULT_TOKENS), ge=1)
    """Number of virtual tokens before every text, usually 5 to 100."""

    @property
    def reparameterised(self) -> bool:
        """Whether an encoder computes the virtual tokens; only its output is saved."""
        return False

    def count(self, model: PreTrainedModel) -> int:
        """Return the number of virtual tokens on this model."""
        return self.num_virtual_tokens or DEFAULT_TOKENS

    @abstractmethod
    def begin(self, model: PromptModel) -> None:
        """Initialise fresh virtual tokens; the model has weights."""

    def problems(self, model: PreTrainedModel, config: PretrainedConfig) -> list[Problem]:
        """Return problems with the model's task, its attention, or the room in its context."""
        return (
            self._task_problems(model)
            or self._architecture_problems(model, config)
            or self._room_problems(model, config)
        )

    def _task_problems(self, model: PreTrainedModel) -> list[Problem]:
        """Return a problem for a task that virtual tokens would break, or that PEFT does not support."""
        task, takes_cache = task_type(model), "past_key_values" in signature(type(model).forward).parameters
        reasons = {
            "CAUSAL_LM": "",
            "SEQ_2_SEQ_LM": "PEFT has no prefix for encoder and decoder together" if self.per_block else "",
            "SEQ_CLS": self._reason_against_classifier(takes_cache),
        }
        reason = reasons.get(
            task or "", "virtual tokens would shift the positions that its head predicts for"
        )
        what = f"{self.name} cannot be used with this kind of model: {reason}"
        return [DoesNotApply(what, type(model).__name__, "a causal language model")] if reason else []

    def _reason_against_classifier(self, takes_cache: bool) -> str:
        """Return why virtual tokens do not work with a classification model; empty if they do.

        A decoder finds the last token of each row by its ids, which it does not get when its input is embeddings.
        """
        if self.per_block:
            return "" if takes_cache else "its attention takes no keys and values from outside"
        return "after virtual tokens it cannot find where a padded row ends" if takes_cache else ""

    def _architecture_problems(self, model: PreTrainedModel, config: PretrainedConfig) -> list[Problem]:
        if not anatomy(model).attention:
            what = f"{self.name} needs attention in the model's blocks, and there is none"
            return [DoesNotApply(what, type(model).__name__, "full or sliding attention")]
        text = config.get_text_config().to_dict()
        kinds = sorted(set(text.get("layer_types") or ()) - ROW_LAYERS)
        if self.per_block and "kv_lora_rank" in text:
            kinds.append("compressed keys and values")
        known = task_type(model) == "CAUSAL_LM" and text_path(model).complete
        if self.per_block and not kinds and known and cache_shape(model) is None:
            kinds.append("keys and values of several shapes, or of none")
        if (
            getattr(config.get_text_config(), "num_attention_heads", None) is None
        ):  # RWKV calls its mixer attention
            kinds.append("no heads")
        if not kinds:
            return []
        what = f"{self.name} needs attention with keys and values in every block"
        got = f"{config.model_type}: {', '.join(kinds)}"
        return [DoesNotApply(what, got, "full or sliding attention")]

    def _room_problems(self, model: PreTrainedModel, config: PretrainedConfig) -> list[Problem]:
        context = context_tokens(config)
        count = self.count(model)
        if not context or count < context:
            return []
        what = "the virtual tokens leave no room for a text in the model's context"
        return [Problem(what, f"{count} tokens", f"fewer than {context}", "method.num_virtual_tokens=20")]

    def attach(self, model: PreTrainedModel) -> PeftAttached:
        """Put fresh virtual tokens on a model; raises ModelError if they do not apply."""
        from ._peft.prompt import PromptModel, refused_without_cache

        require_applicable(self, model, model.config)
        attached = self.plan(model)
        if model.device.type != "meta":
            with refused_without_cache(model):
                self.begin(cast("PromptModel", attached.model))
            if isinstance(attached.model, PromptModel):
                attached.model.require_cache()
        return attached

    @renamed_in_transformers()
    def plan(self, model: PreTrainedModel) -> PeftAttached:
        """Put virtual tokens of the right shape on a model."""
        from ._peft.prompt import wrapped

        config = self.peft_config(model)
        config.base_model_name_or_path = model.name_or_path or None
        return PeftAttached(wrapped(model, config), [])

    def continue_from(self, model: PreTrainedModel, folder: Path) -> PeftAttached:
        """Put saved virtual tokens on a model to train them further; raises ModelError if an encoder computed them."""
        if self.reparameterised:
            raise ModelError(
                Problem(
                    "these virtual tokens come from an encoder that was not saved, so they cannot be trained further",
                    f"method: {self.name}, model.adapter={folder}",
                    "a run that is resumed, or a method without an encoder: prompt_tuning, p_tuning_v2",
                )
            )
        require_applicable(self, model, model.config)
        raise_all(ModelError, self._differences(self.peft_config(model), saved_config(folder), folder))
        return load_adapter(model, folder, trainable=True)


class BegunMethod(PromptMethod):
    """A prompt method whose virtual tokens can be initialised from words."""

    init: Start | None = left_out("vocabulary")
    """Initialisation of the virtual tokens: random numbers, random tokens of the vocabulary, or a text. Default:
    text if `init_text` is given, otherwise vocabulary."""
    init_text: str | None = Field(default=None, min_length=1)
    """Text to initialise them with, such as a description of the task; its length is the default of
    `num_virtual_tokens`."""

    @model_validator(mode="after")
    def _check_start(self) -> BegunMethod:
        if self.init == "text" and self.init_text is None:
            remedy = 'method.init_text="Answer as a patient teacher would."'
            raise Unfit("init: text needs a text", "init_text as well", remedy)
        if self.init_text is not None and self.init not in (None, "text"):
            raise Unfit(
                f"init_text is not used with init: {self.init}",
                "init: text, or no init_text",
                "method.init=text",
            )
        return self

    @property
    def start(self) -> Start:
        """The initialisation, as set or by default."""
        return self.init or ("text" if self.init_text is not None else "vocabulary")

    def count(self, model: PreTrainedModel) -> int:
        """Return the number set, else the length of `init_text`, else 20."""
        if self.num_virtual_tokens is None and self.start == "text":
            return len(self.text_ids(model))
        return super().count(model)

    def text_ids(self, model: PreTrainedModel) -> list[int]:
        """Return the ids of `init_text`, none if it is not set; uses the tokenizer in the model's own folder.

        Raises ModelError if there is no tokenizer, or if it returns no tokens.
        """
        if self.init_text is None:
            return []
        from ..models.load import load_tokenizer
        from ..models.settings import ModelSettings

        tokenizer = load_tokenizer(ModelSettings(name=model.name_or_path or model.config.name_or_path or "."))
        ids: list[int] = tokenizer(self.init_text, add_special_tokens=False)["input_ids"]
        if not ids:
            raise ModelError(
                Problem("the tokenizer makes no tokens of method.init_text", repr(self.init_text))
            )
        return ids
