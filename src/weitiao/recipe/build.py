"""Builds a training that is ready to run from a recipe and the loaded parts."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from torch.nn import Parameter
from transformers import PreTrainedModel

from ..core.events import EventLog, Progress
from ..core.run_folder import RunFolder
from ..data.dataset import Prepared
from ..data.example import Example
from ..data.gate.store import longest_of
from ..engine.forward import Forward
from ..engine.kernels.liger import use_liger
from ..engine.kernels.matmul import uses_onednn
from ..engine.kernels.settings import uses_liger
from ..engine.loop import HeldOutLoss, Training
from ..engine.memory.budget import (
    MeasureGrowth,
    MemoryPlan,
    default_pack_tokens,
    measure_growth,
    plan_memory,
    room_bytes,
)
from ..engine.memory.frozen_cache import frozen_blocks_once
from ..engine.optim.neftune import add_noise
from ..engine.optim.optimizers import build_optimizer
from ..engine.optim.precision import Precision
from ..engine.optim.schedules import build_schedule, warmup_notes
from ..engine.probe import choose_forward, one_by_one
from ..engine.runtime.batches import StepPlan
from ..engine.runtime.distributed import Ranks
from ..engine.settings import TrainSettings
from ..engine.step import LossScale, Stepper
from ..evaluation.callbacks import ShouldStop
from ..evaluation.held_out import measure_held_out
from ..methods._base import Attached, count_parameters
from ..models.anatomy import base_of, width_of
from ..models.fingerprint import Fingerprint
from ..models.precision import torch_dtype
from ..models.settings import ModelSettings
from .baseline import Comparison
from .identity import settings_and_data
from .preflight import bytes_written
from .recipe import Recipe
from .reference import reference_for


def precision_for(settings: ModelSettings, model: PreTrainedModel) -> Precision:
    """Return the compute dtype: that of half-precision weights, or the one 4-bit layers compute in."""
    quantized = settings.quantization in ("nf4", "fp4")
    dtype = torch_dtype(settings.compute_dtype, settings.device_map) if quantized else model.dtype
    return Precision(dtype if dtype in (torch.bfloat16, torch.float16) else None)


def choose_kernels(recipe: Recipe, model: PreTrainedModel, log: EventLog) -> None:
    """Switch a loaded model to the kernels the recipe asks for, with a note if they are not transformers' own."""
    if uses_liger(recipe.train, model.config, model.device):
        use_liger(model)
        log.emit(
            "note", text="norms and MLPs run on Liger kernels (train.kernels=none: on transformers' own)"
        )
    if model.device.type == "cpu" and model.dtype is torch.float32 and uses_onednn(recipe.train.matmul):
        log.emit("note", text="matrix products run on oneDNN (train.matmul=mkl: on MKL)")
    if model.device.type == "cpu" and model.dtype is torch.float16:
        log.emit(
            "note",
            text="fp16 is slow on a CPU, many times slower without hardware support (model.dtype=auto: fp32)",
        )


def attach(recipe: Recipe, model: PreTrainedModel, data: Prepared, log: EventLog) -> Attached:
    """Attach the recipe's method to a loaded model, initialised from the seed (and from the data, if it needs them)."""
    torch.manual_seed(recipe.train.seed)
    adapter = recipe.model.adapter
    if adapter:
        attached = recipe.method.continue_from(model, Path(adapter))
    else:
        attached = recipe.method.attach(model)
        recipe.method.prepare(attached.model, _batches(data.train, model.device))
    trainable, everything = count_parameters(attached.model)
    log.emit("parameters", trainable=trainable, all=everything, percent=100 * trainable / everything)
    return attached


def _batches(examples: Sequence[Example], device: torch.device) -> Iterator[dict[str, object]]:
    """Yield sequences one by one in the form that PEFT's data-driven initialisations read."""
    for sequence in (sequence for example in examples for sequence in example.sequences):
        ids_BT = torch.tensor([sequence.ids], device=device)
        trained_BT = torch.tensor([sequence.weights], device=device) > 0
        yield {
            "input_ids": ids_BT,
            "attention_mask": torch.ones_like(ids_BT),
            "labels": torch.where(trained_BT, ids_BT, -100),
        }


def forward_for(attached: Attached, precision: Precision, log: EventLog) -> Forward:
    """Choose how examples go through a model, with a note if they cannot be packed."""
    if not attached.packs:
        return one_by_one(attached.model, precision)
    forward = choose_forward(attached.model, precision)
    if not forward.options.packs:
        log.emit(
            "note", text="this architecture mixes packed examples, so they go through the model one at a time"
        )
    return forward


def measured_plan(
    recipe: Recipe,
    forward: Forward,
    parameters: Mapping[str, Parameter],
    data: Prepared,
    free_bytes: float | None = None,
    measure: MeasureGrowth = measure_growth,
) -> MemoryPlan:
    """Find a token budget that fits, and enable what it needs on the model.

    `free_bytes` is the available memory, by default what is free on the model's device.
    """
    settings, longest = recipe.train, longest_of(data.train)
    wanted = settings.pack_tokens or default_pack_tokens(forward.device, width_of(base_of(forward.model)))
    if settings.compile and forward.options.packs:  # packs have one fixed length, at least the longest row's
        wanted = max(wanted, longest)
    return plan_memory(
        forward,
        recipe.objective,
        parameters,
        (data.train[0], longest),
        settings.gradient_checkpointing,
        wanted,
        room_bytes(forward, parameters, settings.optimizer, free_bytes),
        measure,
    )


