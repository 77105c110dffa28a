"""One model: its config, blocks and modules, its template, and the methods that fit it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from rich.text import Text

from ..core.settings import parse_settings
from ..core.units import readable_bytes, readable_count, readable_share
from ..core.visible import visible
from ._wrapping import hanging, wrapped_lines

if TYPE_CHECKING:
    from rich.console import Console

    from ..models.hubs.hub import HubName
    from ..models.known import KnownModel
    from ..recipe.model_facts import MethodFacts, ModelFacts, TemplateFacts

LABEL = 12
"""Width of the labels, including the gap."""


def show_model(name: str, hub: HubName | None, trust_remote_code: bool) -> None:
    """Print what is known about a model; raises ModelError if it is not found or cannot be trained."""
    from ..models.known import known
    from ..models.settings import ModelSettings
    from ._tables import make_console

    console, found = make_console(), known(name)
    typed = {"name": name, "hub": hub, "trust_remote_code": trust_remote_code}
    settings = parse_settings(ModelSettings, typed)
    if found:  # the table of known models needs no hub
        console.print(Text(found.alias, style="bold"), soft_wrap=True)
        _print(console, _known(found))
        if found.kind != "causal":
            return
    from ..recipe.model_facts import method_facts, model_facts

    facts = model_facts(settings)
    if not found:
        console.print(Text(visible(name), style="bold"), soft_wrap=True)
    _print(console, _made_of(facts))
    _modules(console, facts)
    _template(console, facts.template)
    _memory(console, facts)
    console.print(f"\n{'method':<18}{'trains':>9}{'share':>10}{'beside':>12}", style="bold")
    for method in method_facts(settings):  # printed one by one as they are computed
        console.print(_method(method, console.width), soft_wrap=True)
    console.print()
    for line in _explained(facts):
        console.print(_filled(line, console.width), soft_wrap=True)


def _print(console: Console, rows: Iterator[tuple[str, str]]) -> None:
    """Print labels and texts; wrapped texts are indented to the right of the labels."""
    for label, text in rows:
        filled = hanging(text, console.width, " " * LABEL).removeprefix(" " * LABEL)
        console.print(Text.assemble((f"{label:<{LABEL}}", "bold"), filled), soft_wrap=True)


def _filled(text: str, width: int) -> Text:
    return Text("\n".join(wrapped_lines(text, width)))


def _known(model: KnownModel) -> Iterator[tuple[str, str]]:
    """Yield what the table of known models says about a model."""
    from ._models_list import LATER

    terms = ", which asks you to accept its terms first" if model.gated else ""
    yield "id", f"{model.hub} on Hugging Face{terms}"
    if model.modelscope:
        yield "", f"{model.modelscope} on ModelScope (--hub modelscope)"
    if model.licence:
        yield "licence", model.licence
    yield (
        "size",
        f"{readable_count(model.parameters)} parameters, about {readable_bytes(model.download_bytes)} to download",
    )
    if model.kind in LATER:
        yield "kind", LATER[model.kind]
    for number, trap in enumerate(model.traps):
        yield "note" if number == 0 else "", trap


def _made_of(facts: ModelFacts) -> Iterator[tuple[str, str]]:
    """Yield what the model's config says."""
    yield "class", facts.kind
    yield "parameters", f"{facts.parameters:,} ({readable_count(facts.parameters)})"
    yield "blocks", f"{' and '.join(map(str, facts.blocks))} in a row, hidden states of {facts.hidden:,}"
    head = "the head has the same weights" if facts.tied else "the head has weights of its own"
    yield "vocabulary", f"{facts.vocabulary:,} tokens; {head}"
    yield "context", f"{facts.context:,} tokens" if facts.context else "no limit in its config"


def _modules(console: Console, facts: ModelFacts) -> None:
    """Print the linear layers of a block, which target_modules can select."""
    console.print(f"\n{'target_modules':<18}{'in':>8}{'out':>8}{'count':>7}  inside a block", style="bold")
    for module in facts.modules:
        inputs, outputs = module.shape
        part = "" if module.adaptable else f" ({module.part})"
        line = f"{module.name:<18}{inputs:>8,}{outputs:>8,}{module.count:>7,}  {module.place}{part}"
        console.print(Text(line), soft_wrap=True)
    if facts.experts:
        text = f"{', '.join(facts.experts)}: one matrix for each expert; methods that adapt experts can name them"
        console.print(_filled(text, console.width), soft_wrap=True)
    names = list(dict.fromkeys(module.name for module in facts.modules if module.adaptable))
    if names:
        text = f"Some of them: method.target_modules={','.join(names[:2])}. All of them: all-linear."
        console.print(_filled(text, console.width), soft_wrap=True)


def _template(console: Console, template: TemplateFacts | str) -> None:
    """Print how the template writes a question and its answer."""
    console.print("\ntemplate", style="bold")
    if isinstance(template, str):
        console.print(Text(f"  none that can be trained on: {template}"))
        return
    whose = "the tokenizer's own" if template.kind == "chat" else "weitiao's, as the tokenizer has none"
    rows = [("written by", whose)]
    if template.takes_system:
        own = f'; where there is none it writes "{template.system}"' if template.system else ""
        rows.append(("system", f"has a place of its own{own}"))
    else:
        rows.append(("system", "has no place of its own: it goes before the first question"))
    same = " (the same token pads)" if template.pad in template.stops else ""
    rows.append(("ends with", " or ".join(template.stops) + same))
    _print(console, ((label, visible(text)) for label, text in rows))
    for line in visible(template.example).split("\n"):
        console.print(Text(f"  | {line}", style="dim"), soft_wrap=True)


def _memory(console: Console, facts: ModelFacts) -> None:
    """Print the size of the weights in each precision, and the free memory."""
    from ..recipe.model_facts import free_here_bytes

    console.print("\nweights in memory", style="bold")
    free_bytes = free_here_bytes()
    for name, size in facts.bytes_by_precision.items():
        more = "" if size < free_bytes else ", more than is free here"
        _print(console, iter([(name, f"{readable_bytes(size)}{more}")]))
    _print(console, iter([("free here", readable_bytes(free_bytes))]))


def _method(method: MethodFacts, width: int) -> Text:
    from ..recipe.model_facts import TRAINED_BYTES

    if method.obstacle:
        reason = wrapped_lines(f"does not fit: {method.obstacle}", width - 18)
        return Text(f"{method.name:<18}" + f"\n{'':<18}".join(reason))
    share = readable_share(method.trainable, method.total)
    beside = readable_bytes(TRAINED_BYTES * method.trainable)
    return Text(f"{method.name:<18}{readable_count(method.trainable):>9}{share:>10}{beside:>12}")


def _explained(facts: ModelFacts) -> Iterator[str]:
    yield (
        "Share: of all parameters, those that the method adds included. "
        "Beside the weights, training takes what is under `beside` (16 bytes a trained number: fp32, its gradient and "
        "AdamW's moments) and the activations, fitted to the free memory. Default settings; "
        "weitiao methods NAME explains a method."
    )
