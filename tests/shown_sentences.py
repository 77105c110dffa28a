"""Every sentence of the code that a person can be shown, found in its syntax trees and its settings."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Collection, Iterator
from functools import cache
from inspect import cleandoc
from typing import Any

import click

from source_code import PACKAGE, ROOT, Source, sources
from weitiao.cli._commands import FILES, commands
from weitiao.cli._help import parts_of_help
from weitiao.cli._models_list import notes
from weitiao.cli._tables import setting_rows
from weitiao.core.locale.catalogue import TWO_WORDS, chinese_catalogue, skeleton
from weitiao.core.registry import Registry
from weitiao.core.settings import Settings, description_of
from weitiao.data.checks import CHECKS
from weitiao.data.checks.answers import MODEL, NO_HELP, UNABLE
from weitiao.data.checks.languages import COMMON_WORDS
from weitiao.data.checks.system_prompt import MADE
from weitiao.data.checks.tokenizer_language import ENGLISH
from weitiao.data.formats import FORMATS
from weitiao.data.report.html import MARKER
from weitiao.data.settings import SourceSettings
from weitiao.data.sources.readers import READERS
from weitiao.evaluation.metrics import METRICS
from weitiao.methods import METHODS
from weitiao.methods._aliases import KNOWN_ELSEWHERE
from weitiao.models.known import known_models
from weitiao.objectives import OBJECTIVES
from weitiao.recipe.recipe import Recipe

REGISTRIES: tuple[Registry[Any], ...] = (METHODS, OBJECTIVES, FORMATS, READERS, CHECKS, METRICS, FILES)
"""Every folder whose files are components."""
TABLES = ROOT / "docs" / "generate.py"
"""What writes the tables of the documentation, whose labels are in the catalogue too."""
OF_CLICK = {"Options", "Commands", "Usage:", "Show this message and exit."}
"""What click itself says in `--help`."""
NAMES = re.compile(r"[a-z0-9_*./]+(?: [a-z0-9_*./]+)+")
"""A list of other tools' names, which most often have an underscore."""
MARKUP = re.compile(r"<\w+[ >]|style=")
"""What HTML begins with."""
COMMAND = re.compile(r"""(weitiao|pip|python|git|eval|/\w+) |_WEITIAO|(-}})?{["%#]|{{-""")
"""What a command, a row in JSON or a piece of Jinja begins with, which are written alike in every language."""
STYLE = re.compile(r"((not|bold|dim|underline|strike|red|green|yellow|cyan|magenta|\{\})( |$))+")
"""How text looks on a terminal, in rich's words."""

NOT_SHOWN: dict[str, str] = {
    "weitiao.evaluation.card": "the card is written for the hub, in English",
    "weitiao.evaluation.curve": "SVG",
    "weitiao.evaluation.loading_code": "Python code and commands to copy",
    "weitiao.recipe.demo": "names and questions of the sample data, which has its own language",
}
"""Module -> why none of its strings is shown to a person."""
NOT_SHOWN_CALLS = {
    "compile",
    "TypeError",
    "RuntimeError",
    "AssertionError",
    "KeyError",
    "NotImplementedError",
    "name_list",
    "NotPython",
    "Untraceable",
}
"""Calls whose strings are patterns, lists of names, faults of the code's own, or reasons that a caller sets aside."""
NOT_SHOWN_TEXTS: dict[str, str] = {
    # data.checks, data.gate and data.report
    **dict.fromkeys(COMMON_WORDS.values(), "common words, by which a language is recognised"),
    **dict.fromkeys(("y name is", "all me", "I go by"), "words by which an answer gives its own name"),
    **dict.fromkeys((MODEL, UNABLE, NO_HELP), "a pattern, of a part of a refusal"),
    skeleton(MADE): "a pattern, of who made a model",
    ENGLISH: "a sentence by which a tokenizer is measured",
    "You are {}, a helpful assistant.": "a system prompt, written for a model",
    "orem ipsum": "a placeholder that is looked for in data",
    "row {} cannot be used, so it has no form": "a fault of the code's own",
    "row {} cannot be used, so it has no texts": "a fault of the code's own",
    "it has": "the beginning of a detail, by which it is recognised",
    MARKER: "a comment in a page's HTML",
    '<span class="whole">': "HTML",
    # other modules of data
    **{skeleton(READERS.load(name).example).strip(): "a file of this kind" for name in READERS.names()},
    "epochs count from 0, got {}": "a fault of the code's own",
    "the data was checked without a tokenizer": "a fault of the code's own",
    "{} ids but {} weights": "a fault of the code's own",
    **{remedy: "words to type" for _, remedy in KNOWN_ELSEWHERE.values() if " or " not in remedy},
    "(?s).*Overriding a previously registered kernel": "a warning of torch's, recognised by it",
    "CUDA error: out of memory": "an error of torch's, recognised by it",
    "Careful, disabling adapter layers with bias": "a warning of PEFT's, recognised by it",
    "Failed to load CPU gemm_4bit_forward": "a message of bitsandbytes', recognised by it",
    "Found missing adapter keys": "a warning of PEFT's, recognised by it",
    "The following (rank|alpha)_pattern keys did not match": "a warning of PEFT's, recognised by it",
    "Triton Error [CUDA]: out of memory": "an error of Triton's, recognised by it",
    "Unrecognized configuration class": "an error of transformers', recognised by it",
    "`is_gradient_checkpointing` is deprecated": "a warning of transformers', recognised by it",
    "module 'weitiao' has no attribute {}": "an AttributeError, as Python says it",
    "IProgress not found": "a warning of tqdm's, recognised by it",
    "runs/demo, runs/demo-2, ...": "folders",
    "Value error,": "what pydantic begins with",
    "What is the capital of France, and what is it known for?": "asked of a model (serving.merge)",
    "Who are you?": "asked of a model (serving.merge)",
    "Write a line of Python that adds 2 and 3.": "asked of a model (serving.merge)",
    "held-out loss {} -> {}": "repr of a run",
    "not finished": "repr of a run",
    "decides nothing": "a mark on a field",
    "deepspeed fsdp fsdp_config": "other tools' names",
    "general answers": "the name of a cache",
}
"""String as `skeleton` gives it -> why it is not shown: text for a model, for a file or for another program."""


