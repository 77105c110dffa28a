"""A package imports only from packages to its right, and no modules import each other in a ring."""

from __future__ import annotations

from collections.abc import Iterable
from graphlib import CycleError, TopologicalSorter

from source_code import Source, sources_and_toys
from weitiao.data.gate.cache import CODE

LAYERS = (
    "cli, web > compare > recipe > serving > planner, evaluation > engine > methods, objectives"
    " > models > data > core"
)
"""The rooms from left to right; those between two `>` do not import each other."""

DEPTH = {room: n for n, layer in enumerate(LAYERS.split(" > ")) for room in layer.split(", ")}

ENTRANCES = {"", "__main__"}
"""The package's own __init__ and __main__ stand above every room."""


def wrong_arrows(modules: Iterable[Source]) -> list[str]:
    """Return every import that does not point to the right, imports for types included."""
    return [
        f"{source.module} imports {target}"
        for source in modules
        for target in source.imports()
        if target.partition(".")[0] == "weitiao" and not _may_import(source.room, target)
    ]


def _may_import(room: str, target: str) -> bool:
    target_room = target.split(".")[1] if "." in target else ""
    if room in ENTRANCES or room == target_room:
        return True
    return target_room in DEPTH and DEPTH[target_room] > DEPTH[room]


def ring(modules: Iterable[Source]) -> list[str]:
    """Return the modules of one ring, or nothing; imports inside functions and those for types count."""
    known = {source.module: source for source in modules}
    graph = {
        name: {_module(target, known) for target in source.imports()} - {None, name}
        for name, source in known.items()
    }
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def _module(target: str, known: dict[str, Source]) -> str | None:
    """Return the module that an imported name lies in: itself, or the one it is a member of."""
    return next((name for name in (target, target.rpartition(".")[0]) if name in known), None)


def test_every_room_has_its_place() -> None:
    assert {source.room for source in sources_and_toys()} - ENTRANCES <= set(DEPTH)


def test_imports_point_to_the_right() -> None:
    assert wrong_arrows(sources_and_toys()) == []


def test_no_modules_import_each_other_in_a_ring() -> None:
    assert ring(sources_and_toys()) == []


def test_the_check_sees_an_arrow_to_the_left_or_sideways() -> None:
    planted = [
        Source("weitiao.core.bad", False, "def f():\n    from ..data.rows import x\n"),
        Source("weitiao.methods.bad", False, "import weitiao.objectives.sft\n"),
        Source("weitiao.engine", True, "from .. import cli\n"),
        Source(
            "weitiao.engine.fine",
            False,
            "from ..methods._base import Method\nfrom .loop import run\nimport torch\n",
        ),
    ]
    assert wrong_arrows(planted) == [
        "weitiao.core.bad imports weitiao.data.rows.x",
        "weitiao.methods.bad imports weitiao.objectives.sft",
        "weitiao.engine imports weitiao.cli",
    ]


def test_the_check_sees_a_ring_of_inner_imports() -> None:
    one = Source("weitiao.data.one", False, "from .two import x\n")
    two = Source("weitiao.data.two", False, "def f():\n    from . import one\n")
    for_types = Source("weitiao.data.two", False, "if TYPE_CHECKING:\n    from . import one\n")
    assert set(ring([one, two])) == {"weitiao.data.one", "weitiao.data.two"}
    assert set(ring([one, for_types])) == {"weitiao.data.one", "weitiao.data.two"}
    assert ring([one]) == []


def test_the_code_of_every_import_is_in_the_name_of_an_entry() -> None:
    rooms = {target.split(".")[1] for one in sources_and_toys() if one.room == "data" for target in one.imports()
             if target.startswith("weitiao.")}  # fmt: skip
    assert rooms == {*CODE}
