"""Training objectives: one file each; the folder is the registry."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..core.registry import Registry

if TYPE_CHECKING:
    from ._base import Objective

PREFERENCES = ("dpo", "kto", "orpo", "simpo", "cpo", "ipo")
REWARDS = ("rm", "reward", "ppo", "grpo", "rloo", "reinforce")
LABELS = ("classification", "tagging", "embedding", "reranking", "seq2seq")
NOT_YET = {
    **dict.fromkeys(PREFERENCES, "training on preferences is not supported yet"),
    **dict.fromkeys(REWARDS, "reward models and reinforcement learning are not supported yet"),
    **dict.fromkeys(LABELS, "training on labels is not supported yet"),
}

OBJECTIVES: Registry[Objective] = Registry(
    "weitiao.objectives",
    "weitiao.objectives._base:Objective",
    "objective",
    known_elsewhere={name: (meaning, "objective=sft") for name, meaning in NOT_YET.items()},
)
