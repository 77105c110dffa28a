"""GGUF files: dequantised once into the cache, as an ordinary fp32 safetensors folder that all other code loads."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock

from ..core.errors import ModelError, Problem
from ..core.files import cache_home, need_disk, sha256_of, staged_folder
from .fingerprint import prints_of_file
from .quiet import bars_of_tqdm_unseen
from .weights.complete import drop_loading_report, require_finite_weights, require_whole
from .weights.files import SINGLE

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

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
            need_disk(folder.parent, _fp32_bytes(gguf), f"the fp32 copy of {gguf.name}")
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


def _fp32_bytes(gguf: Path) -> int:
    """Return the size of the weights in fp32, in bytes; raises ModelError for a truncated file."""
    from gguf import GGUFReader

    try:
        return sum(4 * int(tensor.n_elements) for tensor in GGUFReader(gguf).tensors)
    except (ValueError, IndexError) as error:
        raise ModelError(
            Problem(
                f"{gguf} cannot be read to its end", str(error), "a complete GGUF file", "download it again"
            )
        ) from error


def dequantize(gguf: Path, staging: Path) -> None:
    """Read a GGUF with transformers and save it as a plain model; raises ModelError if transformers cannot read it."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    drop_loading_report()
    where = {"pretrained_model_name_or_path": str(gguf.parent), "gguf_file": gguf.name}
    try:
        tokenizer = AutoTokenizer.from_pretrained(**where)
        # Without `dequantize` the weights may stay packed, and the model refuses to be saved.
        with bars_of_tqdm_unseen():
            model, info = AutoModelForCausalLM.from_pretrained(
                **where,
                dtype=torch.float32,
                quantization_config=GgufConfig(dequantize=True),
                output_loading_info=True,
                ignore_mismatched_sizes=True,  # refused below, by name
            )
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
