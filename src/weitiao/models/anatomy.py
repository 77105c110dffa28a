"""Finds the parts of a model: stacks of blocks, projections, experts, norms, embeddings, head.

Parts are recognised by which modules a forward pass over text calls, by structure and by exact path segments, never by
a substring of a name.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..core.errors import ModelError, Problem
from .text_path import TextPath, config_key, text_path

if TYPE_CHECKING:
    from torch import nn
    from transformers import PretrainedConfig, PreTrainedModel

ATTENTION_SEGMENTS = frozenset({"attn", "self_attn", "attention", "self_attention", "linear_attn"})
"""Path segments that architectures use for a block's attention; a module whose class name ends in Attention counts
too."""
READ_WITHOUT_CALL = frozenset({"x_proj", "dt_proj", "out_proj"})
"""Layers of a state-space mixer whose weights its kernels read without calling the layer (transformers'
`MambaMixer.forward`): an adapter on such a layer has no effect and gets no gradient."""


@dataclass(frozen=True)
class Anatomy:
    """The paths of a model's parts, in model order."""

    stacks: tuple[tuple[str, ...], ...]
    """The stacks of blocks, each from first to last: one, or an encoder's and its decoder's."""
    attention: tuple[str, ...]
    """The linear projections of the blocks' attention."""
    mlp: tuple[str, ...]
    """The linear projections of the blocks outside attention."""
    unreachable: tuple[str, ...]
    """The linear layers of the blocks that a forward pass over text does not use, so an adapter on them has no
    effect."""
    routers: tuple[str, ...]
    """The linear layers of the blocks that select or weight experts; no adapter is put on them."""
    special: tuple[str, ...]
    """The linear layers of the blocks with a forward of their own, for example grouped; an adapter's product would not
    match it."""
    experts: tuple[str, ...]
    """The parameters of the blocks that hold one matrix per expert, of shape (experts, rows, columns)."""
    block_norms: tuple[str, ...]
    """The normalisation layers inside blocks."""
    outer_norms: tuple[str, ...]
    """The normalisation layers outside blocks: the final one, and in some models one on the embeddings."""
    embeddings: tuple[str, ...]
    """The embedding tables outside blocks: token embeddings first, then learned position embeddings."""
    head: str | None
    """The output projection onto the vocabulary; None if the model has none."""
    classifier: str | None
    """The head of a model without `head`, such as a classification head; None otherwise."""
    tied: bool
    """Whether the head and the token embeddings share their weights."""

    @property
    def blocks(self) -> tuple[str, ...]:
        """Every block; an encoder's before its decoder's."""
        return tuple(block for stack in self.stacks for block in stack)

    @property
    def depth(self) -> int:
        """The number of blocks in a stack; where there are two stacks, in the shorter one."""
        return min(len(stack) for stack in self.stacks)

    @property
    def off_path(self) -> tuple[str, ...]:
        """The linear layers of the blocks that no adapter is put on."""
        return self.unreachable + self.routers + self.special

    @property
    def projections(self) -> tuple[str, ...]:
        """Every linear projection inside the blocks that an adapter can change."""
        return self.attention + self.mlp

    def block_of(self, path: str) -> int | None:
        """Return the index, within its stack, of the block that contains a module; None if it is outside the blocks."""
        numbered = ((n, block) for stack in self.stacks for n, block in enumerate(stack))
        return next((n for n, block in numbered if is_inside(path, block)), None)


def is_inside(path: str, ancestor: str) -> bool:
    """Return whether a path equals `ancestor` or is below it, by whole segments: `h.1` contains `h.1.attn`, not
    `h.10`."""
    return path == ancestor or path.startswith(f"{ancestor}.")


def anatomy(model: PreTrainedModel) -> Anatomy:
    """Return the paths of a language model's parts; raises ModelError if no stack of blocks is found.

    Works on weightless and on quantised models, but not on a model that a method is already attached to.
    """
    key = _key_of(model)
    if key not in _KNOWN:
        _KNOWN[key] = _found(model)
        if len(_KNOWN) > MOST_KNOWN:
            del _KNOWN[next(iter(_KNOWN))]
    return _KNOWN[key]


_KNOWN: dict[Hashable, Anatomy] = {}
"""Results for the models asked about last: a method asks a dozen times before it is attached."""
MOST_KNOWN = 16


