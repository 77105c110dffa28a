"""ModelScope, through its light client modelscope-hub; `MODELSCOPE_CACHE` names the folder of the cache."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ...core.errors import ModelError, Problem, missing_extra
from .hub import Hub, HubModel
from .huggingface import broken_off, no_such_model, unreachable

CLIENT, EXTRA = "modelscope-hub", "modelscope"


class ModelScope(Hub):
    """modelscope.cn, or the endpoint that `MODELSCOPE_ENDPOINT` names."""

    title = "ModelScope"

    def cached(self, model: HubModel) -> Path | None:
        """Return the snapshot in the cache that holds a model's config."""
        client = _client(model)
        from modelscope_hub import HubError

        try:
            folder = client.download_repo(model.id, "model", revision=model.revision, local_files_only=True)
        except HubError:
            return None
        return Path(folder) if (Path(folder) / "config.json").is_file() else None

    def files(self, model: HubModel) -> Mapping[str, int]:
        """Ask ModelScope for a model's files and their sizes."""
        client = _client(model)
        from modelscope_hub import HubError

        try:
            found = client.list_repo_files(model.id, "model", revision=model.revision)
        except (HubError, OSError) as error:
            raise ModelError(self._problem(model, error)) from error
        return {file.path: file.size for file in found if file.type != "tree"}

    def fetch(self, model: HubModel, names: Sequence[str]) -> Path:
        """Download files in parallel; files that are in the cache are not downloaded again."""
        client = _client(model)
        from modelscope_hub import HubError, ProgressCallback

        try:
            return Path(
                client.download_repo(
                    model.id,
                    "model",
                    revision=model.revision,
                    allow_patterns=list(names),
                    progress_callbacks=[ProgressCallback],  # one that shows nothing
                )
            )
        except (HubError, OSError) as error:
            raise ModelError(broken_off(self.title, model, error)) from error

    def cache_of(self, model: HubModel) -> Path:
        """Return the client's download folder."""
        _client(model)
        from modelscope_hub import get_default_config

        return Path(get_default_config().cache_dir)

    def room(self) -> str:
        """Return the command that moves the cache."""
        return "export MODELSCOPE_CACHE=/another/disk"

    def _problem(self, model: HubModel, error: Exception) -> Problem:
        from modelscope_hub import AuthenticationError, NotExistError, PermissionDeniedError

        if isinstance(error, NotExistError):
            return no_such_model(self.title, model, "its id on ModelScope, which may have another owner")
        if isinstance(error, AuthenticationError | PermissionDeniedError):
            what = "ModelScope asks you to log in for this model"
            remedy = "export MODELSCOPE_API_TOKEN=TOKEN, from your account's page on ModelScope"
            return Problem(what, model.id, "a token that may read it", remedy)
        return unreachable(self.title, model, error)


def _client(model: HubModel) -> Any:  # noqa: ANN401  (the optional package's own)
    """Return the client; raises MissingExtraError if it is not installed."""
    try:
        from modelscope_hub import HubApi
    except ImportError as error:
        raise missing_extra(CLIENT, EXTRA, f"the model {model.id} of ModelScope") from error
    return HubApi()
