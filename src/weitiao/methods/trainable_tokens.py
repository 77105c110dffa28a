"""Trains the embeddings of some chosen tokens; all other embeddings and the rest of the model stay frozen."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from ..core.errors import Problem
from ..core.lists import read_numbers
from ..core.settings import Unfit
from ..models.anatomy import anatomy, task_type
from ._alternatives import DoesNotApply, no_place_for_head
from ._checks import missing_names, modules_matching
from ._peft.attached import PeftMethod
from ._peft.targets import last_names, read_targets

if TYPE_CHECKING:
    from peft import TrainableTokensConfig
    from transformers import PretrainedConfig, PreTrainedModel


def _check_tokens(tokens: list[int]) -> list[int]:
    twice = sorted({token for token in tokens if tokens.count(token) > 1})
    if twice:
        once = ",".join(map(str, dict.fromkeys(tokens)))
        reason = f"it names {', '.join(map(str, twice))} more than once"
        raise Unfit(reason, "each token once", f"method.token_indices={once}")
    return tokens


DRAWING = """\
embeddings   vocabulary x d
┌ ..                frozen
│ row t             trained: the row of a chosen token
│ ..                frozen
└ ..                frozen
│
blocks 1 .. L       frozen
│
head                frozen; if it shares the embeddings'
                    weights, row t is trained there as well"""


class TrainableTokens(PeftMethod):
    """Settings of trainable tokens: which ones, under PEFT's names."""

    title: ClassVar[str] = "Trainable tokens"
    paper: ClassVar[str] = "https://huggingface.co/docs/peft"
    formula: ClassVar[str] = "E[t] <- E[t] - lr * dL/dE[t] for the chosen tokens t"
    trains: ClassVar[str] = "one row of the embeddings for each chosen token"
    family: ClassVar[str] = "own weights"
    share: ClassVar[str] = "0.00015 % (3 tokens)"
    inference_cost: ClassVar[str] = "none once merged"
    memory: ClassVar[str] = "very low; a copy of the embeddings"
    drawing: ClassVar[str] = DRAWING
    when: ClassVar[str] = "To learn new or special tokens and nothing else; works with any quantised base."
    example: ClassVar[Mapping[str, object]] = {"token_indices": [14, 16, 18]}
    suggested_lr: ClassVar[float] = 2e-2
    lr_falls_with_width: ClassVar[bool] = False
    known_elsewhere: ClassVar[Mapping[str, str]] = {
        "trainable_token_indices": "token_indices",
        "tokens": "token_indices",
        "target": "target_modules",
    }

    token_indices: Annotated[
        list[Annotated[int, Field(ge=0)]], BeforeValidator(read_numbers), AfterValidator(_check_tokens)
    ] = Field(min_length=1)
    """Token ids to train, as the tokenizer numbers them."""
    target_modules: Annotated[list[str] | Literal["auto"], BeforeValidator(read_targets)] = "auto"
    """Which embeddings: auto (the input's, and a head that shares them), or names."""

    def targets(self, model: PreTrainedModel) -> list[str]:
        """Return the names of the embeddings for PEFT."""
        if self.target_modules != "auto":
            return self.target_modules
        tokens = model.get_input_embeddings()
        return last_names(path for path, module in model.named_modules() if module is tokens)

    def peft_config(self, model: PreTrainedModel) -> TrainableTokensConfig:
        """Return PEFT's config."""
        from peft import TrainableTokensConfig

        return TrainableTokensConfig(
            token_indices=list(self.token_indices),
            target_modules=self.targets(model),
            task_type=task_type(model),
        )

    def problems(self, model: PreTrainedModel, config: PretrainedConfig) -> list[Problem]:
        """Return a problem for names that are no token embedding, tokens that do not exist, and a head that PEFT cannot
        train."""
        if anatomy(model).classifier:
            return [no_place_for_head(self.name, model)]
        found = missing_names(model, "method.target_modules", self.targets(model))
        rows = model.get_input_embeddings().weight.shape[0]
        beyond = [token for token in self.token_indices if token >= rows]
        if beyond:
            what = "method.token_indices names tokens for which this model has no embedding"
            found.append(Problem(what, ", ".join(map(str, beyond)), f"0 to {rows - 1}"))
        return found + self._not_tables(model) + self._padding(model) + self._bias_of_head(model)

    def _bias_of_head(self, model: PreTrainedModel) -> list[Problem]:
        """Return a problem for a tied head with a bias, which PEFT's layer does not add."""
        head = model.get_output_embeddings()
        if not anatomy(model).tied or getattr(head, "bias", None) is None:
            return []
        what = f"{self.name} would drop the bias of a head that shares the embeddings' weights"
        return [DoesNotApply(what, type(model).__name__, "a head without a bias, or with its own weights")]

    def _padding(self, model: PreTrainedModel) -> list[Problem]:
        """Return a problem for the padding token, whose row gets no gradient from torch, except with a tied head."""
        padding = model.config.get_text_config().pad_token_id
        if padding not in self.token_indices or anatomy(model).tied:
            return []
        what = "the padding token's embedding gets no gradient, so it cannot be trained"
        others = ",".join(str(token) for token in self.token_indices if token != padding)
        remedy = f"method.token_indices={others}" if others else ""
        return [Problem(what, f"token {padding}, the model's pad_token_id", "other tokens", remedy)]

    def _not_tables(self, model: PreTrainedModel) -> list[Problem]:
        """Return a problem for each name that is neither the input embeddings nor the output head."""
        every = (model.get_input_embeddings(), model.get_output_embeddings())
        tables = [table for table in every if table is not None]
        names = last_names(path for path, module in model.named_modules() if module in tables)
        found = {name: modules_matching(model, name) for name in self.targets(model)}
        other = [n for n, paths in found.items() if any(model.get_submodule(p) not in tables for p in paths)]
        what = "method.target_modules names a module that does not hold one row for each token"
        return [Problem(what, ", ".join(other), " or ".join(names))] if other else []
