"""What `methods`, `models` and `settings` list comes from the components themselves."""

from __future__ import annotations

from pathlib import Path

import pytest

from weitiao.cli import run
from weitiao.methods import METHODS
from weitiao.models import gguf
from weitiao.models.aliases import ALIASES


def shown_by(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert run(list(words)) == 0
    return capsys.readouterr().out


def test_methods_are_one_table(capsys: pytest.CaptureFixture[str]) -> None:
    shown = shown_by(capsys, "methods")
    for name in METHODS.names():
        assert METHODS.load(name).paper.removeprefix("https://") in shown
        assert f"\n{name} " in shown
    assert max(map(len, shown.splitlines())) <= 80


@pytest.mark.parametrize("name", METHODS.names())
def test_one_method_is_explained_with_its_settings(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    shown = shown_by(capsys, "methods", name)
    method = METHODS.load(name)
    for words in (
        method.title,
        method.paper,
        method.formula,
        *(f"method.{field}" for field in method.model_fields),
    ):
        assert words in shown, words


def test_settings_are_listed_by_block(capsys: pytest.CaptureFixture[str]) -> None:
    everything = shown_by(capsys, "settings")
    for key in ("model.name", "data.max_length", "train.lr", "evaluate.generation.temperature", "track."):
        assert key in everything
    train = shown_by(capsys, "settings", "train")
    assert "train.batch_size" in train and "model.name" not in train


@pytest.mark.parametrize("name", ALIASES)
def test_models_say_whether_they_can_be_used_at_once(
    name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("WEITIAO_HOME", str(tmp_path))
    assert "installed; prepared on" in shown_by(capsys, "models")
    gguf.folder_of(ALIASES[name].path).mkdir(parents=True)
    shown = shown_by(capsys, "models")
    assert "ready" in shown and name in shown and "owner/name" in shown


def test_square_brackets_of_a_description_are_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert "weitiao[trackio]" in shown_by(capsys, "settings", "track")
