"""A folder of files as a table of names: a component is a file, its name is the file's name.

Listing names and their one sentence reads file names and docstrings only, so it imports nothing.
"""

from __future__ import annotations

import ast
import importlib
import inspect
from collections.abc import Mapping
from functools import cache, cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Generic, TypeVar, cast

from .errors import Problem, SettingsError, unknown_name

T = TypeVar("T")


@cache
def component_files(package: str) -> dict[str, Path]:
    """Return the files of a package's components by name, sorted; imports nothing but the packages around it."""
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
        """Name the package, the base class as `module:Class`, and what a person calls such a component.

        `families` holds prefixes and, as `module:function`, who makes the class of a name such as `prefix:member`.
        `known_elsewhere` holds names that people bring along (small letters, digits and +), what is meant by them here,
        and what to type. `command` lists the components, where one does.
        """
        self.package, self.base, self.kind = package, base, kind
        self.families = families or {}
        self.known_elsewhere = known_elsewhere or {}
        self.command = command

    @cached_property
    def _files(self) -> dict[str, Path]:
        return component_files(self.package)

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
        """Return the component that a name means, if case and signs between letters do not count; None where none."""
        prefix, _, member = name.partition(":")
        if member:
            return f"{prefix.lower()}:{member.lower()}" if prefix.lower() in self.families else None
        by_letters = {_letters(known): known for known in self._files}
        return name if name in self._files else by_letters.get(_letters(name))

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
        """Describe a name that no file has: what it is called here, else the nearest spellings."""
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


def _letters(name: str) -> str:
    """Return a name in small letters, without signs but `+`."""
    return "".join(letter for letter in name.lower() if letter.isalnum() or letter == "+")


def _named(place: str) -> Any:  # noqa: ANN401  (a class or a function)
    """Return what `module:name` names."""
    module, _, name = place.partition(":")
    return getattr(importlib.import_module(module), name)
