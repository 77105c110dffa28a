"""The list of models: bundled ones, those of the hubs by family, and those in the local cache."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import count, groupby, product
from pathlib import Path
from string import ascii_lowercase
from typing import TYPE_CHECKING

from rich.text import Text

from ..core.locale import shown
from ..core.visible import padded
from ._wrap_text import hanging, right

if TYPE_CHECKING:
    from rich.console import Console

    from ..models.known import KnownModel

COLUMNS = {"alias": 27, "size": 8, "download": 11, "context": 9, "remarks": 9, "licence": 0}
"""Columns of the list and their widths including the gap; the last takes the rest."""
RIGHT = ("size", "download", "context")
"""Right-aligned columns."""
GATED = "Hugging Face asks you to accept its terms first"
FORMS = (
    "an alias from this list, or any model's id on the hub, such as owner/name; it is downloaded on first use",
    "a folder with config.json and model.safetensors",
    "a .gguf file",
)
LATER = {
    "encoder": "an encoder, which cannot be trained yet",
    "encoder-decoder": "an encoder and decoder, which cannot be trained yet",
}


def found_by(word: str) -> list[KnownModel]:
    """Return the known models with a word in their names; none if the word itself names a model."""
    from ..models.aliases import ALIASES
    from ..models.known import known, known_models

    if word in ALIASES or known(word) or Path(word).expanduser().exists() or "/" in word:
        return []
    return [model for model in known_models().values() if model.matches(word)]


def list_models(chosen: Sequence[KnownModel] | None = None, word: str = "") -> None:
    """Print all known models, or only the given ones and the word that selected them."""
    from ..models.known import known_models
    from ._tables import make_console

    console = make_console()
    if chosen is None:
        _bundled(console)
    models = list(known_models().values()) if chosen is None else chosen
    letters = letters_of(models)
    _families(console, models, letters)
    console.print()
    for note, letter in letters.items():
        _hanging(console, f"{letter}  ", note)
    console.print()
    _hanging(
        console,
        "",
        "Size: parameters. Download: approximate size of the weights. Letters: the remarks above.",
    )
    _hanging(console, "", "All about one of them: weitiao models NAME. From ModelScope: --hub modelscope.")
    if chosen is None:
        _on_this_disk(console)
    else:
        _hanging(console, "", f"These have {word!r} in their names; weitiao models lists all.")


def letters_of(models: Iterable[KnownModel]) -> dict[str, str]:
    """Return the letter of each note on some models, in the order in which they come."""
    said = dict.fromkeys(note for model in models for note in notes(model))
    return dict(zip(said, _letters(), strict=False))


def _letters() -> Iterator[str]:
    """Yield a to z, then aa, ab and so on."""
    for length in count(1):
        yield from map("".join, product(ascii_lowercase, repeat=length))


def notes(model: KnownModel) -> Iterator[str]:
    """Yield what to know about a model before choosing it."""
    if model.kind in LATER:
        yield LATER[model.kind]
    if model.gated:
        yield GATED
    yield from model.traps


def _bundled(console: Console) -> None:
    """Print the aliases that come with a package and need no hub."""
    from ..models.aliases import ALIASES

    console.print(shown("Without a hub"), style="cyan")
    for alias in ALIASES.values():
        _hanging(console, f"  {alias.name}  ", f"{shown(alias.description)} ({shown(_state(alias.name))})")


def _families(console: Console, models: Sequence[KnownModel], letters: Mapping[str, str]) -> None:
    console.print(f"\n{_in_columns(list(map(shown, COLUMNS)))}", style="bold", soft_wrap=True)
    for family, members in groupby(models, lambda model: model.family):
        console.print(f"\n{family}", style="cyan")
        for model in members:
            text = Text(_in_columns(_cells(model, letters)))
            text.stylize("bold", 0, COLUMNS["alias"])
            console.print(text, soft_wrap=True)


def _cells(model: KnownModel, letters: Mapping[str, str]) -> list[str]:
    from ..core.units import readable_bytes, readable_count

    return [
        f"  {model.alias}",
        readable_count(model.parameters),
        readable_bytes(model.download_bytes),
        f"{model.context:,}" if model.context else "-",
        " ".join(letters[note] for note in notes(model)),
        model.licence or "-",
    ]


def _in_columns(cells: Sequence[str]) -> str:
    """Return a row of the list, with numbers right-aligned."""
    columns = zip(COLUMNS.items(), cells, strict=True)
    line = (
        right(cell, width - 2) + "  " if name in RIGHT else padded(cell, width)
        for (name, width), cell in columns
    )
    return "".join(line).rstrip()


def _hanging(console: Console, label: str, text: str) -> None:
    """Print a text in the language in use, wrapped to the console's width to the right of its label."""
    console.print(Text(hanging(label, shown(text), console.width)), soft_wrap=True)


def _state(name: str) -> str:
    """Return whether an alias is ready or prepared on first use, else the command that installs it."""
    from ..core.errors import ModelError
    from ..models.aliases import ALIASES
    from ..models.gguf import folder_of

    try:
        gguf = ALIASES[name].path
    except ModelError:
        return ALIASES[name].install
    return "ready" if folder_of(gguf).is_dir() else "installed; prepared on first use"


def _on_this_disk(console: Console) -> None:
    """Print the models in the hub's cache, and the forms a model's name may take."""
    from ..core.units import readable_bytes

    cached = list(_hub_cache())
    if cached:
        console.print("\n" + shown("In the hub's cache"), style="cyan")
        for name, size_bytes in cached:
            console.print(Text(f"  {name}  {readable_bytes(size_bytes)}"), soft_wrap=True)
    console.print("\n" + shown("A model's name may be"))
    for form in FORMS:
        _hanging(console, "  ", form)


def _hub_cache() -> Iterator[tuple[str, int]]:
    """Yield (id, bytes) of each model in the hub's cache."""
    from huggingface_hub import scan_cache_dir
    from huggingface_hub.constants import HF_HUB_CACHE

    if not Path(HF_HUB_CACHE).is_dir():
        return
    for repo in sorted(scan_cache_dir().repos, key=lambda repo: repo.repo_id):
        if repo.repo_type == "model":
            yield repo.repo_id, repo.size_on_disk
