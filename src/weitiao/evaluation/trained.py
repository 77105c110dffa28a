"""Loads what was trained onto its base: an adapter or a checkpoint, compared with the base and checked for NaN."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from ..core.errors import ModelError, Problem, RunFolderError
from ..core.run_folder import RunFolder
from ..core.settings import parse_settings, read_yaml
from ..engine.checkpoint import load_checkpoint, require_finite_tensors
from ..engine.settings import TrainSettings
from ..models.adapter_files import errors_named, require_adapter
from ..models.fingerprint import fingerprint, read_fingerprint, require_same_base
from ..models.load import load_tokenizer, load_tokenizer_in, weights_folder

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from ..methods._base import Attached, Method
    from ..models.settings import ModelSettings
    from .locate import Source

TOKENIZER_FOLDER = "tokenizer"
"""Subfolder for an adapter's tokenizer, if its vocabulary and the model's embedding differ in size."""


def tokenizer_of(source: Source) -> PreTrainedTokenizerBase:
    """Load the tokenizer saved with what was trained, else the base's; raises ModelError if an adapter's tokenizer maps
    text to other ids than its base's."""
    if source.trained is not None and (Path(source.trained.name) / "tokenizer_config.json").is_file():
        return load_tokenizer(source.trained)
    base = load_tokenizer(source.base)
    adapter = source.adapter or _adapter_begun_from(source)
    return require_same_tokenizer(source.base, adapter, base) if adapter else base


def _adapter_begun_from(source: Source) -> Path | None:
    """Return the adapter that a checkpoint's run continues: the run was trained with its chat template."""
    if source.checkpoint is None or source.run is None:
        return None
    adapter = _block(read_yaml(RunFolder(source.run).run_yaml), "model").get("adapter")
    return Path(adapter) if adapter else None


def require_same_tokenizer(
    settings: ModelSettings, adapter: Path, base: PreTrainedTokenizerBase
) -> PreTrainedTokenizerBase:
    """Return the tokenizer saved with an adapter, else its base's; raises ModelError if their vocabularies differ."""
    folder = _tokenizer_folder(adapter)
    if folder is None:
        return base
    own = load_tokenizer_in(folder, settings.trust_remote_code)
    if own.get_vocab() != base.get_vocab() and not settings.allow_other_base:
        raise ModelError(_other_tokenizer(folder, settings.name))
    return own


def _tokenizer_folder(adapter: Path) -> Path | None:
    places = (adapter, adapter / TOKENIZER_FOLDER)
    return next((place for place in places if (place / "tokenizer_config.json").is_file()), None)


def _other_tokenizer(folder: Path, base: str) -> Problem:
    return Problem(
        "the adapter was trained with another tokenizer than its base has now: the same text gives other ids",
        f"{folder} and {base}",
        "equal vocabularies",
        "model.name=THAT-BASE, or --force (model.allow_other_base=true) to continue with the adapter's own",
    )


def attached_of(source: Source, model: PreTrainedModel) -> Attached | None:
    """Attach what a source names to its base, None if it is a model; raises ModelError, RunFolderError."""
    if source.adapter is not None:
        require_adapter(source.adapter)
        from ..methods._peft.attached import load_adapter

        with errors_named(source.adapter):
            return load_adapter(model, source.adapter)
    if source.checkpoint is None or source.run is None:
        return None
    return _from_checkpoint(source.checkpoint, RunFolder(source.run), model)


def base_notes(source: Source, model: PreTrainedModel) -> list[str]:
    """Raise ModelError if the source was trained on another base; return notes, such as on a converted base."""
    found = source.adapter or (source.run if source.checkpoint else None)
    if found is None or source.base.allow_other_base:
        return []
    wanted = read_fingerprint(found) or read_fingerprint(found.parent)  # a run keeps one too
    if wanted is None:
        name = source.base.name
        return [f"{found} holds no fingerprint of its base: it is unknown whether it was trained on {name}"]
    what = f"the adapter {found}" if source.adapter else f"the run {found}"
    return require_same_base(wanted, fingerprint(model, weights_folder(source.base)), what, source.base.name)


def _from_checkpoint(path: Path, run: RunFolder, model: PreTrainedModel) -> Attached:
    """Attach a run's method as the run did, and load the weights of a checkpoint; raises RunFolderError."""
    raw = read_yaml(run.run_yaml)
    snapshot = load_checkpoint(path, {})
    method, adapter = _method(raw), _block(raw, "model").get("adapter")
    # The checkpoint holds only trained parameters: others that the method adds get their values from the run's seed.
    torch.manual_seed(parse_settings(TrainSettings, _block(raw, "train"), "train").seed)
    attached = method.continue_from(model, Path(adapter)) if adapter else method.attach(model)
    parameters = attached.trainable()
    shapes = {name: parameter.shape for name, parameter in parameters.items()}
    if shapes != {name: tensor.shape for name, tensor in snapshot.trainable.items()}:
        raise RunFolderError(
            Problem(
                "the checkpoint holds other weights than this run trains",
                str(path),
                f"those of method {method.name} as {run.run_yaml} has it",
            )
        )
    require_finite_tensors(snapshot.trainable, str(path))
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(snapshot.trainable[name])
    attached.load_checkpoint_state(dict(snapshot.extra))
    return attached


def _method(raw: dict[str, Any]) -> Method:
    from ..methods import METHODS

    block = raw.get("method", {"name": "lora"})
    settings = dict(block) if isinstance(block, dict) else {"name": block}
    method: Method = parse_settings(METHODS.load(str(settings.pop("name", "lora"))), settings, "method")
    return method


def _block(raw: dict[str, Any], key: str) -> dict[str, Any]:
    block = raw.get(key)
    return dict(block) if isinstance(block, dict) else {}
