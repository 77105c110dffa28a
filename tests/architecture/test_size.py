"""Files and functions stay short enough to read: the limits of docs/architecture.md."""

from __future__ import annotations

from collections.abc import Iterable
from statistics import median

from source_code import Source, length, sources_and_toys

FILE_LINES = 500
FUNCTION_LINES = 80
MEDIAN_FUNCTION_LINES = 15


def too_long(modules: Iterable[Source]) -> list[str]:
    """Return every file and every function over its limit."""
    modules = list(modules)
    files = [f"{s.module}: {s.line_count} lines" for s in modules if s.line_count > FILE_LINES]
    functions = [(s.module, f.name, length(f)) for s in modules for f in s.functions()]
    return files + [f"{module}.{name}: {n} lines" for module, name, n in functions if n > FUNCTION_LINES]


def median_length(modules: Iterable[Source]) -> float:
    """Return the median number of lines of a function."""
    return median(length(function) for source in modules for function in source.functions())


def test_no_file_and_no_function_is_too_long() -> None:
    assert too_long(sources_and_toys()) == []


def test_the_median_function_is_short() -> None:
    assert median_length(sources_and_toys()) <= MEDIAN_FUNCTION_LINES


def test_the_check_sees_a_long_file_and_a_long_function() -> None:
    lines = "\n".join(["    x = 1"] * FUNCTION_LINES)
    text = f"def fine():\n    pass\n\nasync def long():\n{lines}\n" + "\n" * FILE_LINES
    planted = Source("weitiao.core.bad", False, text)
    assert too_long([planted]) == ["weitiao.core.bad: 584 lines", "weitiao.core.bad.long: 81 lines"]
    assert median_length([planted]) == (2 + 81) / 2
