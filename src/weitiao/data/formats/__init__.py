"""The formats of rows: one module per format; the folder is the registry."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...core.registry import Registry

if TYPE_CHECKING:
    from ._base import Format

FORMATS: Registry[Format] = Registry("weitiao.data.formats", "weitiao.data.formats._base:Format", "format")
