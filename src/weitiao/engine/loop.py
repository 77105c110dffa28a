"""The training loop: batch, step, log, evaluate, save. It names no method and no objective."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import torch
from torch.optim.lr_scheduler import LRScheduler

from ..core.errors import NotFiniteError, Problem
from ..core.events import EventLog
from ..core.files import saving
from ..methods._base import Attached
from .checkpoint import NAME, Snapshot, damage_of, load_checkpoint, prune, save_checkpoint
from .memory.allocator import freed_memory_kept
from .optim.schedules import follows_held_out_loss
from .runtime.batches import Batches
from .runtime.monitor import Monitor
from .runtime.signals import StopRequest, watch_signals
from .settings import TrainSettings
from .step import Stepper, StepResult

STEPS_BETWEEN_SAVES = 200

HeldOutLoss = Callable[[Callable[[], bool]], Mapping[str, float] | None]
"""Returns the held-out `loss` and other measurements, by name. Its argument is polled ("stop?"); once that returns True
the result is None."""


@dataclass
class TrainingState:
    """The loop's own state: plain numbers, saved in every checkpoint."""

    step: int = 0
    """Steps completed."""
    tokens: int = 0
    looked_at: int = 0
    """The step of the last evaluation on the held-out set."""
    looked_loss: float | None = None
    """The loss of that evaluation; None if it was not finite."""
    best_loss: float | None = None
    best_step: int | None = None
    looks_without_gain: int = 0
    loss_scale: float = 1.0
    good_steps: int = 0
    """Steps since the loss scale was last lowered."""
    pack_tokens: int = 0
    seconds: float = 0.0
    """Time spent in steps."""


