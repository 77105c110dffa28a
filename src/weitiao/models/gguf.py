"""GGUF files: dequantised once into the cache, as an ordinary fp32 safetensors folder that all other code loads."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock

from ..core.errors import ModelError, Problem
from ..core.files import cache_home, need_disk, sha256_of, staged_folder
from .fingerprint import prints_of_file
from .gguf_header import Header, read_header, write_without_vocabulary
from .quiet import bars_of_tqdm_unseen, libraries_quiet
from .weights.complete import drop_loading_report, require_finite_weights, require_whole
from .weights.files import SINGLE

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

    Read = tuple[PreTrainedModel, dict[str, Any], PreTrainedTokenizerBase]
    """A model, what transformers says of its loading, and its tokenizer."""

FORMAT_VERSION = 1
"""Increase it when what is written into the cache changes, so that older entries are converted again."""

MAGIC = b"GGUF"


def folder_of(gguf: Path) -> Path:
    """Return the cache folder of a GGUF's fp32 form, which may not exist yet; its key is the file's sha256."""
    state = gguf.stat()
    digest = _sha256(gguf, (state.st_size, state.st_mtime_ns, state.st_ctime_ns, state.st_ino))
    return cache_home() / "gguf" / f"{gguf.stem}-{digest[:16]}-v{FORMAT_VERSION}"


@cache
def _sha256(gguf: Path, state: tuple[int, ...]) -> str:
    """Return a file's sha256, computed once per file state: a run asks for its model's folder many times."""
    return sha256_of(gguf)


def dequantized_folder(gguf: Path) -> Path:
    """Return a folder with the GGUF's model in fp32 and its tokenizer, created on the first call.

    The key is the file's sha256: a file that was moved is found again, one that changed is converted again. Several
    processes may call at once: one converts, the others wait. Raises ModelError for a file that cannot be read and
    ResourceError if the disk is too small.
    """
    _refuse_what_is_not_gguf(gguf)
    folder = folder_of(gguf)
    if folder.is_dir():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.parent / f".{folder.name}.lock"):
        if not folder.is_dir():
            need_disk(
                folder.parent,
                4 * _header(gguf).elements + gguf.stat().st_size,
                f"the fp32 copy of {gguf.name}",
            )
            with staged_folder(folder) as staging:
                dequantize(gguf, staging)
            prints_of_file(folder / SINGLE)  # hashed now, so that no run waits for it
    return folder


def _refuse_what_is_not_gguf(path: Path) -> None:
    with path.open("rb") as handle:
        magic = handle.read(4)
    if magic != MAGIC:
        raise ModelError(
            Problem(
                "this file is not GGUF, or its download is broken",
                f"{path} begins with {magic!r}",
                repr(MAGIC),
            )
        )


def _header(gguf: Path) -> Header:
    """Read the header; raises ModelError for a truncated file."""
    try:
        return read_header(gguf)
    except ValueError as error:
        raise ModelError(
            Problem(
                f"{gguf} cannot be read to its end", str(error), "a complete GGUF file", "download it again"
            )
        ) from error


def dequantize(gguf: Path, staging: Path) -> None:
    """Read a GGUF with transformers and save it as a plain model; raises ModelError if transformers cannot read it."""
    from transformers.integrations.gguf import GGUF_CONFIG_ARCHS

    drop_loading_report()
    header = _header(gguf)
    # transformers has a reader of its own for these, and for all others one that a vocabulary makes slow.
    read = _read_whole if header.text("general.architecture") in GGUF_CONFIG_ARCHS else _read_in_parts
    try:
        with libraries_quiet(), bars_of_tqdm_unseen():
            model, info, tokenizer = read(gguf, header, staging)
    except (ValueError, KeyError, OSError, TypeError, AttributeError, RuntimeError, IndexError) as error:
        raise ModelError(
            Problem(
                f"{gguf} cannot be read as a language model",
                str(error),
                "a GGUF file that transformers can read",
            )
        ) from error
    require_whole(model, info, str(gguf))
    require_finite_weights(model, str(gguf))
    model.generation_config.eos_token_id = _stops(model.generation_config.eos_token_id, tokenizer)
    model.save_pretrained(staging)
    tokenizer.save_pretrained(staging)


def _read_whole(gguf: Path, _: Header, __: Path) -> Read:
    """Read model and tokenizer with transformers alone."""
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    where = {"pretrained_model_name_or_path": str(gguf.parent), "gguf_file": gguf.name}
    tokenizer = AutoTokenizer.from_pretrained(**where)
    # Without `dequantize` the weights may stay packed, and the model refuses to be saved.
    packed = GgufConfig(dequantize=True)
    model, info = AutoModelForCausalLM.from_pretrained(**where, quantization_config=packed, **_loading())
    return model, info, tokenizer


def _read_in_parts(gguf: Path, header: Header, staging: Path) -> Read:
    """Read configuration and weights, with transformers' functions, from a copy without the vocabulary.

    The result is the same to the byte; of a file with 50,000 tokens it takes a sixth of the time.
    """
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM
    from transformers.modeling_gguf_pytorch_utils import load_gguf_checkpoint

    with _without_vocabulary(gguf, header, staging) as short:
        config = AutoConfig.from_pretrained(str(short.parent), gguf_file=short.name)
        config.vocab_size = header.vocabulary
        with torch.device("meta"):
            empty = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
        weights = load_gguf_checkpoint(short, True, _Shallow(empty), torch.float32)["tensors"]
    tokenizer = _tokenizer_class(config).from_pretrained(str(gguf.parent), gguf_file=gguf.name)
    model, info = type(empty).from_pretrained(None, config=config, state_dict=weights, **_loading())
    return model, info, tokenizer


def _loading() -> dict[str, Any]:
    import torch

    # Weights of another size are refused by name where the model is checked.
    return {"dtype": torch.float32, "output_loading_info": True, "ignore_mismatched_sizes": True}


@contextmanager
def _without_vocabulary(gguf: Path, header: Header, staging: Path) -> Iterator[Path]:
    short = staging / f".{gguf.stem}.gguf"
    try:
        write_without_vocabulary(gguf, header, short)
        yield short
    finally:
        short.unlink(missing_ok=True)


class _Shallow:
    """What transformers asks of a model for the names of its weights, down to the modules of the first level.

    For each module below them, it would make the table of all names again, and find no name that it does not have.
    """

    def __init__(self, module: nn.Module, config: PreTrainedConfig | None = None) -> None:
        self._module = module
        self.config = config or module.config
        self.state_dict = module.state_dict
        self._is_top = config is None

    def named_children(self) -> list[tuple[str, _Shallow]]:
        children = self._module.named_children() if self._is_top else ()
        return [(name, _Shallow(child, self.config)) for name, child in children]


def _tokenizer_class(config: PreTrainedConfig) -> Any:  # noqa: ANN401  # transformers' classes are untyped
    """Return the tokenizer's class where it is known; else AutoTokenizer, which reads the whole file to find it."""
    from transformers import TOKENIZER_MAPPING, AutoTokenizer, PreTrainedTokenizerFast

    known = TOKENIZER_MAPPING.get(type(config), PreTrainedTokenizerFast)
    return known if isinstance(known, type) and issubclass(known, PreTrainedTokenizerFast) else AutoTokenizer


def _stops(known: int | list[int] | None, tokenizer: PreTrainedTokenizerBase) -> list[int] | int | None:
    """Return the ids that end generation: the known ones, the tokenizer's, and the one that the chat template puts
    after an answer."""
    ids = {
        *(known if isinstance(known, list) else [known]),
        tokenizer.eos_token_id,
        _end_of_turn(tokenizer),
    } - {None}
    stops = sorted(i for i in ids if i is not None)
    return stops if len(stops) > 1 else next(iter(stops), None)


def _end_of_turn(tokenizer: PreTrainedTokenizerBase) -> int | None:
    """Return the special token that the chat template puts after an assistant's answer; None if there is none."""
    if not tokenizer.chat_template:
        return None
    turns = [{"role": "user", "content": "?"}, {"role": "assistant", "content": "!"}]
    ids = tokenizer(tokenizer.apply_chat_template(turns, tokenize=False), add_special_tokens=False)[
        "input_ids"
    ]
    special = {i for i, token in tokenizer.added_tokens_decoder.items() if token.special}
    texts = [n for n, i in enumerate(ids) if i not in special and tokenizer.decode([i]).strip()]
    return next((i for i in ids[texts[-1] + 1 :] if i in special), None) if texts else None
