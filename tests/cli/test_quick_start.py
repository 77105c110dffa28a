"""A command imports nothing that its run does not use: bitsandbytes only for a model that may be quantised."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from weitiao.cli._quick_start import may_be_quantized
from weitiao.models.settings import ModelSettings

TRAIN = """
import sys
from weitiao.cli import main
try:
    main()
finally:
    print("loaded:", *(name for name in ("bitsandbytes", "peft") if sys.modules.get(name)))
"""


def test_a_run_without_quantisation_never_imports_bitsandbytes(
    tiny_model_folder: Path, tmp_path: Path
) -> None:
    rows = [{"instruction": f"What is {n}?", "output": f"It is {n}."} for n in range(20)]
    (tmp_path / "my.json").write_text(json.dumps(rows), encoding="utf-8")
    words = ["train", "--model", str(tiny_model_folder), "--data", "my.json", "--out", "run", "--steps", "1"]
    done = subprocess.run(
        [sys.executable, "-c", TRAIN, *words, "evaluate.question_count=1", "evaluate.panel=false"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == "reading the settings ..."
    assert lines[-1] == "loaded: peft"


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, False),
        ({"quantization": "nf4"}, True),
        ({"quantization": "int8"}, True),
        ({"name": "smollm2-135m"}, False),
        ({"name": "smollm2-135m", "quantization": "fp4"}, True),
        ({"name": "is-not-here.gguf"}, False),
        ({"name": "is-not-here"}, True),
    ],
)
def test_which_models_may_be_quantised(
    settings: dict[str, str], expected: bool, tiny_model_folder: Path
) -> None:
    assert may_be_quantized(ModelSettings(**{"name": str(tiny_model_folder), **settings})) is expected


@pytest.mark.parametrize("name", ["a-model", "smollm2-135m", "a-model.gguf"])
def test_a_model_saved_quantised_is_known_by_its_config(
    name: str, tiny_model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / name
    folder.mkdir()
    config = json.loads((tiny_model_folder / "config.json").read_text())
    stored = {"quant_method": "bitsandbytes", "load_in_4bit": True, "bnb_4bit_quant_type": "nf4"}
    (folder / "config.json").write_text(json.dumps({**config, "quantization_config": stored}))
    (folder / "model.safetensors").touch()
    assert may_be_quantized(ModelSettings(name=name))
