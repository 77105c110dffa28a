"""What the tests themselves must not do: assert a time, call what is private, read source text for behaviour.

A time fails on a busy machine and proves nothing; a test of what is private, or of how something is written, fails when
the code is rearranged and nothing has changed.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache

import pytest

from source_code import Source, sources, sources_of_tests

CLOCKS = {"perf_counter", "monotonic", "process_time", "thread_time", "perf_counter_ns", "monotonic_ns"}

Function = ast.FunctionDef | ast.AsyncFunctionDef


def reads_clock(node: ast.AST) -> bool:
    """Whether an expression calls a clock: time.perf_counter() and its like, or time.time()."""
    calls = [call.func for call in ast.walk(node) if isinstance(call, ast.Call)]
    return any(
        ast.unparse(one).rpartition(".")[2] in CLOCKS or ast.unparse(one) == "time.time" for one in calls
    )


def names_clock(text: str) -> bool:
    """Whether a text has the name of a clock at all; few tests do, and only those are looked through."""
    return "time.time" in text or any(clock in text for clock in CLOCKS)


def asserted_times(function: Function) -> Iterator[ast.Assert]:
    """Find assertions that compare what a clock says, also through a variable."""
    assigned = [
        node for node in ast.walk(function) if isinstance(node, ast.Assign) and reads_clock(node.value)
    ]
    names = {name.id for node in assigned for name in ast.walk(node) if isinstance(name, ast.Name)} - {"time"}
    for node in ast.walk(function):
        if isinstance(node, ast.Assert):
            used = {name.id for name in ast.walk(node.test) if isinstance(name, ast.Name)}
            if reads_clock(node.test) or used & names:
                yield node


def test_no_test_asserts_a_time() -> None:
    found = [
        f"{source.module}, line {one.lineno}"
        for source in sources_of_tests()
        if names_clock(source.text)
        for function in source.functions()
        for one in asserted_times(function)
    ]
    assert not found


@pytest.mark.parametrize(
    "text",
    [
        "def test():\n    assert time.perf_counter() - began < 2",
        "def test():\n    took = time.time() - began\n    assert took < 5",
    ],
)
def test_an_asserted_time_is_found(text: str) -> None:
    assert names_clock(text)
    assert [*asserted_times(next(Source("test", False, text).functions()))]


ABOUT_TEXTS = ("tests.architecture.", "tests.docs.", "tests.contracts.test_remedies", "tests.shown_sentences")
"""Tests of how the project is written, of every command and setting that a message names, and of translations."""


def is_private(name: str) -> bool:
    """Return whether a name begins with one underscore; `_repr_html_` and its like are protocols of other tools."""
    return name.startswith("_") and not name.endswith("_")


@cache
def private_names() -> frozenset[str]:
    """Return the private functions, classes, variables and attributes of the package, but not its modules."""
    names = {
        name for source in sources() for node in source.nodes for name in _bound(node) if is_private(name)
    }
    return frozenset(names)


def _bound(node: ast.AST) -> Iterator[str]:
    """Yield the names that a piece of source defines or assigns."""
    if isinstance(node, Function | ast.ClassDef):
        yield node.name
    elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
        yield node.id
    elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and _is_own(node.value):
        yield node.attr


def _is_own(node: ast.expr) -> bool:
    """Return whether an object is the one that the code belongs to, and not one of torch or transformers."""
    return ast.unparse(node) in ("self", "cls", "super()")


def private_uses(tree: ast.Module) -> Iterator[ast.AST]:
    """Find where a test takes something private from a module or an object of the package."""
    modules = {source.module for source in sources()}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("weitiao"):
            names = [one.name for one in node.names if f"{node.module}.{one.name}" not in modules]
            if any(map(is_private, names)):
                yield node
        elif isinstance(node, ast.Attribute) and node.attr in private_names():
            if not _is_own(node.value) and ast.unparse(node.value) != "os":
                yield node
        elif isinstance(node, ast.Call):
            given = {one.value for one in node.args if isinstance(one, ast.Constant)}
            if private_names() & given and ast.unparse(node.func).endswith(("getattr", "setattr")):
                yield node


def reads_source_text(source: Source) -> bool:
    """Return whether a test asks for the text of functions or modules instead of calling them."""
    asked = {one.attr for one in source.nodes if isinstance(one, ast.Attribute)}
    return bool(asked & {"getsource", "getsourcelines"}) or any(
        name.startswith("source_code.sources") for name in source.imports()
    )


def test_no_test_uses_what_is_private() -> None:
    found = [
        f"{source.module}, line {node.lineno}: {ast.unparse(node)}"
        for source in sources_of_tests()
        for node in private_uses(source.tree)
    ]
    assert not found


def test_no_test_reads_source_text_for_behaviour() -> None:
    reading = {source.module for source in sources_of_tests() if reads_source_text(source)}
    assert {module for module in reading if not module.startswith(ABOUT_TEXTS)} == set()


@pytest.mark.parametrize(
    "text",
    [
        "from weitiao.engine.step import _not_finite",
        "stepper._norm()",
        "monkeypatch.setattr(gate, '_locked', None)",
        "patch.setattr('_locked', None)",
    ],
)
def test_a_private_use_is_found(text: str) -> None:
    assert [*private_uses(ast.parse(text))]


@pytest.mark.parametrize(
    "text",
    ["from weitiao.objectives import _cross_entropy", "os._exit(1)", "run._repr_html_()", "self._norm()"],
)
def test_what_is_no_private_use_is_left(text: str) -> None:
    assert [*private_uses(ast.parse(text))] == []


@pytest.mark.parametrize("text", ["inspect.getsource(f)", "from source_code import sources"])
def test_reading_source_text_is_found(text: str) -> None:
    assert reads_source_text(Source("tests.data.test_x", False, text))
