"""Choices: each can be typed as it is read, a wrong one is answered with all of them, and tables name them."""

from __future__ import annotations

from types import UnionType
from typing import Any, Union, get_args, get_origin

import pytest
from pydantic.fields import FieldInfo

from weitiao.core.errors import Problem
from weitiao.core.settings import (
    Settings,
    check_settings,
    choices_of,
    description_of,
    parse_overrides,
    to_yaml,
)
from weitiao.data.settings import DataSettings, SourceSettings
from weitiao.engine.runtime.tracking import TrackSettings
from weitiao.engine.settings import TrainSettings
from weitiao.evaluation.answers import EvaluateSettings
from weitiao.evaluation.settings import GenerationSettings
from weitiao.methods import METHODS
from weitiao.models.settings import ModelSettings

EVERY: list[type[Settings]] = [
    *(TrainSettings, TrackSettings, DataSettings, SourceSettings, ModelSettings),
    *(METHODS.load(name) for name in METHODS.names()),
]
CHOICES = [
    (cls, name, choice)
    for cls in EVERY
    for name, field in cls.model_fields.items()
    for choice in choices_of(field.annotation)
]
LISTED = {"to"}
"""Settings that hold a list of their choices."""


def problems_of(cls: type[Settings], **raw: Any) -> list[Problem]:  # noqa: ANN401
    settings, problems = check_settings(cls, raw, "train")
    assert settings is None
    return problems


def typed(name: str, text: str) -> object:
    """Return what a word of the command line holds."""
    return parse_overrides([f"{name}={text}"])[name]


@pytest.mark.parametrize(
    ("cls", "name", "choice"), CHOICES, ids=[f"{c.__name__}.{n}={v}" for c, n, v in CHOICES]
)
def test_every_choice_can_be_typed_as_it_is_written(cls: type[Settings], name: str, choice: str) -> None:
    """YAML reads off, on, yes and no as truth values."""
    _, problems = check_settings(cls, {name: typed(name, f"[{choice}]" if name in LISTED else choice)}, "")
    own = [problem for problem in problems if problem.what.startswith(f"{name} cannot be used")]
    assert own == []


@pytest.mark.parametrize(
    ("text", "meant"), [("off", "off"), ("'off'", "off"), ("no", "off"), ("false", "off"), ("auto", "auto")]
)
def test_frozen_cache_off_is_read_however_it_is_typed(text: str, meant: str) -> None:
    settings = TrainSettings.model_validate({"frozen_cache": typed("frozen_cache", text)})
    assert settings.frozen_cache == meant
    again = parse_overrides([f"frozen_cache={settings.frozen_cache}"])
    assert TrainSettings.model_validate(again) == settings
    assert f"frozen_cache: {'auto' if meant == 'auto' else repr(meant)}\n" in to_yaml(settings)


@pytest.mark.parametrize("text", ["on", "true", "yes"])
def test_frozen_cache_cannot_be_forced(text: str) -> None:
    (problem,) = problems_of(TrainSettings, frozen_cache=typed("frozen_cache", text))
    assert "cannot be forced on" in problem.what
    assert problem.expected == "auto (used if it saves time) or off"
    assert problem.remedy == "train.frozen_cache=auto"


@pytest.mark.parametrize(
    ("raw", "expected", "remedy"),
    [
        ({"kernels": "ligre"}, "auto, liger or none", "train.kernels=liger"),
        ({"kernels": False}, "auto, liger or none", ""),
        ({"matmul": "onedn"}, "auto, mkl or onednn", "train.matmul=onednn"),
        ({"frozen_cache": "of"}, "auto or off", "train.frozen_cache=off"),
    ],
    ids=str,
)
def test_a_wrong_choice_is_answered_with_all_of_them(raw: dict[str, Any], expected: str, remedy: str) -> None:
    (problem,) = problems_of(TrainSettings, **raw)
    assert (problem.expected, problem.remedy) == (expected, remedy)
    assert "there is no such choice" in problem.what


def test_a_wrong_choice_in_a_list_is_answered_with_all_of_them() -> None:
    (problem,) = problems_of(TrackSettings, to=["wandb", "tensorbord"])
    assert problem.expected == "tensorboard, trackio, wandb, mlflow or swanlab"
    assert problem.remedy == "tensorboard"


