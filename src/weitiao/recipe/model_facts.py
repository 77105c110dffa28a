"""What `weitiao models NAME` shows about a model, from its config and tokenizer alone, without reading weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..core.errors import WeitiaoError
from ..data.conversation import Message
from ..data.formats._base import RowError
from ..methods import METHODS
from ..methods._alternatives import require_applicable
from ..methods._base import count_parameters

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel

    from ..data.templates.template import Template
    from ..methods._base import Method
    from ..models.anatomy import Anatomy
    from ..models.settings import ModelSettings

TRAINED_BYTES = 16
"""Bytes for a trained number in fp32, its gradient and AdamW's two moments."""
FOUR_BIT_BYTES = 0.5 + 4 / 64
"""Bytes of a weight in nf4, including its share of the block's fp32 constant (one per 64 weights)."""
ADAPTABLE = ("attention", "mlp")
"""The parts of a block that adapters can adapt."""
SYSTEM, QUESTION, ANSWER = "{system}", "{question}", "{answer}"


@dataclass(frozen=True)
class Module:
    """Linear layers of the same name, which target_modules can select."""

    name: str
    """The last part of their paths."""
    place: str
    """Their path inside a block."""
    shape: tuple[int, int]
    """(in, out)."""
    count: int
    """How many of them the model has."""
    part: str
    """attention, mlp, or the reason why adapters cannot adapt them."""

    @property
    def adaptable(self) -> bool:
        """Whether adapters can adapt them."""
        return self.part in ADAPTABLE


@dataclass(frozen=True)
class TemplateFacts:
    """How a conversation becomes text."""

    kind: str
    """chat (the tokenizer's own) or instruction."""
    example: str
    """A question and its answer as the template writes them."""
    takes_system: bool
    """Whether the template has a place for system messages."""
    system: str
    """The system text it adds if the data has none; empty if it adds nothing."""
    stops: Sequence[str]
    """The tokens that end an answer."""
    pad: str | None
    """The tokenizer's padding token."""


@dataclass(frozen=True)
class MethodFacts:
    """What a method with default settings trains on this model."""

    name: str
    trainable: int
    """Parameters it trains."""
    total: int
    """All parameters, including those the method adds."""
    obstacle: str
    """Why it cannot be used; empty if it can."""


@dataclass(frozen=True)
class ModelFacts:
    """What is known about a model without its weights."""

    kind: str
    """Its class and its model type."""
    parameters: int
    """Number of parameters; tied weights count once."""
    blocks: Sequence[int]
    """Number of blocks in each stack: one stack, or an encoder's and a decoder's."""
    hidden: int
    """The width of the hidden states."""
    vocabulary: int
    """Rows of the token embedding."""
    tied: bool
    """Whether the head shares the token embedding's weights."""
    context: int | None
    """The longest text in tokens; None if the config sets no limit."""
    modules: Sequence[Module]
    experts: Sequence[str]
    """Names of the parameters that hold one matrix per expert."""
    bytes_by_precision: Mapping[str, float]
    """Memory of the weights, by precision."""
    template: TemplateFacts | str
    """How conversations are written, or why they cannot be."""


def model_facts(settings: ModelSettings) -> ModelFacts:
    """Return what is known about a model without its weights; raises ModelError if it cannot be trained."""
    from ..models.anatomy import anatomy, context_tokens
    from ..models.load import load_weightless

    model = load_weightless(settings)
    parts = anatomy(model)
    table = model.get_input_embeddings().weight
    return ModelFacts(
        kind=f"{type(model).__name__}, model_type {model.config.model_type}",
        parameters=count_parameters(model)[1],
        blocks=[len(stack) for stack in parts.stacks],
        hidden=table.shape[1],
        vocabulary=table.shape[0],
        tied=parts.tied,
        context=context_tokens(model.config),
        modules=list(_modules(model, parts)),
        experts=sorted({path.rpartition(".")[2] for path in parts.experts}),
        bytes_by_precision=_bytes(model, parts),
        template=_template(settings),
    )


