"""What the libraries underneath say of themselves is kept off the terminal; their errors are not."""

from __future__ import annotations

import logging
import os
import warnings


def quiet_libraries() -> None:
    """Turn off progress bars, advice and deprecation notes of libraries; whoever set them otherwise keeps that."""
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", category=FutureWarning)
    warnings.filterwarnings("ignore", category=UserWarning, module="peft|transformers|bitsandbytes|torch")