def test_a_description_names_every_choice_once() -> None:
    field = TrainSettings.model_fields
    assert description_of(field["frozen_cache"]).endswith("if that saves time. One of auto, off.")
    assert description_of(field["kernels"]) == (field["kernels"].description or "").replace("\n", " ")
    assert description_of(FieldInfo(annotation=bool, description="One\nline.")) == "One line."
    for cls in EVERY:
        for one in cls.model_fields.values():
            assert all(choice in description_of(one) for choice in choices_of(one.annotation))


SEVERAL_TYPES = [
    (cls, name)
    for cls in EVERY
    for name, field in cls.model_fields.items()
    if len([part for part in get_args(field.annotation) if part is not type(None)]) > 1
    and get_origin(field.annotation) in (Union, UnionType)
]


@pytest.mark.parametrize(("cls", "name"), SEVERAL_TYPES, ids=lambda value: getattr(value, "__name__", value))
def test_a_value_of_none_of_several_types_is_one_problem_in_our_own_words(
    cls: type[Settings], name: str
) -> None:
    (problem, *more) = [p for p in problems_of(cls, **{name: object()}) if f"train.{name}" in p.what]
    assert not more
    assert problem.what == f"train.{name} cannot be used"
    assert problem.expected


@pytest.mark.parametrize(
    ("cls", "raw", "remedy"),
    [
        (TrainSettings, {"early_stopping_patience": 0}, "train.early_stopping_patience=off"),
        (TrainSettings, {"early_stopping_patience": "of"}, "train.early_stopping_patience=off"),
        (DataSettings, {"sources": "x.json", "held_out": -1}, "train.held_out=auto"),
    ],
)
def test_the_word_among_several_types_is_what_to_try(
    cls: type[Settings], raw: dict[str, Any], remedy: str
) -> None:
    (problem,) = problems_of(cls, **raw)
    assert problem.remedy == remedy


def number_settings() -> list[tuple[type[Settings], str]]:
    """Return every setting that may be a number and no boolean, of itself or in a list."""
    return [
        (cls, name)
        for cls in (*EVERY, EvaluateSettings, GenerationSettings)
        for name, field in cls.model_fields.items()
        if {int, float}.intersection(leaves := _leaves(field.annotation)) and bool not in leaves
    ]


def _leaves(annotation: Any) -> list[Any]:  # noqa: ANN401
    parts = get_args(annotation)
    return [leaf for part in parts for leaf in _leaves(part)] if parts else [annotation]


@pytest.mark.parametrize("value", [True, False])
def test_a_boolean_is_no_number(value: bool) -> None:
    for cls, name in number_settings():
        field = cls.model_fields[name]
        if value is False and "off" in choices_of(field.annotation):
            continue  # what YAML makes of the word
        inside = get_origin(field.annotation) in (list, dict, tuple)
        problems = problems_of(cls, **{name: [value] if inside else value})
        assert [one for one in problems if name in one.what], f"{cls.__name__}.{name}={value} is accepted"


class Some(Settings):
    """Numbers inside others, and what may be a boolean."""

    numbers: list[int]
    pair: tuple[float, float] | None = None
    by_name: dict[str, float] | None = None
    switch: bool | int = False
    anything: Any = None


def test_a_boolean_in_a_list_of_numbers_is_none() -> None:
    for raw in ({"numbers": [1, True]}, {"pair": (0.5, False)}, {"by_name": {"a": True}}):
        (problem,) = problems_of(Some, **{"numbers": [1], **raw})
        assert "is not a number" in problem.what
    some = Some(numbers=[1], switch=True, anything=True, by_name={"a": 1})
    assert some.switch is True and some.anything is True


def test_a_boolean_for_a_number_is_answered_with_a_word_that_works() -> None:
    (problem,) = problems_of(DataSettings, sources="x.json", held_out=True)
    assert problem.remedy == "train.held_out=auto"
    (problem,) = problems_of(TrainSettings, steps=True)
    assert problem.what == "train.steps cannot be used: true is not a number"
