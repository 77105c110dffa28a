"""A folder of files as a table of names: a component is a file, its name is the file's name.

Listing names and their one sentence reads file names and docstrings only, so it imports nothing.
"""

from __future__ import annotations

import ast
import importlib
import inspect
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Generic, TypeVar, cast

from .errors import SettingsError, unknown_name

T = TypeVar("T")


class Registry(Generic[T]):
    """The components of one package: each module without a leading underscore holds one class derived from `base`."""

    def __init__(self, package: str, base: str, kind: str) -> None:
        """Name the package, the base class as `module:Class`, and what a person calls such a component."""
        self.package, self.base, self.kind = package, base, kind

    @cached_property
    def _files(self) -> dict[str, Path]:
        spec = find_spec(self.package)
        if spec is None or not spec.submodule_search_locations:
            raise ModuleNotFoundError(self.package)
        folder = Path(next(iter(spec.submodule_search_locations)))
        return {p.stem: p for p in sorted(folder.glob("*.py")) if not p.stem.startswith("_")}

    def names(self) -> list[str]:
        """Return every component's name, sorted; imports nothing."""
        return list(self._files)

    def summary(self, name: str) -> str:
        """Return the first line of a component's docstring; imports nothing."""
        docstring = ast.get_docstring(ast.parse(self.path(name).read_text(encoding="utf-8"))) or ""
        return docstring.partition("\n")[0]

    def path(self, name: str) -> Path:
        """Return a component's file; raises SettingsError with the nearest spelling for an unknown name."""
        if name not in self._files:
            raise SettingsError(unknown_name(self.kind, name, self._files, f"weitiao {self.kind}s"))
        return self._files[name]

    def load(self, name: str) -> type[T]:
        """Import one component's file and return its class; raises SettingsError for an unknown name."""
        self.path(name)
        module = importlib.import_module(f"{self.package}.{name}")
        base_module, _, base_name = self.base.partition(":")
        base = getattr(importlib.import_module(base_module), base_name)
        own = [
            member
            for member in vars(module).values()
            if inspect.isclass(member) and issubclass(member, base) and member.__module__ == module.__name__
        ]
        if len(own) != 1:
            raise TypeError(f"{module.__file__} must define exactly one {base_name}, found {len(own)}")
        return cast(type[T], own[0])
