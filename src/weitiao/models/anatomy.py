"""Where the parts of a model are, by structure and exact path segment, never by a substring of a name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..core.errors import ModelError, Problem

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedModel

ATTENTION_SEGMENTS = frozenset({"attn", "self_attn", "attention", "self_attention", "linear_attn"})
"""What architectures call the attention of a block; a child whose class name ends in Attention counts as
well."""


@dataclass(frozen=True)
class Anatomy:
    """The paths of a decoder's parts, in the model's order."""

    blocks: tuple[str, ...]
    """The decoder blocks, first to last."""
    attention: tuple[str, ...]
    """The linear projections of the blocks' attention."""
    mlp: tuple[str, ...]
    """The linear projections of the blocks outside attention."""
    block_norms: tuple[str, ...]
    """The normalisation layers inside blocks."""
    outer_norms: tuple[str, ...]
    """The normalisation layers outside blocks: the last one, and for some models one on the embeddings."""
    embeddings: tuple[str, ...]
    """The embeddings outside blocks: tokens first, then positions where they are learnt."""
    head: str
    """The output projection."""
    tied: bool
    """Whether the head's weights are the token embeddings'."""

    @property
    def projections(self) -> tuple[str, ...]:
        """Every linear projection inside the blocks."""
        return self.attention + self.mlp

    def block_of(self, path: str) -> int | None:
        """Return the index of the block a module lies in, None where it lies outside."""
        return next((n for n, block in enumerate(self.blocks) if is_inside(path, block)), None)


def is_inside(path: str, ancestor: str) -> bool:
    """Whether a module's path is another's or lies under it, by whole segments: `h.1` holds `h.1.attn`, not
    `h.10`."""
    return path == ancestor or path.startswith(f"{ancestor}.")


def anatomy(model: PreTrainedModel) -> Anatomy:
    """Return where the parts of a causal language model are; raises ModelError where no row of equal blocks
    is found.

    Works on weightless and on quantised models; a model that a method is attached to already is not one of
    them.
    """
    from torch import nn

    stack = _block_stack(model)
    blocks = tuple(f"{stack}.{n}" for n in range(len(model.get_submodule(stack))))
    linears = [path for path, module in model.named_modules() if isinstance(module, linear_classes())]
    inner = [path for path in linears if is_inside(path, stack)]
    attention = tuple(path for path in inner if _is_attention(model, stack, path))
    norms = [path for path, module in model.named_modules() if type(module).__name__.endswith("Norm")]
    tokens, head = model.get_input_embeddings(), model.get_output_embeddings()
    tables = [path for path, module in model.named_modules() if isinstance(module, nn.Embedding)]
    outer_tables = [path for path in tables if not is_inside(path, stack)]
    return Anatomy(
        blocks=blocks,
        attention=attention,
        mlp=tuple(path for path in inner if path not in set(attention)),
        block_norms=tuple(path for path in norms if is_inside(path, stack)),
        outer_norms=tuple(path for path in norms if not is_inside(path, stack)),
        embeddings=tuple(sorted(outer_tables, key=lambda path: model.get_submodule(path) is not tokens)),
        head=_path_of(model, head),
        tied=head.weight is tokens.weight,
    )


def linear_classes() -> tuple[type[nn.Module], ...]:
    """Return the classes of linear layers; bitsandbytes' are kinds of nn.Linear, GPT-2's Conv1D is one
    transposed."""
    from torch import nn
    from transformers.pytorch_utils import Conv1D

    return nn.Linear, Conv1D


def transposed_paths(model: nn.Module) -> set[str]:
    """Return the paths of the layers that hold their weight as in x out (Conv1D)."""
    from transformers.pytorch_utils import Conv1D

    return {path for path, module in model.named_modules() if isinstance(module, Conv1D)}


def _block_stack(model: nn.Module) -> str:
    """Return the path of the decoder blocks: the row of modules of one class that holds the most
    parameters."""
    from torch import nn

    rows: dict[str, int] = {
        path: sum(p.numel() for p in module.parameters())
        for path, module in model.named_modules()
        if isinstance(module, nn.ModuleList) and len({type(child) for child in module}) == 1
    }
    if not rows:
        raise ModelError(
            Problem(
                "no decoder blocks were found in this model",
                type(model).__name__,
                "a list of blocks of one class",
            )
        )
    return max(rows, key=rows.__getitem__)


def _is_attention(model: nn.Module, stack: str, path: str) -> bool:
    """Whether a linear layer sits in the attention of its block: judged by the block's own child it sits
    in."""
    number, child, *_ = path.removeprefix(f"{stack}.").split(".")
    kind = type(model.get_submodule(f"{stack}.{number}.{child}")).__name__
    return child in ATTENTION_SEGMENTS or kind.endswith("Attention")


def _path_of(model: nn.Module, wanted: nn.Module) -> str:
    paths: dict[nn.Module, str] = {module: path for path, module in model.named_modules()}
    return paths[wanted]