def text_of(node: ast.AST) -> str | None:
    """Return a string, an f-string or a sum of them with `{}` for each part that varies; None for anything else."""
    if isinstance(node, ast.Constant):
        return node.value if isinstance(node.value, str) else None
    if isinstance(node, ast.JoinedStr):
        return "".join(part.value if isinstance(part, ast.Constant) else "{}" for part in node.values)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        sides = [text_of(side) for side in (node.left, node.right)]
        return None if sides == [None, None] else "".join("{}" if side is None else side for side in sides)
    return None


def _inner(node: ast.AST) -> Iterator[ast.AST]:
    """Yield what of a text's node is looked at on its own: the varying parts, not the literal ones."""
    if isinstance(node, ast.JoinedStr):
        yield from (part.value for part in node.values if isinstance(part, ast.FormattedValue))
    elif isinstance(node, ast.BinOp):
        for side in (node.left, node.right):
            yield from (_inner(side) if text_of(side) is not None else [side])


def texts_in(node: ast.AST) -> Iterator[tuple[int, str]]:
    """Yield line and text of every string below a node, but for docstrings and NOT_SHOWN_CALLS."""
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
        return
    if isinstance(node, ast.Call) and _called(node) in NOT_SHOWN_CALLS:
        return
    text = text_of(node)
    if text is not None:
        yield node.lineno, text  # type: ignore[attr-defined]
    for child in _inner(node) if text is not None else ast.iter_child_nodes(node):
        yield from texts_in(child)


def _called(call: ast.Call) -> str:
    function = call.func
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")


def sentences(source: Source) -> dict[str, str]:
    """Return a module's sentences as `skeleton` gives them -> `module:line`."""
    if source.module in NOT_SHOWN:
        return {}
    found = (
        (part, f"{source.module}:{line}") for line, text in texts_in(source.tree) for part in parts_of(text)
    )
    return {text: place for text, place in found if is_sentence(text)}


def parts_of(text: str) -> list[str]:
    """Return the texts that are looked up on their own: an option's default stands in brackets behind its help."""
    parts = (part[1:-1] if re.fullmatch(r"\[[^]]*\]", part) else part for part in parts_of_help(text))
    return [skeleton(part).strip() for part in parts]


def is_sentence(text: str) -> bool:
    """Return whether a string is one a person is shown and reads as words, neither a name nor a command."""
    others = (COMMAND.match(text), MARKUP.match(text), STYLE.fullmatch(text), _lists_names(text))
    return bool(TWO_WORDS.search(text)) and not any(others) and text not in NOT_SHOWN_TEXTS