Planner = Callable[[Recipe, Forward, Mapping[str, Parameter], Prepared], MemoryPlan]


def build_training(
    recipe: Recipe,
    folder: RunFolder,
    attached: Attached,
    data: Prepared,
    forward: Forward,
    base: Fingerprint,
    log: EventLog,
    plan_of: Planner = measured_plan,
    comparison: Comparison | None = None,
) -> Training:
    """Assemble the engine's parts; raises SettingsError for an unsuitable optimizer or schedule, ResourceError if the
    longest row does not fit into memory, ModelError if the objective needs a reference that the method cannot give.

    `plan_of` chooses the packs' budget. `comparison` receives the result of each held-out evaluation, and measures the
    base before the first one.
    """
    settings = recipe.train
    if settings.neftune_alpha:
        add_noise(base_of(attached.model).get_input_embeddings(), settings.neftune_alpha, forward.lengths)
    forward = forward.with_options(**options_before_measuring(settings, forward))
    plan = StepPlan.of(data.train, settings)
    for note in warmup_notes(settings, plan.total_steps):
        log.emit("note", text=note)
    attached.starts(plan.total_steps)
    parameters = attached.trainable()
    planned = plan_of(recipe, forward, parameters, data)
    _report_plan(planned, log)
    # After measuring: otherwise every pack size tried there would be compiled.
    forward = forward.with_options(compiles=settings.compile, rematerializes=planned.rematerializes)
    if settings.compile and not forward.options.packs:
        log.emit(
            "note",
            text="examples go through the model one at a time, each at its own length, so nothing is compiled",
        )
    undecayed = attached.undecayed_parameters()
    optimizer = build_optimizer(parameters, attached.fast_parameters(), settings, recipe.lr, undecayed)
    stepper = Stepper(
        attached=attached,
        forward=forward,
        objective=recipe.objective,
        parameters=parameters,
        optimizer=optimizer,
        max_grad_norm=settings.max_grad_norm,
        pack_tokens=planned.pack_tokens,
        seed=settings.seed,
        scale=LossScale.for_precision(forward.precision),
        reference=reference_for(recipe, attached, forward),
        ranks=Ranks.current(),
        longest_row=longest_of(data.train),
    )
    return Training(
        attached=attached,
        stepper=stepper,
        schedule=build_schedule(optimizer, settings, plan.total_steps),
        plan=plan,
        settings=settings,
        log=log if stepper.ranks.first else EventLog(None),  # the other processes log nothing
        checkpoints=folder.checkpoints,
        identity=_identity(recipe, data, base),
        held_out_loss=_look(stepper, data.held_out, log, comparison) if data.held_out else None,
    )


def _report_plan(planned: MemoryPlan, log: EventLog) -> None:
    log.emit(
        "memory",
        text=str(planned),
        pack_tokens=planned.pack_tokens,
        gradient_checkpointing=planned.recompute,
        activation_bytes=planned.needed_bytes,
    )


def _look(
    stepper: Stepper, held_out: Sequence[Example], log: EventLog, comparison: Comparison | None
) -> HeldOutLoss:
    """Return a function that evaluates the held-out loss, in packs of the size used in training."""

    def look(should_stop: ShouldStop) -> dict[str, float] | None:
        measured = measure_held_out(
            stepper.forward,
            stepper.objective,
            held_out,
            stepper.pack_tokens,
            should_stop,
            Progress(log.emit, "held-out loss"),
            stepper.reference,
        )
        if measured is None:
            return None
        if comparison is not None:
            comparison.remember(measured)
        return measured.as_fields()

    return look if comparison is None else comparison.base_first(look, stepper.forward, stepper.attached, log)


def options_before_measuring(settings: TrainSettings, forward: Forward) -> dict[str, bool]:
    """Return the options that follow from the settings before memory is planned.

    NEFTune draws noise for each sequence, scaled by its length, so sequences then do not share a common beginning.
    """
    shares = forward.options.shares and not settings.neftune_alpha
    return {"shares": shares, "offloads": settings.offload_activations}


@contextmanager
def frozen_once(folder: RunFolder, training: Training, data: Prepared, log: EventLog) -> Iterator[None]:
    """For the context, compute the outputs of frozen blocks once for all examples that are seen repeatedly.

    Held-out examples are evaluated at least twice: at the end of training, and again for the report. Methods that put
    rows of their own before a pack's rows are excluded.
    """
    settings, attached, stepper = training.settings, training.attached, training.stepper
    repeated = [
        *([data.train] if StepPlan.of(data.train, settings).seen > len(data.train) else []),
        *([data.held_out] if data.held_out else []),
    ]
    if settings.frozen_cache == "off" or attached.virtual_tokens or attached.context_tokens or not repeated:
        yield
        return
    reserved_bytes = bytes_written(settings, attached)
    with frozen_blocks_once(
        stepper.forward, repeated, stepper.pack_tokens, folder.frozen_states, reserved_bytes, log
    ):
        yield


def _identity(recipe: Recipe, data: Prepared, base: Fingerprint) -> dict[str, str]:
    """Return what a checkpoint must match to belong to this run: settings, data and base, each as a hash."""
    known = settings_and_data(recipe, data)
    return known if recipe.model.allow_other_base else {**known, "base model": base.digest}