def _key_of(model: PreTrainedModel) -> Hashable:
    """Return what a model's parts follow from: its class and config, and its modules and weights as they are now.

    A weight that is shared has one name only, so tied models differ from others.
    """
    modules = tuple((path, type(module)) for path, module in model.named_modules())
    shapes = tuple((name, tuple(own.shape)) for name, own in model.named_parameters())
    return type(model), config_key(model.config), modules, shapes


def _found(model: PreTrainedModel) -> Anatomy:
    from torch import nn

    stacks, texts, modules = block_stacks(model), text_path(model), dict(model.named_modules())
    linear = linear_classes()
    every = _inside(stacks, (path for path, module in modules.items() if isinstance(module, linear)))
    unreachable = tuple(p for p in every if not texts.passes(p) or _is_read_without_call(modules, p))
    experts = expert_parameters(model, stacks, texts)
    reached = _without(every, unreachable)
    routers = tuple(p for p in reached if not texts.gives_tensor(p) or _is_router(modules, p, experts))
    special = tuple(path for path in _without(reached, routers) if _is_special(modules[path]))
    inner = _without(reached, routers + special)
    attention = tuple(path for path in inner if _is_attention(modules, stacks, path))
    norms = [path for path, module in modules.items() if _is_norm(module)]
    tokens, head = model.get_input_embeddings(), model.get_output_embeddings()
    tables = [path for path, module in modules.items() if isinstance(module, nn.Embedding)]
    outer_tables = [path for path in tables if not _is_in_any(path, stacks)]
    return Anatomy(
        stacks=tuple(
            tuple(f"{stack}.{n}" for n in range(len(model.get_submodule(stack)))) for stack in stacks
        ),
        attention=attention,
        mlp=tuple(_without(inner, attention)),
        unreachable=unreachable,
        routers=routers,
        special=special,
        experts=experts,
        block_norms=tuple(path for path in norms if _is_in_any(path, stacks)),
        outer_norms=tuple(path for path in norms if not _is_in_any(path, stacks)),
        embeddings=tuple(sorted(outer_tables, key=lambda path: modules[path] is not tokens)),
        head=None if head is None else _path_of(model, head),
        classifier=_classifier(model) if head is None else None,
        tied=head is not None and head.weight is tokens.weight,
    )


def task_type(model: PreTrainedModel) -> str | None:
    """Return a model's task by its class, under PEFT's names: CAUSAL_LM, SEQ_2_SEQ_LM, SEQ_CLS, TOKEN_CLS or
    QUESTION_ANS; None for any other task."""
    from transformers.models.auto import modeling_auto as auto

    tables = {
        "SEQ_CLS": auto.MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES,
        "TOKEN_CLS": auto.MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING_NAMES,
        "QUESTION_ANS": auto.MODEL_FOR_QUESTION_ANSWERING_MAPPING_NAMES,
    }
    classes = {kind.__name__ for kind in type(model).__mro__}
    found = next((task for task, table in tables.items() if classes & set(table.values())), None)
    if found or not model.can_generate():
        return found
    return "SEQ_2_SEQ_LM" if model.config.is_encoder_decoder else "CAUSAL_LM"


def head_to_save(model: PreTrainedModel) -> list[str]:
    """Return the name of a classification model's head, which is trained in full beside an adapter, as in PEFT; else
    none."""
    head = anatomy(model).classifier
    return [] if head is None else [head]


def linear_classes() -> tuple[type[nn.Module], ...]:
    """Return the classes of linear layers: nn.Linear, from which bitsandbytes' layers derive, and GPT-2's transposed
    Conv1D."""
    from torch import nn
    from transformers.pytorch_utils import Conv1D

    return nn.Linear, Conv1D


def transposed_paths(model: nn.Module) -> set[str]:
    """Return the paths of the layers that store their weight as in x out (Conv1D)."""
    from transformers.pytorch_utils import Conv1D

    return {path for path, module in model.named_modules() if isinstance(module, Conv1D)}


