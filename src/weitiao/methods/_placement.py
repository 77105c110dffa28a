"""Names the modules that a method's trained parameters belong to."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from ..core.said import Said

PREFIX = "base_model.model."
"""What PEFT prepends to the paths of the model it wraps."""
MOST_NAMES = 8
"""How many names are written out; the rest are counted."""


def trained_modules(trained: Iterable[str], modules: Collection[str]) -> Said | None:
    """Return the last names of the modules that trained parameters belong to; None if they belong to none.

    `trained` are the parameters' names on the model with the method, `modules` the paths of the base's modules.
    """
    known = set(modules) - {""}
    paths = dict.fromkeys(filter(None, (_module_of(name.removeprefix(PREFIX), known) for name in trained)))
    names = list(dict.fromkeys(path.rpartition(".")[2] for path in paths if not _is_number(path)))
    if not names:
        return None
    shown, more = ", ".join(names[:MOST_NAMES]), len(names) - MOST_NAMES
    if more > 0:
        shown += f", +{more}"
    plural = "s" if len(paths) > 1 else ""
    return Said(f"{shown} ({len(paths):,} module{plural})", f"{shown}（{len(paths):,} 个模块）")


def _module_of(parameter: str, modules: Collection[str]) -> str:
    """Return the path of the innermost module of the base that a parameter belongs to; empty if there is none."""
    path = parameter.rpartition(".")[0]
    while path and path not in modules:
        path = path.rpartition(".")[0]
    return path


def _is_number(path: str) -> bool:
    return path.rpartition(".")[2].isdigit()
