"""Finished run folders made without training: a tiny base model, and an adapter or whole model with random weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import yaml

import tiny
from weitiao.core.run_folder import RunFolder
from weitiao.core.settings import parse_settings
from weitiao.methods import METHODS
from weitiao.models.load import load_model
from weitiao.models.settings import ModelSettings


def make_run(
    root: Path,
    base: Path,
    method: str = "lora",
    *,
    model: dict[str, Any] | None = None,
    **settings: Any,  # noqa: ANN401
) -> Path:
    """Write a run folder whose trained parameters have random noise added; return its path."""
    run = RunFolder(root)
    root.mkdir(parents=True)
    model_block = {"name": str(base), **(model or {})}
    recipe = {
        "model": model_block,
        "data": {"sources": [{"path": "my.json"}], "template": "auto"},
        "method": {"name": method, **settings},
        "out": str(root),
    }
    run.run_yaml.write_text(yaml.safe_dump(recipe), encoding="utf-8")
    attached = parse_settings(METHODS.load(method), settings).attach(
        load_model(parse_settings(ModelSettings, model_block))
    )
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in attached.trainable().values():
            parameter += 0.3 * torch.randn(parameter.shape, generator=generator).to(parameter.dtype)
    target = run.model if attached.saves_whole_model else run.adapter
    attached.save(target)
    return root


def make_base(folder: Path) -> Path:
    """Write a tiny base model; return its path."""
    return tiny.save_tiny_model(folder)
