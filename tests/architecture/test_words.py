"""What must not be written: a component's name outside its folder, pickle, broad excepts, no docstring."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator

import pytest

from source_code import PACKAGE, Source, sources_and_toys

REGISTRIES = ("methods", "objectives", "data/formats")
"""Folders whose files are components: their names are compared nowhere else."""

FORBIDDEN_MODULES = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
FORBIDDEN_CALLS = {"exec", "eval", "torch.load", "torch.save", "pd.read_pickle", "pandas.read_pickle"}
BROAD = {"Exception", "BaseException"}
PROBES = {"getattr", "hasattr"}
PROBES_PER_1000_LINES = 3
HEAVY = {"torch", "transformers", "peft", "accelerate", "datasets", "numpy", "pandas", "pyarrow"}

Function = ast.FunctionDef | ast.AsyncFunctionDef
Finding = Iterator[tuple[ast.AST, str]]


def component_names(registry: str) -> set[str]:
    """Return the names of a registry's components."""
    return {path.stem for path in (PACKAGE / registry).glob("*.py") if not path.stem.startswith("_")}


def compared_names(tree: ast.Module, names: set[str]) -> Finding:
    """Find comparisons with, and cases of, one of `names`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Compare):
            parts: list[ast.AST] = [node.left, *node.comparators]
        elif isinstance(node, ast.MatchValue):
            parts = [node.value]
        else:
            continue
        constants = (c for part in parts for c in ast.walk(part) if isinstance(c, ast.Constant))
        yield from ((node, f"asks for {c.value!r} by name") for c in constants if c.value in names)


def forbidden_words(tree: ast.Module) -> Finding:
    """Find what reads or writes pickle, and what runs text as code."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            origin = node.module if isinstance(node, ast.ImportFrom) else None
            names = [origin] if origin else [alias.name for alias in node.names]
            yield from ((node, f"imports {n}") for n in names if n.partition(".")[0] in FORBIDDEN_MODULES)
        elif isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            if name in FORBIDDEN_CALLS:
                yield node, f"calls {name}"
            yield from ((node, "allows pickle") for k in node.keywords if k.arg == "allow_pickle")


def broad_excepts(tree: ast.Module) -> Finding:
    """Find handlers that catch everything, `contextlib.suppress` included."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ExceptHandler):
            caught = {n.id for n in ast.walk(node.type) if isinstance(n, ast.Name)} if node.type else BROAD
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("suppress"):
            caught = {n.id for argument in node.args for n in ast.walk(argument) if isinstance(n, ast.Name)}
        else:
            continue
        if caught & BROAD:
            yield node, "catches everything"


def probes(tree: ast.Module) -> Finding:
    """Find attributes asked for by name."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in PROBES:
            yield node, f"calls {node.func.id}"


def undocumented(tree: ast.Module) -> Finding:
    """Find modules, public classes and their public functions without a docstring."""
    if not ast.get_docstring(tree) and tree.body:
        yield tree.body[0], "the module has no docstring"
    for node in _public(tree):
        if not ast.get_docstring(node):
            yield node, f"{node.name} has no docstring"


def _public(parent: ast.Module | ast.ClassDef) -> Iterator[ast.ClassDef | Function]:
    for node in parent.body:
        if isinstance(node, ast.ClassDef | Function) and not node.name.startswith("_"):
            if not _overrides(node):
                yield node
            if isinstance(node, ast.ClassDef):
                yield from _public(node)


def _overrides(node: ast.ClassDef | Function) -> bool:
    """Tell whether a function says that its base class documents it (`@override`), or only is an overload."""
    return bool({ast.unparse(decorator) for decorator in node.decorator_list} & {"override", "overload"})


def places(source: Source, findings: Finding) -> list[str]:
    """Write findings as `module:line what`."""
    return [f"{source.module}:{node.lineno} {what}" for node, what in findings]  # type: ignore[attr-defined]


def everywhere(check: str, modules: Iterable[Source]) -> list[str]:
    """Run one check of this file over modules."""
    return [place for source in modules for place in places(source, globals()[check](source.tree))]


