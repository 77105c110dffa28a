"""What a long evaluation asks and tells while it works: whether to stop, and how far it is."""

from __future__ import annotations

from collections.abc import Callable

ShouldStop = Callable[[], bool]
OnProgress = Callable[[float, float], None]
"""Called with how much is done, and of how much, in any unit."""


def never_stop() -> bool:
    """Return False: the work continues."""
    return False


def ignore_progress(done: float, total: float) -> None:
    """Do nothing with progress."""
