"""Virtual tokens before every text that a small network makes while they train; only what it made is kept."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field, model_validator

from ..core.settings import Unfit, left_out
from ._prompt import PromptMethod

if TYPE_CHECKING:
    from peft import PromptEncoderConfig
    from transformers import PreTrainedModel

    from ._peft.prompt import PromptModel

LSTM_LAYERS = 2

DRAWING = """\
    e_1 .. e_n  trained        text
         │                      │
         f      trained     embeddings    frozen
         │                      │
         p_1 .. p_n             │         f is an MLP or an LSTM;
         └──── [ p ; E(text) ] ─┘         only the p it made are kept
                     │
               blocks 1 .. L              frozen
                     │
                   head                   frozen"""


class PTuning(PromptMethod):
    """Settings of P-tuning: how many virtual tokens, and the network that computes them.

    They precede every text from the first step, so the model's output does not start as the base's.
    """

    title: ClassVar[str] = "P-tuning"
    paper: ClassVar[str] = "https://arxiv.org/abs/2103.10385"
    formula: ClassVar[str] = "x = [f(e_1 .. e_n) ; E(text)], e and f trained, f an MLP or an LSTM with an MLP"
    trains: ClassVar[str] = "n embeddings before every text, through an encoder"
    family: ClassVar[str] = "prompts"
    share: ClassVar[str] = "0.62 %, 0.001 % kept"
    inference_cost: ClassVar[str] = "20 tokens more context"
    memory: ClassVar[str] = "low; the encoder's numbers are many"
    drawing: ClassVar[str] = DRAWING
    when: ClassVar[str] = (
        "Soft prompts that prompt tuning makes unstable: the encoder ties the virtual tokens."
    )
    starts_as_base: ClassVar[bool] = False
    suggested_lr: ClassVar[float] = 5e-3

    known_elsewhere: ClassVar[Mapping[str, str]] = {
        "encoder_reparameterization_type": "encoder",
        "prompt_encoder_type": "encoder",
        "pre_seq_len": "num_virtual_tokens",
    }

    encoder: Literal["MLP", "LSTM"] = "MLP"
    """The network: three linear layers, or a two-way LSTM with two linear layers behind it, as in the paper."""
    encoder_hidden_size: int | None = left_out("(the model's width)", ge=1)
    """Width inside the network; the model's own width where left out."""
    encoder_num_layers: int | None = left_out(str(LSTM_LAYERS), ge=1)
    """Layers of the LSTM; 2 where left out."""
    encoder_dropout: float = Field(default=0.0, ge=0, lt=1)
    """Share of numbers dropped between the LSTM's layers in training."""

    @model_validator(mode="after")
    def _check_encoder(self) -> PTuning:
        if self.encoder == "MLP" and (self.encoder_num_layers is not None or self.encoder_dropout):
            reason = "encoder_num_layers and encoder_dropout are the LSTM's, and the encoder is an MLP"
            raise Unfit(reason, "encoder: LSTM, or neither of them", "method.encoder=LSTM")
        if self.encoder_dropout and self.encoder_num_layers == 1:
            reason = "encoder_dropout works between layers, and there is one"
            raise Unfit(reason, "two layers or more", "method.encoder_num_layers=2")
        return self

    @property
    def reparameterised(self) -> bool:
        """Always true: without its encoder this is prompt tuning."""
        return True

    def peft_config(self, model: PreTrainedModel) -> PromptEncoderConfig:
        """Return PEFT's config."""
        from peft import PromptEncoderConfig

        from ._peft.prompt import shape_of

        shape = shape_of(model, self.per_block)
        return PromptEncoderConfig(
            num_virtual_tokens=self.count(model),
            encoder_reparameterization_type=self.encoder,
            encoder_hidden_size=self.encoder_hidden_size or shape["token_dim"],
            encoder_num_layers=self.encoder_num_layers or LSTM_LAYERS,
            encoder_dropout=self.encoder_dropout,
            **shape,
        )

    def begin(self, model: PromptModel) -> None:
        """Keep the random initialisation of PEFT's encoder."""
