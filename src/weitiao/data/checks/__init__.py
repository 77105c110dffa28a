"""The checks that the gate runs on data: one file per check; the folder is the registry."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...core.registry import Registry

if TYPE_CHECKING:
    from ._base import Check

CHECKS: Registry[Check] = Registry("weitiao.data.checks", "weitiao.data.checks._base:Check", "check")
