"""Translates other tools' values of settings that have the same name here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from .llama_factory import template
from .methods_names import targets
from .readers import precision
from .words import as_written

Changed = tuple[str, Any, str] | None
"""The setting, its value, and a sentence about it; None if the value needs no translation."""


def _template(value: Any) -> Changed:  # noqa: ANN401  (all of this file: any value of a run file)
    meant = template(value)
    why = "the model's own chat template" if meant == "auto" else "for bases without a chat template"
    return (
        ("data.template", meant, f"template: {value}, read as data.template={meant}: {why}")
        if meant
        else None
    )


def _targets(value: Any) -> Changed:  # noqa: ANN401
    meant = targets(value)
    said = f"target_modules: {as_written(value)}, read as method.target_modules={meant}"
    return ("method.target_modules", meant, said) if meant != value else None


def _first_values(value: Any) -> Changed:  # noqa: ANN401
    if value is not True:
        return None
    said = "init_lora_weights: true, read as method.init_lora_weights=default"
    return "method.init_lora_weights", "default", said


def _warmup(value: Any) -> Changed:  # noqa: ANN401
    if not isinstance(value, float) or not 0 < value < 1:
        return None
    return (
        "train.warmup_ratio",
        value,
        f"warmup_steps: {value:g}, read as train.warmup_ratio: a share of the steps",
    )


def _dtype(value: Any) -> Changed:  # noqa: ANN401
    meant = precision(value)
    return None if isinstance(value, str) or value is None else ("model.dtype", meant, f"dtype: {meant}")


OWN_VALUES: Mapping[str, Callable[[Any], Changed]] = {
    "data.template": _template,
    "method.target_modules": _targets,
    "method.init_lora_weights": _first_values,
    "train.warmup_steps": _warmup,
    "model.dtype": _dtype,
}
"""A dotted setting -> the function that translates other tools' values of it."""
