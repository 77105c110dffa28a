"""One name is one thing: no two modules define a public class or function of the same name."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterable

from source_code import Source, sources_and_toys

ENTRANCES = {"command", "main"}
"""What a registry or Python itself asks each of several files for."""
PUBLIC_API = "weitiao.recipe.api"
"""The functions of Python's users, some of which are named as what they call."""


def doubly_named(modules: Iterable[Source]) -> list[str]:
    """Return every public name that several modules define, with these modules."""
    homes: dict[str, list[str]] = defaultdict(list)
    for source in modules:
        for node in source.tree.body:
            if isinstance(node, ast.ClassDef | ast.FunctionDef) and not node.name.startswith("_"):
                homes[node.name].append(source.module)
    return [
        f"{name}: {', '.join(sorted(own))}"
        for name, own in sorted(homes.items())
        if len(own) > 1 and name not in ENTRANCES
    ]


def test_no_name_means_two_things() -> None:
    assert doubly_named(source for source in sources_and_toys() if source.module != PUBLIC_API) == []


def test_the_check_sees_a_name_with_two_meanings() -> None:
    one = Source("weitiao.data.one", False, "class Layout:\n    pass\n\ndef command():\n    pass\n")
    two = Source("weitiao.engine.two", False, "def Layout():\n    pass\n\ndef command():\n    pass\n")
    assert doubly_named([one, two]) == ["Layout: weitiao.data.one, weitiao.engine.two"]
    private = Source("weitiao.data.three", False, "class _Layout:\n    pass\n")
    assert doubly_named([one, private]) == []
