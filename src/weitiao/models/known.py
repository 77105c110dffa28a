"""Well-known models, from known.yaml: their ids on either hub, size, licence and pitfalls."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

from ..core.yaml_text import load_yaml

FILE = Path(__file__).with_name("known.yaml")
Kind = Literal["causal", "encoder", "encoder-decoder"]
BYTES = {"fp32": 4, "bf16": 2, "fp16": 2}
PICKLED = "pickled "
"""Prefix of the precision of weights that are not safetensors."""
MILLION, GIGA = 1e6, 1e9


@dataclass(frozen=True)
class KnownModel:
    """A model on a hub that has an alias."""

    alias: str
    """What to type: the last part of its Hugging Face id in lower case."""
    family: str
    hub: str
    """Its id on Hugging Face."""
    modelscope: str | None
    """Its id on ModelScope, where one is known."""
    parameters: float
    download_bytes: float
    """The approximate size of its weights."""
    licence: str | None
    context: int | None
    gated: bool
    """Whether Hugging Face asks for its terms to be accepted first."""
    kind: Kind
    pickled: bool
    """Whether its weights must first be converted to safetensors."""
    traps: tuple[str, ...]
    """Pitfalls, in sentences."""

    def matches(self, word: str) -> bool:
        """Return whether a word is part of its family's name, its alias or an id; case is ignored."""
        names = (self.family, self.alias, self.hub, self.modelscope or "")
        return any(word.lower() in name.lower() for name in names)


@cache
def known_models() -> Mapping[str, KnownModel]:
    """Return the known models by alias, in the order of the file."""
    table: Any = load_yaml(FILE.read_text(encoding="utf-8"))
    models = [
        _model({**family, **row}, family["name"], table["traps"])
        for family in table["families"]
        for row in family["models"]
    ]
    return {model.alias: model for model in models}


def _model(row: Mapping[str, Any], family: str, traps: Mapping[str, str]) -> KnownModel:
    precision = row["weights"].removeprefix(PICKLED)
    parameters = row["parameters"] * MILLION
    download_bytes = row["download"] * GIGA if "download" in row else parameters * BYTES[precision]
    modelscope = row.get("modelscope")
    return KnownModel(
        alias=row["hub"].rpartition("/")[2].lower(),
        family=family,
        hub=row["hub"],
        modelscope=row["hub"] if modelscope == "same" else modelscope,
        parameters=parameters,
        download_bytes=download_bytes,
        licence=row.get("licence"),
        context=row.get("context"),
        gated=row.get("gated", False),
        kind=row.get("kind", "causal"),
        pickled=row["weights"].startswith(PICKLED),
        traps=tuple(traps[name] for name in row.get("traps", ())),
    )


def known(name: str) -> KnownModel | None:
    """Return the model that a name means: an alias, or an id on either hub; None if unknown. Case is ignored."""
    return _by_name().get(name.lower())


@cache
def _by_name() -> Mapping[str, KnownModel]:
    return dict(_names())


def _names() -> Iterator[tuple[str, KnownModel]]:
    for model in known_models().values():
        for name in filter(None, (model.modelscope, model.hub, model.alias)):
            yield name.lower(), model
