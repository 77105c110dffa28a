"""Facts of a run that reports are written from."""

from __future__ import annotations

from weitiao.evaluation.answers import Answer
from weitiao.evaluation.chosen import Chosen
from weitiao.evaluation.run_facts import ReportFacts, Scores

CHOSEN = Chosen(
    method="LoRA",
    targets=("q_proj, v_proj", 60),
    lr=2e-4,
    scheduler="cosine",
    warmup_steps=4,
    epochs=2.5,
    steps=40,
    batch_size=8,
    examples=114,
    held_out=6,
)
FACTS = ReportFacts(
    run="runs/my run",
    base="smollm2-135m",
    data=("my.json",),
    data_lines=("rows       120 read (120 alpaca), 120 kept",),
    method="lora",
    method_title="LoRA",
    method_settings={"r": 8, "alpha": 16},
    trainable=460_800,
    total=134_975_808,
    steps=40,
    seconds=75,
    tokens_per_second=812.4,
    peak_memory_bytes=2 << 30,
    result="adapter",
    is_adapter=True,
    before=Scores(3.0, {"perplexity": 20.0855}),
    after=Scores(1.5, {"perplexity": 4.4817}),
    losses=[(1, 3.0), (2, 2.0), (3, float("nan")), (4, 1.5)],
    held_out_losses=[(4, 1.5)],
    answers=[Answer("Who | are you?", "I am 小微.", "A *model*\nby <b>x</b>", "我是小微。")],
    versions={"python": "3.11.7", "torch": "2.13.0"},
)
