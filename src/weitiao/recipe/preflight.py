"""Checks everything that can be checked before a model is loaded, and reports all problems at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from ..core.errors import DataError, Problem, SettingsError, WeitiaoError, raise_all
from ..core.files import need_disk
from ..core.run_folder import RunFolder
from ..engine.checkpoint import STATE_BYTES
from ..engine.kernels.settings import require_kernels
from ..engine.optim.optimizers import require_fast, require_installed
from ..engine.optim.schedules import FOLLOW_HELD_OUT
from ..engine.runtime.batches import StepPlan
from ..methods._alternatives import require_applicable
from ..models.adapter_files import CONFIG
from ..models.embedding_rows import require_rows
from .auto_settings import AutoSetting, settle
from .identity import require_same_files
from .recipe import Recipe
from .reference import require_reference
from .replay import AwaitedAnswers, planned, read_own_rows, with_replay

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from ..data.dataset import Prepared
    from ..data.gate.gate import OnRows
    from ..engine.settings import TrainSettings
    from ..methods._base import Attached

T = TypeVar("T")

OPTIMIZER_COPIES = 3
"""fp32 copies in a checkpoint: each trained parameter and at most two moments."""


@dataclass
class _Findings:
    """Problems found by the checks; the first error's type decides the exit code."""

    first: WeitiaoError | None = None
    problems: tuple[Problem, ...] = ()

    def run(self, check: Callable[[], T]) -> T | None:
        """Return the result of a check, or None if it raises; its problems are kept."""
        try:
            return check()
        except WeitiaoError as error:
            self.first = self.first or error
            self.problems += error.problems
            return None

    def settle(self) -> None:
        """Raise the first error's type with the problems of all checks."""
        if self.first is not None:
            raise type(self.first)(*self.problems)


@dataclass(frozen=True)
class _Room:
    """The limits that a model and method set for a row."""

    context: int | None
    """Positions of the model, None if its config sets no limit."""
    virtual: int
    """Positions taken by the method's virtual tokens."""
    vocabulary: int
    """Rows of the token embedding: every id must be lower."""
    width: int
    """The hidden size."""
    left_out: Sequence[str]
    """Parts of the model that the method leaves unchanged."""

    def most_tokens(self, max_length: int) -> int:
        """Return the token limit of a row: `max_length`, or less if the context is shorter."""
        return max_length if self.context is None else min(max_length, self.context - self.virtual)


@dataclass(frozen=True)
class Ready:
    """Everything a run needs besides the model, checked."""

    recipe: Recipe
    """The recipe with every open setting chosen."""
    choices: Sequence[AutoSetting]
    data: Prepared
    tokenizer: PreTrainedTokenizerBase
    left_out: Sequence[str]
    """Parts of the model that the method leaves unchanged, even where its settings do not show it."""
    awaited: AwaitedAnswers | None = None
    """General rows that the model answers before training."""


def preflight(
    recipe: Recipe, new_folder: bool = True, day: date | None = None, on_rows: OnRows | None = None
) -> Ready:
    """Check folder, data, model, method, optimizer, schedule, trackers and disk together, and tokenise the data.

    `on_rows` is called with the number of rows read. Nothing is written and no weights are loaded. Raises the
    WeitiaoError of the first kind found, with the problems of every check.
    """
    from ..data.dataset import check_data

    findings = _Findings()
    tokenised, general = None, None
    if new_folder:
        findings.run(RunFolder(recipe.out).require_new)
    room = findings.run(lambda: _check_model(recipe))
    if room is None:
        findings.run(lambda: check_data(recipe.data, recipe.objective.forms))
    else:
        findings.run(lambda: require_same_files(recipe, RunFolder(recipe.out)))
        tokenised = findings.run(lambda: _tokenise(recipe, day, on_rows))
        general = findings.run(lambda: read_own_rows(recipe, day))
    findings.run(lambda: _check_schedule(recipe))
    findings.run(lambda: require_installed(recipe.train))
    findings.run(lambda: _check_compiler(recipe))
    findings.run(lambda: require_gpu_to_offload(recipe))
    findings.run(recipe.track.require_installed)
    findings.settle()
    if room is None or tokenised is None:
        raise RuntimeError("a check that found problems kept none")
    prepared, tokenizer = tokenised
    recipe, choices = settle(recipe, prepared, room.width)
    require_held_out(recipe, len(prepared.held_out))
    for part in filter(None, (prepared, general)):
        _require_room(part, room)
        _require_known_ids(part, tokenizer, room.vocabulary)
    most_tokens = room.most_tokens(recipe.data.max_length)
    whole, awaited = with_replay(recipe, prepared, tokenizer, general, most_tokens)
    ready = Ready(recipe, choices, whole, tokenizer, room.left_out, awaited)
    steps = StepPlan.of(planned(whole, awaited), recipe.train).total_steps
    recipe.method.check_steps(steps, continues=recipe.model.adapter is not None)
    return ready


def _tokenise(
    recipe: Recipe, day: date | None, on_rows: OnRows | None
) -> tuple[Prepared, PreTrainedTokenizerBase]:
    """Read, check and tokenise the data; raises DataError, ModelError."""
    from ..data.dataset import load_data
    from ..evaluation.trained import require_same_tokenizer
    from ..models.load import load_generation_config, load_tokenizer

    forms = recipe.objective.forms
    tokenizer = load_tokenizer(recipe.model)
    if recipe.model.adapter:
        # An adapter's chat template may contain the system prompt it was trained with.
        tokenizer = require_same_tokenizer(recipe.model, Path(recipe.model.adapter), tokenizer)
    stops = load_generation_config(recipe.model)
    data = load_data(recipe.data, tokenizer, recipe.train.seed, stops, forms, on_rows, day)
    return data, data.template.tokenizer


