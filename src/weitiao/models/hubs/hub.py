"""The interface of a hub that models are downloaded from, and what to suggest if it cannot be reached."""

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
"""The environment variable that names the hub if the settings do not."""
MIRROR = "https://hf-mirror.com"
"""A mirror of Hugging Face that can be reached from China."""
WITHOUT_NETWORK = "smollm2-135m instead, which needs no network"


@dataclass(frozen=True)
class HubModel:
    """A model of a hub."""

    hub: HubName
    id: str
    """owner/name, as the hub has it."""
    revision: str | None = None
    """Branch, tag or commit; None for the hub's default."""


class Hub(Protocol):
    """A model hub, and the cache that its client keeps on this disk."""

    title: str
    """Its display name."""

    def cached(self, model: HubModel) -> Path | None:
        """Return the cache folder that holds a model's config, None if there is none; uses no network."""

    def files(self, model: HubModel) -> Mapping[str, int]:
        """Return path -> bytes of a model's files on the hub; raises ModelError with the reason if it cannot."""

    def fetch(self, model: HubModel, names: Sequence[str]) -> Path:
        """Download files into the cache and return their folder; raises ModelError with the reason if it cannot."""

    def cache_of(self, model: HubModel) -> Path:
        """Return the folder that a model's files are written into; it may not exist yet."""

    def room(self) -> str:
        """Return the command that moves the cache to another disk."""


def chosen_hub(wanted: HubName | None) -> HubName:
    """Return the hub named by the settings, else by the environment, else Hugging Face; raises SettingsError for an
    unknown name."""
    named = wanted or os.environ.get(VARIABLE) or NAMES[0]
    found = next((name for name in NAMES if name == named.lower()), None)
    if found is None:
        remedy = " or ".join(f"export {VARIABLE}={near}" for near in nearest(named, NAMES) or NAMES)
        raise SettingsError(
            Problem(f"{VARIABLE} names no hub", f"{VARIABLE}={named}", "one of " + ", ".join(NAMES), remedy)
        )
    return found


def other_ways(hub: HubName, alike: Sequence[str] = ()) -> str:
    """Return suggestions for when a hub cannot be reached, one per line."""
    mirror = os.environ.get("HF_ENDPOINT")
    lines = [f"{' or '.join(alike)}, if that was meant"] if alike else []
    if hub == "huggingface":
        if os.environ.get("HF_HUB_OFFLINE", "0").lower() in ("1", "true", "yes", "on"):
            lines.append("unset HF_HUB_OFFLINE, then the same command: it blocks access to the hub")
        if mirror:
            lines.append(f"unset HF_ENDPOINT, then the same command: it selects the mirror {mirror}")
        if (mirror or "").rstrip("/") != MIRROR:
            lines.append(f"export HF_ENDPOINT={MIRROR}, then the same command: a mirror")
        lines.append(f"export {VARIABLE}=modelscope, then the same command: ModelScope, with its ids")
    else:
        lines.append(f"export {VARIABLE}=huggingface, then the same command: Hugging Face, with its ids")
    return "\n".join([*lines, WITHOUT_NETWORK])
