"""Trains some of the model's own blocks, usually the last ones; the rest stays frozen.

Each chosen weight is replaced by a trained copy in fp32, and the base's own is kept: to switch back to it, or to share
it between adapters. That costs 4 bytes per trained parameter, beside the 12 of gradient and AdamW. The file holds the
copies, and `weitiao merge` makes a plain model of base and file.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import field_validator, model_validator

from ..core.errors import Problem
from ..core.lists import Numbers
from ..core.settings import Unfit, left_out
from ..models.anatomy import Anatomy, anatomy, head_to_save, is_inside, task_type
from ..models.precision import quantization_of
from ._checks import quantization_problems
from ._peft.attached import PeftMethod

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel

    from ._layers.base import OwnTuner
    from ._layers.freeze import FreezeConfig

DEFAULT_LAST_N = 2

DRAWING = """\
tokens
│
embeddings          frozen  ┐
block 1             frozen  │  no backward pass here,
..                  frozen  │  and no activations are kept
block L - n         frozen  ┘
│
block L - n + 1     trained ┐
..                  trained │  the last n blocks
block L             trained ┘
│
norm, head          frozen, by choice trained"""


class Freeze(PeftMethod):
    """Settings of partial fine-tuning: which of the model's own parts train."""

    title: ClassVar[str] = "Freeze (partial fine-tuning)"
    paper: ClassVar[str] = "https://arxiv.org/abs/1911.03090"
    formula: ClassVar[str] = "W <- W - lr * dL/dW for the W of the chosen parts"
    trains: ClassVar[str] = "the weights of the chosen blocks"
    family: ClassVar[str] = "own weights"
    share: ClassVar[str] = "5.2 %"
    inference_cost: ClassVar[str] = "none once merged"
    memory: ClassVar[str] = "medium: a copy of what trains, few activations"
    drawing: ClassVar[str] = DRAWING
    when: ClassVar[str] = "Fast and light on memory: no backward pass below the lowest trained block."
    suggested_lr: ClassVar[float] = 6e-4
    on_quantized: ClassVar[bool] = False

    known_elsewhere: ClassVar[Mapping[str, str]] = {
        "num_layer_trainable": "last_n",
        "n_layers": "last_n",
        "layers": "blocks",
    }

    last_n: int | None = left_out("2", ge=0)
    """Number of last blocks to train; 2 if none of `last_n`, `first_n` and `blocks` is given."""
    first_n: int | None = left_out("0", ge=0)
    """Number of first blocks to train, alone or together with `last_n`."""
    blocks: Numbers | None = None
    """Blocks to train, by number (0,1 or 0-3), instead of `last_n` and `first_n`: the first is 0, the last is
    -1."""
    embeddings: bool = False
    """Train the embeddings too; a head that shares their weights is trained with them."""
    head: bool = False
    """Train the output head too; if it shares the embeddings' weights, `embeddings` must be true as well."""
    norms: Literal["none", "final", "all"] = "none"
    """Train normalisation layers outside the chosen blocks too: those after the last block (final), or all."""

    @field_validator("norms", mode="before")
    @classmethod
    def _read_yes_and_no(cls, raw: Any) -> Any:  # noqa: ANN401  (whatever the run file holds)
        return {True: "all", False: "none"}[raw] if isinstance(raw, bool) else raw

    @model_validator(mode="after")
    def _check_choice(self) -> Freeze:
        if self.blocks is not None and not (self.last_n is None and self.first_n is None):
            raise Unfit(
                "blocks chooses the blocks to train, and so do last_n and first_n",
                "blocks, or last_n and first_n",
                "leave method.blocks out",
            )
        some_blocks = self._last_n or self.first_n or self.blocks
        if not (some_blocks or self.embeddings or self.head or self.norms != "none"):
            raise Unfit(
                "nothing is left to train",
                "some blocks, embeddings, head or norms",
                f"method.last_n={DEFAULT_LAST_N}" if self.blocks is None else "method.blocks=-2,-1",
            )
        return self

    @property
    def _last_n(self) -> int:
        """How many of the last blocks train, as set or by default."""
        chosen_otherwise = self.blocks is not None or self.first_n is not None
        return (0 if chosen_otherwise else DEFAULT_LAST_N) if self.last_n is None else self.last_n

    @classmethod
    def tuner(cls) -> type[OwnTuner]:
        """Return the class that puts the layers on a model."""
        from ._layers.freeze import FreezeTuner

        return FreezeTuner

    def peft_config(self, model: PreTrainedModel) -> FreezeConfig:
        """Return PEFT's config, with the path of every module that holds chosen weights."""
        from ._layers.freeze import FreezeConfig

        return FreezeConfig(
            target_modules=_holders(model, self._parts(anatomy(model))),
            modules_to_save=head_to_save(model) or None,
            task_type=task_type(model),
        )

    def problems(self, model: PreTrainedModel, config: PretrainedConfig) -> list[Problem]:
        """Return a problem for a quantised base, for blocks that do not exist, and for weights shared with frozen
        parts."""
        parts = anatomy(model)
        return [
            *quantization_problems(self.name, quantization_of(config)),
            *(self._block_problems(parts.depth) or self._shared_problems(model, parts)),
            *self._head_problems(parts),
        ]

    def _block_problems(self, count: int) -> list[Problem]:
        wrong = [n for n in self.blocks or [] if not -count <= n < count]
        problems = []
        if wrong:
            got = f"blocks: {', '.join(map(str, wrong))}"
            problems.append(
                Problem("method.blocks names blocks this model does not have", got, f"0 to {count - 1}")
            )
        for name, wanted in (("last_n", self._last_n), ("first_n", self.first_n or 0)):
            if wanted > count:
                what = f"method.{name} is more than the number of blocks"
                problems.append(
                    Problem(what, f"{name}: {wanted}", f"up to {count}", f"method.{name}={count}")
                )
        return problems

    def _head_problems(self, parts: Anatomy) -> list[Problem]:
        if not (self.head and parts.tied and not self.embeddings):
            return []
        what = "this model's head and token embeddings are one matrix, so the head cannot be trained alone"
        return [Problem(what, "head: true, embeddings: false", "both, or neither", "method.embeddings=true")]

    def _shared_problems(self, model: PreTrainedModel, parts: Anatomy) -> list[Problem]:
        """Return a problem if chosen blocks share weights with frozen blocks: merging would change both."""
        chosen = {stack[n] for stack in parts.stacks for n in self._numbers(len(stack))}
        held = {block: {id(p) for p in model.get_submodule(block).parameters()} for block in parts.blocks}
        trained = {weight for block in chosen for weight in held[block]}
        others = [block for block in parts.blocks if block not in chosen and held[block] & trained]
        if not others:
            return []
        what = "the chosen blocks share weights with blocks that would stay frozen"
        numbers = ", ".join(str(parts.block_of(block)) for block in others)
        remedy = f"method.blocks={','.join(map(str, range(parts.depth)))}"
        return [Problem(what, f"blocks {numbers}", "blocks that share no weights, or all of them", remedy)]

    def _numbers(self, count: int) -> set[int]:
        """Return the numbers of the chosen blocks in a stack of `count`."""
        if self.blocks is not None:
            return {n % count for n in self.blocks}
        return {*range(self.first_n or 0), *range(count - self._last_n, count)}

    def _parts(self, parts: Anatomy) -> list[str]:
        """Return the paths of the chosen modules; a head tied to the embeddings is included with them.

        In an encoder-decoder model, blocks are chosen in both stacks.
        """
        chosen = [stack[n] for stack in parts.stacks for n in self._numbers(len(stack))]
        chosen += parts.embeddings if self.embeddings else ()
        chosen += (parts.head,) if parts.head and (self.head or (self.embeddings and parts.tied)) else ()
        chosen += parts.outer_norms if self.norms != "none" else ()
        chosen += parts.block_norms if self.norms == "all" else ()
        return chosen


def _holders(model: PreTrainedModel, parts: list[str]) -> list[str]:
    """Return the outermost modules at or below the given paths that have parameters of their own, in model order."""
    found: list[str] = []
    for path, module in model.named_modules():
        holds = next(module.parameters(recurse=False), None) is not None
        if (
            holds
            and any(is_inside(path, part) for part in parts)
            and not (found and is_inside(path, found[-1]))
        ):
            found.append(path)
    return found
