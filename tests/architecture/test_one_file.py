"""A component is one file: toys, a file each, lie in a copy of the project, and the project's own tests pass there.

What only reads source reads the toys where they lie, in the project itself (`sources_and_toys`).

The toys in `one_file/` lie as they would in the package: one for each registry, two for methods. Nothing else is
written for them: no recipe, no page, no table and no translation.
"""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from forked_python import python_server
from source_code import PACKAGE, ROOT, TOYS, Source, sources

LIMIT = 1200
"""Seconds that a process may take on a busy machine; the quick run takes less than a minute on a free one."""
COPIED = ("src", "tests", "docs", "recipes", "examples", "benchmarks", ".github")
LEFT_OUT = shutil.ignore_patterns("*.pyc.*", "test_one_file.py", "test_notebooks.py")
"""What is not copied: compiled code that is being written, this test, and notebooks, which take minutes."""

PLACES = (
    "architecture", "docs", "contracts", "cli", "methods", "core/test_settings.py", "data/checks",
    "data/test_formats.py", "data/test_detect.py", "data/test_competing.py", "data/test_page.py",
    "known_values/test_shares.py", "recipe/test_words.py", "recipe/test_auto_settings.py", "recipe/test_recipes.py",
)  # fmt: skip
"""Where tests over registries are, below `tests/`."""
EVERY = (
    "toy or test_locale or (nothing_heavy and (methods or train)) or test_generated or test_listings "
    "or (test_completion and not (zsh or fish)) or test_metrics or every_page_of_a_method or known_as_it "
    "or help_lists or peft_knows_exactly or has_a_file_or_is_reached or command_is_interrupted or what_every_metric "
    "or listings_are_in_chinese"
)
"""Tests of a toy by its name, and those that go over all components at once."""
ALSO = "architecture or docs or metric or completion or remedies or saved_it_answers or test_models"
"""Tests of how the project is written, which read the toys where they lie too, and others that take minutes."""
COSTLY = (
    "qwen2 or opt or gemma or bloom or mistral or jamba or t5 or bert or mamba or bundled_model "
    "or bit_by_bit or determined_by_the_seed"
)
"""Left out of the quick run: further architectures, a model of real size, and what others ask too."""
OF_OTHERS = (
    "test_listings and (explained or explanation or own_block or no_such_block or under_another_block)"
)
"""Left out of the quick run but for the toys: cases of one method or setting each."""


def registries(modules: tuple[Source, ...]) -> set[str]:
    """Return the folders that a `Registry` reads, seen from the package."""
    found = set()
    for source in modules:
        calls = (node for node in ast.walk(source.tree) if isinstance(node, ast.Call))
        if any(isinstance(call.func, ast.Name) and call.func.id == "Registry" for call in calls):
            package = source.module if source.is_package else source.module.rpartition(".")[0]
            found.add(package.partition(".")[2].replace(".", "/"))
    return found


def toys() -> list[Path]:
    """Return the toys' files, seen from the package."""
    return sorted(path.relative_to(TOYS) for path in TOYS.rglob("*.py"))


