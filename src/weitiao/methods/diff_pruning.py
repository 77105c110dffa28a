"""A sparse difference to the model's weights: gates learn which weights may change; the largest changes are kept.

Three phases: w and its gates train together, with a penalty on how many gates are open; then only the largest
differences are kept, as many as `target_sparsity` allows, and the rest become zero; in the last steps only the kept
ones train. The paper penalises the expected number of changed weights. Here it is their expected share, so that one
value of `l0_weight` suits models of any size. The gates' parameters are scaled by `gate_speed` instead of having a
learning rate of their own.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, cast

from pydantic import Field

from ..core.errors import Problem, RunFolderError, SettingsError
from ._peft.attached import ADAPTER, PeftAttached
from ._peft.targets import BlockNumbers, ModuleNames, TargetedMethod, TargetModules

if TYPE_CHECKING:
    from peft import PeftConfig, PeftModel
    from torch import Tensor
    from torch.nn import Parameter
    from transformers import PreTrainedModel

    from ._layers.base import OwnTuner
    from ._layers.diff import DiffConfig, DiffLayer

PRUNED = "pruned"

DRAWING = """\
x  (in)
│
W + z * w         W   out x in   frozen
│                 w   out x in   trained, begins at 0
y  (out)          z   out x in   gates 0..1, trained, begin open

w and z train       the largest w stay     they train on
w w w w w           . . w . .              . . w . .
w w w w w    ──>    . . . . .      ──>     . . . . .
w w w w w           . . . . w              . . . . w"""


class DiffPruning(TargetedMethod):
    """Settings of diff pruning: how sparse the difference becomes, and by which schedule."""

    title: ClassVar[str] = "Diff pruning"
    paper: ClassVar[str] = "https://arxiv.org/abs/2012.07463"
    formula: ClassVar[str] = "y = (W + z * w) x, minimising loss + l0_weight * E[share of z that is not 0]"
    trains: ClassVar[str] = "w and its gates z, each as large as the chosen weights; few values are kept"
    family: ClassVar[str] = "own weights"
    share: ClassVar[str] = "63 %, 0.43 % kept"
    inference_cost: ClassVar[str] = "none once merged"
    memory: ClassVar[str] = "three times that of full: 48 bytes per weight"
    drawing: ClassVar[str] = DRAWING
    when: ClassVar[str] = (
        "When any weight may change but few should; training takes three times the memory of full."
    )
    suggested_lr: ClassVar[float] = 3e-3

    peft_type: ClassVar[str] = "WEITIAO_DIFF_PRUNING"

    target_modules: TargetModules = "all-linear"
    target_sparsity: float = Field(default=0.995, ge=0, lt=1)
    """Share of the chosen weights that stays exactly as in the base."""
    l0_weight: float = Field(default=1.0, ge=0, allow_inf_nan=False)
    """Strength of the penalty: what it adds to the loss if every weight differs from the base."""
    structured: bool = False
    """Give each matrix a gate as well, so that whole matrices can stay unchanged."""
    fixed_mask_share: float = Field(default=0.25, gt=0, lt=1)
    """Share of the steps, at the end, that trains only the differences that are kept."""
    gate_start: float = Field(default=5.0, allow_inf_nan=False)
    """Log-odds of the gates at the start; 5 means open."""
    gate_speed: float = Field(default=100.0, gt=0, allow_inf_nan=False)
    """Scale of the gates' parameters: their log-odds change this many times faster than the differences."""
    modules_to_save: ModuleNames = Field(default=[])
    layers_to_transform: BlockNumbers = None

    def own_targets(self, model: PreTrainedModel) -> list[str] | str:
        """Return all linear layers of the blocks, as in the paper."""
        return "all-linear"

    @classmethod
    def tuner(cls) -> type[OwnTuner]:
        """Return the class that puts the layers on a model."""
        from ._layers.diff import DiffTuner

        return DiffTuner

    def peft_config(self, model: PreTrainedModel) -> DiffConfig:
        """Return PEFT's config."""
        from ._layers.diff import DiffConfig

        return DiffConfig(
            structured=self.structured,
            gate_start=self.gate_start,
            gate_speed=self.gate_speed,
            **self.placement(model),
        )

    def gate_steps(self, total_steps: int) -> int:
        """Return the number of steps with gates."""
        return total_steps - max(1, round(self.fixed_mask_share * total_steps))

    def check_steps(self, total_steps: int, continues: bool = False) -> None:
        """Raise SettingsError if there are too few steps for both phases; a saved adapter has no gates left."""
        if self.gate_steps(total_steps) < 1 and not continues:
            raise SettingsError(
                Problem(
                    "diff pruning needs steps with gates and steps with a fixed mask",
                    f"{total_steps} step(s), method.fixed_mask_share: {self.fixed_mask_share}",
                    "at least 2 steps, and a share that leaves some for the gates",
                    "more train.epochs or train.steps, or a smaller method.fixed_mask_share",
                )
            )

    def attached(self, model: PeftModel, originals: list[tuple[Parameter, Tensor]]) -> DiffAttached:
        """Return the adapter, which also runs its phases."""
        return DiffAttached(model, originals, self)

    def continue_from(self, model: PreTrainedModel, folder: Path) -> DiffAttached:
        """Train the saved difference further, at its own positions; raises ModelError if it does not fit."""
        return DiffAttached(super().continue_from(model, folder).model, [], self)

    def _differences(self, wanted: PeftConfig, saved: PeftConfig, folder: Path) -> list[Problem]:
        """Compare all settings but `pruned`, which is true in every file."""
        as_stored = replace(cast("DiffConfig", wanted), pruned=True)
        return super()._differences(as_stored, saved, folder)


