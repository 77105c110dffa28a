"""Some of the model's own blocks, usually the last ones, while the rest stays frozen."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from ..core.errors import ModelError, Problem, raise_all
from ..models.anatomy import Anatomy, anatomy, is_inside
from ._weights import WeightsMethod

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel

DEFAULT_LAST_N = 2


class Freeze(WeightsMethod):
    """Which of the model's own parts train."""

    title: ClassVar[str] = "Freeze (partial fine-tuning)"
    paper: ClassVar[str] = "https://arxiv.org/abs/1911.03090"
    formula: ClassVar[str] = "W <- W - lr * dL/dW for the W of the chosen parts"
    trains: ClassVar[str] = "the weights of the chosen blocks"
    when: ClassVar[str] = (
        "Fast and light on memory: nothing is computed backwards below the lowest trained block."
    )
    suggested_lr: ClassVar[float] = 5e-5
    keeps_originals: ClassVar[bool] = True

    known_elsewhere: ClassVar[Mapping[str, str]] = {
        "freeze_trainable_layers": "last_n",
        "num_layer_trainable": "last_n",
        "n_layers": "last_n",
        "freeze_extra_modules": "embeddings, head or norms",
        "layers": "blocks",
    }

    last_n: int | None = Field(default=None, ge=0)
    """How many of the last blocks train; 2 where neither this nor `blocks` is given."""
    blocks: list[int] | None = None
    """The numbers of the blocks that train, instead of `last_n`: the first is 0, the last is -1."""
    embeddings: bool = False
    """Train the embeddings too; where the head shares their weights, it trains with them."""
    head: bool = False
    """Train the output head too; where it shares the embeddings' weights, `embeddings` has to be chosen with
    it."""
    norms: Literal["none", "final", "all"] = "none"
    """Train normalisation layers outside the chosen blocks too: those behind the last block (final), or
    all."""

    @field_validator("norms", mode="before")
    @classmethod
    def _read_yes_and_no(cls, raw: Any) -> Any:  # noqa: ANN401  (whatever the run file holds)
        return {True: "all", False: "none"}[raw] if isinstance(raw, bool) else raw

    @model_validator(mode="after")
    def _check_choice(self) -> Freeze:
        if self.last_n is not None and self.blocks is not None:
            raise ValueError("last_n and blocks both say which blocks train; choose one")
        if not (self._last_n or self.blocks or self.embeddings or self.head or self.norms != "none"):
            raise ValueError("nothing is left to train")
        return self

    @property
    def _last_n(self) -> int:
        """How many of the last blocks train, as it was given or by default."""
        return (0 if self.blocks is not None else DEFAULT_LAST_N) if self.last_n is None else self.last_n

    def check(self, model: PreTrainedModel, config: PretrainedConfig) -> None:
        """Raise ModelError for blocks there are not, and for a head that shares its weights."""
        super().check(model, config)
        parts = anatomy(model)
        raise_all(ModelError, self._block_problems(len(parts.blocks)) + self._head_problems(parts))

    def _block_problems(self, count: int) -> list[Problem]:
        wrong = [n for n in self.blocks or [] if not -count <= n < count]
        problems = []
        if wrong:
            got = f"blocks: {', '.join(map(str, wrong))}"
            problems.append(
                Problem("method.blocks names blocks this model does not have", got, f"0 to {count - 1}")
            )
        if self._last_n > count:
            what = "method.last_n is more than the blocks there are"
            problems.append(
                Problem(what, f"last_n: {self._last_n}", f"up to {count}", f"method.last_n={count}")
            )
        return problems

    def _head_problems(self, parts: Anatomy) -> list[Problem]:
        if not (self.head and parts.tied and not self.embeddings):
            return []
        what = "this model's head and token embeddings are one matrix, so the head cannot train alone"
        return [Problem(what, "head: true, embeddings: false", "both, or neither", "method.embeddings=true")]

    def trained_names(self, model: PreTrainedModel) -> set[str]:
        """Return the names of the chosen parts' parameters, by whole path segments."""
        parts = self._parts(anatomy(model))
        return {name for name, _ in model.named_parameters() if any(is_inside(name, part) for part in parts)}

    def _parts(self, parts: Anatomy) -> list[str]:
        """Return the paths of the chosen modules."""
        count = len(parts.blocks)
        numbers = range(count - self._last_n, count) if self.blocks is None else self.blocks
        chosen = [parts.blocks[n] for n in numbers]
        chosen += parts.embeddings if self.embeddings else ()
        chosen += (parts.head,) if self.head else ()
        chosen += parts.outer_norms if self.norms != "none" else ()
        chosen += parts.block_norms if self.norms == "all" else ()
        return chosen
