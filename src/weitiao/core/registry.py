"""Turns a folder of files into a registry: one file per component, whose name is the file's name.

Listing names and summaries reads only file names and docstrings; it imports nothing.
"""

from __future__ import annotations

import ast
import importlib
import inspect
from collections.abc import Mapping
from functools import cache, cached_property, lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Generic, TypeVar, cast

from .errors import Problem, SettingsError, unknown_name

T = TypeVar("T")


@cache
def component_files(package: str) -> dict[str, Path]:
    """Return a package's component files by name, sorted; imports only the parent packages."""
    spec = find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError(package)
    folder = Path(next(iter(spec.submodule_search_locations)))
    return {p.stem: p for p in sorted(folder.glob("*.py")) if not p.stem.startswith("_")}


class Registry(Generic[T]):
    """The components of one package: each module without a leading underscore holds one class derived from `base`."""

    def __init__(
        self,
        package: str,
        base: str,
        kind: str,
        families: Mapping[str, str] | None = None,
        known_elsewhere: Mapping[str, tuple[str, str]] | None = None,
        command: str = "",
    ) -> None:
        """Set the package, the base class as `module:Class`, and what a person calls such a component.

        `families` maps a prefix to a function, as `module:function`, that returns the class for `prefix:member`.
        `known_elsewhere` maps names from other tools (lower case letters, digits and +) to what they mean here and what
        to type. `command` is the command that lists the components, if there is one.
        """
        self.package, self.base, self.kind = package, base, kind
        self.families = families or {}
        self.known_elsewhere = known_elsewhere or {}
        self.command = command

    @cached_property
    def _files(self) -> dict[str, Path]:
        return component_files(self.package)

    @cached_property
    def _by_letters(self) -> dict[str, str]:
        return {_letters(name): name for name in self._files}

    @staticmethod
    def _module_file(module: str) -> Path:
        spec = find_spec(module)
        if spec is None or spec.origin is None:
            raise ModuleNotFoundError(module)
        return Path(spec.origin)

    def names(self) -> list[str]:
        """Return every component's name, sorted; imports nothing."""
        return list(self._files)

    def spelling(self, name: str) -> str | None:
        """Return the component that a name means, ignoring case and punctuation except `+`; None if there is none."""
        prefix, _, member = name.partition(":")
        if member:
            return f"{prefix.lower()}:{member.lower()}" if prefix.lower() in self.families else None
        return name if name in self._files else self._by_letters.get(_letters(name))

    def summary(self, name: str) -> str:
        """Return the first line of a component's docstring; imports nothing."""
        docstring = ast.get_docstring(ast.parse(self.path(name).read_text(encoding="utf-8"))) or ""
        return docstring.partition("\n")[0]

    def path(self, name: str) -> Path:
        """Return a component's file; raises SettingsError with the nearest spelling for an unknown name."""
        found = self.spelling(name)
        if found is None:
            raise SettingsError(self._unknown(name))
        prefix, _, member = found.partition(":")
        return self._module_file(self.families[prefix].partition(":")[0]) if member else self._files[found]

    def _unknown(self, name: str) -> Problem:
        """Describe an unknown name: its meaning here if other tools use it, else the nearest spellings."""
        problem = unknown_name(self.kind, name, self._files, self.command)
        if _letters(name) not in self.known_elsewhere:
            return problem
        meaning, remedy = self.known_elsewhere[_letters(name)]
        return Problem(f"{problem.what}: {meaning}", name, problem.expected, remedy)

    def load(self, name: str) -> type[T]:
        """Import one component's file and return its class; raises SettingsError for an unknown name."""
        self.path(name)
        name = self.spelling(name) or name
        prefix, _, member = name.partition(":")
        if member:
            return cast(type[T], _named(self.families[prefix])(member.lower()))
        module = importlib.import_module(f"{self.package}.{name}")
        base = _named(self.base)
        own = [
            member
            for member in vars(module).values()
            if inspect.isclass(member) and issubclass(member, base) and member.__module__ == module.__name__
        ]
        if len(own) != 1:
            raise TypeError(f"{module.__file__} must define exactly one {base.__name__}, found {len(own)}")
        return cast(type[T], own[0])


@lru_cache(1000)
def _letters(name: str) -> str:
    """Return a name in lower case, without punctuation except `+`."""
    return "".join(letter for letter in name.lower() if letter.isalnum() or letter == "+")


def _named(place: str) -> Any:  # noqa: ANN401  (a class or a function)
    """Import and return the object `module:name`."""
    module, _, name = place.partition(":")
    return getattr(importlib.import_module(module), name)
