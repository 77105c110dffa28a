"""The location of weitiao's sample data: inside the installed package, or at the root of a checkout."""

from __future__ import annotations

from pathlib import Path

from ..core.errors import DataError, Problem, nearest

PACKAGE = Path(__file__).resolve().parents[1]


def sample_path(name: str) -> Path:
    """Return the path of a sample file such as `identity_en.json`; raises DataError if there is none of this name."""
    folders = [PACKAGE / "examples", PACKAGE.parents[1] / "examples"]
    folder = next((f for f in folders if f.is_dir()), folders[0])
    path = folder / name
    if not path.is_file():
        known = sorted(p.name for p in folder.glob("*.json")) if folder.is_dir() else []
        raise DataError(
            Problem(
                "there is no such sample file",
                name,
                "one of " + ", ".join(known),
                " or ".join(nearest(name, known)),
            )
        )
    return path
