"""Training objectives: one file each; the folder is the registry."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING

from ..core.registry import Registry, component_files

if TYPE_CHECKING:
    from ._base import Objective

PREFERENCES = ("dpo", "kto", "orpo", "simpo", "cpo", "ipo")
REWARDS = ("rm", "reward", "ppo", "grpo", "rloo", "reinforce")
LABELS = ("classification", "tagging", "embedding", "reranking", "seq2seq")
NOT_YET: Mapping[tuple[str, ...], str] = {
    PREFERENCES: "training on preferences is not supported yet",
    REWARDS: "reward models and reinforcement learning are not supported yet",
    LABELS: "training on labels is not supported yet",
}
"""Names of objectives by kind -> what is said of them as long as no file has one of these names."""


def known_elsewhere(files: Collection[str]) -> dict[str, tuple[str, str]]:
    """Return name -> what it means and what to type, for the objectives that have no file among `files`."""
    known: dict[str, tuple[str, str]] = {}
    for names, meaning in NOT_YET.items():
        present = [name for name in names if name in files]
        said = f"of its kind weitiao has {', '.join(present)}" if present else meaning
        remedy = " or ".join(f"objective={name}" for name in present or ["sft"])
        known |= {name: (said, remedy) for name in names if name not in present}
    return known


OBJECTIVES: Registry[Objective] = Registry(
    "weitiao.objectives",
    "weitiao.objectives._base:Objective",
    "objective",
    known_elsewhere=known_elsewhere(component_files("weitiao.objectives")),
)
