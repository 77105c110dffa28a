"""Names the modules that a method's trained parameters belong to."""

from __future__ import annotations

from collections.abc import Collection, Iterable

PREFIX = "base_model.model."
"""What PEFT prepends to the paths of the model it wraps."""
MOST_NAMES = 8
"""How many names are written out; the rest are counted."""


def trained_modules(trained: Iterable[str], modules: Collection[str]) -> tuple[str, int] | None:
    """Return the last names of the modules that trained parameters belong to, and how many modules these are; None if
    the parameters belong to none.

    `trained` are the parameters' names on the model with the method, `modules` the paths of the base's modules.
    """
    known = set(modules) - {""}
    paths = dict.fromkeys(filter(None, (_module_of(name.removeprefix(PREFIX), known) for name in trained)))
    names = list(dict.fromkeys(path.rpartition(".")[2] for path in paths if not _is_number(path)))
    if not names:
        return None
    more = len(names) - MOST_NAMES
    return ", ".join([*names[:MOST_NAMES], *([f"+{more}"] if more > 0 else [])]), len(paths)


def _module_of(parameter: str, modules: Collection[str]) -> str:
    """Return the path of the innermost module of the base that a parameter belongs to; empty if there is none."""
    path = parameter.rpartition(".")[0]
    while path and path not in modules:
        path = path.rpartition(".")[0]
    return path


def _is_number(path: str) -> bool:
    return path.rpartition(".")[2].isdigit()
