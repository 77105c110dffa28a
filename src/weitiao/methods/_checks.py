"""Checks that methods share: which modules a name matches, and whether what is to be saved is finite."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from time import monotonic
from typing import TYPE_CHECKING

from ..core.errors import ModelError, NotFiniteError, Problem, nearest
from ..models.anatomy import linear_classes
from ..models.weights.files import some

if TYPE_CHECKING:
    from torch import Tensor, nn

NAMES_SHOWN = 40
MATCHING_SECONDS = 2
"""The time limit for matching a regular expression against all modules of a model."""


def refuse_not_finite(tensors: Mapping[str, Tensor], purpose: str) -> None:
    """Raise NotFiniteError, naming the tensors, if any contains NaN or inf."""
    bad = [name for name, tensor in tensors.items() if not tensor.isfinite().all()]
    if bad:
        raise NotFiniteError(
            Problem(
                f"{purpose} holds NaN or inf, so nothing was written",
                some(bad),
                "finite numbers",
                "resume from the last checkpoint with a lower train.lr",
            )
        )


def modules_matching(model: nn.Module, target: str) -> list[str]:
    """Return the paths that a plain name matches, as in PEFT: the whole path or its last segments."""
    return [path for path, _ in model.named_modules() if path == target or path.endswith(f".{target}")]


def modules_fully_matching(model: nn.Module, pattern: str) -> list[str]:
    """Return the paths of modules that a regular expression fully matches; raises ModelError if that takes too long."""
    return fully_matching(pattern, [path for path, _ in model.named_modules()])


def fully_matching(pattern: str, paths: Iterable[str]) -> list[str]:
    """Return the paths that a regular expression fully matches.

    Raises ModelError if it cannot be compiled, or if it takes longer than MATCHING_SECONDS in all: on a path of a few
    dozen characters, nested repetitions can take longer than anyone waits.
    """
    import regex

    ends = monotonic() + MATCHING_SECONDS
    try:
        compiled = regex.compile(pattern)
        return [p for p in paths if compiled.fullmatch(p, timeout=max(ends - monotonic(), 1e-3))]
    except regex.error as error:
        what = f"a regular expression for modules cannot be read: {error}"
        raise ModelError(Problem(what, pattern, "a regular expression, or names")) from error
    except TimeoutError as error:
        raise ModelError(
            Problem(
                "a regular expression for modules takes too long: it has nested repetitions",
                pattern,
                f"an expression that is matched with the model's modules within {MATCHING_SECONDS} s",
                "method.target_modules=all-linear or names with commas",
            )
        ) from error


def missing_names(model: nn.Module, setting: str, names: Iterable[str]) -> list[Problem]:
    """Return a problem for every name that matches no module of the model."""
    return [_no_such_module(model, setting, name) for name in names if not modules_matching(model, name)]


def _no_such_module(model: nn.Module, setting: str, name: str) -> Problem:
    leaves = {path.rpartition(".")[2] for path, _ in model.named_modules() if path} - {""}
    near = nearest(name.rpartition(".")[2], [leaf for leaf in leaves if not leaf.isdigit()])
    return Problem(
        f"{setting} names a module this model does not have", name, module_table(model), " or ".join(near)
    )


def module_table(model: nn.Module) -> str:
    """Return the last names of the linear and embedding modules, with how many there are of each, for an error
    message."""
    from torch import nn

    kinds = (*linear_classes(), nn.Embedding)
    counts = Counter(
        path.rpartition(".")[2] for path, module in model.named_modules() if isinstance(module, kinds)
    )
    shown = [f"{name} ({count})" for name, count in counts.most_common(NAMES_SHOWN)]
    return "some of: " + ", ".join(shown)


def quantization_problems(name: str, quantization: str) -> list[Problem]:
    """Return a problem if the base is quantised, for a method that trains the model's own weights."""
    what = f"{name} trains the model's own weights, which cannot be trained in {quantization}"
    return _on_quantized(name, quantization, what, "a method that adds weights")


def whole_weights_problems(name: str, quantization: str) -> list[Problem]:
    """Return a problem if the base is quantised, for a method that computes with the base's unpacked weights."""
    what = f"{name} computes with unquantised weights, which a base in {quantization} does not have"
    return _on_quantized(name, quantization, what, "a method that works on quantised weights")


def _on_quantized(name: str, quantization: str, what: str, others: str) -> list[Problem]:
    from . import METHODS

    if quantization == "none":
        return []
    able = [other for other in METHODS.names() if METHODS.load(other).on_quantized]
    return [
        Problem(
            what,
            f"method: {name}, model.quantization: {quantization}",
            f"quantization: none, or {others}: " + ", ".join(able),
            "model.quantization=none",
        )
    ]
