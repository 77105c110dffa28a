"""The methods: which parameters train, and how. One file per method; the folder is the registry."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..core.registry import Registry
from ._aliases import KNOWN_ELSEWHERE
from ._peft.quiet import drop_note_on_kernels

if TYPE_CHECKING:
    from ._base import Method

METHODS: Registry[Method] = Registry(
    "weitiao.methods",
    "weitiao.methods._base:Method",
    "method",
    families={"peft": "weitiao.methods._peft.any:method_of"},
    known_elsewhere=KNOWN_ELSEWHERE,
    command="weitiao methods",
)

drop_note_on_kernels()