class DiffAttached(PeftAttached):
    """A difference that is dense while gates train, and sparse after."""

    def __init__(
        self, model: PeftModel, originals: list[tuple[Parameter, Tensor]], settings: DiffPruning
    ) -> None:
        """Wrap a model that the difference was put on."""
        super().__init__(model, originals)
        self.settings = settings
        self._prune_after: int | None = None

    @property
    def layers(self) -> dict[str, DiffLayer]:
        """The layers with a difference, by path."""
        from ._layers.diff import layers_of

        return layers_of(self.model, ADAPTER)

    @property
    def pruned(self) -> bool:
        """Whether the gates are gone and the positions fixed."""
        return all(ADAPTER in layer.fixed for layer in self.layers.values())

    def starts(self, total_steps: int) -> None:
        """Set the step after which to prune; raises SettingsError if there are too few steps for the phases."""
        self.settings.check_steps(total_steps, continues=self.pruned)
        self._prune_after = self.settings.gate_steps(total_steps)

    def penalty(self) -> Tensor | None:
        """Return l0_weight times the expected share of weights that differ; None once the positions are fixed."""
        layers = self.layers.values()
        if self.pruned or not self.settings.l0_weight:
            return None
        expected = [layer.expected_size(ADAPTER) for layer in layers]
        weights = sum(layer.diff_weight[ADAPTER].numel() for layer in layers)
        share: Tensor = sum(expected[1:], expected[0]) / weights
        return self.settings.l0_weight * share

    @property
    def settled(self) -> bool:
        """Whether the difference is pruned: before that, its held-out loss is not that of the result."""
        return self.pruned

    def after_update(self, step: int) -> None:
        """Prune after the last step with gates."""
        if step + 1 == self._prune_after and not self.pruned:
            self.prune()

    def prune(self) -> None:
        """Keep the largest differences across all layers: the share that the settings leave, without zeros."""
        import torch

        layers = self.layers.values()
        flat = [layer.difference(ADAPTER, noise=False).detach().flatten() for layer in layers]
        lengths = [difference.numel() for difference in flat]
        sizes = torch.cat([difference.abs().cpu() for difference in flat])
        keep = max(1, round((1 - self.settings.target_sparsity) * sizes.numel()))
        mask = torch.zeros_like(sizes, dtype=torch.bool)
        mask[sizes.topk(keep).indices] = True
        parts = torch.split(mask & (sizes != 0), lengths)
        for layer, part in zip(layers, parts, strict=True):
            layer.fix(ADAPTER, part.view(layer.out_in).to(layer.device))

    def save(self, folder: Path) -> None:
        """Write the difference, which is pruned first if the run ended early; raises NotFiniteError."""
        if self._prune_after is not None and not self.pruned:
            self.prune()
        super().save(folder)

    def saved_form(self) -> tuple[dict[str, Tensor], PeftConfig]:
        """Return indices and values, and a config marked as pruned."""
        state, config = super().saved_form()
        return state, replace(cast("DiffConfig", config), pruned=True)

    def checkpoint_state(self) -> dict[str, Tensor]:
        """Return the masks, and whether they have replaced the gates."""
        import torch

        masks = {f"{path}.diff_mask": layer.diff_mask[ADAPTER] for path, layer in self.layers.items()}
        return {PRUNED: torch.tensor(self.pruned)} | masks

    def load_checkpoint_state(self, state: dict[str, Tensor]) -> None:
        """Restore the masks; raises RunFolderError for the state of another method."""
        super().load_checkpoint_state(state)
        layers = self.layers
        wrong = [path for path, layer in layers.items() if state[f"{path}.diff_mask"].shape != layer.out_in]
        if wrong:
            raise RunFolderError(
                Problem(
                    "the checkpoint's masks do not fit this model", ", ".join(wrong[:3]), "the same shapes"
                )
            )
        if bool(state[PRUNED]):
            for path, layer in layers.items():
                layer.restore(ADAPTER, state[f"{path}.diff_mask"])
