"""The demonstration's languages: the bundled model understands English only, another model may be named."""

from __future__ import annotations

from pathlib import Path

import pytest

from weitiao.cli import run
from weitiao.core.settings import read_yaml
from weitiao.recipe.demo import BUNDLED, demo_recipe


def file_of(lang: str, model: str | None = None) -> tuple[str, str]:
    recipe = demo_recipe(Path("runs/x"), lang, model=model)  # type: ignore[arg-type]
    return recipe.model.name, Path(str(recipe.data.sources[0].path)).name


def test_the_bundled_model_is_taught_in_english_whatever_the_language() -> None:
    assert file_of("en") == file_of("zh") == (BUNDLED, "identity_en.json")
    assert file_of("zh", "owner/name") == ("owner/name", "identity_zh.json")
    assert file_of("en", "owner/name") == ("owner/name", "identity_en.json")


@pytest.mark.parametrize(
    ("words", "is_said"), [(("--lang", "zh"), True), (("--lang", "en"), False), ((), False)]
)
def test_that_it_is_english_is_said_before_anything_is_loaded(
    words: tuple[str, ...], is_said: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["demo", *words, "--out", "   "]) == 2
    shown = capsys.readouterr()
    assert ("out 不是文件夹" if is_said else "out is not a folder") in shown.err
    for sentence in ("只懂英文", "weitiao demo --lang zh --model"):
        assert (sentence in shown.out) == is_said


def test_another_model_is_taught_the_chinese_rows(
    tiny_model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    assert run(["demo", "--lang", "zh", "--model", str(tiny_model_folder), "--out", str(out)]) == 0
    shown = capsys.readouterr().out
    assert "只懂英文" not in shown and "你好，请问你是谁？" in shown
    assert read_yaml(out / "run.yaml")["data"]["sources"][0]["path"].endswith("identity_zh.json")