def _require_room(data: Prepared, room: _Room) -> None:
    """Raise DataError if an example exceeds the model's context minus the method's virtual tokens."""
    longest = data.summary.length_tokens["max"]
    if room.context is None or longest + room.virtual <= room.context:
        return
    left = room.context - room.virtual
    what = "the longest row does not fit the model's context"
    if room.virtual:
        what = f"{what}; {room.virtual} of its {room.context} positions are taken by virtual tokens"
    fitting = room.context - longest
    fewer = [f"method.num_virtual_tokens={fitting}"] if room.virtual and fitting > 0 else []
    raise DataError(
        Problem(
            what,
            f"{longest} tokens",
            f"up to {left} tokens",
            " or ".join([*fewer, f"data.max_length={left}"]),
        )
    )


def _require_known_ids(data: Prepared, tokenizer: PreTrainedTokenizerBase, rows: int) -> None:
    """Raise DataError, with the token and its place, if an id has no row in the embedding."""
    if len(tokenizer) <= rows:
        return
    for part in (data.train, data.held_out):
        for example in part:
            for sequence in example.sequences:
                require_rows(tokenizer, rows, sequence.ids, example.place)


def _check_model(recipe: Recipe) -> _Room:
    """Attach the method to a model without weights, and compare the size of the run's files with the free disk.

    Returns the limits that the model and the method set for rows.
    """
    from ..engine.kernels.matmul import require_onednn
    from ..models.anatomy import context_tokens, width_of
    from ..models.load import load_config, load_weightless
    from ..models.precision import require_device

    require_device(recipe.model.device_map)
    require_onednn(recipe.train.matmul)
    model = load_weightless(recipe.model)
    require_applicable(recipe.method, model, load_config(recipe.model))
    rows = model.get_input_embeddings().weight.shape[0]
    left_out = recipe.method.left_out(model)  # before attaching, which changes names and modules
    planned = _plan_continued(recipe, model) if recipe.model.adapter else recipe.method.plan(model)
    require_reference(recipe, planned)
    require_fast(recipe.train, planned.fast_parameters())
    require_kernels(recipe.train, model.config, _device_of(recipe))
    need_disk(
        recipe.out.absolute(), bytes_written(recipe.train, planned), "this run's checkpoints and result"
    )
    return _Room(context_tokens(model.config), planned.context_tokens, rows, width_of(model), left_out)


def _plan_continued(recipe: Recipe, model: PreTrainedModel) -> Attached:
    """Attach the adapter to continue from to a model without weights; raises ModelError if it cannot be used."""
    from ..models.adapter_files import errors_named, require_adapter

    folder = Path(str(recipe.model.adapter))
    if (folder / CONFIG).is_file():  # otherwise the method reports what the folder holds instead
        require_adapter(folder)
    with errors_named(folder):
        return recipe.method.continue_from(model, folder)


def _device_of(recipe: Recipe) -> torch.device:
    """Return the type of device that the model's blocks run on."""
    import torch

    on_gpu = recipe.model.device_map != "cpu" and torch.cuda.is_available()
    return torch.device("cuda" if on_gpu else "cpu")


def _check_compiler(recipe: Recipe) -> None:
    from ..engine.kernels.compile import require_compiler

    if recipe.train.compile:
        require_compiler(_device_of(recipe))


def bytes_written(settings: TrainSettings, attached: Attached) -> int:
    """Return the most bytes that a run's checkpoints and result take on disk."""
    from ..methods._base import count_parameters

    trainable, everything = count_parameters(attached.model)
    checkpoint_bytes = 4 * trainable * OPTIMIZER_COPIES + STATE_BYTES
    result_bytes = 4 * (everything if attached.saves_whole_model else trainable)
    kept = settings.keep_checkpoints + 1 + settings.keep_best
    return kept * checkpoint_bytes + result_bytes


def _check_schedule(recipe: Recipe) -> None:
    """Build the schedule for a parameter of one number, so that invalid arguments are refused early."""
    import torch

    from ..engine.optim.schedules import build_schedule

    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=recipe.lr)
    build_schedule(optimizer, recipe.train, steps=recipe.train.steps or 100)


def require_gpu_to_offload(recipe: Recipe) -> None:
    """Raise SettingsError if activations are to be offloaded to CPU memory but the model runs on the CPU."""
    from ..models.precision import device_for

    if recipe.train.offload_activations and device_for(recipe.model.device_map) in ("cpu", {"": "cpu"}):
        raise SettingsError(
            Problem(
                "on a CPU activations are in its memory already, so there is nothing to offload",
                f"train.offload_activations: true, model.device_map: {recipe.model.device_map}",
                "a GPU",
                "train.offload_activations=false, or train.gradient_checkpointing=full for less memory",
            )
        )


def require_held_out(recipe: Recipe, held_out_rows: int) -> None:
    """Raise SettingsError for settings that depend on the held-out loss if no row is held out."""
    train = recipe.train
    asked = {
        f"train.early_stopping_patience: {train.early_stopping_patience}": train.early_stopping_patience
        != "off",
        f"train.scheduler: {train.scheduler}": train.scheduler in FOLLOW_HELD_OUT,
    }
    raise_all(
        SettingsError,
        [
            Problem(
                "this depends on the held-out loss, and no row is held out",
                got,
                "held-out rows",
                "data.held_out=10",
            )
            for got, is_asked in asked.items()
            if is_asked and held_out_rows == 0
        ],
    )
