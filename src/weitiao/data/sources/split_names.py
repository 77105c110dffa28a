"""The known names of data splits."""

from __future__ import annotations

SPLITS = {
    "train": "train", "training": "train", "test": "test", "eval": "test",
    "validation": "validation", "valid": "validation", "val": "validation", "dev": "validation",
}  # fmt: skip
"""The name of a list, or the beginning of a file's name -> the split it stands for."""
