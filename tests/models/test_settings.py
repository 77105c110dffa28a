"""Model settings: short forms, other tools' names, and what does not go together."""

from __future__ import annotations

import subprocess
import sys

import pytest

from weitiao.core.errors import SettingsError
from weitiao.core.settings import Settings, parse_settings
from weitiao.models.settings import ModelSettings


class Run(Settings):
    """A run file with a model in it."""

    model: ModelSettings


def test_a_bare_name_is_enough() -> None:
    assert parse_settings(Run, {"model": "smollm2-135m"}).model == ModelSettings(name="smollm2-135m")


@pytest.mark.parametrize(
    ("written", "meant"),
    [("float32", "fp32"), ("torch.bfloat16", "bf16"), ("half", "fp16"), ("auto", "auto")],
)
def test_long_names_of_precisions(written: str, meant: str) -> None:
    assert ModelSettings(name="m", dtype=written).dtype == meant


def test_null_is_no_quantization() -> None:
    assert ModelSettings(name="m", quantization=None).quantization == "none"


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        ({"name": " "}, "empty"),
        ({}, "missing"),
        ({"name": "m", "dtype": "fp8"}, "fp32"),
        ({"name": "m", "quantization": "gptq"}, "nf4"),
        ({"name": "m", "double_quantization": True}, "double_quantization needs"),
        (
            {"name": "m", "quantization": "int8", "compute_dtype": "fp32"},
            "compute_dtype is for 4-bit layers",
        ),
    ],
)
def test_what_cannot_be(raw: dict[str, object], reason: str) -> None:
    with pytest.raises(SettingsError, match=reason):
        parse_settings(ModelSettings, raw, "model")


def test_settings_and_aliases_import_no_torch() -> None:
    script = (
        "import sys, weitiao.models.settings, weitiao.models.aliases, weitiao.models.resolve, weitiao.models.load,"
        "weitiao.methods._base, weitiao.methods.lora, weitiao.methods.freeze, weitiao.methods.full;"
        "print(sorted({'torch', 'transformers', 'peft', 'bitsandbytes', 'numpy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "[]"
