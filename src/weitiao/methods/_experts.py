"""The experts of a mixture: parameters that hold one matrix per expert, and the names that refer to them.

Since transformers 5 the experts of most architectures are two parameters, `gate_up_proj` (experts, 2 inner, hidden) and
`down_proj`. Users still name the layers they were before: gate_proj, up_proj and down_proj, or w1, w3 and w2.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING

from ..models.anatomy import anatomy
from ._checks import fully_matching

if TYPE_CHECKING:
    from transformers import PreTrainedModel

OLDER_NAMES = {
    "w1": "gate_proj",
    "w3": "up_proj",
    "w2": "down_proj",
    "input_linear": "gate_up_proj",
    "output_linear": "down_proj",
}
"""Names of expert layers before transformers 5 -> the usual name of such a layer."""
KIND = "proj"
"""The part of a name that does not say which projection it is."""


def experts_of(model: PreTrainedModel, targets: list[str] | str) -> list[str]:
    """Return the paths of the experts' parameters that `targets` selects on a model."""
    every = list(anatomy(model).experts)
    if targets == "all-linear":
        return every
    if isinstance(targets, list):
        return [path for path in every if any(_means(name, path) for name in targets)]
    return [path for path in every if fully_matching(targets, [path, *_older_paths(path)])]


def experts_named(model: PreTrainedModel, name: str) -> list[str]:
    """Return the paths of the experts' parameters that a name refers to."""
    return experts_of(model, [name])


def halves_named(path: str, names: Iterable[str]) -> list[str]:
    """Return the names, in today's spelling, that refer to a part of a fused parameter; none if one names it whole."""
    own = path.rpartition(".")[2]
    meant = {
        OLDER_NAMES.get(name, name) for name in (n.rpartition(".")[2] for n in names) if _means(name, path)
    }
    return [] if own in meant or len(_words(own)) < 2 else sorted(meant)


def _means(name: str, path: str) -> bool:
    """Return whether a name refers to an experts' parameter: by the end of its path, or as the layer it was before."""
    if path == name or path.endswith(f".{name}"):
        return True
    *place, last = name.split(".")
    own = path.rpartition(".")[2]
    wanted = _words(OLDER_NAMES.get(last, last))
    return bool(wanted) and wanted <= _words(own) and set(place) <= set(path.split("."))


def _words(name: str) -> set[str]:
    """Return the words that tell which projection a name is: gate and up for gate_up_proj."""
    return set(name.split("_")) - {KIND} if name.endswith(f"_{KIND}") else set()


def _older_paths(path: str) -> list[str]:
    """Return the paths that the first expert's layers had before they became one parameter."""
    holder, _, own = path.rpartition(".")
    parts = [f"{word}_{KIND}" for word in sorted(_words(own))]
    older = [old for old, new in OLDER_NAMES.items() if new in parts]
    return [f"{holder}.{index}{name}" for name in parts + older for index in ("", "0.")]


def fused(path: str) -> int:
    """Return how many matrices per expert a parameter stacks."""
    return max(1, len(_words(path.rpartition(".")[2])))


def names_for(wanted: Iterable[str], every: Iterable[str]) -> list[str]:
    """Return names, sorted, that PEFT matches to exactly the wanted paths.

    Each is the shortest path ending that no other path has, or the whole path if that ending would contain a block's
    number.
    """
    kept = set(wanted)
    others = {ending for path in every if path not in kept for ending in _endings(path)}
    return sorted({_shortest(path, others) for path in kept})


def _shortest(path: str, others: Collection[str]) -> str:
    found = next((ending for ending in _endings(path) if ending not in others), path)
    return path if any(segment.isdigit() for segment in found.split(".")) else found


def _endings(path: str) -> list[str]:
    """Return a path's endings, the shortest first: `c_proj`, `mlp.c_proj`, and so on."""
    segments = path.split(".")
    return [".".join(segments[-count:]) for count in range(1, len(segments) + 1)]


def _last(path: str) -> str:
    return path.rpartition(".")[2]


def apart(paths: Iterable[str], names: Collection[str]) -> tuple[list[str], list[str]]:
    """Return the paths whose last segment is not among `names`, and those whose last segment is."""
    every = list(paths)
    return [p for p in every if _last(p) not in names], [p for p in every if _last(p) in names]
