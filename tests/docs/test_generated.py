"""How tables are written from the code, in both languages; whether they are current is asked by `make docs-check`."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

from pages import ROOT
from weitiao.data.formats import FORMATS
from weitiao.methods import METHODS
from weitiao.objectives import OBJECTIVES


@pytest.fixture(scope="module")
def generate() -> ModuleType:
    """docs/generate.py, which is a script and no part of the package."""
    spec = importlib.util.spec_from_file_location("docs_generate", ROOT / "docs" / "generate.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


STALE = "<!-- generated: exit-codes -->\nSTALE\n<!-- end -->\n"


def test_the_command_finds_a_stale_page_and_writes_it(
    generate: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(generate, "ROOT", tmp_path)
    (tmp_path / "docs").mkdir()
    stale = tmp_path / "docs" / "codes.md"
    stale.write_text(STALE, encoding="utf-8")
    assert generate.main(["--check"]) == 1
    assert capsys.readouterr().out.splitlines() == ["docs/codes.md"]
    assert stale.read_text(encoding="utf-8") == STALE
    assert generate.main([]) == 0
    assert "| `0` | done |" in stale.read_text(encoding="utf-8")
    assert generate.main(["--check"]) == 0


def test_every_table_that_a_page_asks_for_is_made(generate: ModuleType) -> None:
    asked = {
        found["name"]
        for path in generate.pages()
        for found in generate.PLACE.finditer(path.read_text(encoding="utf-8"))
    }
    assert {name.partition(" ")[0] for name in asked} >= {*generate.WHOLE, "settings", "about", "drawing"}
    assert [name for name in asked if not generate.generated(name, str).strip()] == []


def test_every_setting_stands_in_both_languages(generate: ModuleType) -> None:
    for language in ("en", "zh"):
        text = (ROOT / "docs" / language / "settings.md").read_text(encoding="utf-8")
        for table in generate.BLOCKS:
            assert f"<!-- generated: settings {table} -->" in text, f"{language}: {table}"
        assert "<!-- generated: every-method -->" in text


def test_a_table_of_settings_has_them_all(generate: ModuleType) -> None:
    for table, (block, cls) in generate.BLOCKS.items():
        text = generate.generated(f"settings {table}", str)
        for name in cls.model_fields:
            assert re.search(rf"`{re.escape(block)}\.{name}[`.]", text), f"{block}.{name}"
    methods = generate.generated("every-method", str)
    for name in METHODS.names():
        assert f"### {name}\n" in methods
        assert all(f"`method.{field}`" in methods for field in METHODS.load(name).model_fields)


def test_a_table_follows_the_code(generate: ModuleType) -> None:
    exit_codes = generate.generated("exit-codes", str)
    assert exit_codes.splitlines()[0] == "| code | meaning |"
    assert "| `10` | stopped on a NaN or inf; the last good state is saved |" in exit_codes
    lora = generate.generated("method lora", generate.chinese)
    assert lora.splitlines()[0] == "| 设置 | 默认值 | 说明 |"
    assert "| `method.r` | `16` | 低秩矩阵的秩" in lora
    drawing = METHODS.load("lora").drawing
    assert generate.generated("drawing lora", str) == f"```text\n{drawing}\n```\n"
    assert "B   out x r     训练，初始为 0" in generate.generated("drawing lora", generate.chinese)
    columns = generate.generated("formats-columns", generate.chinese)
    assert "`prompt`, `completion`" in columns and len(columns.splitlines()) == 2 + len(FORMATS.names())
    trained = {form for name in OBJECTIVES.names() for form in OBJECTIVES.load(name).forms}
    for line in columns.splitlines()[2:]:
        form = FORMATS.load(line.split("`")[1]).form
        assert line.endswith("| 是 |" if form in trained else "| 否 |")
    assert "| `.csv`, `.tsv` | " in generate.generated("readers", str)
    assert "| `trained_stop` | 每个回答" in generate.generated("checks", generate.chinese)
    with pytest.raises(KeyError):
        generate.generated("no-such-table", str)


def test_a_stale_table_is_seen_and_a_pipe_stays_in_its_cell(generate: ModuleType) -> None:
    fresh = generate.PLACE.sub(lambda m: m[1] + generate.generated(m["name"], str) + m[3], STALE)
    assert "STALE" not in fresh and "| `0` | done |" in fresh
    assert generate.table(["a"], [["x | y"]], str).splitlines()[-1] == "| x \\| y |"
