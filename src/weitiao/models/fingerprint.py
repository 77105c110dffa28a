"""The fingerprint of a base model: a hash per tensor, to check that an adapter is used with the base it was trained on.

The hashes of a file are cached under its path, size, times and inode, so a run pays only for a new base.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..core.errors import ModelError, Problem
from ..core.files import cache_home, write_json
from .weights.files import some, unreadable, weight_files

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PretrainedConfig, PreTrainedModel

FORMAT = 1
REMEMBERED = 2
"""The version of the cached hashes; older ones lack the fp16 hash."""
FILE = "base_fingerprint.json"
"""The file in an adapter's folder that holds the fingerprint of its base."""
MOST_PLACES = 8
"""Places of one base that are remembered."""
THREADS = 4
HEX_DIGITS = 32
NOT_THE_BASE = frozenset({
    "_name_or_path", "architectures", "attn_implementation", "bos_token_id", "dtype", "eos_token_id", "id2label",
    "label2id", "pad_token_id", "quantization_config", "torch_dtype", "transformers_version", "use_cache",
})  # fmt: skip
"""Config keys that may differ between two copies of one base."""


@dataclass(frozen=True)
class TensorPrint:
    """The hashes that identify one tensor, in its stored precision and in narrower ones."""

    dtype: str
    exact: str
    """The hash of its bytes."""
    in_bf16: str
    """The hash of its values in bf16, to recognise a converted copy; for integers, the hash of its bytes."""
    in_fp16: str = ""
    """The same in fp16; empty in files written by older versions."""

    def is_comparable(self, other: TensorPrint) -> bool:
        """Return whether two prints can be compared: not if one is of packed bits and the other of floats."""
        return self.dtype == other.dtype or ("float" in self.dtype and "float" in other.dtype)

    def is_same(self, other: TensorPrint) -> bool:
        """Return whether two prints are of the same tensor, possibly converted to another precision."""
        if self.dtype == other.dtype:
            return self.exact == other.exact
        converted = {(self._as(other.dtype), other.exact), (other._as(self.dtype), self.exact)}
        return any(made == found for made, found in converted) or self.in_bf16 == other.in_bf16

    def _as(self, dtype: str) -> str | None:
        """Return the hash of the tensor's values in another precision; None if it is not stored."""
        return {"bfloat16": self.in_bf16, "float16": self.in_fp16}.get(dtype)


@dataclass(frozen=True)
class Fingerprint:
    """Identifies a base by its config and by every tensor as its files store it."""

    config: Mapping[str, Any]
    """The config values that affect what the model computes."""
    tensors: Mapping[str, TensorPrint]

    def differences(self, other: Fingerprint) -> list[str]:
        """Return what differs between two bases: config keys, then tensors; empty for one base in two precisions.

        Keys and tensors that only one of them has are ignored: new versions of transformers add keys, and a tied head
        may be written twice. If fewer than half of the tensor names are common, the names are reported as a difference.
        """
        keys = [key for key in self.config if key in other.config and self.config[key] != other.config[key]]
        shared = [name for name in self.tensors if name in other.tensors]
        pairs = [(name, self.tensors[name], other.tensors[name]) for name in shared]
        changed = [name for name, one, two in pairs if one.is_comparable(two) and not one.is_same(two)]
        if 2 * len(shared) < min(len(self.tensors), len(other.tensors)):
            changed.append("the names of the tensors")
        return [f"config.{key}" for key in keys] + changed

    def conversion(self, other: Fingerprint) -> str:
        """Return the precisions in which two copies of one base store their tensors, if they differ; else an empty
        string."""
        pairs = {(self.tensors[n].dtype, other.tensors[n].dtype) for n in self.tensors if n in other.tensors}
        return ", ".join(sorted(f"{old} then, {new} now" for old, new in pairs if old != new))

    @property
    def digest(self) -> str:
        """One hash of all tensors, for a run that needs exactly the same base."""
        plain = json.dumps([[name, tensor.exact] for name, tensor in sorted(self.tensors.items())])
        return hashlib.sha256(plain.encode()).hexdigest()

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON values; `parse` reads them back."""
        tensors = {name: [t.dtype, t.exact, t.in_bf16, t.in_fp16] for name, t in self.tensors.items()}
        return {"format": FORMAT, "config": dict(self.config), "tensors": tensors}

    @staticmethod
    def parse(plain: Any) -> Fingerprint:  # noqa: ANN401  (whatever a file holds)
        """Return the fingerprint read from `as_dict`'s values; raises ValueError for any others."""
        try:
            if plain["format"] != FORMAT:
                raise ValueError(f"format {plain['format']}, and this version reads {FORMAT}")
            tensors = {name: TensorPrint(*map(str, values)) for name, values in plain["tensors"].items()}
            if not tensors:
                raise ValueError("it names no tensor")
            return Fingerprint(dict(plain["config"]), tensors)
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"{type(error).__name__}: {error}") from error


