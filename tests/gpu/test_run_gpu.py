"""Whole runs on a GPU: from a run file to an adapter that plain PEFT loads, with looks, questions and checkpoints."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

import tiny
import weitiao
from tiny_gpu import DEVICE, rehearsed

pytestmark = rehearsed


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return tiny.save_tiny_model(tmp_path / "base", hidden=64, layers=3)


def train(base: Path, folder: Path, method: dict[str, Any], **blocks: Any) -> weitiao.Run:  # noqa: ANN401
    data = folder / "rows.json"
    rows = [{"instruction": f"What is {n}?", "output": f"It is {n}, and no more."} for n in range(20)]
    data.write_text(json.dumps(rows), encoding="utf-8")
    settings = {"steps": 12, "batch_size": 4, "lr": 1e-2, "save_every": 6, "eval_every": 6}
    return weitiao.train(
        model={"name": str(base), "dtype": "bf16", "device_map": DEVICE.type} | blocks.get("model", {}),
        data={"sources": str(data), "held_out": 4},
        method=method,
        train=settings | blocks.get("train", {}),
        evaluate={"question_count": 2, "generation": {"max_new_tokens": 8}},
        out=folder / "run",
    )


@pytest.mark.parametrize(
    ("method", "blocks"),
    [
        ({"name": "lora", "r": 8}, {}),
        ({"name": "lora", "r": 8}, {"model": {"quantization": "nf4", "compute_dtype": "bf16"}}),
        ({"name": "prefix_tuning"}, {}),
        ({"name": "full"}, {"train": {"lr": 1e-3, "optimizer": "paged_adamw_8bit"}}),
        ({"name": "freeze", "last_n": 1}, {"train": {"steps": 24}}),
    ],
    ids=["lora", "qlora", "prefix", "full", "frozen blocks once"],
)
@pytest.mark.filterwarnings("ignore:Paged optimizers are not supported on CPU")
def test_a_run_learns_and_what_it_leaves_answers_the_same(
    method: dict[str, Any], blocks: dict[str, Any], base: Path, tmp_path: Path
) -> None:
    run = train(base, tmp_path, method, **blocks)
    assert run.losses[-1] < run.losses[0]
    assert not [event["text"] for event in run.events if "one at a time" in str(event.get("text"))]
    assert run.generate("What is 3?")


def test_plain_peft_answers_as_the_run_does(base: Path, tmp_path: Path) -> None:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    run = train(base, tmp_path, {"name": "lora", "r": 8})
    plain = AutoModelForCausalLM.from_pretrained(base, dtype=torch.bfloat16).to(DEVICE)
    ids = torch.arange(3, 12, device=DEVICE)[None]
    with torch.no_grad():
        untrained = plain(ids).logits
        logits = PeftModel.from_pretrained(plain, str(run.adapter_path)).eval()(ids).logits
    assert logits.isfinite().all()
    assert not torch.equal(logits, untrained)
