"""The kinds of file that rows are read from: one module per kind; the folder is the registry."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ....core.registry import Registry

if TYPE_CHECKING:
    from ._base import Reader

READERS: Registry[Reader] = Registry(
    "weitiao.data.sources.readers", "weitiao.data.sources.readers._base:Reader", "kind of file"
)
