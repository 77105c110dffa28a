"""What only lists, helps or is imported stays quick: no heavy package is loaded for it."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

HEAVY = {"torch", "transformers", "peft", "accelerate", "datasets", "numpy", "pandas", "pyarrow"}

REPORT = """
import contextlib, json, os, sys
with contextlib.redirect_stdout(open(os.devnull, "w")), contextlib.suppress(SystemExit):
    {code}
print(json.dumps(sorted(sys.modules)))
"""

QUICK = {
    "import weitiao": "import weitiao",
    "weitiao --help": "sys.argv = ['weitiao', '--help']; from weitiao.cli import main; main()",
    "weitiao methods": "sys.argv = ['weitiao', 'methods']; from weitiao.cli import main; main()",
    "weitiao models": "sys.argv = ['weitiao', 'models']; from weitiao.cli import main; main()",
    "a recipe": "from weitiao.recipe.recipe import parse_recipe; "
    "parse_recipe({'model': 'smollm2-135m', 'data': 'my.json', 'out': 'run', 'train': {'optimizer': 'lion'}})",
    "weitiao train --help": "sys.argv = ['weitiao', 'train', '--help']; from weitiao.cli import main; main()",
}


def loaded_by(code: str) -> set[str]:
    """Run one line of Python in a process of its own and return the modules it loaded."""
    done = subprocess.run(
        [sys.executable, "-c", REPORT.format(code=code)],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout.splitlines()[-1]))


@pytest.mark.parametrize("what", QUICK)
def test_nothing_heavy_is_loaded(what: str) -> None:
    loaded = loaded_by(QUICK[what])
    assert "weitiao" in loaded
    assert loaded & HEAVY == set()


def test_the_check_sees_a_heavy_import() -> None:
    assert loaded_by("import numpy") & HEAVY == {"numpy"}
