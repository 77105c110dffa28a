"""Parses lists and dicts printed by Python or numpy, which pandas writes into the cells of CSV files."""

from __future__ import annotations

import ast
import io
import tokenize
from itertools import accumulate, pairwise
from typing import Any

LONGEST = 1 << 20
"""Characters; Python's parser needs some hundred bytes of memory for each."""
PLAIN = (str, int, float, bool, type(None))
ENDS = ("}", "]", ")", "None", "True", "False")
BEGINS = ("{", "[", "(", "-", "None", "True", "False", "array")
LAYOUT = (tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.COMMENT)


class NotPython(ValueError):
    """A text that is not a plain Python value."""


def from_python(text: str) -> Any:  # noqa: ANN401  (what the data holds)
    """Return the list or dict of plain values that Python or numpy prints as `text`; raises NotPython."""
    if len(text) > LONGEST:
        raise NotPython("it is too long")
    try:
        tree = _Arrays().visit(ast.parse(_with_commas(text.strip()), mode="eval"))
        return _plain(ast.literal_eval(tree))
    except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError, tokenize.TokenError) as error:
        raise NotPython("it is not a value of Python") from error


class _Arrays(ast.NodeTransformer):
    """Replaces `array([...], dtype=object)`, which numpy prints inside other values, by the list."""

    def visit_Call(self, node: ast.Call) -> ast.AST:
        """Return the list inside a call of `array`; other calls unchanged."""
        is_array = isinstance(node.func, ast.Name) and node.func.id == "array" and len(node.args) == 1
        return self.visit(node.args[0]) if is_array else node


def _with_commas(text: str) -> str:
    """Return a text with commas between adjacent items: numpy prints none, and Python would concatenate adjacent
    strings."""
    starts = [0, *accumulate(len(line) for line in text.splitlines(keepends=True))]
    tokens = [one for one in tokenize.generate_tokens(io.StringIO(text).readline) if one.type not in LAYOUT]
    places = [
        starts[one.end[0] - 1] + one.end[1]
        for one, other in pairwise(tokens)
        if _ends(one) and _begins(other)
    ]
    pieces = [text[begin:end] for begin, end in pairwise([0, *places, len(text)])]
    return ",".join(pieces)


def _ends(token: tokenize.TokenInfo) -> bool:
    """Return whether an item may end with a token."""
    return token.type in (tokenize.STRING, tokenize.NUMBER) or token.string in ENDS


def _begins(token: tokenize.TokenInfo) -> bool:
    """Return whether an item may begin with a token; a minus counts, as printed values contain no subtraction."""
    return token.type in (tokenize.STRING, tokenize.NUMBER) or token.string in BEGINS


def _plain(value: object) -> Any:  # noqa: ANN401
    """Return a value with tuples as lists; raises NotPython if JSON cannot represent it."""
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    if isinstance(value, dict):
        if not all(isinstance(name, str) for name in value):
            raise NotPython("a key is no text")
        return {name: _plain(one) for name, one in value.items()}
    if isinstance(value, PLAIN):
        return value
    raise NotPython(f"it holds {value!r}")
