"""Silences notes between libraries that a user can do nothing about."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def renamed_in_transformers() -> Iterator[None]:
    """Silences the warnings that PEFT triggers over what transformers 5 renamed or moved.

    PEFT reads `is_gradient_checkpointing` under its old name, and looks for the ranks of experts among layers, though
    experts are parameters now.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings(
            "ignore", "The following (rank|alpha)_pattern keys did not match", RuntimeWarning
        )
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)
        yield


def _is_news(record: logging.LogRecord) -> bool:
    """Return whether a message is not the note that no faster CPU code for 4 bits is installed."""
    return not record.msg.startswith("Failed to load CPU gemm_4bit_forward")


def drop_note_on_kernels() -> None:
    """Hide that note: bitsandbytes logs it when PEFT imports it, even if nothing is in 4 bits."""
    logging.getLogger("bitsandbytes.backends.cpu.ops").addFilter(_is_news)
