"""Converts pickled weights (pytorch_model.bin) to safetensors, without loading a pickle in this process."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...core.errors import MALFORMED, ModelError, Problem, ResourceError, RunFolderError, WeitiaoError
from ...core.events import Listener
from ...core.files import FULL, OS_ERROR, need_disk, saving, staged_folder, write_json
from ...core.folder_growth import reported_growth
from ..aliases import ALIASES
from ..hubs.download import PICKLES, fetch, hub_named, small_files
from ..resolve import hub_model
from .files import INDEX, SINGLE, require_files, some

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from ..settings import ModelSettings

BIN_SINGLE = "pytorch_model.bin"
BIN_INDEX = "pytorch_model.bin.index.json"
NO_WEIGHTS = re.compile(r"(training_args|optimizer|scheduler|scaler|rng_state).*")
"""Pickles that training programs save beside a model's weights."""
REFUSED_GLOBAL = re.compile(r"GLOBAL ([\w.]+)")
TORCHSCRIPT = re.compile(r"with (TorchScript) archives")
"""Patterns in torch's error messages: the class that a pickle asks for, and an archive that is a program."""
KEPT_VARIABLES = ("PATH", "PYTHONPATH", "LD_LIBRARY_PATH", "OMP_NUM_THREADS", "SYSTEMROOT", "TMPDIR")
"""The environment variables that the reading process gets, none of them secret."""


@dataclass(frozen=True)
class Converted:
    """A folder of converted weights."""

    out: Path
    tensors: int
    """How many tensors were written."""
    size_bytes: int
    """The total size of the tensors."""
    notes: Sequence[str]
    """What was left out, in sentences."""


def is_pickle(file: str) -> bool:
    """Return whether a file's name has the suffix of a pickle."""
    return file.endswith(PICKLES)


def converted_folder(folder: Path) -> Path:
    """Return the default output folder of `convert`: beside the given folder, or in the current one for a hub's
    model."""
    beside = folder.expanduser().resolve() if folder.expanduser().exists() else Path(folder.name)
    return beside.with_name(f"{beside.name}-safetensors")


def convert(folder: Path, out: Path, listener: Listener) -> Converted:
    """Copy a model's folder to the new folder `out`, with its pickled weights as safetensors.

    Another process reads the pickles and accepts only tensors. `out` appears under its name once it is complete. Raises
    ModelError if the folder holds no such weights, or they cannot be read or contain code; RunFolderError if `out`
    exists or cannot be written; ResourceError if the disk is too small.
    """
    sources = _pickled_files(folder)
    if out.exists():
        what = "the output folder already exists"
        raise RunFolderError(Problem(what, str(out), "a new folder", f"--out {out}-2"))
    total_bytes = sum(path.stat().st_size for path in sources)
    need_disk(out.absolute().parent, total_bytes, f"the safetensors copy of {folder}")
    with saving(out), staged_folder(out) as staging:
        for path in _others(folder, sources):
            shutil.copyfile(path, staging / path.name)
        with reported_growth(staging, total_bytes, listener):
            told = _convert(sources, staging, _tied(folder))
        _write_index(staging, told)
        require_files(staging)
    sizes = {name: size for one in told.values() for name, size in one["tensors"].items()}
    return Converted(out, len(sizes), sum(sizes.values()), list(_notes(told)))


def pickled_folder(settings: ModelSettings, listener: Listener) -> Path:
    """Return the folder that holds a model's pickled weights; a hub's are downloaded first.

    Raises ModelError if the hub's model already has safetensors, or has no pickled weights.
    """
    folder = Path(settings.name).expanduser()
    if settings.name in ALIASES:
        what = f"{settings.name} comes as a .gguf file, which needs no conversion"
        raise ModelError(Problem(what, settings.name, "pickled weights", f"weitiao models {settings.name}"))
    if folder.exists() or settings.name.startswith((".", "/", "~")):
        return folder
    model = hub_model(settings)
    hub = hub_named(model.hub)
    files = hub.files(model)
    pickles = [
        name for name in files if is_pickle(name) and not NO_WEIGHTS.fullmatch(name) and "/" not in name
    ]
    if any(name.endswith(".safetensors") for name in files) or not pickles:
        what = f"{model.id} already has safetensors" if pickles else f"{model.id} has no pickled weights"
        raise ModelError(Problem(what, some(list(files)), "pickled weights", f"weitiao models {model.id}"))
    wanted = [name for name in pickles if name.startswith("pytorch_model")] or pickles
    return fetch(hub, model, {name: files[name] for name in [*small_files(files), *wanted]}, listener)


def _pickled_files(folder: Path) -> list[Path]:
    """Return the files that hold a folder's pickled weights; raises ModelError if there are none."""
    if not folder.is_dir():
        remedy = f"weitiao models convert {shlex.quote(str(folder.parent))}" if folder.is_file() else ""
        raise ModelError(Problem("there is no such folder", str(folder), "a model's folder", remedy))
    names = sorted(path.name for path in folder.iterdir())
    if "config.json" not in names:
        what = "this folder holds no config.json, so its weights belong to no known model"
        remedy = "put the model's config.json and its tokenizer beside its weights"
        raise ModelError(Problem(what, f"{folder} ({some(names)})", "config.json", remedy))
    if SINGLE in names or INDEX in names:
        what = "this model's weights are already safetensors"
        raise ModelError(Problem(what, str(folder), "pickled weights", f"weitiao models {folder}"))
    if BIN_SINGLE in names:
        return [folder / BIN_SINGLE]
    if BIN_INDEX in names:
        return _shards(folder)
    found = [name for name in names if is_pickle(name) and not NO_WEIGHTS.fullmatch(name)]
    if len(found) != 1:
        what = "it is not clear which file holds the weights" if found else "this folder holds no weights"
        raise ModelError(Problem(what, some(found or names), f"{BIN_SINGLE}, or {BIN_INDEX} with its files"))
    return [folder / found[0]]


