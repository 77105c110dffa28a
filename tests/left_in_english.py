"""Finds English sentences in a text that should be Chinese."""

from __future__ import annotations

import re

QUOTED = re.compile(
    r"```.*?```|`[^`]*`|“[^”]*”|\"[^\"]*\"|'[^'\n]*'"  # code, and what a person or a model wrote
    r"|\S*[=_./\\<>@:]\S*|--\S+",  # settings, paths, places, options
    re.DOTALL,
)
RUN = re.compile(r"[A-Za-z][A-Za-z'-]*(?: [A-Za-z][A-Za-z'-]*){2,}")
"""Three English words or more without a comma, which stands between names."""


def english_in(text: str) -> list[str]:
    """Return what reads as English sentences in a text, leaving out code, settings and quotations."""
    return RUN.findall(QUOTED.sub("·", text))