@pytest.mark.parametrize("registry", REGISTRIES)
def test_no_component_is_asked_for_by_name_outside_its_folder(registry: str) -> None:
    names, inside = component_names(registry), "weitiao." + registry.replace("/", ".")
    assert names, f"{registry} holds no component"
    outside = [s for s in sources_and_toys() if not f"{s.module}.".startswith(inside + ".")]
    assert [p for s in outside for p in places(s, compared_names(s.tree, names))] == []


@pytest.mark.parametrize("check", ["broad_excepts", "undocumented"])
def test_nothing_forbidden_is_written(check: str) -> None:
    assert everywhere(check, sources_and_toys()) == []


UNPICKLES = "weitiao.models.weights.unpickle"
"""The one module that may open a pickle: tensors alone are built, in a process of its own."""


def test_a_pickle_is_opened_in_a_process_of_its_own_alone() -> None:
    found = everywhere("forbidden_words", sources_and_toys())
    assert [place.partition(":")[0] for place in found] == [UNPICKLES]
    assert [source.module for source in sources_and_toys() if UNPICKLES in source.imports()] == []
    (module,) = (source for source in sources_and_toys() if source.module == UNPICKLES)
    calls = [node for node in ast.walk(module.tree) if isinstance(node, ast.Call)]
    (load,) = (call for call in calls if ast.unparse(call.func) == "torch.load")
    safe = {k.arg: k.value.value for k in load.keywords if isinstance(k.value, ast.Constant)}
    assert safe["weights_only"] is True


def test_attributes_are_seldom_asked_for_by_name() -> None:
    found = everywhere("probes", sources_and_toys())
    assert 1000 * len(found) < PROBES_PER_1000_LINES * sum(s.line_count for s in sources_and_toys()), (
        "\n".join(found)
    )


def test_core_needs_nothing_heavy() -> None:
    core = [s for s in sources_and_toys() if s.room == "core"]
    assert core
    assert [
        f"{s.module} imports {n}" for s in core for n in s.imports() if n.partition(".")[0] in HEAVY
    ] == []


PLANTED = {
    "forbidden_words": (
        "import pickle\nfrom joblib import dump\ntorch.load('x')\neval('1')\nnp.load(f, allow_pickle=True)",
        "model.eval()\nsafetensors.torch.load_file('x')\nimport pickletools_of_mine",
    ),
    "broad_excepts": (
        "try: f()\nexcept: pass\ntry: f()\nexcept (OSError, Exception): pass\nwith suppress(Exception): f()",
        "try:\n    f()\nexcept (OSError, ValueError):\n    pass\nraise Exception",
    ),
    "probes": ("getattr(x, 'a', None)\nhasattr(x, 'b')", "x.getattr('a')"),
    "undocumented": (
        "def f(): pass\nclass A:\n    def g(self): pass",
        '"""M."""\ndef _f(): pass\nclass A:\n "A"\n @override\n def g(self): 0\n def __init__(self): 0',
    ),
}
EXPECTED = {"forbidden_words": 5, "broad_excepts": 3, "probes": 2, "undocumented": 4}


@pytest.mark.parametrize("check", PLANTED)
def test_each_check_sees_a_planted_fault_and_nothing_else(check: str) -> None:
    bad, good = (Source("weitiao.core.planted", False, text) for text in PLANTED[check])
    assert len(everywhere(check, [bad])) == EXPECTED[check]
    assert everywhere(check, [good]) == []


def test_the_check_sees_a_name_in_a_comparison_and_in_a_case() -> None:
    bad = 'if method == "lora": f()\nx = name in ("full", "other")\nmatch kind:\n    case "lora": f()\n'
    good = 'method: str = "lora"\ntable["lora"]\nif method == "other": f()\n'
    assert len(list(compared_names(ast.parse(bad), {"lora", "full"}))) == 3
    assert list(compared_names(ast.parse(good), {"lora", "full"})) == []
