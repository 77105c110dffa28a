"""What the command line sets for the libraries underneath, before they are imported; your own settings win."""

from __future__ import annotations

import logging
import os
import warnings

DEFAULTS = {
    # Threads that wait for each other by spinning long are ten times slower as soon as another program wants a core,
    # as a browser does on a laptop; those that spin shortly and then sleep are not, and lose nothing otherwise.
    "GOMP_SPINCOUNT": "10000",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "TRANSFORMERS_VERBOSITY": "error",
    "TOKENIZERS_PARALLELISM": "true",
}


def prepare_environment() -> None:
    """Let cores be shared, and keep progress bars, advice and deprecation notes of libraries off the terminal."""
    for name, value in DEFAULTS.items():
        os.environ.setdefault(name, value)
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", category=FutureWarning)
    warnings.filterwarnings("ignore", category=UserWarning, module="peft|transformers|bitsandbytes|torch")
