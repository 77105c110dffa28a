"""What is minimised: one file per objective; the folder is the registry."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..core.registry import Registry

if TYPE_CHECKING:
    from ._base import Objective

OBJECTIVES: Registry[Objective] = Registry(
    "weitiao.objectives", "weitiao.objectives._base:Objective", "objective"
)
