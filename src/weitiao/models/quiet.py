"""Silences progress bars, advice and warnings of the underlying libraries, which a user has no use for."""

from __future__ import annotations

import io
import logging
import sys
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, redirect_stderr

LIBRARIES = ("transformers", "peft", "accelerate", "datasets", "huggingface_hub", "bitsandbytes", "torch")
LOGGERS = ("peft", "accelerate", "datasets", "huggingface_hub", "bitsandbytes")
"""Loggers whose level is raised; transformers has its own function for that."""


@contextmanager
def libraries_quiet() -> Iterator[None]:
    """Within the context, libraries show no progress bars, advice or warnings; afterwards their settings are
    restored."""
    from transformers.utils import logging as transformers_logging

    with ExitStack() as stack:
        stack.enter_context(warnings.catch_warnings())
        for category in (UserWarning, FutureWarning, DeprecationWarning):
            warnings.filterwarnings("ignore", category=category, module=rf"({'|'.join(LIBRARIES)})(\.|$)")
        stack.callback(transformers_logging.set_verbosity, transformers_logging.get_verbosity())
        transformers_logging.set_verbosity_error()
        if transformers_logging.is_progress_bar_enabled():
            stack.callback(transformers_logging.enable_progress_bar)
            transformers_logging.disable_progress_bar()
        for name in LOGGERS:
            logger = logging.getLogger(name)
            stack.callback(logger.setLevel, logger.level)
            logger.setLevel(max(logging.ERROR, logger.level))
        yield


@contextmanager
def bars_of_tqdm_unseen() -> Iterator[None]:
    """Within the context, stderr is discarded, to hide progress bars that a library draws with tqdm directly.

    tqdm can be switched off only before it is imported, and the user's own program may have imported it already.
    """
    if "tqdm" not in sys.modules:
        yield
        return
    with redirect_stderr(io.StringIO()):
        yield
