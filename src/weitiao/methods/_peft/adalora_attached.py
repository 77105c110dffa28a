"""An AdaLoRA adapter once PEFT has attached it: the training loop drives its rank budget, and checkpoints keep it."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import torch
from peft.tuners.adalora import AdaLoraLayer

from .attached import ADAPTER, PeftAttached

if TYPE_CHECKING:
    from peft import AdaLoraConfig, PeftModel
    from torch import Tensor
    from torch.nn import Parameter

MEMORIES = ("ipt", "exp_avg_ipt", "exp_avg_unc")
"""What PEFT's allocator tracks for every trained number: importance, its running mean, its uncertainty."""


class AdaLoraAttached(PeftAttached):
    """An AdaLoRA adapter: adds a penalty to every step, and prunes ranks after it."""

    def __init__(
        self,
        model: PeftModel,
        originals: list[tuple[Parameter, Tensor]],
        ends: Callable[[int], tuple[int, int]],
    ) -> None:
        """Wrap a PEFT model with AdaLoRA layers; `ends` returns (tinit, tfinal) for a number of steps."""
        for layer in _layers(model):
            layer.ranknum[ADAPTER].requires_grad_(False)  # PEFT does not do this on a weightless model
        super().__init__(model, originals)
        self._ends = ends

    @property
    def _settings(self) -> AdaLoraConfig:
        return self.model.peft_config[ADAPTER]

    def starts(self, total_steps: int) -> None:
        """Set the budget's schedule for the run; raises SettingsError if no step is left between tinit and tfinal."""
        settings = self._settings
        settings.tinit, settings.tfinal = self._ends(total_steps)
        settings.total_step = total_steps

    def penalty(self) -> Tensor | None:
        """Return orth_reg_weight times the mean of |A A^T - I| and |B^T B - I| over the layers (section 3.1)."""
        if not self._settings.orth_reg_weight:
            return None
        grams = []
        for layer in _layers(self.model):
            a_r_in, b_out_r = layer.lora_A[ADAPTER], layer.lora_B[ADAPTER]
            grams += [a_r_in @ a_r_in.T, b_out_r.T @ b_out_r]
        distances = [torch.norm(gram - torch.eye(len(gram), device=gram.device)) for gram in grams]
        mean = torch.stack([distance.to(distances[0].device) for distance in distances]).mean()
        return mean * float(self._settings.orth_reg_weight)

    def after_update(self, step: int) -> None:
        """Update the importance of every number, and set the least important singular values to zero."""
        for _, parameter in self._numbers():
            if parameter.grad is None:  # its layer was not used, but PEFT's allocator needs a gradient
                parameter.grad = torch.zeros_like(parameter)
        self.model.base_model.update_and_allocate(step)

    def checkpoint_state(self) -> dict[str, Tensor]:
        """Return the allocator's state and which singular values are kept, by parameter; zeros before its first
        update."""
        allocator, pattern = self.model.base_model.rankallocator, self._pattern()
        state = {}
        for name, parameter in self._numbers():
            for kind in MEMORIES:
                known = vars(allocator)[kind].get(name)
                state[f"{kind}.{name}"] = torch.zeros_like(parameter.data) if known is None else known
            if ".lora_E." in name:
                kept = pattern.get(name, [True] * len(parameter))
                state[f"kept.{name}"] = torch.tensor(kept, dtype=torch.uint8)
        return state

    def load_checkpoint_state(self, state: dict[str, Tensor]) -> None:
        """Restore what `checkpoint_state` returned; raises RunFolderError for the state of other settings."""
        super().load_checkpoint_state(state)
        allocator = self.model.base_model.rankallocator
        for name, parameter in self._numbers():
            for kind in MEMORIES:
                vars(allocator)[kind][name] = state[f"{kind}.{name}"].to(parameter.device)
        kept = {
            name: state[f"kept.{name}"].bool().tolist() for name, _ in self._numbers() if ".lora_E." in name
        }
        everything = all(all(one) for one in kept.values())
        self._settings.rank_pattern = None if everything else kept

    def state(self) -> dict[str, Tensor]:
        """Return the adapter's tensors with every rank: pruned ranks are zeros in E, and add nothing.

        PEFT would cut them out, but products of other shapes round differently, so outputs would not be bit-equal.
        """
        settings = self._settings
        pattern, settings.rank_pattern = settings.rank_pattern, None
        try:
            return super().state()
        finally:
            settings.rank_pattern = pattern

    def saved_form(self) -> tuple[dict[str, Tensor], AdaLoraConfig]:
        """Return the tensors and PEFT's config to write, both with every rank."""
        config = copy.deepcopy(self._settings)
        config.rank_pattern = None
        return self.state(), config

    def _numbers(self) -> Iterator[tuple[str, Parameter]]:
        """Yield the A, B and E of every layer, under the names that the allocator uses."""
        for name, parameter in self.model.get_base_model().named_parameters():
            if any(f".lora_{letter}.{ADAPTER}" in name for letter in "ABE"):
                yield name, parameter

    def _pattern(self) -> dict[str, list[bool]]:
        return self._settings.rank_pattern or {}


def _layers(model: PeftModel) -> Iterator[AdaLoraLayer]:
    """Yield the adapted layers, in model order."""
    for module in model.modules():
        if isinstance(module, AdaLoraLayer):
            yield module
