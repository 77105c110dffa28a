"""Several adapters on one base: each answers as it does alone, whatever the methods."""

from __future__ import annotations

from pathlib import Path

import pytest

from tiny_methods import every_method
from tiny_run import make_run
from weitiao.core.errors import SettingsError
from weitiao.data.conversation import Message
from weitiao.evaluation.generate import generate
from weitiao.evaluation.locate import locate
from weitiao.evaluation.open_model import Opened, open_by_name
from weitiao.evaluation.settings import GenerationSettings
from weitiao.evaluation.several_adapters import open_several
from weitiao.methods import METHODS


def answer(opened: Opened, *, base: bool = False) -> str:
    asked, settings = [[Message("user", "Hi")]], GenerationSettings(max_new_tokens=4)
    if base:
        with opened.as_base() as model:
            return generate(model, opened.tokenizer, opened.template, asked, settings)[0][0]
    return generate(opened.model, opened.tokenizer, opened.template, asked, settings)[0][0]


@pytest.fixture(scope="module")
def lora(tmp_path_factory: pytest.TempPathFactory, tiny_model_folder: Path) -> str:
    return str(make_run(tmp_path_factory.mktemp("lora") / "run", tiny_model_folder))


@pytest.fixture(scope="module")
def wanted(lora: str, tiny_model_folder: Path) -> tuple[str, str]:
    """What the LoRA adapter answers alone, and what the base does."""
    return answer(open_by_name(lora)), answer(open_by_name(str(tiny_model_folder)))


@every_method
def test_an_adapter_of_every_method_answers_beside_another_as_it_does_alone(
    name: str, lora: str, wanted: tuple[str, str], tiny_model_folder: Path, tmp_path: Path
) -> None:
    own = str(make_run(tmp_path / "run", tiny_model_folder, name, **METHODS.load(name).example))
    alone = open_by_name(own)
    if alone.source.trained is not None:
        with pytest.raises(SettingsError, match="not an adapter that can be switched"):
            open_several({"a": locate(lora), "b": locate(own)})
        return
    together = open_several({"a": locate(lora), "b": locate(own)})
    assert answer(together["a"]) == wanted[0]
    assert answer(together["b"]) == answer(alone)
    assert answer(together["a"]) == wanted[0], "neither disturbs the other"
    assert answer(together["b"], base=True) == wanted[1]


def test_a_plain_model_is_no_adapter(lora: str) -> None:
    with pytest.raises(SettingsError, match="it holds nothing trained"):
        open_several({"a": locate(lora), "b": locate(open_by_name(lora).source.base.name)})
