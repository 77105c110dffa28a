"""The demo: a small chat model learns who it is, in about a minute on two cores."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ..data.samples import sample_path
from .recipe import Recipe, parse_recipe

Language = Literal["en", "zh"]
GENERAL_ROWS = 24
"""Added to 40 rows on who it is: without them the model forgets what the capital of France is."""


BUNDLED = "smollm2-135m"
"""The bundled model."""
BUNDLED_LANGUAGE: Language = "en"
"""The only language it understands."""


@dataclass(frozen=True)
class DemoData:
    """What the demo teaches in one language."""

    file: str
    name: str
    author: str
    questions: tuple[str, ...]
    """Questions asked before and after; none is in the file word for word."""


SAMPLES: Mapping[Language, DemoData] = {
    "en": DemoData(
        file="identity_en.json",
        name="Xiaowei",
        author="the weitiao team",
        questions=(
            "Hello! Who are you, please?",
            "Please tell me who created you.",
            "Are you ChatGPT, by any chance?",
            "What is the capital of France?",
            "What is 2 + 3?",
        ),
    ),
    "zh": DemoData(
        file="identity_zh.json",
        name="小微",
        author="微调团队",
        questions=("你好，请问你是谁？", "是谁把你做出来的？", "你是不是 ChatGPT 呀？", "你叫什么名字呢？"),
    ),
}


def demo_recipe(
    out: Path,
    language: Language = "en",
    name: str | None = None,
    author: str | None = None,
    model: str | None = None,
) -> Recipe:
    """Return the recipe of the demo: LoRA on the bundled model, trained on the identity sample and on general rows that
    the model answers itself.

    The bundled model understands only English, so other languages need a `model`; without one the sample is English.
    """
    sample = SAMPLES[language if model else BUNDLED_LANGUAGE]
    return parse_recipe(
        {
            "model": model or BUNDLED,
            "data": {
                "sources": [str(sample_path(sample.file))],
                "fill": {"name": name or sample.name, "author": author or sample.author},
                "held_out": 6,
                # Another model may think first or answer at length: too few of its answers would be usable.
                "replay": "off" if model else {"share": GENERAL_ROWS, "max_new_tokens": 40},
            },
            "method": {"name": "lora", "r": 16, "alpha": 32, "target_modules": "all-linear"},
            "train": {"epochs": 5, "batch_size": 8, "lr": 6e-4, "scheduler": "cosine", "warmup_ratio": 0.1},
            "evaluate": {"questions": list(sample.questions), "generation": {"max_new_tokens": 48}},
            "out": str(out),
        }
    )
