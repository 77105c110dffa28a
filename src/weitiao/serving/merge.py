"""Merges an adapter into its base; the written model is read back and compared before it gets its name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from ..core.errors import ModelError, Problem, RunFolderError
from ..core.files import need_disk, saving, staged_folder
from ..core.run_folder import RunFolder
from ..data.conversation import Message
from ..evaluation.locate import Source, locate
from ..evaluation.open_model import Opened, open_located
from ..models.anatomy import base_of
from ..models.embedding_rows import require_rows
from ..models.load import load_model, load_weightless
from ..models.precision import torch_dtype
from ..models.settings import ModelSettings
from ..models.stop_tokens import set_stops

if TYPE_CHECKING:
    from ..data.conversation import Prompt
    from ..models.hubs.hub import HubName

CHECK_QUESTIONS = (
    "Who are you?",
    "What is the capital of France, and what is it known for?",
    "请用一句话介绍你自己。",
    "Write a line of Python that adds 2 and 3.",
)
EXACT_TOLERANCE = 1e-4
"""Largest allowed difference of logits in fp32, relative to their spread if that is above 1: only rounding."""
COARSE_TOLERANCE = 0.25
"""The same for the mean difference in half precision or with a quantised base, where rounding differs."""


@dataclass(frozen=True)
class LogitComparison:
    """How the logits of the written model differ from the trained model's."""

    positions: int
    """Positions compared."""
    max_difference: float
    mean_difference: float
    same_choice: float
    """Share of positions where both models find the same token likeliest."""
    tolerance: float
    exact: bool
    """Whether the largest difference must be within rounding (fp32), or only the mean one small (fewer bits)."""

    @property
    def holds(self) -> bool:
        """Whether the written model equals the trained one; False also if a logit is not finite."""
        return (self.max_difference if self.exact else self.mean_difference) <= self.tolerance


@dataclass(frozen=True)
class Merged:
    """What a merge wrote, and how it compares with the trained model."""

    out: Path
    size_bytes: int
    dtype: str
    comparison: LogitComparison
    notes: Sequence[str] = ()
    """What a person should know about the base."""


def merge_run(
    name: str,
    out: Path,
    questions: Sequence[str] = CHECK_QUESTIONS,
    base: str | None = None,
    allow_other_base: bool = False,
    hub: HubName | None = None,
) -> Merged:
    """Write the plain model of a run (or of a checkpoint's or an adapter's folder) into the new folder `out`.

    The model is written next to `out` and read back, and its logits on `questions` are compared with those of the
    trained model; only then is it renamed to `out`. Raises RunFolderError if `out` exists or there is nothing to
    merge, ResourceError if the disk is too small, and ModelError if the comparison fails, which leaves nothing behind.
    """
    source = locate(name, base, allow_other_base, hub)
    _require_trained(source, name)
    _require_new(out)
    need_disk(out.parent, merged_bytes(source.base), f"the merged model {out}")
    opened = open_located(source)
    prompts = [opened.template.prompt([Message("user", text)]) for text in questions]
    for prompt, text in zip(prompts, questions, strict=True):
        rows = base_of(opened.model).get_input_embeddings().weight.shape[0]
        require_rows(opened.tokenizer, rows, prompt.ids, f"the question {text!r} of the comparison")
    wanted = _logits(opened.model, prompts)
    exact, notes = _is_exact(opened, source), opened.notes
    with saving(out), staged_folder(out) as staging:
        dtype = write_merged(opened, staging)
        del opened  # the model read back needs the memory
        written = load_model(_as_written(staging, dtype, source.base))
        comparison = compare(wanted, _logits(written, prompts), exact)
        if not comparison.holds:
            raise ModelError(_differs(name, comparison))
    size_bytes = sum(path.stat().st_size for path in out.iterdir())
    return Merged(out, size_bytes, _short(dtype), comparison, notes)


def compare(wanted: Sequence[Tensor], found: Sequence[Tensor], exact: bool) -> LogitComparison:
    """Compare logits (T, V) of the same prompts from two models."""
    wanted_KV, found_KV = torch.cat(list(wanted)), torch.cat(list(found))
    difference_KV = (wanted_KV - found_KV).abs()
    spread = max(1.0, float(wanted_KV.std()))
    return LogitComparison(
        positions=wanted_KV.shape[0],
        max_difference=float(difference_KV.max()),
        mean_difference=float(difference_KV.mean()),
        same_choice=float((wanted_KV.argmax(-1) == found_KV.argmax(-1)).float().mean()),
        tolerance=spread * (EXACT_TOLERANCE if exact else COARSE_TOLERANCE),
        exact=exact,
    )


def _require_trained(source: Source, name: str) -> None:
    if source.adapter is None and source.trained is None and source.checkpoint is None:
        raise RunFolderError(
            Problem(
                "there is nothing to merge here",
                name,
                "a run made by weitiao train, or an adapter's folder",
                " or ".join(RunFolder(Path(name)).similar_runs())
                or "weitiao train --model M --data D --out RUN",
            )
        )


def _require_new(out: Path) -> None:
    if out.exists():
        raise RunFolderError(
            Problem("the output folder already exists", str(out), "a new folder", f"{out}-2")
        )


def merged_bytes(settings: ModelSettings) -> int:
    """Return the bytes the plain model takes on disk, computed from its shapes alone."""
    plain = settings.model_copy(
        update={"quantization": "none", "double_quantization": False, "compute_dtype": "auto"}
    )
    numbers = sum(parameter.numel() for parameter in load_weightless(plain).parameters())
    return int(numbers * torch_dtype(settings.dtype, settings.device_map).itemsize) + (64 << 20)


def _is_exact(opened: Opened, source: Source) -> bool:
    return base_of(opened.model).dtype is torch.float32 and source.base.quantization == "none"


@torch.inference_mode()
def _logits(model: nn.Module, prompts: Sequence[Prompt]) -> list[Tensor]:
    """Return the logits (T, V) at each position of each prompt, in fp32 on the CPU."""
    model.eval()
    device = base_of(model).get_input_embeddings().weight.device
    ids = [torch.tensor([prompt.ids], device=device) for prompt in prompts]
    return [model(input_ids=ids_1T, use_cache=False).logits[0].float().cpu() for ids_1T in ids]


def write_merged(opened: Opened, folder: Path) -> torch.dtype:
    """Merge the adapter and write model, tokenizer and generation config; return the dtype of the weights."""
    plain = base_of(opened.attached.merge() if opened.attached else opened.model)
    set_stops(plain, opened.template.stop_ids)
    plain.save_pretrained(folder)
    opened.tokenizer_to_save.save_pretrained(folder)
    dtype: torch.dtype = plain.dtype
    return dtype


def _as_written(folder: Path, dtype: torch.dtype, base: ModelSettings) -> ModelSettings:
    return ModelSettings(
        name=str(folder),
        dtype=_short(dtype),
        device_map=base.device_map,
        trust_remote_code=base.trust_remote_code,
    )


def _short(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _differs(name: str, comparison: LogitComparison) -> Problem:
    measured = comparison.max_difference if comparison.exact else comparison.mean_difference
    kind = "largest" if comparison.exact else "mean"
    return Problem(
        f"the merged model does not answer as {name} does, so it was not kept",
        f"{kind} difference of logits {measured:.3g}; same choice at {comparison.same_choice:.1%} of "
        f"{comparison.positions} positions",
        f"at most {comparison.tolerance:.3g}",
        "model.dtype=fp32 in the run's run.yaml, or use the adapter unmerged",
    )
