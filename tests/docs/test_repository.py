"""The files around the code: short enough, and saying what the Makefile, the package and the folders say."""

from __future__ import annotations

import re
import tomllib
from typing import Any

import pytest
import yaml

from pages import ROOT, page

README_BYTES = 10_000
ENTRY_CHARACTERS = 200
SUBJECT_CHARACTERS = 72
ROOTS = {"CONTRIBUTING.md": ROOT, "SECURITY.md": ROOT / "src" / "weitiao"}
"""Pages that name files, and the folder they name them from."""
MADE = ".venv/"
"""What is made by `make`, and not there before."""
NAMED = re.compile(r"`([\w.]+(?:/[\w.]+)+/?)`")


def read_yaml(name: str) -> Any:  # noqa: ANN401  (any YAML value)
    return yaml.safe_load((ROOT / name).read_text(encoding="utf-8"))


def project() -> dict[str, Any]:
    return dict(tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"])


def recipe_of(target: str) -> list[str]:
    """Return the commands of a target of the Makefile."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    found = re.search(rf"^{target}:.*\n((?:\t.*\n)+)", makefile, re.MULTILINE)
    assert found
    return [line.strip() for line in found[1].splitlines()]


def hooks() -> list[dict[str, Any]]:
    """Return what runs before a commit."""
    return [
        hook for repository in read_yaml(".pre-commit-config.yaml")["repos"] for hook in repository["hooks"]
    ]


@pytest.mark.parametrize("name", ["README.md", "README.zh.md"])
def test_a_readme_is_read_in_a_minute(name: str) -> None:
    assert (ROOT / name).stat().st_size <= README_BYTES


@pytest.mark.parametrize(("name", "whole"), [("README.md", "en"), ("README.zh.md", "zh")])
def test_a_readme_shows_lines_of_the_demo_as_they_are(name: str, whole: str) -> None:
    (shown,) = page(name).code("text")
    printed = max(page(f"docs/{whole}/training.md").code("text"), key=len)
    missing = [line for line in shown.splitlines() if line.removesuffix(" [...]") not in printed]
    assert missing == []


def test_the_changelog_has_a_line_an_entry() -> None:
    for line in page("CHANGELOG.md").text.splitlines():
        assert not line.startswith((" ", "\t")), f"goes on from the line before: {line}"
        assert len(line) <= ENTRY_CHARACTERS, line


def test_before_a_commit_runs_what_make_lint_runs() -> None:
    assert [hook["entry"] for hook in hooks() if hook["language"] == "system"] == recipe_of("lint")


def test_a_subject_may_be_as_long_as_the_page_says() -> None:
    (pattern,) = [hook["entry"] for hook in hooks() if hook.get("stages") == ["commit-msg"]]
    allowed = "x" * SUBJECT_CHARACTERS
    assert re.search(pattern, f"{allowed}\n\n{'y' * 200}\n") is None
    assert re.search(pattern, f"{allowed}x\n") is not None
    assert f"at most {SUBJECT_CHARACTERS} characters" in page("CONTRIBUTING.md").text


def test_the_workflow_checks_tables_and_tests_on_the_oldest_python() -> None:
    (job,) = read_yaml(".github/workflows/test.yml")["jobs"].values()
    assert [step["run"] for step in job["steps"] if "run" in step] == ["make docs-check", "make test"]
    (python,) = [
        step["with"]["python-version"] for step in job["steps"] if "python-version" in step.get("with", {})
    ]
    assert project()["requires-python"] == f">={python}"


def test_the_citation_is_of_this_project() -> None:
    citation = read_yaml("CITATION.cff")
    assert citation["cff-version"] == "1.2.0" and citation["authors"] and citation["message"]
    assert citation["license"] == project()["license"]
    assert citation["title"].startswith(project()["name"])


@pytest.mark.parametrize("name", ROOTS)
def test_a_file_that_is_named_is_there(name: str) -> None:
    named = [path for path in NAMED.findall(page(name).text) if not path.startswith(MADE)]
    assert named
    places = [ROOTS[name], ROOT]
    assert [path for path in named if not any((place / path).exists() for place in places)] == []