def block_stacks(model: PreTrainedModel) -> tuple[str, ...]:
    """Return the paths of the stacks of blocks: one, or an encoder's and its decoder's; raises ModelError if there is
    none.

    Also works on a model that a method is attached to.
    """
    texts = text_path(model)
    if not model.config.is_encoder_decoder:
        return (_largest_row(model, "", texts),)
    halves = {half: _path_of(model, half) for half in (model.get_encoder(), model.get_decoder())}
    return tuple(_largest_row(half, path, texts) for half, path in halves.items())


def _largest_row(part: nn.Module, place: str, texts: TextPath) -> str:
    """Return the path of the list of blocks with the most parameters among those that a forward pass over text calls.

    If none is known to be called, every list is a candidate. The blocks need not share one class: some architectures
    alternate attention and state-space blocks.
    """
    from torch import nn

    rows: dict[str, int] = {
        ".".join(filter(None, (place, path))): sum(p.numel() for p in module.parameters())
        for path, module in part.named_modules()
        if isinstance(module, nn.ModuleList) and len(module)
    }
    passed = {path: size for path, size in rows.items() if f"{path}.0" in texts.called} or rows
    if not passed:
        raise ModelError(
            Problem("no list of blocks was found in this model", type(part).__name__, "a list of blocks")
        )
    return max(passed, key=passed.__getitem__)


def expert_parameters(model: nn.Module, stacks: Iterable[str], texts: TextPath) -> tuple[str, ...]:
    """Return the paths of the parameters inside the blocks that hold one matrix per expert.

    Their module holds only parameters with one entry per expert, and no submodule with weights. Convolutions, whose
    weights are also three-dimensional, are excluded by their torch class.
    """
    held = {path: module for path, module in model.named_modules() if texts.passes(path)}
    holders = [path for path in _inside(stacks, held) if _holds_experts(held[path])]
    return tuple(
        f"{path}.{name}"
        for path in holders
        for name, parameter in held[path].named_parameters(recurse=False)
        if parameter.ndim == 3
    )


def _holds_experts(module: nn.Module) -> bool:
    from torch.nn.modules.conv import _ConvNd

    own = [parameter.shape for parameter in module.parameters(recurse=False)]
    stacked = [shape for shape in own if len(shape) == 3]
    if not stacked or len(own) < len(list(module.parameters())) or isinstance(module, _ConvNd):
        return False
    return (
        own[0][0] > 1
        and {shape[0] for shape in own} == {own[0][0]}
        and min(side for shape in stacked for side in shape[1:]) > 1
    )


def _is_norm(module: nn.Module) -> bool:
    """Return whether a module is a normalisation layer with weights; some have none."""
    return type(module).__name__.endswith("Norm") and next(module.parameters(), None) is not None


def _is_special(layer: nn.Module) -> bool:
    """Return whether a model's own subclass of nn.Linear returns another shape than nn.Linear, or fails on device
    `meta`."""
    import torch
    from torch import nn

    kind = type(layer)
    if (
        not isinstance(layer, nn.Linear)
        or kind.forward is nn.Linear.forward
        or ".modeling_" not in kind.__module__
    ):
        return False
    weightless = {name: torch.empty_like(p, device="meta") for name, p in layer.named_parameters()}
    rows_23I = torch.empty(2, 3, layer.in_features, device="meta", dtype=layer.weight.dtype)
    try:
        found = torch.func.functional_call(layer, weightless, (rows_23I,))
    except (RuntimeError, TypeError):
        return True
    return not isinstance(found, torch.Tensor) or found.shape != (2, 3, layer.out_features)


def _is_router(modules: Mapping[str, nn.Module], path: str, experts: Iterable[str]) -> bool:
    """Return whether a linear layer beside experts has one output per expert, or a single one that weights them.

    A layer of a shared expert may happen to be as wide as there are experts; it is no router, since another layer
    beside it takes an input of that width.
    """
    scope = [name for name in experts if is_inside(path, _parent(_parent(name)))]
    if not scope:
        return False
    counts = {1, *(_parameter(modules, name).shape[0] for name in scope)}
    _, outputs = sides(modules[path])
    beside = modules[_parent(path)].children()
    readers = [
        child for child in beside if isinstance(child, linear_classes()) and sides(child)[0] == outputs
    ]
    return outputs in counts and not readers