def fingerprint(model: PreTrainedModel, folder: Path | None = None) -> Fingerprint:
    """Return a base's fingerprint, from the files in `folder` that it was loaded from, else from memory.

    Call it before a method is attached, which may change or rename tensors in memory. Raises ModelError for files that
    cannot be read.
    """
    stored = fingerprint_of_files(model.config, folder) if folder else None
    return stored or Fingerprint(_described(model.config), _prints(_in_memory(model)))


def fingerprint_of_files(config: PretrainedConfig, folder: Path) -> Fingerprint | None:
    """Return a base's fingerprint from its files alone, None if they are missing; raises ModelError for files that
    cannot be read.

    `config` is that of the loaded model, which may be only a part of what config.json describes.
    """
    files = weight_files(folder)
    if not all(path.is_file() for path in files):
        return None
    tensors: dict[str, TensorPrint] = {}
    for path in files:
        tensors |= prints_of_file(path)
    return Fingerprint(_described(config), tensors)


def _described(config: PretrainedConfig) -> dict[str, Any]:
    """Return the config values that affect what a model computes, as JSON gives them back."""
    kept = {key: value for key, value in config.to_dict().items() if key not in NOT_THE_BASE}
    plain: dict[str, Any] = json.loads(json.dumps(_without_precision(kept), default=str, sort_keys=True))
    return plain


def _without_precision(value: Any) -> Any:  # noqa: ANN401  (any JSON value)
    """Remove the keys of NOT_THE_BASE from nested configs."""
    if not isinstance(value, dict):
        return value
    return {str(key): _without_precision(inner) for key, inner in value.items() if key not in NOT_THE_BASE}


def prints_of_file(path: Path) -> dict[str, TensorPrint]:
    """Return the hashes of a file's tensors, from the cache if the file has not changed."""
    state = path.stat()
    times = [state.st_mtime_ns, state.st_ctime_ns]
    identity = [REMEMBERED, str(path.resolve()), state.st_size, *times, state.st_ino]
    key = hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:HEX_DIGITS]
    remembered = cache_home() / "fingerprints" / f"{key}.json"
    try:
        return dict(Fingerprint.parse(json.loads(remembered.read_text(encoding="utf-8"))).tensors)
    except (OSError, ValueError, RecursionError):
        found = _prints(_in_file(path))
    _remember(remembered, Fingerprint({}, found).as_dict())
    return found


def _remember(path: Path, value: dict[str, Any]) -> None:
    """Write into the cache; if it is full or read-only, the value is computed again next time."""
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, value)


def _in_file(path: Path) -> Iterator[tuple[str, Tensor]]:
    """Yield the tensors of a safetensors file one by one; raises ModelError if it cannot be read."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as tensors:
            for name in tensors.keys():  # noqa: SIM118  (it is no mapping)
                yield name, tensors.get_tensor(name)
    except (OSError, SafetensorError) as error:
        raise ModelError(unreadable(path, error)) from error


def _in_memory(model: PreTrainedModel) -> Iterator[tuple[str, Tensor]]:
    for name, parameter in model.named_parameters():
        yield name, parameter.detach()


def _prints(tensors: Iterable[tuple[str, Tensor]]) -> dict[str, TensorPrint]:
    """Hash tensors in parallel threads, a few at a time; hashing does not hold Python's global lock."""
    found: dict[str, TensorPrint] = {}
    with ThreadPoolExecutor(THREADS) as pool:
        waiting: list[tuple[str, Any]] = []
        for name, tensor in tensors:
            waiting.append((name, pool.submit(_print, tensor)))
            if len(waiting) == 2 * THREADS:  # limits how many tensors are in memory
                first, job = waiting.pop(0)
                found[first] = job.result()
        found |= {name: job.result() for name, job in waiting}
    return dict(sorted(found.items()))


