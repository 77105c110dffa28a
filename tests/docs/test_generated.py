"""The tables written from the code are as the code is, in both languages."""

from __future__ import annotations

import importlib.util
import re
import sys
from types import ModuleType

import pytest

from pages import ROOT
from weitiao.data.formats import FORMATS
from weitiao.methods import METHODS


@pytest.fixture(scope="module")
def generate() -> ModuleType:
    """docs/generate.py, which is a script and no part of the package."""
    spec = importlib.util.spec_from_file_location("docs_generate", ROOT / "docs" / "generate.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_every_table_is_current(generate: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    assert generate.main(["--check"]) == 0, f"python docs/generate.py\n{capsys.readouterr().out}"


def test_every_setting_stands_in_both_languages(generate: ModuleType) -> None:
    for language in ("en", "zh"):
        text = (ROOT / "docs" / language / "settings.md").read_text(encoding="utf-8")
        for block, cls in generate.BLOCKS.values():
            for name in cls.model_fields:
                assert re.search(rf"`{re.escape(block)}\.{name}[`.]", text), f"{language}: {block}.{name}"
        for name in METHODS.names():
            assert f"\n### {name}\n" in text
            assert all(f"`method.{field}`" in text for field in METHODS.load(name).model_fields)


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
    assert next(line for line in columns.splitlines() if "`preference`" in line).endswith("| 否 |")
    assert "| `.csv`, `.tsv` | " in generate.generated("readers", str)
    assert "| `trained_stop` | 每个回答" in generate.generated("checks", generate.chinese)
    with pytest.raises(KeyError):
        generate.generated("no-such-table", str)


def test_a_stale_table_is_seen_and_a_pipe_stays_in_its_cell(generate: ModuleType) -> None:
    stale = "<!-- generated: exit-codes -->\nSTALE\n<!-- end -->\n"
    fresh = generate.PLACE.sub(lambda m: m[1] + generate.generated(m["name"], str) + m[3], stale)
    assert "STALE" not in fresh and "| `0` | done |" in fresh
    assert generate.table(["a"], [["x | y"]], str).splitlines()[-1] == "| x \\| y |"
