"""Mixtures of experts with packed layers, from training to a merged model: right, and what stays whole is said."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import tiny
from sweep import zoo
from tiny_training import Events
from weitiao.data.conversation import Message
from weitiao.evaluation.generate import generate
from weitiao.evaluation.open_model import open_by_name
from weitiao.evaluation.settings import GenerationSettings
from weitiao.recipe.recipe import parse_recipe
from weitiao.recipe.train import train_recipe
from weitiao.serving.merge import merge_run

QUESTIONS = ("Hi", "What is LoRA, and what does it add?")
EVERY, DORA = {"target_modules": "all-linear"}, {"use_dora": True}


@pytest.mark.parametrize(
    ("architecture", "quantization", "method"),
    [("olmoe", "nf4", EVERY), ("qwen2_moe", "int8", DORA)],
)
@pytest.mark.filterwarnings("error:The following")
def test_a_packed_mixture_is_trained_opened_and_merged(
    architecture: str, quantization: str, method: dict[str, Any], recipe: dict[str, Any], tmp_path: Path
) -> None:
    base = tmp_path / "base"
    zoo.make_model(architecture).save_pretrained(base)
    tiny.make_tokenizer().save_pretrained(base)
    heard = Events()
    own = {
        "model": {"name": str(base), "quantization": quantization},
        "method": {"name": "lora", "r": 4, **method},
        "train": {"steps": 2, "batch_size": 2, "lr": 1e-2},
    }
    run = train_recipe(parse_recipe({**recipe, **own}), [heard])
    assert run.held_out["after"]["loss"] < run.held_out["before"]["loss"]
    said = [event["text"] for event in heard.of("note") if "%" in event["text"]]
    assert any(f"{quantization} quantises linear layers; the experts" in text for text in said)
    assert any("experts (DoRA needs a layer" in text for text in said) == (method is DORA)
    assert f"{quantization} quantises linear layers" in run.folder.report.read_text(encoding="utf-8")
    assert f"{quantization} 只量化线性层" in run.folder.report_zh.read_text(encoding="utf-8")
    opened = open_by_name(str(run.folder.root))
    asked = [[Message("user", text)] for text in QUESTIONS]
    settings = GenerationSettings(max_new_tokens=3)
    together = generate(opened.model, opened.tokenizer, opened.template, asked, settings)
    alone = [generate(opened.model, opened.tokenizer, opened.template, [one], settings)[0] for one in asked]
    assert together == alone
    assert merge_run(str(run.folder.root), tmp_path / "merged", QUESTIONS[:1]).comparison.holds
