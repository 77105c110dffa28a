"""The project's own source as syntax trees, for the tests of its architecture; nothing of it is imported."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "src" / "weitiao"
TOYS = ROOT / "tests" / "architecture" / "one_file"
"""A component of each kind, where it would lie below the package."""


@dataclass(frozen=True)
class Source:
    """One module: its dotted name, whether it is a package's __init__, and its text."""

    module: str
    is_package: bool
    text: str

    @cached_property
    def tree(self) -> ast.Module:
        """The module as a syntax tree."""
        return ast.parse(self.text)

    @cached_property
    def nodes(self) -> tuple[ast.AST, ...]:
        """Every node of the tree, walked once for all tests."""
        return tuple(ast.walk(self.tree))

    @property
    def room(self) -> str:
        """The first name below the package: `core`, `data`, ...; empty for the package's own __init__."""
        return self.module.partition(".")[2].partition(".")[0]

    @property
    def line_count(self) -> int:
        """How many lines the file has."""
        return len(self.text.splitlines())

    def functions(self) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
        """Yield every function, methods and inner ones included."""
        return (n for n in self.nodes if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef))

    def imports(self, *, for_types: bool = True) -> Iterator[str]:
        """Yield each import's dotted name, in functions too; `for_types=False` leaves TYPE_CHECKING out."""
        skipped = set() if for_types else set(_type_checking_nodes(self.tree))
        for node in self.nodes:
            if node in skipped:
                continue
            if isinstance(node, ast.Import):
                yield from (alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                origin = self._absolute(node)
                yield from (f"{origin}.{alias.name}" for alias in node.names)

    def _absolute(self, node: ast.ImportFrom) -> str:
        """Turn `from ..core import x` into the dotted name it starts from."""
        parts = self.module.split(".")
        upwards = node.level - (1 if self.is_package else 0)
        origin = parts[: len(parts) - upwards] if node.level else []
        return ".".join([*origin, *([node.module] if node.module else [])])


def _type_checking_nodes(tree: ast.Module) -> Iterator[ast.AST]:
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            for statement in node.body:
                yield from ast.walk(statement)


@cache
def sources() -> tuple[Source, ...]:
    """Read every module of the package."""
    return tuple(_read(path, PACKAGE.parent) for path in sorted(PACKAGE.rglob("*.py")))


@cache
def sources_and_toys() -> tuple[Source, ...]:
    """Read every module of the package, and the toys as if they lay in it, as they do in the copy of a test."""
    toys = (_read(path, TOYS, "weitiao.") for path in sorted(TOYS.rglob("*.py")))
    by_name = {source.module: source for source in (*sources(), *toys)}
    return tuple(by_name.values())


@cache
def sources_of_tests() -> tuple[Source, ...]:
    """Read every module of the tests."""
    return tuple(_read(path, ROOT) for path in sorted((ROOT / "tests").rglob("*.py")))


def _read(path: Path, below: Path, package: str = "") -> Source:
    parts = path.relative_to(below).with_suffix("").parts
    is_package = parts[-1] == "__init__"
    module = package + ".".join(parts[:-1] if is_package else parts)
    return Source(module, is_package, path.read_text(encoding="utf-8"))


def length(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Return how many lines a function takes, its docstring included."""
    return (function.end_lineno or function.lineno) - function.lineno + 1
