"""One model: its config, blocks and modules, its template, and the methods that fit it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from rich.text import Text

from ..core.locale import shown
from ..core.settings import parse_settings
from ..core.units import readable_bytes, readable_count, readable_share
from ..core.visible import padded, visible
from ._wrap_text import hanging, right

if TYPE_CHECKING:
    from rich.console import Console

    from ..models.hubs.hub import HubName
    from ..models.known import KnownModel
    from ..recipe.model_facts import MethodFacts, ModelFacts, TemplateFacts

NAME = 18
"""Width of the first column of tables."""
METHOD_COLUMNS = {"trains": 9, "share": 10, "training": 12}
MODULE_COLUMNS = {"in": 8, "out": 8, "count": 7}
"""Right-aligned columns and their widths."""
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
    header = (right(shown(label), columns) for label, columns in METHOD_COLUMNS.items())
    console.print(f"\n{padded(shown('method'), NAME)}{''.join(header)}", style="bold")
    for method in method_facts(settings):  # printed one by one as they are computed
        console.print(_method(method, console.width), soft_wrap=True)
    console.print()
    for line in _explained(facts):
        console.print(_filled(line, console.width), soft_wrap=True)


def _print(console: Console, rows: Iterator[tuple[str, str]]) -> None:
    """Print labels and texts; wrapped texts are indented to the right of the labels."""
    for label, text in rows:
        line = Text(hanging(padded(shown(label), LABEL), shown(text), console.width))
        line.stylize("bold", 0, len(shown(label)))
        console.print(line, soft_wrap=True)


def _filled(text: str, width: int) -> Text:
    return Text(hanging("", shown(text), width))


def _known(model: KnownModel) -> Iterator[tuple[str, str]]:
    """Yield what the table of known models says about a model."""
    from ._models_list import LATER

    terms = ", after you accept its terms there" if model.gated else ""
    yield "id", f"{model.hub} on Hugging Face{terms}"
    if model.modelscope:
        yield "", f"{model.modelscope} on ModelScope (--hub modelscope)"
    if model.licence:
        yield "licence", model.licence
    yield (
        "size",
        f"{readable_count(model.parameters)} parameters, a download of about {readable_bytes(model.download_bytes)}",
    )
    if model.kind in LATER:
        yield "kind", LATER[model.kind]
    for number, trap in enumerate(model.traps):
        yield "note" if number == 0 else "", trap


def _made_of(facts: ModelFacts) -> Iterator[tuple[str, str]]:
    """Yield what the model's config says."""
    yield "class", facts.kind
    yield "parameters", f"{facts.parameters:,} ({readable_count(facts.parameters)})"
    yield "blocks", f"{' and '.join(map(str, facts.blocks))}, hidden size {facts.hidden:,}"
    head = "the head shares the weights" if facts.tied else "the head has its own weights"
    yield "vocabulary", f"{facts.vocabulary:,} tokens; {head}"
    yield "context", f"{facts.context:,} tokens" if facts.context else "no limit in its config"


def _modules(console: Console, facts: ModelFacts) -> None:
    """Print the linear layers of a block, which target_modules can select."""
    header = (right(shown(label), columns) for label, columns in MODULE_COLUMNS.items())
    console.print(
        f"\n{padded('target_modules', NAME)}{''.join(header)}  {shown('inside a block')}", style="bold"
    )
    for module in facts.modules:
        inputs, outputs = module.shape
        part = "" if module.adaptable else f" ({shown(module.part)})"
        line = f"{module.name:<18}{inputs:>8,}{outputs:>8,}{module.count:>7,}  {module.place}{part}"
        console.print(Text(line), soft_wrap=True)
    if facts.experts:
        text = f"{', '.join(facts.experts)}: one matrix for each expert; methods that adapt experts accept these names"
        console.print(_filled(text, console.width), soft_wrap=True)
    names = list(dict.fromkeys(module.name for module in facts.modules if module.adaptable))
    if names:
        text = f"Some of them: method.target_modules={','.join(names[:2])}. All of them: all-linear."
        console.print(_filled(text, console.width), soft_wrap=True)


def _template(console: Console, template: TemplateFacts | str) -> None:
    """Print how the template writes a question and its answer."""
    console.print("\n" + shown("template"), style="bold")
    if isinstance(template, str):
        console.print(Text(f"  {shown(f'none that can be trained with: {template}')}"))
        return
    whose = "the tokenizer's own" if template.kind == "chat" else "weitiao's, because the tokenizer has none"
    rows = [("written by", whose)]
    if template.takes_system:
        own = f'; without one, it writes "{template.system}"' if template.system else ""
        rows.append(("system", f"a message of its own{own}"))
    else:
        rows.append(("system", "not supported by the template: it is written before the first question"))
    stops = " or ".join(template.stops)
    pads = template.pad in template.stops
    rows.append(("ends with", f"{stops} ({shown('also the padding token')})" if pads else stops))
    _print(console, ((label, visible(text)) for label, text in rows))
    for line in visible(template.example).split("\n"):
        console.print(Text(f"  | {line}", style="dim"), soft_wrap=True)


def _memory(console: Console, facts: ModelFacts) -> None:
    """Print the size of the weights in each precision, and the free memory."""
    from ..recipe.model_facts import free_here_bytes

    console.print("\n" + shown("weights in memory"), style="bold")
    free_bytes = free_here_bytes()
    for name, size in facts.bytes_by_precision.items():
        more = "" if size < free_bytes else ", more than the free memory of this machine"
        _print(console, iter([(name, f"{readable_bytes(size)}{more}")]))
    _print(console, iter([("free", readable_bytes(free_bytes))]))


def _method(method: MethodFacts, width: int) -> Text:
    from ..recipe.model_facts import TRAINED_BYTES

    if method.obstacle:
        return Text(hanging(f"{method.name:<{NAME}}", shown(f"does not fit: {method.obstacle}"), width))
    share = readable_share(method.trainable, method.total)
    beside = readable_bytes(TRAINED_BYTES * method.trainable)
    cells = map(right, (readable_count(method.trainable), share, beside), METHOD_COLUMNS.values())
    return Text(f"{method.name:<{NAME}}{''.join(cells)}")


def _explained(facts: ModelFacts) -> Iterator[str]:
    yield (
        "Share: the trained part of all parameters, the method's own included. "
        "In addition to the weights, training needs the memory under `training` (16 bytes per trained parameter: fp32 "
        "value, gradient and AdamW's two moments) and the activations, which are fitted to the free memory. All with "
        "default settings; weitiao methods NAME explains a method."
    )