@dataclass
class Training:
    """A training run in progress."""

    attached: Attached
    stepper: Stepper
    schedule: LRScheduler
    plan: Batches
    settings: TrainSettings
    log: EventLog
    checkpoints: Path
    identity: Mapping[str, str]
    held_out_loss: HeldOutLoss | None = None
    progress: TrainingState = field(default_factory=TrainingState)
    _recent: deque[tuple[float, int]] = field(default_factory=lambda: deque(maxlen=20))
    _monitor: Monitor = field(default_factory=Monitor)
    _saved_step: int = -1
    _result_step: int | None = None
    """The step whose weights the model holds at the end, if it is not the last."""

    @property
    def result_loss(self) -> float | None:
        """The held-out loss of the weights the model holds after `run`; None if they were not evaluated."""
        if self._result_step is not None:
            return self.progress.best_loss
        return self.progress.looked_loss if self.progress.looked_at == self.progress.step else None

    @property
    def result_step(self) -> int:
        """The step whose weights the model holds after `run`: the last, or the one with the lowest held-out loss."""
        return self.progress.step if self._result_step is None else self._result_step

    def run(self) -> TrainingState:
        """Train to the end, or raise Interrupted, Terminated or NotFiniteError with the last good state saved.

        If an update makes weights that are not finite, nothing is saved; earlier checkpoints, if any, remain.
        With several ranks, a signal to any of them stops all after the same step.
        """
        total_steps, ranks = self.plan.total_steps, self.stepper.ranks
        with self.stepper.forward.attention(), freed_memory_kept(), watch_signals() as stop:
            self._look_if_due(stop)
            while (
                self.progress.step < total_steps and not self._gave_up() and not ranks.any(stop.requested())
            ):
                self._record(self._step(), total_steps)
                self._look_if_due(stop)
                if self._save_is_due():
                    self.save()
            self.save()
            if ranks.any(stop.requested()):
                raise stop.stopped(str(self.checkpoints.parent))
        self._say_why_it_ended()
        self._take_best()
        return self.progress

    def _step(self) -> StepResult:
        """Make the next step; if its loss or gradient is not finite, save the state before it."""
        step, started = self.progress.step, time.perf_counter()
        self.stepper.forward.model.train()
        try:
            result = self.stepper.apply(self.plan.batch(step), step)
        except NotFiniteError:
            self.save()
            raise
        bad = self.stepper.weights_not_finite()
        if bad:
            what = f"step {step + 1} gave weights that are not finite; they are not saved"
            raise NotFiniteError(
                Problem(what, ", ".join(bad[:8]), "finite weights", "a new run with a lower train.lr")
            )
        if not follows_held_out_loss(self.schedule):
            self.schedule.step()
        seconds = time.perf_counter() - started
        self._recent.append((seconds, result.tokens))
        self.progress.step += 1
        self.progress.tokens += result.tokens
        self.progress.seconds += seconds
        return result

    def _record(self, result: StepResult, total_steps: int) -> None:
        """Log one step."""
        seconds, tokens = (sum(column) for column in zip(*self._recent, strict=True))
        self.log.emit(
            "step",
            step=self.progress.step,
            steps=total_steps,
            loss=result.loss,
            lr=result.lr,
            grad_norm=result.grad_norm,
            tokens=result.tokens,
            tokens_per_second=tokens / seconds,
            seconds_left=(total_steps - self.progress.step) * seconds / len(self._recent),
            **({"metrics": dict(result.metrics)} if result.metrics else {}),
            **self._monitor.read().as_fields(),
        )

    def _look_if_due(self, stop: StopRequest) -> None:
        """Evaluate on the held-out set if that is due and not yet done for this step."""
        step = self.progress.step
        if self.held_out_loss is None or self.progress.looked_at == step or not self._look_is_due(step):
            return
        ranks = self.stepper.ranks
        found = self.held_out_loss(lambda: ranks.any(stop.requested()))
        if found is None:
            return
        loss = ranks.value_of_first(found["loss"])
        self.progress.looked_at = step
        self.progress.looked_loss = loss if math.isfinite(loss) else None  # saved as JSON, which has no NaN
        self.log.emit("evaluated", **{**found, "step": step, "loss": loss})
        if follows_held_out_loss(self.schedule):
            self.schedule.step(loss)  # type: ignore[arg-type]
        if self.attached.settled:
            self._compare_with_best(loss)

    def _look_is_due(self, step: int) -> bool:
        """Return whether an evaluation is due after `step` steps: as set, and always at the end."""
        if step in (0, self.plan.total_steps):
            return step > 0
        every = self.settings.eval_every
        return step % every == 0 if every else self.plan.ends_epoch(step - 1)

    def _compare_with_best(self, loss: float) -> None:
        best = math.inf if self.progress.best_loss is None else self.progress.best_loss
        # A loss that is NaN, inf or -inf is never the best.
        if not (math.isfinite(loss) and loss < best - self.settings.early_stopping_min_delta):
            self.progress.looks_without_gain += 1
            return
        self.progress.best_loss, self.progress.best_step = loss, self.progress.step
        self.progress.looks_without_gain = 0
        if self.settings.keep_best:
            self.save()

    def _gave_up(self) -> bool:
        """Return whether early stopping applies: the patience is used up without a lower held-out loss."""
        patience = self.settings.early_stopping_patience
        return isinstance(patience, int) and self.progress.looks_without_gain >= patience

    def _say_why_it_ended(self) -> None:
        """Log a note if the run stopped early, which only a held-out loss that does not fall causes."""
        step, total = self.progress.step, self.plan.total_steps
        if step < total:
            looks = self.progress.looks_without_gain
            text = (
                f"stopped early, after {step} of {total} steps: the held-out loss did not improve in {looks} "
                f"measurement{'s' * (looks != 1)} (train.early_stopping_patience)"
            )
            self.log.emit("note", text=text)

    def _save_is_due(self) -> bool:
        step, every = self.progress.step, self.settings.save_every
        return step % (every or STEPS_BETWEEN_SAVES) == 0 or (
            every is None and self.plan.ends_epoch(step - 1)
        )

    def save(self) -> None:
        """Save a checkpoint now and prune old ones; only the first rank writes."""
        if self._saved_step == self.progress.step:
            return
        self.progress.loss_scale = self.stepper.scale.value
        self.progress.good_steps = self.stepper.scale.good_steps
        self.progress.pack_tokens = self.stepper.pack_tokens
        if self.stepper.ranks.first:
            self._write()
        self._saved_step = self.progress.step

    def _write(self) -> None:
        snapshot = Snapshot(
            step=self.progress.step,
            trainable=self.stepper.parameters,
            extra=self.attached.checkpoint_state(),
            optimizer=self.stepper.optimizer.state_dict(),
            schedule=self.schedule.state_dict(),
            progress=asdict(self.progress),
            identity=self.identity,
        )
        with saving(self.checkpoints, snapshot.step):
            path = save_checkpoint(self.checkpoints, snapshot)
        best = self.progress.best_step if self.settings.keep_best else None
        prune(
            self.checkpoints,
            self.settings.keep_checkpoints,
            self.progress.step,
            frozenset() if best is None else frozenset([best]),
        )
        self.log.emit("checkpoint", step=self.progress.step, path=str(path))

    def resume(self, path: Path, keeps_packs: bool = True) -> None:
        """Restore a checkpoint bit for bit; raises RunFolderError if it belongs to another run or is damaged.

        With `keeps_packs`, packs get no larger than the checkpoint's, which an out-of-memory error may have halved.
        """
        snapshot = load_checkpoint(path, self.identity)
        self._put_weights(snapshot)
        self.attached.load_checkpoint_state(dict(snapshot.extra))
        self.stepper.optimizer.load_state_dict(dict(snapshot.optimizer))
        self.schedule.load_state_dict(dict(snapshot.schedule))
        self.progress = TrainingState(**snapshot.progress)
        self.stepper.scale = replace(
            self.stepper.scale, value=self.progress.loss_scale, good_steps=self.progress.good_steps
        )
        if keeps_packs:
            self.stepper.pack_tokens = min(self.stepper.pack_tokens, self.progress.pack_tokens)
        self.log.emit("resumed", step=snapshot.step, path=str(path))

    def _put_weights(self, snapshot: Snapshot) -> None:
        with torch.no_grad():
            for name, parameter in self.stepper.parameters.items():
                parameter.copy_(snapshot.trainable[name])

    def _take_best(self) -> None:
        """Restore the best weights by held-out loss; if their checkpoint is damaged, log a note and keep the last."""
        best = self.progress.best_step
        if not self.settings.keep_best or best is None or best == self.progress.step:
            return
        path = self.checkpoints / NAME.format(best)
        damage = damage_of(path)
        if damage:
            self.log.emit(
                "note",
                text=f"the best checkpoint, {path.name}, is damaged ({damage}): the result is the last step",
            )
            return
        snapshot = load_checkpoint(path, self.identity)
        self._put_weights(snapshot)
        self.attached.load_checkpoint_state(dict(snapshot.extra))
        self._result_step = best
        self.log.emit("note", text=f"the result is step {best}, whose held-out loss is the lowest")