def sides(layer: nn.Module) -> tuple[int, int]:
    """Return (in, out) of a linear layer; for a packed weight, the sizes before packing."""
    from torch import nn

    if isinstance(layer, nn.Linear):
        return layer.in_features, layer.out_features
    inputs, outputs = layer.get_parameter("weight").shape
    return int(inputs), int(outputs)


def _parent(path: str) -> str:
    return path.rpartition(".")[0]


def _parameter(modules: Mapping[str, nn.Module], path: str) -> nn.Parameter:
    holder, _, name = path.rpartition(".")
    return modules[holder].get_parameter(name)


def _without(paths: Iterable[str], others: Iterable[str]) -> list[str]:
    left_out = set(others)
    return [path for path in paths if path not in left_out]


def _inside(stacks: Iterable[str], paths: Iterable[str]) -> list[str]:
    """Return the paths that are inside one of the stacks of blocks."""
    rows = tuple(stacks)
    return [path for path in paths if _is_in_any(path, rows)]


def _is_in_any(path: str, ancestors: Iterable[str]) -> bool:
    return any(is_inside(path, ancestor) for ancestor in ancestors)


def _is_attention(modules: Mapping[str, nn.Module], stacks: Iterable[str], path: str) -> bool:
    """Return whether a linear layer belongs to its block's attention, recognised by a path segment or a class name.

    The layer's ancestors may be lists (T5), lists of attention modules (LongCat-Flash), or nest attention deeper
    (DBRX).
    """

    stack = next(stack for stack in stacks if is_inside(path, stack))
    number, *segments = path.removeprefix(f"{stack}.").split(".")
    place = f"{stack}.{number}"
    for segment in segments[:-1]:
        place = f"{place}.{segment}"
        if segment in ATTENTION_SEGMENTS or type(modules[place]).__name__.endswith("Attention"):
            return True
    return False


def _is_read_without_call(modules: Mapping[str, nn.Module], path: str) -> bool:
    """Return whether a linear layer of a state-space mixer is one whose weight the kernels read directly."""
    parent, _, name = path.rpartition(".")
    mixer = modules[parent]
    if name not in READ_WITHOUT_CALL or not type(mixer).__name__.endswith("Mixer"):
        return False
    # A_log holds the state matrix of a state-space model.
    return "A_log" in {parameter for parameter, _ in mixer.named_parameters(recurse=False)}


def _classifier(model: PreTrainedModel) -> str | None:
    """Return the path of the only child with parameters besides the model's body; None unless there is exactly one."""
    beside = [
        name
        for name, child in model.named_children()
        if name != model.base_model_prefix and next(child.parameters(), None) is not None
    ]
    return beside[0] if len(beside) == 1 else None


def _path_of(model: nn.Module, wanted: nn.Module) -> str:
    paths: dict[nn.Module, str] = {module: path for path, module in model.named_modules()}
    return paths[wanted]


def checkpoints_activations(model: PreTrainedModel) -> bool:
    """Return whether activation checkpointing is on; the attribute has another name since transformers 5.23."""
    new_name = "is_activation_checkpointing" in dir(type(model))
    return bool(model.is_activation_checkpointing if new_name else model.is_gradient_checkpointing)


CONTEXT_KEYS = (
    "max_position_embeddings", "n_positions", "max_seq_len", "max_seq_length", "max_sequence_length",
    "max_target_positions", "model_max_length", "context_length",
)  # fmt: skip
"""Names that configs use for the number of positions; the attribute_map of some configs translates the first one."""


def base_of(model: nn.Module) -> PreTrainedModel:
    """Return the transformers model inside a method's wrapper."""
    from transformers import PreTrainedModel

    return next(m for m in model.modules() if isinstance(m, PreTrainedModel))


def width_of(model: PreTrainedModel) -> int:
    """Return the hidden size: the width of the activations between blocks."""
    config = model.config.get_text_config()
    named = config.to_dict().get(config.attribute_map.get("hidden_size", "hidden_size"))
    return named if isinstance(named, int) else int(model.get_input_embeddings().weight.shape[1])


def context_tokens(config: PretrainedConfig) -> int | None:
    """Return the maximum number of positions of a model; None if its config names no limit."""
    text = config.get_text_config()
    named = text.to_dict()
    values = [named.get(text.attribute_map.get(key, key)) for key in CONTEXT_KEYS]
    return next((int(value) for value in values if isinstance(value, int) and value > 0), None)
