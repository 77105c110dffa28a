"""Turns settings into options: name, type and description come from the field."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import click

from ..core.settings import Settings
from ..models.hubs.hub import NAMES

BASE_HELP = "The base model of an adapter, if it is not recorded there: a folder, a .gguf file or a hub id."
FORCE_HELP = "Continue although the base is not the one that was trained on."

F = TypeVar("F", bound=Callable[..., Any])

hub_option = click.option(
    "--hub",
    type=click.Choice(NAMES, case_sensitive=False),
    help="The hub that ids and aliases are downloaded from.  [WEITIAO_HUB, else huggingface]",
)
"""For commands that load a model."""


def options_of(cls: type[Settings]) -> Callable[[F], F]:
    """Add one option per field to a command, None unless typed; the settings class validates the values."""

    def decorate(command: F) -> F:
        for name in reversed(cls.model_fields):
            click.option(*_spelling(name), help=help_of(cls, name), **_kind(cls, name))(command)
        return command

    return decorate


def given(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options that were typed."""
    return {name: value for name, value in options.items() if value is not None and value != ()}


def help_of(cls: type[Settings], name: str) -> str:
    """Return a field's description, followed by its default if that is a number or a text."""
    field = cls.model_fields[name]
    description = (field.description or "").replace("\n", " ")
    default = field.get_default(call_default_factory=True)
    return f"{description}  [{default}]" if isinstance(default, int | float | str) else description


def _spelling(name: str) -> tuple[str, str]:
    return f"--{name.replace('_', '-')}", name


def _kind(cls: type[Settings], name: str) -> dict[str, Any]:
    """Return click's arguments for a field: text by default, else a number or a repeatable text."""
    annotation = cls.model_fields[name].annotation
    if annotation in (int, float):
        return {"type": annotation, "default": None}
    return {"multiple": annotation == list[str], "default": None}
