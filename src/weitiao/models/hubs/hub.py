"""Hubs that models are downloaded from: what is asked of one, and what is said where it cannot be reached."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol, get_args

from ...core.errors import Problem, SettingsError, nearest

HubName = Literal["huggingface", "modelscope"]
NAMES: tuple[HubName, ...] = get_args(HubName)
VARIABLE = "WEITIAO_HUB"
"""The variable of the environment that names the hub where the settings name none."""
MIRROR = "https://hf-mirror.com"
"""A mirror of Hugging Face that can be reached from China."""
WITHOUT_NETWORK = "smollm2-135m in its place, which needs no network"


@dataclass(frozen=True)
class HubModel:
    """A model of a hub."""

    hub: HubName
    id: str
    """owner/name, as the hub has it."""
    revision: str | None = None
    """Branch, tag or commit; None for the hub's default."""


class Hub(Protocol):
    """Where models lie, and the cache on this disk that its client keeps."""

    title: str
    """What people call it."""

    def cached(self, model: HubModel) -> Path | None:
        """Return the folder of the cache that holds a model's config, None where there is none; asks no network."""

    def files(self, model: HubModel) -> Mapping[str, int]:
        """Return path -> bytes of a model's files on the hub; raises ModelError, saying why it cannot."""

    def fetch(self, model: HubModel, names: Sequence[str]) -> Path:
        """Download files into the cache and return their folder; raises ModelError, saying why it cannot."""

    def cache_of(self, model: HubModel) -> Path:
        """Return the folder that a model's files are written into, which need not exist."""

    def room(self) -> str:
        """Return what to type to put the cache on another disk."""


def chosen_hub(wanted: HubName | None) -> HubName:
    """Return the hub that the settings name, else the environment, else Hugging Face; raises SettingsError."""
    named = wanted or os.environ.get(VARIABLE) or NAMES[0]
    found = next((name for name in NAMES if name == named.lower()), None)
    if found is None:
        remedy = " or ".join(f"export {VARIABLE}={near}" for near in nearest(named, NAMES) or NAMES)
        raise SettingsError(
            Problem(f"{VARIABLE} names no hub", f"{VARIABLE}={named}", "one of " + ", ".join(NAMES), remedy)
        )
    return found


def other_ways(hub: HubName, alike: Sequence[str] = ()) -> str:
    """Return what to try where a hub cannot be reached, a line each."""
    mirror = os.environ.get("HF_ENDPOINT")
    lines = [f"{' or '.join(alike)}, if that was meant"] if alike else []
    if hub == "huggingface":
        if os.environ.get("HF_HUB_OFFLINE", "0").lower() in ("1", "true", "yes", "on"):
            lines.append("unset HF_HUB_OFFLINE, then the same command: it keeps the hub from being asked")
        if mirror:
            lines.append(f"unset HF_ENDPOINT, then the same command: it names the mirror {mirror}")
        if (mirror or "").rstrip("/") != MIRROR:
            lines.append(f"export HF_ENDPOINT={MIRROR}, then the same command: a mirror")
        lines.append(f"export {VARIABLE}=modelscope, then the same command: ModelScope, with its ids")
    else:
        lines.append(f"export {VARIABLE}=huggingface, then the same command: Hugging Face, with its ids")
    return "\n".join([*lines, WITHOUT_NETWORK])