def _print(tensor: Tensor) -> TensorPrint:
    import torch

    dtype = str(tensor.dtype).removeprefix("torch.")
    exact, floats = _hash(tensor), (torch.bfloat16, torch.float16, torch.float32, torch.float64)
    if tensor.dtype not in floats:
        return TensorPrint(dtype, exact, exact, exact)
    narrow = (exact if tensor.dtype is kind else _hash(tensor.to(kind)) for kind in floats[:2])
    return TensorPrint(dtype, exact, *narrow)


def _hash(tensor: Tensor) -> str:
    import torch

    flat = tensor.to("cpu").contiguous().reshape(-1).view(torch.uint8)
    return hashlib.sha256(flat.numpy().data).hexdigest()[:HEX_DIGITS]


def write_fingerprint(folder: Path, base: Fingerprint) -> None:
    """Write a base's fingerprint into the folder of an adapter or model trained on it; raises OSError."""
    write_json(folder / FILE, base.as_dict())


def read_fingerprint(folder: Path) -> Fingerprint | None:
    """Return the fingerprint of the base an adapter was trained on, None if it has none; raises ModelError if it cannot
    be read."""
    path = folder / FILE
    if not path.is_file():
        return None
    try:
        return Fingerprint.parse(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(
            Problem(
                "the fingerprint of the adapter's base cannot be read",
                f"{path} ({error})",
                "the file as written",
            )
        ) from error


def remember_place(base: Fingerprint, name: str) -> None:
    """Cache where a base is on this machine, since an adapter contains no private path."""
    places = [name, *(one for one in _places(base) if one != name)]
    _remember(_place(base), {"names": places[:MOST_PLACES]})


def remembered_place(base: Fingerprint) -> str | None:
    """Return where a base with this fingerprint was used in training on this machine; None if unknown.

    Of several places, it is the newest one that still holds this base; if none does, the newest one.
    """
    places = _places(base)
    return next((place for place in places if _holds(place, base)), next(iter(places), None))


def _places(base: Fingerprint) -> list[str]:
    """Return the cached places of a base, the newest first."""
    try:
        cached = json.loads(_place(base).read_text(encoding="utf-8"))
        return [str(place) for place in cached.get("names") or [cached["name"]]]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return []


def _holds(place: str, base: Fingerprint) -> bool:
    """Return whether a folder holds a base's weights; a file and a hub's id are not looked into."""
    folder = Path(place)
    if not folder.is_dir():
        return folder.is_file() or not folder.is_absolute()
    try:
        files = [prints_of_file(path) for path in weight_files(folder)]
    except (OSError, ModelError):
        return False
    return (
        Fingerprint({}, {name: one for found in files for name, one in found.items()}).digest == base.digest
    )


def _place(base: Fingerprint) -> Path:
    return cache_home() / "fingerprints" / "bases" / f"{base.digest[:HEX_DIGITS]}.json"


def require_same_base(wanted: Fingerprint | None, found: Fingerprint, what: str, base: str) -> list[str]:
    """Raise ModelError, naming the differences, if `what` was trained on another base than the one given.

    Returns a note if the base is a copy in another precision. Folders written by older versions have no fingerprint and
    are accepted without a check.
    """
    if wanted is None:
        return []
    differences = wanted.differences(found)
    if differences:
        raise ModelError(
            Problem(
                f"{what} was trained on another base: {len(differences)} of its parts differ",
                f"{base}: {some(differences)}",
                "the base it was trained on",
                "model.name=THAT-BASE, or --force (model.allow_other_base=true) to continue with this one",
            )
        )
    precisions = wanted.conversion(found)
    return [f"{base} is a converted copy of the base of {what}: {precisions}"] if precisions else []