@pytest.fixture(scope="module")
def copied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the project with the toys in it."""
    folder = tmp_path_factory.mktemp("one-file") / "project"
    for name in COPIED:
        shutil.copytree(ROOT / name, folder / name, ignore=LEFT_OUT)
    for path in ROOT.iterdir():
        if path.is_file() and path.name != ".git":
            shutil.copy(path, folder)
    for toy in toys():
        shutil.copy(TOYS / toy, folder / "src" / "weitiao" / toy)
    return folder


def python(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run Python on the copy's package."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    environment |= {"PYTHONPATH": str(folder / "src"), "PYTHONDONTWRITEBYTECODE": "1"}
    return python_server().run(arguments, folder=folder, environment=environment)


def test_every_registry_has_a_toy() -> None:
    assert {toy.parent.as_posix() for toy in toys()} == registries(sources())
    assert [toy for toy in toys() if (PACKAGE / toy).exists()] == []


def test_a_registry_is_found_where_it_is_made() -> None:
    made = Source(
        "weitiao.new.parts", True, "PARTS: Registry[Part] = Registry('weitiao.new.parts', 'x', 'part')"
    )
    beside = Source("weitiao.new._list", False, "LIST = Registry(__package__, 'x', 'y')")
    asked = Source("weitiao.new.other", False, "def f(registry: Registry[Part]) -> None: registry.load('x')")
    assert registries((made, beside, asked)) == {"new/parts", "new"}


@pytest.mark.timeout(LIMIT)
@pytest.mark.parametrize(
    "chosen",
    [
        f"({EVERY}) and not ({COSTLY}) and (toy or not ({OF_OTHERS}))",
        pytest.param(f"{EVERY} or {ALSO}", marks=pytest.mark.slow),
    ],
    ids=["quick", "all"],
)
def test_the_tests_pass_with_a_new_file_of_each_kind(chosen: str, copied: Path) -> None:
    report = copied / "tests.xml"
    # Without pytest's own way of asserting, which it would write into every module anew.
    options = ("-q", "--assert=plain", "-p", "no:cacheprovider", "-p", "no:xdist", "--junit-xml", str(report))
    done = python(copied, "-m", "pytest", *options, "-k", chosen, *(f"tests/{place}" for place in PLACES))
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    passed = [case.get("name", "") for case in ET.parse(report).iter("testcase") if not len(case)]
    assert [toy for toy in toys() if not any(toy.stem in name for name in passed)] == []


USED = """
import importlib.util, json, sys
from pathlib import Path
from weitiao.cli import run
from weitiao.data.formats import FORMATS
from weitiao.data.sources.readers import READERS

riddle = json.loads(FORMATS.load("toy_riddle").example)
rows = [riddle, {**riddle, "toy_solution": "A PIANO, MY FRIEND."}]
Path("riddles.jsonl").write_text("".join(json.dumps(row) + "\\n" for row in rows), encoding="utf-8")
Path("cards.toycards").write_text(READERS.load("toy_cards").example, encoding="utf-8")
for words in sys.argv[1:]:
    print("$", words)
    assert run(words.split()) == 0, words
print("$ docs")
spec = importlib.util.spec_from_file_location("docs_generate", "docs/generate.py")
sys.modules[spec.name] = generate = importlib.util.module_from_spec(spec)
spec.loader.exec_module(generate)
assert [generate.main(words) for words in (["--check"], [], ["--check"])] == [1, 0, 0]
"""
SHOWN = {
    "--help": "Count the lines of a file.",
    "toy_count --help": "Count every line twice.",
    "toy_count cards.toycards --twice": "2 lines",
    "methods": "toy_gain",
    "methods toy_gain": "one number for each output of the linear layers",
    "settings method.rank": "(toy_lora)",
    "settings objective": "objective=toy_margin",
    "settings toy_margin": "objective.margin",
    "check riddles.jsonl --lang en data.held_out=0": "answers are written in capitals",
    "check riddles.jsonl --lang zh data.held_out=0": "answers are written in capitals",
    "check cards.toycards --lang en data.held_out=0": "question_answer",
}
"""A command line, and what it shows."""


@pytest.mark.timeout(LIMIT)
def test_they_are_listed_and_used_and_a_command_writes_them_into_the_pages(copied: Path) -> None:
    done = python(copied, "-c", USED, *SHOWN)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    shown = dict(part.split("\n", 1) for part in done.stdout.split("$ ")[1:])
    assert [words for words, wanted in SHOWN.items() if wanted not in shown[words]] == []
    in_tables = [toy.stem for toy in toys() if toy.parts[0] != "cli"]
    for language in ("en", "zh"):
        text = "".join(
            page.read_text(encoding="utf-8") for page in (copied / "docs" / language).rglob("*.md")
        )
        names = {"toy_cards": ".toycards"}
        assert [name for name in in_tables if f"`{names.get(name, name)}`" not in text] == []
