"""What the tests themselves must not do: assert a time, which fails on a busy machine and proves nothing."""

from __future__ import annotations

import ast
from collections.abc import Iterator

import pytest

from source_code import Source, sources_of_tests

CLOCKS = {"perf_counter", "monotonic", "process_time", "thread_time", "perf_counter_ns", "monotonic_ns"}

Function = ast.FunctionDef | ast.AsyncFunctionDef


def reads_clock(node: ast.AST) -> bool:
    """Whether an expression calls a clock: time.perf_counter() and its like, or time.time()."""
    calls = [call.func for call in ast.walk(node) if isinstance(call, ast.Call)]
    return any(
        ast.unparse(one).rpartition(".")[2] in CLOCKS or ast.unparse(one) == "time.time" for one in calls
    )


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


@pytest.mark.parametrize("source", sources_of_tests(), ids=lambda source: source.module)
def test_no_test_asserts_a_time(source: Source) -> None:
    found = [f"line {one.lineno}" for function in source.functions() for one in asserted_times(function)]
    assert not found


@pytest.mark.parametrize(
    "text",
    [
        "def test():\n    assert time.perf_counter() - began < 2",
        "def test():\n    took = time.time() - began\n    assert took < 5",
    ],
)
def test_an_asserted_time_is_found(text: str) -> None:
    assert [*asserted_times(next(Source("test", False, text).functions()))]
