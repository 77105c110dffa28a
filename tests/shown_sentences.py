"""Every sentence of the code that a person can be shown, found in its syntax trees and its settings."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from inspect import cleandoc

import click

from source_code import PACKAGE, Source, sources
from weitiao.cli._commands import FILES, commands
from weitiao.cli._help import parts_of_help
from weitiao.cli._models_list import notes
from weitiao.cli._tables import setting_rows
from weitiao.core.locale.catalogue import TWO_WORDS, skeleton
from weitiao.core.settings import Settings
from weitiao.data.checks import CHECKS
from weitiao.data.checks.answers import MODEL, NO_HELP, UNABLE
from weitiao.data.checks.languages import COMMON_WORDS
from weitiao.data.checks.system_prompt import MADE
from weitiao.data.checks.tokenizer_language import ENGLISH
from weitiao.data.formats import FORMATS
from weitiao.data.report.html import MARKER
from weitiao.data.settings import SourceSettings
from weitiao.data.sources.readers import READERS
from weitiao.methods import METHODS
from weitiao.models.known import known_models
from weitiao.objectives import OBJECTIVES
from weitiao.recipe.recipe import Recipe

COMMAND = re.compile(r"""(weitiao|pip|python|git|eval|/\w+) |_WEITIAO|(-}})?{["%#]|{{-""")
"""What a command, a row in JSON or a piece of Jinja begins with, which are written alike in every language."""
STYLE = re.compile(r"((not|bold|dim|underline|strike|red|green|yellow|cyan|magenta|\{\})( |$))+")
"""How text looks on a terminal, in rich's words."""

NOT_SHOWN: dict[str, str] = {}
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
    "epochs count from 0, got {}": "a fault of the code's own",
    "the data was checked without a tokenizer": "a fault of the code's own",
    "{} ids but {} weights": "a fault of the code's own",
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
        (skeleton(part).strip("[] \n"), f"{source.module}:{line}")
        for line, text in texts_in(source.tree)
        for part in parts_of_help(text)
    )
    return {text: place for text, place in found if is_sentence(text)}


def is_sentence(text: str) -> bool:
    """Return whether a string is one a person is shown and reads as words, neither a name nor a command."""
    other = COMMAND.match(text) or STYLE.fullmatch(text) or text in NOT_SHOWN_TEXTS
    return bool(TWO_WORDS.search(text)) and not other


def described() -> Iterator[tuple[str, str]]:
    """Yield the descriptions of settings, components and commands, and the notes on models, each with its place."""
    for block, cls in classes_of_settings().items():
        for name, field in cls.model_fields.items():
            for key, default, description in setting_rows(name, field):
                yield description, f"{block}: {key}"
                if default.startswith("("):
                    yield default, f"{block}: {key}"
    for registry in (METHODS, OBJECTIVES, FORMATS, READERS, CHECKS, FILES):
        yield from ((registry.summary(name), f"{registry.kind} {name}") for name in registry.names())
    for model in known_models().values():
        yield from ((note, f"model {model.alias}") for note in notes(model))
    yield from helps()


def classes_of_settings() -> dict[str, type[Settings]]:
    """Return every class of settings by what it sets."""
    found: dict[str, type[Settings]] = {"run file": Recipe, "data.sources": SourceSettings}
    for name, field in Recipe.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, Settings):
            found[name] = field.annotation
    found |= {f"method {name}": METHODS.load(name) for name in METHODS.names()}
    return found | {f"objective {name}": OBJECTIVES.load(name) for name in OBJECTIVES.names()}


def helps() -> Iterator[tuple[str, str]]:
    """Yield what `--help` says of every command and option, with its place."""
    context = click.Context(commands)
    found = {name: commands.get_command(context, name) for name in commands.list_commands(context)}
    groups = {name: command for name, command in found.items() if isinstance(command, click.Group)}
    for name, group in groups.items():
        found |= {f"{name} {inner}": command for inner, command in group.commands.items()}
    for name, command in {"": commands, **found}.items():
        assert command is not None
        texts = (command.help, command.epilog, command.short_help)
        yield from ((cleandoc(text), f"weitiao {name}") for text in texts if text)
        for option in command.params:
            if isinstance(option, click.Option) and option.help:
                parts = (part.strip("[]") for part in parts_of_help(option.help) if is_sentence(part))
                yield from ((part, f"weitiao {name} {option.opts[0]}") for part in parts)


@cache
def all_sentences() -> dict[str, dict[str, str]]:
    """Return the sentences of each room, those that are found by import in the room `described`."""
    rooms = {"described": {skeleton(text): place for text, place in described() if text}}
    for source in sources():
        rooms.setdefault(source.room or "package", {}).update(sentences(source))
    return rooms


def every_text() -> set[str]:
    """Return every string of the code, short ones and those of its data files included, as `skeleton` gives them."""
    texts = (text for source in sources() for _, text in texts_in(source.tree))
    found = {skeleton(part).strip("[] \n") for text in texts for part in (text, *parts_of_help(text))}
    for path in PACKAGE.rglob("*.j2"):
        found |= set(re.findall(r"""t\(["'](.+?)["']""", path.read_text(encoding="utf-8")))
    return found | set(all_sentences()["described"])
