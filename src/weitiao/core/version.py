"""The version of weitiao, which lies here alone: the package's metadata is made from it, and need not be installed."""

from __future__ import annotations

VERSION = "0.1.0"
