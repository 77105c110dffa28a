"""The names that splits of data go by."""

from __future__ import annotations

SPLITS = {
    "train": "train", "training": "train", "test": "test", "eval": "test",
    "validation": "validation", "valid": "validation", "val": "validation", "dev": "validation",
}  # fmt: skip
"""What a file's name may begin with, or a list be called -> the split it means."""
