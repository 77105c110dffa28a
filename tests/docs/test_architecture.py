"""What docs/architecture.md says of the tree is in the tree."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from pages import ROOT, page

PACKAGE = ROOT / "src" / "weitiao"
REMARK = re.compile(r"\([^)]*\)")
NAMED = re.compile(r"`([\w.]+(?:/[\w.]+)+/?)`")
PLACES = (PACKAGE, PACKAGE / "data", ROOT)
"""The folders that paths in the text are named from."""
TESTS = "tests/"
"""Paths that are not looked for: tests/architecture/test_one_file.py runs this in a copy without itself."""


def rooms_block() -> str:
    """Return the list of files under `Inside the rooms`."""
    _, _, after = page("docs/architecture.md").text.partition("### Inside the rooms")
    return after.partition("```text\n")[2].partition("```")[0]


def listed(block: str) -> Iterator[Path]:
    """Yield the folders and modules that a list names; a module without its suffix."""
    room = folder = PACKAGE
    for line in REMARK.sub("", block).splitlines():
        for number, word in enumerate(line.split()):
            if not word.endswith("/"):
                yield folder / word
                continue
            if number == 0 and not line.startswith(" "):
                room = folder = PACKAGE / word
            else:
                folder = room / word if (room / word / "__init__.py").is_file() else folder / word
            yield folder


def missing(block: str) -> list[str]:
    """Return what a list names and the package does not have."""
    found = (path for path in listed(block) if not path.is_dir())
    kinds = (".py", ".yaml")
    return [
        str(path.relative_to(PACKAGE))
        for path in found
        if not any(path.with_suffix(kind).is_file() for kind in kinds)
    ]


def test_the_files_listed_for_each_room_are_there() -> None:
    assert missing(rooms_block()) == []


def test_every_folder_of_the_package_is_listed() -> None:
    folders = {path.parent for path in PACKAGE.rglob("__init__.py")} - {PACKAGE}
    assert folders - set(listed(rooms_block())) == set()


def test_every_path_in_the_text_is_there() -> None:
    named = [path for path in NAMED.findall(page("docs/architecture.md").text) if not path.startswith(TESTS)]
    assert [path for path in named if not any((place / path).exists() for place in PLACES)] == []


def test_the_check_sees_what_is_not_there() -> None:
    block = "core/   settings nothing (a remark)\n  locale/   zh\n          moved\nrooom/  errors\n"
    assert missing(block) == ["core/nothing", "core/locale/moved", "rooom", "rooom/errors"]
