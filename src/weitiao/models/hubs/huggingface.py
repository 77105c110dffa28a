"""The Hugging Face hub, through its own client; `HF_ENDPOINT` names a mirror, and `HF_HOME` the folder of the cache."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from glob import escape
from pathlib import Path
from typing import TYPE_CHECKING

from ...core.errors import ModelError, Problem
from .hub import Hub, HubModel, other_ways

if TYPE_CHECKING:
    from huggingface_hub.hf_api import ModelInfo

SECONDS = 20
"""The time limit for a request to the hub."""


class HuggingFace(Hub):
    """huggingface.co, or the mirror that `HF_ENDPOINT` names."""

    title = "Hugging Face"

    def cached(self, model: HubModel) -> Path | None:
        """Return the snapshot in the cache that holds a model's config."""
        from huggingface_hub import try_to_load_from_cache

        config = try_to_load_from_cache(model.id, "config.json", revision=model.revision)
        return Path(config).parent if isinstance(config, str) else None

    def files(self, model: HubModel) -> Mapping[str, int]:
        """Ask the hub for a model's files and their sizes."""
        siblings = self._info(model).siblings or []
        return {sibling.rfilename: sibling.size or 0 for sibling in siblings}

    def fetch(self, model: HubModel, names: Sequence[str]) -> Path:
        """Download files in parallel; files that are in the cache are not downloaded again."""
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import HfHubHTTPError, HTTPError  # type: ignore[attr-defined]

        patterns = [escape(name) for name in names]
        try:
            return Path(snapshot_download(model.id, revision=model.revision, allow_patterns=patterns))
        except (HfHubHTTPError, HTTPError, OSError) as error:
            raise ModelError(broken_off(self.title, model, error)) from error

    def cache_of(self, model: HubModel) -> Path:
        """Return the folder that holds every revision of a model."""
        from huggingface_hub.constants import HF_HUB_CACHE

        return Path(HF_HUB_CACHE) / f"models--{model.id.replace('/', '--')}"

    def room(self) -> str:
        """Return the command that moves the cache."""
        return "export HF_HOME=/another/disk"

    def _info(self, model: HubModel) -> ModelInfo:
        """Return the hub's information on a model; every kind of failure becomes a ModelError of its own."""
        from huggingface_hub import HfApi
        from huggingface_hub.constants import ENDPOINT

        # The hub's client raises its HTTP library's errors, and which library that is depends on its version.
        from huggingface_hub.errors import (  # type: ignore[attr-defined]
            GatedRepoError,
            HTTPError,
            RepositoryNotFoundError,
            RevisionNotFoundError,
        )

        try:
            return HfApi().model_info(model.id, revision=model.revision, timeout=SECONDS, files_metadata=True)
        except GatedRepoError as error:
            what = "this hub model asks you to accept its terms first"
            remedy = "accept them on its page, then: hf auth login"
            raise ModelError(Problem(what, model.id, remedy=remedy)) from error
        except RevisionNotFoundError as error:
            what = f"{model.id} has no such revision"
            raise ModelError(Problem(what, str(model.revision), "a branch, tag or commit")) from error
        except RepositoryNotFoundError as error:
            raise ModelError(
                no_such_model(self.title, model, "hf auth login, if the model is private")
            ) from error
        except (HTTPError, OSError) as error:
            raise ModelError(unreachable(f"{self.title} ({ENDPOINT})", model, error)) from error


SHOWN = 200
"""The maximum number of characters shown of a client's error message."""


def _shortened(error: Exception) -> str:
    """Return a client's error message on one line, cut to SHOWN characters."""
    words = " ".join(str(error).split()) or type(error).__name__
    return words if len(words) <= SHOWN else f"{words[:SHOWN]} ..."


def no_such_model(title: str, model: HubModel, otherwise: str) -> Problem:
    """Describe a model that a hub does not have, with similarly spelt names."""
    from ..aliases import FORMS, spelt_alike

    remedy = " or ".join(spelt_alike(model.id)) or otherwise
    return Problem(f"{title} has no such model", model.id, FORMS, remedy)


def unreachable(place: str, model: HubModel, error: Exception) -> Problem:
    """Describe a hub that does not answer, with other ways to get the model."""
    from ..aliases import FORMS, spelt_alike

    what = f"{model.id} is not a local folder, is not in the hub's cache, and {place} cannot be reached"
    got = _shortened(error)
    return Problem(what, got, FORMS, other_ways(model.hub, spelt_alike(model.id)))


def broken_off(title: str, model: HubModel, error: Exception) -> Problem:
    """Describe an interrupted download."""
    got = _shortened(error)
    remedy = "the same command again: what is already downloaded is kept\n" + other_ways(model.hub)
    return Problem(f"the download of {model.id} from {title} was interrupted", got, "", remedy)