def free_here_bytes() -> int:
    """Return the free memory where a model would be trained: on the GPU, else in main memory."""
    import torch

    from ..engine.memory.free_bytes import free_memory_bytes

    return free_memory_bytes(torch.device("cuda" if torch.cuda.is_available() else "cpu"))


def method_facts(settings: ModelSettings) -> Iterator[MethodFacts]:
    """Yield what each method trains on a model, with its example settings; raises ModelError."""
    from ..models.load import load_config, weightless

    config = load_config(settings)
    shown = weightless(config, settings.trust_remote_code)
    for name in METHODS.names():
        cls = METHODS.load(name)
        yield _method(name, cls(**cls.example), shown, config, settings.trust_remote_code)


def _method(
    name: str, method: Method, shown: PreTrainedModel, config: PretrainedConfig, trust: bool
) -> MethodFacts:
    from ..models.load import weightless

    try:
        require_applicable(method, shown, config)
        planned = method.plan(weightless(config, trust))  # planning changes the model
    except WeitiaoError as error:
        return MethodFacts(name, 0, 0, error.problems[0].what if error.problems else str(error))
    return MethodFacts(name, *count_parameters(planned.model), "")


def _modules(model: PreTrainedModel, parts: Anatomy) -> Iterator[Module]:
    """Yield the linear layers of the blocks, grouped by place and shape."""
    from ..models.anatomy import sides

    groups = {
        "attention": parts.attention,
        "mlp": parts.mlp,
        "out of an adapter's reach": parts.unreachable,
        "chooses experts, no adapter": parts.routers,
        "computes in its own way, no adapter": parts.special,
    }
    counts: dict[tuple[str, tuple[int, int], str], int] = {}
    for part, paths in groups.items():
        for path in paths:
            key = (_place(path, parts), sides(model.get_submodule(path)), part)
            counts[key] = counts.get(key, 0) + 1
    for (place, shape, part), count in counts.items():
        yield Module(place.rpartition(".")[2], place, shape, count, part)


def _place(path: str, parts: Anatomy) -> str:
    """Return a module's path inside its block."""
    block = max((block for block in parts.blocks if path.startswith(f"{block}.")), key=len)
    return path.removeprefix(f"{block}.")


def _bytes(model: PreTrainedModel, parts: Anatomy) -> dict[str, float]:
    """Return the memory of a model's weights in each precision; in nf4 only the blocks' linear layers are packed."""
    everything = count_parameters(model)[1]
    packed = sum(model.get_submodule(path).weight.numel() for path in parts.projections)
    return {
        "fp32": 4 * everything,
        "bf16": 2 * everything,
        "nf4": FOUR_BIT_BYTES * packed + 2 * (everything - packed),
    }


def _template(settings: ModelSettings) -> TemplateFacts | str:
    from ..data.templates.template import choose_template
    from ..models.load import load_generation_config, load_tokenizer

    try:
        tokenizer = load_tokenizer(settings)
        template = choose_template(tokenizer, "auto", load_generation_config(settings))
    except WeitiaoError as error:
        return error.problems[0].what
    question = [Message("user", QUESTION)]
    return TemplateFacts(
        kind=template.kind,
        example=template.prompt(question).text
        + template.answers([*question, Message("assistant", ANSWER)])[-1],
        takes_system=template.takes_system,
        system=_system(template) if template.takes_system else "",
        stops=[str(token) for token in tokenizer.convert_ids_to_tokens(sorted(template.stop_ids)) if token],
        pad=tokenizer.pad_token,
    )


def _system(template: Template) -> str:
    """Return the default system text of a template, which it writes where no system message is given."""
    question = Message("user", QUESTION)
    try:
        given = template.prompt([Message("system", SYSTEM), question]).text
        own = template.prompt([question]).text
    except RowError:
        return ""
    before, _, after = given.partition(SYSTEM)
    inside = own.startswith(before) and own.endswith(after) and len(own) > len(before) + len(after)
    return own[len(before) : len(own) - len(after)] if inside else ""
