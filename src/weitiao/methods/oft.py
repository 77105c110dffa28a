"""Trained block-diagonal rotations of each chosen layer's input, which preserve the angles between neurons."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field, model_validator

from ..core.errors import Problem
from ..core.settings import Unfit, left_out
from ._peft.targets import BlockNumbers, ModuleNames, TargetedMethod, TargetModules, shapes

if TYPE_CHECKING:
    from peft import OFTConfig
    from transformers import PretrainedConfig, PreTrainedModel

DEFAULT_BLOCK_SIZE = 32

DRAWING = """\
x  (in)  =  [ x_1 | x_2 | .. | x_n ]   pieces of b inputs
               │     │        │
trained       R_1   R_2  ..  R_n       rotations b x b, each made of
               │     │        │        b (b - 1) / 2 numbers that
               └─────┼────────┘        begin at 0: no rotation
                     │
frozen               W   out x in
                     │
                     y  (out)"""


class Oft(TargetedMethod):
    """OFT's settings, under PEFT's names."""

    title: ClassVar[str] = "OFT"
    paper: ClassVar[str] = "https://arxiv.org/abs/2306.07280"
    formula: ClassVar[str] = "y = W R x, R = diag(R_1, ..., R_n), R_i = (I + Q_i)(I - Q_i)^-1, Q_i = -Q_i^T"
    trains: ClassVar[str] = "b (b - 1) / 2 numbers of each block of b inputs"
    family: ClassVar[str] = "rotations"
    share: ClassVar[str] = "0.051 %"
    inference_cost: ClassVar[str] = "none once merged"
    memory: ClassVar[str] = "medium: a rotated copy of each layer's input"
    drawing: ClassVar[str] = DRAWING
    when: ClassVar[str] = (
        "To keep what the base knows: rotations preserve the norms of the weights and the angles between them."
    )
    on_transposed: ClassVar[bool] = False
    suggested_lr: ClassVar[float] = 6e-4
    peft_type: ClassVar[str] = "OFT"
    known_elsewhere: ClassVar[Mapping[str, str]] = {
        "block_size": "oft_block_size",
        "target": "target_modules",
        "layers": "layers_to_transform",
    }

    r: int | None = left_out("(inputs / oft_block_size)", ge=1)
    """Number of blocks, instead of their size."""
    oft_block_size: int | None = left_out(str(DEFAULT_BLOCK_SIZE), ge=2)
    """Number of inputs rotated together; 32 if neither this nor r is given."""
    module_dropout: float = Field(default=0.0, ge=0, lt=1)
    """Share of the blocks whose rotation is skipped in a training step."""
    coft: bool = False
    """Keep the rotations within eps of the identity (constrained OFT)."""
    eps: float = Field(default=6e-5, gt=0, allow_inf_nan=False)
    """Largest distance of a rotation from the identity if coft is true."""
    block_share: bool = False
    """Use one rotation for all blocks of a layer."""
    use_cayley_neumann: bool = True
    """Approximate the matrix inverse by a series: faster, and nearly orthogonal."""
    num_cayley_neumann_terms: int = Field(default=5, ge=2)
    """Number of terms of that series."""
    target_modules: TargetModules = "auto"
    modules_to_save: ModuleNames = Field(default=[])
    layers_to_transform: BlockNumbers = None

    @model_validator(mode="after")
    def _check_blocks(self) -> Oft:
        if self.r is not None and self.oft_block_size is not None:
            reason = "r and oft_block_size both set how the inputs are cut"
            raise Unfit(reason, "one of them", "leave method.r out")
        if self.block_share and self.module_dropout:
            reason = "module_dropout skips the rotations of single blocks, and with block_share all share one"
            raise Unfit(reason, "one of them", "method.module_dropout=0")
        return self

    @property
    def _block_size(self) -> int:
        return self.oft_block_size or DEFAULT_BLOCK_SIZE

    def shape_problems(self, model: PreTrainedModel, config: PretrainedConfig) -> list[Problem]:
        """Return a problem if the inputs of a layer cannot be cut into equal blocks of two or more."""
        cut, name = (self.r, "r") if self.r else (self._block_size, "oft_block_size")
        sizes = shapes(model, self.paths(model))
        unfit = [f"{p} ({size} inputs)" for p, (size, _) in sizes.items() if size % cut or self.r == size]
        if not unfit:
            return []
        common = math.gcd(*(size for size, _ in sizes.values()))
        fits = [size for size in range(2, min(common, 512) + 1) if common % size == 0]
        what = f"method.{name} must cut the inputs of every chosen layer into equal blocks of two or more"
        expected = f"oft_block_size: one of {', '.join(map(str, fits))}"
        return [Problem(what, f"{name}: {cut}; {', '.join(unfit[:3])}", expected)]

    def peft_config(self, model: PreTrainedModel) -> OFTConfig:
        """Return PEFT's config."""
        from peft import OFTConfig

        return OFTConfig(
            r=self.r or 0,
            oft_block_size=0 if self.r else self._block_size,
            module_dropout=self.module_dropout,
            coft=self.coft,
            eps=self.eps,
            block_share=self.block_share,
            use_cayley_neumann=self.use_cayley_neumann,
            num_cayley_neumann_terms=self.num_cayley_neumann_terms,
            **self.placement(model),
        )
