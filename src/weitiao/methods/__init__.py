"""What is trained: one file per method; the folder is the registry."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..core.registry import Registry

if TYPE_CHECKING:
    from ._base import Method

METHODS: Registry[Method] = Registry("weitiao.methods", "weitiao.methods._base:Method", "method")
