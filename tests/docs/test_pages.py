"""The pages themselves: links lead somewhere, both languages say the same, and what is code is code."""

from __future__ import annotations

import ast
import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from pages import FENCE, ROOT, Page, page, pages, pairs
from weitiao.core.errors import SettingsError
from weitiao.core.settings import read_yaml
from weitiao.data.dataset import check_data
from weitiao.data.formats import FORMATS
from weitiao.data.forms import FORMS
from weitiao.data.gate.gate import open_data
from weitiao.data.settings import DataSettings, SourceSettings
from weitiao.data.sources.dataset_info import expand_source
from weitiao.methods import METHODS
from weitiao.recipe.recipe import lay_over, parse_recipe, spelt_out

NEEDED = {"model": "smollm2-135m", "data": "my.json", "out": "runs/x"}
NAMES = [one.name for one in pages()]
OVERVIEW = "docs/en/methods/README.md"


def broken_links(one: Page) -> list[str]:
    """Return the relative links that lead to no file, or to no heading of one."""
    return [target for target in one.links() if "://" not in target and not _leads_somewhere(one, target)]


def _leads_somewhere(one: Page, target: str) -> bool:
    path, _, anchor = target.partition("#")
    file = (one.path.parent / path).resolve() if path else one.path
    if not file.exists() or not file.is_relative_to(ROOT):
        return False
    return not anchor or anchor in Page(file, file.read_text(encoding="utf-8")).anchors()


def parsed_yaml(text: str, folder: Path) -> object:
    """Read a block as a run file, and check it with what it leaves out filled in."""
    file = folder / "run.yaml"
    file.write_text(text, encoding="utf-8")
    raw = read_yaml(file)
    parse_recipe(lay_over(spelt_out(NEEDED), spelt_out(raw)) if "data" in raw else {**NEEDED, **raw})
    return raw


def without_texts(code: str) -> str:
    """Return Python's structure without its texts, which differ between languages."""
    return re.sub(r"Constant\(value='[^']*'\)", "Text", ast.dump(ast.parse(code)))


@pytest.mark.parametrize("name", NAMES)
def test_links_lead_somewhere(name: str) -> None:
    assert broken_links(page(name)) == []


@pytest.mark.parametrize("name", NAMES)
def test_every_yaml_block_is_part_of_a_run_file(name: str, tmp_path: Path) -> None:
    for text in page(name).code("yaml"):
        assert isinstance(parsed_yaml(text, tmp_path), dict)


@pytest.mark.parametrize("name", NAMES)
def test_every_python_block_is_python(name: str) -> None:
    for text in page(name).code("python"):
        ast.parse(text)


@pytest.mark.parametrize("name", NAMES)
def test_every_json_block_is_data_that_can_be_used(name: str, tmp_path: Path) -> None:
    for text in page(name).code("json"):
        shown = json.loads(text)
        if isinstance(shown, dict):
            check_list_of_data_sets(shown, tmp_path)
        else:
            assert check_data(DataSettings(sources=shown), FORMS).store.rows == len(shown)


def check_list_of_data_sets(entries: dict[str, Any], folder: Path) -> None:
    """Read all that a dataset_info.json names, beside the sample data; raises DataError."""
    for file in (ROOT / "examples").glob("*.json"):
        shutil.copy(file, folder)
    (folder / "dataset_info.json").write_text(json.dumps(entries), encoding="utf-8")
    whole = SourceSettings(path=f"{folder / 'dataset_info.json'}:{','.join(entries)}")
    assert len(expand_source(whole).sources) == len(entries)
    check_data(DataSettings(sources=[whole]))


@pytest.mark.parametrize("name", ["docs/en/data.md", "docs/zh/data.md"])
def test_rows_that_are_shown_of_a_format_are_known_as_it(name: str) -> None:
    sections = dict(re.findall(r"^### (\w+)\n(.*?)(?=^#)", page(name).text, re.MULTILINE | re.DOTALL))
    assert sections and set(sections) <= set(FORMATS.names())
    for wanted, text in sections.items():
        (rows,) = (json.loads(block) for language, block in FENCE.findall(text) if language == "json")
        assert [one["format"] for one in open_data(DataSettings(sources=rows)).tally.detected] == [wanted]


@pytest.mark.parametrize(("english", "chinese"), pairs())
def test_both_languages_say_the_same(english: str, chinese: str) -> None:
    one, other = page(english), page(chinese)
    assert [level for level, _ in one.headings()] == [level for level, _ in other.headings()]
    assert [language for language, _ in one.blocks] == [language for language, _ in other.blocks]
    assert one.commands() == other.commands()
    for language, read in (("yaml", yaml.safe_load), ("json", json.loads), ("python", without_texts)):
        assert [read(text) for text in one.code(language)] == [read(text) for text in other.code(language)]


@pytest.mark.parametrize(("english", "chinese"), pairs())
def test_each_language_links_to_the_other(english: str, chinese: str) -> None:
    for here, there in ((english, chinese), (chinese, english)):
        targets = {((ROOT / here).parent / link).resolve() for link in page(here).links()}
        assert (ROOT / there).resolve() in targets


def test_no_chinese_page_stands_alone() -> None:
    chinese = {path.relative_to(ROOT).as_posix() for path in (ROOT / "docs" / "zh").rglob("*.md")}
    assert chinese <= {other for _, other in pairs()}


def test_every_page_of_a_method_is_of_one_that_exists() -> None:
    recipes = {path.stem for path in (ROOT / "recipes").glob("*.yaml")}  # QLoRA is settings of LoRA
    pages_there = {path.stem for path in (ROOT / "docs" / "en" / "methods").glob("*.md")}
    assert pages_there <= {*METHODS.names(), *recipes, "README"}


def test_the_overview_links_to_every_page_of_a_method() -> None:
    folder = ROOT / "docs" / "en" / "methods"
    linked = {(folder / link).resolve() for link in page(OVERVIEW).links()}
    assert [path.name for path in folder.glob("*.md") if path not in linked | {ROOT / OVERVIEW}] == []


def test_the_checks_see_planted_faults(tmp_path: Path) -> None:
    text = "[a](no-such.md) [b](#nowhere) [c](README.md#try-it) [d](https://x.y) [e](../secret)\n"
    assert broken_links(Page(ROOT / "planted.md", text)) == ["no-such.md", "#nowhere", "../secret"]
    with pytest.raises(SettingsError, match="learning_rat"):
        parsed_yaml("train: {learning_rat: 1}", tmp_path)
    assert without_texts("f('a', 1)") == without_texts("f('b', 1)") != without_texts("f('a', 2)")