def _shards(folder: Path) -> list[Path]:
    """Return the files that an index names; raises ModelError if the index cannot be read or a file is missing."""
    try:
        named = json.loads((folder / BIN_INDEX).read_text(encoding="utf-8"))["weight_map"].values()
        files = sorted({folder / name for name in named if Path(name).name == name and is_pickle(name)})
        problem = (
            "" if files and len(files) == len(set(named)) else "weight_map names other files than pickles"
        )
    except (OSError, RecursionError, *MALFORMED) as error:
        files, problem = [], f"{type(error).__name__}: {error}"
    if problem:
        what = "the index of the model's weight files cannot be read"
        expected = "weight_map: tensor name -> the name of a file beside it"
        raise ModelError(
            Problem(what, f"{folder / BIN_INDEX} ({problem})", expected, "download the model again")
        )
    missing = {path.name for path in files if not path.is_file()}
    if missing:
        what, expected = (
            f"{folder} lacks {len(missing)} of its weight files",
            f"every file that {BIN_INDEX} names",
        )
        raise ModelError(Problem(what, some(missing), expected, "download the model again"))
    return files


def _others(folder: Path, sources: Sequence[Path]) -> Iterator[Path]:
    """Yield the files to copy unchanged: all but the pickles and their index."""
    for path in sorted(folder.iterdir()):
        if path.is_file() and path not in sources and not is_pickle(path.name) and path.name != BIN_INDEX:
            yield path


def _convert(sources: Sequence[Path], staging: Path, tied: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """Run the process that writes the files, and return its report on each of them; raises ModelError,
    ResourceError."""
    names = _file_names(len(sources))
    pairs = [[str(path.resolve()), str(staging / name)] for path, name in zip(sources, names, strict=True)]
    environment = {key: os.environ[key] for key in KEPT_VARIABLES if key in os.environ}
    done = subprocess.run(
        [sys.executable, "-m", "weitiao.models.weights.unpickle"],
        input=json.dumps({"files": pairs, "tied": dict(tied)}),
        capture_output=True,
        text=True,
        encoding="utf-8",
        errors="replace",
        env=environment,
        check=False,
    )
    lines = done.stdout.splitlines()
    if done.returncode != 0 or len(lines) != len(sources):
        at = sources[min(len(lines), len(sources) - 1)]
        raise reading_failure(at, done.returncode, done.stderr)
    return {name: json.loads(line) for name, line in zip(names, lines, strict=True)}


def _file_names(count: int) -> list[str]:
    if count == 1:
        return [SINGLE]
    return [f"model-{n:05d}-of-{count:05d}.safetensors" for n in range(1, count + 1)]


def reading_failure(file: Path, code: int, said: str) -> WeitiaoError:
    """Return the error that describes why the reading process failed."""
    full = OS_ERROR.search(said)
    if full is not None and int(full[1]) in FULL:
        what = f"the disk is full: {os.strerror(int(full[1]))}"
        return ResourceError(Problem(what, str(file), "free space", "free some, then the same command"))
    asked = REFUSED_GLOBAL.search(said) or TORCHSCRIPT.search(said)
    if asked is not None:
        asks = f"{file} asks for {asked[1]}"
        what = "this file asks Python to run more than the creation of tensors, so it was not opened"
        return ModelError(Problem(what, asks, "a file that holds only tensors", "another copy of the model"))
    if code < 0:
        what = f"the process that read the weights was ended by signal {-code}, most often because memory ran out"
        return ModelError(Problem(what, str(file), "memory for one of its files"))
    last = said.strip().rpartition("\n")[2][:300]
    what, expected = "this file of weights cannot be read", "tensors by name, as torch.save writes them"
    return ModelError(Problem(what, f"{file} ({last})", expected, "download the model again"))


def _write_index(staging: Path, told: Mapping[str, Mapping[str, Any]]) -> None:
    """Write the index of which file holds which tensor, if there is more than one file."""
    if len(told) == 1:
        return
    total = sum(size for one in told.values() for size in one["tensors"].values())
    weight_map = {name: file for file, one in told.items() for name in one["tensors"]}
    write_json(staging / INDEX, {"metadata": {"total_size": total}, "weight_map": weight_map})


def _notes(told: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """Yield sentences on what the new files do not hold in the way the old ones did."""
    tied = [name for one in told.values() for name in one["tied"]]
    if tied:
        yield f"not written twice, because the model ties them to others: {some(tied)}"
    others = sorted({name for one in told.values() for name in one["others"]})
    if others:
        yield f"left out, because they are not tensors: {some(others)}"


def _tied(folder: Path) -> dict[str, str]:
    """Return the tensors that a model ties (name -> name of the original); empty if its architecture is unknown
    here."""
    model = _weightless(folder)
    return dict(model.all_tied_weights_keys) if model is not None else {}


def _weightless(folder: Path) -> PreTrainedModel | None:
    """Build a folder's model on device `meta`, for any task; None if transformers cannot."""
    import torch
    from huggingface_hub.errors import StrictDataclassError
    from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, AutoModelForSeq2SeqLM

    from ..hubs.hub_code import without_hub_code

    for auto in (AutoModelForCausalLM, AutoModelForSeq2SeqLM, AutoModel):
        try:
            config = without_hub_code(AutoConfig.from_pretrained(folder, trust_remote_code=False))
            with torch.device("meta"):
                model: PreTrainedModel = auto.from_config(config)
            return model
        except (OSError, ImportError, AssertionError, StrictDataclassError, *MALFORMED):
            continue
    return None
