"""The version of weitiao, defined only here: the package's metadata is built from it, and need not be installed."""

from __future__ import annotations

VERSION = "0.1.0"
