"""Names the methods that do apply where one does not fit a model's architecture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ..core.errors import ModelError, Problem, raise_all

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel

    from ._base import Method

FIRST_CHOICE = "lora"


@dataclass(frozen=True)
class DoesNotApply(Problem):
    """A problem with the model's architecture: no setting of the method solves it, but another method may."""


def no_place_for_head(name: str, model: PreTrainedModel) -> Problem:
    """Describe a method that cannot train a classification model's head, because its file in PEFT's format cannot hold
    it."""
    what = f"{name} cannot train the classification head as well, without which a classifier learns nothing"
    return DoesNotApply(what, type(model).__name__, "a language model")


def require_applicable(method: Method, model: PreTrainedModel, config: PretrainedConfig) -> None:
    """Raise ModelError with every problem that keeps a method from a model, before any weights are loaded.

    A problem with the architecture also names the methods that do apply.
    """
    raise_all(ModelError, naming_others(method.problems(model, config), model, config))


def naming_others(
    problems: Sequence[Problem], model: PreTrainedModel, config: PretrainedConfig
) -> list[Problem]:
    """Return the problems, with the methods that apply to the model added to those with its architecture."""
    if not any(isinstance(problem, DoesNotApply) for problem in problems):
        return list(problems)
    names = applicable(model, config)
    first = FIRST_CHOICE if FIRST_CHOICE in names else next(iter(names), "")
    others = "methods that apply to this model: " + ", ".join(names) if names else ""
    return [_completed(p, others, first) if isinstance(p, DoesNotApply) else p for p in problems]


def _completed(problem: Problem, others: str, first: str) -> Problem:
    expected = "; ".join(part for part in (problem.expected, others) if part)
    remedies = [part for part in (problem.remedy, f"method={first}" if first else "") if part]
    return replace(problem, expected=expected, remedy=" or ".join(remedies))


def applicable(model: PreTrainedModel, config: PretrainedConfig) -> list[str]:
    """Return the names of the methods without problems on a weightless model, with default settings or their
    `example`."""
    from . import METHODS

    return [name for name in METHODS.names() if _applies(name, model, config)]


def _applies(name: str, model: PreTrainedModel, config: PretrainedConfig) -> bool:
    from . import METHODS

    kind = METHODS.load(name)
    try:
        return not kind(**kind.example).problems(model, config)
    except ModelError:
        return False
