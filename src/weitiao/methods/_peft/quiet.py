"""Notes of libraries to each other, which a person who trains can do nothing about."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def renamed_in_transformers() -> Iterator[None]:
    """Within the context, what PEFT says of renamings in transformers 5 is no warning.

    It asks for `is_gradient_checkpointing` by its old name, and looks for the ranks of experts among layers, which they
    no longer are.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings(
            "ignore", "The following (rank|alpha)_pattern keys did not match", RuntimeWarning
        )
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)
        yield


def _is_news(record: logging.LogRecord) -> bool:
    """Whether a message is another than that no faster code for 4 bits on a CPU is installed."""
    return not record.msg.startswith("Failed to load CPU gemm_4bit_forward")


def drop_note_on_kernels() -> None:
    """Keep that note off the terminal: bitsandbytes gives it when PEFT imports it, be anything in 4 bits or not."""
    logging.getLogger("bitsandbytes.backends.cpu.ops").addFilter(_is_news)