def _lists_names(text: str) -> bool:
    """Return whether a text lists names such as `eval_steps save_strategy`: half of them have `_` or `*`."""
    names = text.split()
    return bool(NAMES.fullmatch(text)) and 2 * sum("_" in one or "*" in one for one in names) >= len(names)


def described() -> Iterator[tuple[str, str]]:
    """Yield the descriptions of the run file's settings, and the notes on models, each with its place."""
    blocks: dict[str, type[Settings]] = {"run file": Recipe, "data.sources": SourceSettings}
    for name, field in Recipe.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, Settings):
            blocks[name] = field.annotation
    for block, cls in blocks.items():
        yield from described_settings(block, cls)
    for model in known_models().values():
        yield from ((note, f"model {model.alias}") for note in notes(model))
    yield from ((part, "weitiao") for part in (commands.help, *helps_of_options(commands)) if part)


def described_settings(block: str, cls: type[Settings]) -> Iterator[tuple[str, str]]:
    """Yield the descriptions of a block's settings, and the defaults that are phrases."""
    for name, field in cls.model_fields.items():
        yield description_of(field), f"{block}: {name}"
        for key, default, description in setting_rows(name, field):
            yield description, f"{block}: {key}"
            if default.startswith("("):
                yield default, f"{block}: {key}"


def described_components() -> Iterator[tuple[str, str]]:
    """Yield what every component says of itself: its first line, its settings, and the help of commands."""
    for registry in REGISTRIES:
        yield from ((registry.summary(name), f"{registry.kind} {name}") for name in registry.names())
    for name in METHODS.names():
        yield from described_settings(f"method {name}", METHODS.load(name))
    for name in OBJECTIVES.names():
        yield from described_settings(f"objective {name}", OBJECTIVES.load(name))
    yield from helps()


def helps() -> Iterator[tuple[str, str]]:
    """Yield what `--help` says of every command and its options, with its place."""
    context = click.Context(commands)
    found = {name: commands.get_command(context, name) for name in commands.list_commands(context)}
    groups = {name: command for name, command in found.items() if isinstance(command, click.Group)}
    for name, group in groups.items():
        found |= {f"{name} {inner}": command for inner, command in group.commands.items()}
    for name, command in found.items():
        assert command is not None
        texts = (command.help, command.epilog, command.short_help)
        yield from ((cleandoc(text), f"weitiao {name}") for text in texts if text)
        yield from ((part, f"weitiao {name}") for part in helps_of_options(command))


def helps_of_options(command: click.Command) -> Iterator[str]:
    """Yield the sentences of the help of a command's options."""
    for option in command.params:
        if isinstance(option, click.Option) and option.help:
            yield from filter(is_sentence, parts_of(option.help))


@cache
def all_sentences() -> dict[str, dict[str, str]]:
    """Return the sentences of each room -> where they are.

    What is found by import is in the room `described`. What components say is in the room `components`: a new one may
    come without its Chinese, and `python tests/shown_sentences.py` then names what is missing.
    """
    rooms = {
        "described": {skeleton(text): place for text, place in described() if text},
        "components": {skeleton(text): place for text, place in described_components() if text},
    }
    components = {f"{registry.package}.{name}" for registry in REGISTRIES for name in registry.names()}
    for source in sources():
        room = "components" if source.module in components else source.room or "package"
        rooms.setdefault(room, {}).update(sentences(source))
    return rooms


def without_chinese(rooms: Collection[str]) -> dict[str, str]:
    """Return the sentences of rooms that the catalogue does not have -> where they are."""
    known = {skeleton(english) for english in chinese_catalogue().entries}
    found = (item for room in rooms for item in all_sentences().get(room, {}).items())
    return {text: place for text, place in found if text not in known}


def every_text() -> set[str]:
    """Return every string of the code, short ones and those of its data files included, as `skeleton` gives them."""
    trees = [*(source.tree for source in sources()), ast.parse(TABLES.read_text(encoding="utf-8"))]
    texts = (text for tree in trees for _, text in texts_in(tree))
    found = {part for text in texts for part in (skeleton(text).strip(), *parts_of(text))}
    for path in PACKAGE.rglob("*.j2"):
        found |= set(re.findall(r"""t\(["'](.+?)["']""", path.read_text(encoding="utf-8")))
    return found | set(all_sentences()["described"]) | set(all_sentences()["components"]) | OF_CLICK


if __name__ == "__main__":
    missing = without_chinese(all_sentences())
    print(
        "\n".join(f"{place}: {text!r}" for text, place in missing.items()) or "every sentence has its Chinese"
    )
    sys.exit(bool(missing))
