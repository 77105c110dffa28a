"""What a method is: settings that attach to a model, and what comes of attaching."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from ..core.errors import ModelError, Problem, RunFolderError
from ..core.settings import Settings

if TYPE_CHECKING:
    from torch import Tensor, nn
    from torch.nn import Parameter
    from transformers import PretrainedConfig, PreTrainedModel

    from ..core.said import Said

FAMILIES = ("low rank", "own weights", "scales and biases", "rotations", "prompts", "small networks")
"""The kinds of methods there are, in the order they are listed."""

MEASURED_WIDTH = 576
"""The width of SmolLM2-135M, on which the methods' rates were measured (benchmarks/METHODS.md;
benchmarks/defaults.py tries those around them)."""
WIDTH_EXPONENT = 0.78
"""How fast rates fall with the width: the exponent that tinker found over models of Llama's kind
(https://github.com/thinking-machines-lab/tinker-cookbook). LoRA's 1e-3 at width 576 becomes 2.2e-4 at 4096 and 1.3e-4
at 8192, where QLoRA's authors chose 2e-4 and 1e-4 (https://arxiv.org/abs/2305.14314)."""


class Attached(ABC):
    """A method on a model: what trains, and how it is saved, switched off and merged."""

    model: nn.Module
    """What is called forward and generates; the base itself or PEFT's wrapper around it."""
    packs: bool = True
    """Whether examples may go through the model end to end; False sends them through one at a time."""
    virtual_tokens: int = 0
    """How many tokens the method puts in front of each example, and so how far the logits are moved back."""
    context_tokens: int = 0
    """How many positions of the model's context the method takes from every text."""
    saves_whole_model: bool = False
    """Whether `save` writes a plain model (the method changes the base's own weights) or an adapter."""

    def trainable(self) -> dict[str, Parameter]:
        """Return the parameters that train, by name, in the model's order."""
        return {name: p for name, p in self.model.named_parameters() if p.requires_grad}

    def checkpoint_state(self) -> dict[str, Tensor]:
        """Return the tensors, by name, that a checkpoint needs beside the values of `trainable()`."""
        return {}

    def load_checkpoint_state(self, state: dict[str, Tensor]) -> None:
        """Take back what `checkpoint_state` gave, on a model that the same method was freshly attached to.

        Raises RunFolderError for the state of another method or of other settings.
        """
        strange = set(state) ^ set(self.checkpoint_state())
        if strange:
            raise RunFolderError(
                Problem(
                    "the checkpoint's state is not that of this method and these settings",
                    ", ".join(sorted(strange)[:3]),
                    "a checkpoint of the same method with the same settings",
                )
            )

    @property
    def settled(self) -> bool:
        """Whether what trains has its final form; until then no look at the held-out loss counts as the best."""
        return True

    def starts(self, total_steps: int) -> None:  # noqa: B027  (most methods need nothing)
        """Be told, once before the first step, how many there will be; raises SettingsError where that does not fit."""

    def penalty(self) -> Tensor | None:
        """Return a scalar added once to each step's loss, with its graph; None where the method adds none."""
        return None

    def after_update(self, step: int) -> None:  # noqa: B027
        """Act after the optimizer made step number `step` (from 0), while its gradients still stand."""

    def fast_parameters(self) -> frozenset[str]:
        """Return the names whose learning rate LoRA+ multiplies (none where the method has no B matrices)."""
        return frozenset()

    def undecayed_parameters(self) -> frozenset[str]:
        """Return the names that weight decay leaves alone: vectors, which scale or shift (norms, biases)."""
        return frozenset(name for name, parameter in self.trainable().items() if parameter.ndim < 2)

    @abstractmethod
    def save(self, folder: Path) -> None:
        """Write what was trained into `folder`, as safetensors in PEFT's or transformers' format."""

    @abstractmethod
    def disabled(self) -> AbstractContextManager[None]:
        """Within the context the model is the base, bit-equal; raises ModelError where that needs the base
        again."""

    @abstractmethod
    def merge(self) -> nn.Module:
        """Return a plain model with what was trained folded in; raises ModelError with the reason where it
        cannot."""


class Method(Settings, ABC):
    """Settings of one method; each file in this folder derives one class."""

    title: ClassVar[str]
    """The name as papers write it."""
    paper: ClassVar[str]
    """Link to the paper it comes from."""
    formula: ClassVar[str]
    """What it computes, in one line of text."""
    trains: ClassVar[str]
    """What is trained, in a few words, for the table of methods."""
    family: ClassVar[str]
    """The kind of method it is, one of FAMILIES."""
    share: ClassVar[str]
    """The share of all parameters, those the method adds included, that trains with default settings (or `example`)
    on the shape of Llama-3.1-8B, such as 0.042 %, and in a few words what else is to be said of it."""
    inference_cost: ClassVar[str]
    """What it costs more than the base once trained, in a few words."""
    memory: ClassVar[str]
    """What training needs beside the base and 16 bytes a trained number (fp32, its gradient, AdamW), in a few words."""
    drawing: ClassVar[str]
    """What is trained and where it sits, drawn in text: 12 lines of 72 columns at most."""
    merges: ClassVar[bool | None] = True
    """Whether what was trained folds into the base's weights; None where that shows only on merging."""
    starts_as_base: ClassVar[bool] = True
    """Whether the model answers as the base before the first step."""
    when: ClassVar[str] = ""
    """When to choose it, in one sentence."""
    on_quantized: ClassVar[bool] = True
    """Whether it trains on a base held in 4 or 8 bits."""
    on_transposed: ClassVar[bool] = True
    """Whether it adapts Conv1D layers (GPT-2), which hold their weights transposed."""
    example: ClassVar[Mapping[str, object]] = {}
    """Values, to be shown and tested with, for the settings that have no default."""
    suggested_lr: ClassVar[float] = 1e-3
    """The peak learning rate (AdamW) to begin with, on a model of width MEASURED_WIDTH."""
    tuner: ClassVar[str] = ""
    """For a method of our own, `module:class` of the layers that PEFT has to know to load what it saves."""
    lr_falls_with_width: ClassVar[bool] = True
    """Whether wider models want a lower rate: so it is for what trains matrices, not for vectors that scale, shift or
    stand for tokens (Tensor Programs V, table 3: https://arxiv.org/abs/2203.03466)."""

    @property
    def name(self) -> str:
        """The method's name: its file's name."""
        return type(self).__module__.rpartition(".")[2]

    def lr_for(self, width: int) -> float:
        """Return the peak learning rate to begin with on a model of this width (hidden size), to two digits; narrower
        models than were measured get no higher one."""
        falls = min(1.0, (MEASURED_WIDTH / width) ** WIDTH_EXPONENT) if self.lr_falls_with_width else 1.0
        return float(f"{self.suggested_lr * falls:.2g}")

    @abstractmethod
    def attach(self, model: PreTrainedModel) -> Attached:
        """Put the method on a loaded (or weightless) model; raises ModelError where it cannot apply."""

    def plan(self, model: PreTrainedModel) -> Attached:
        """Put the method on a weightless model to count what it adds; values are not looked at."""
        return self.attach(model)

    def continue_from(self, model: PreTrainedModel, folder: Path) -> Attached:
        """Put on a model what an earlier run saved, to train it further; raises ModelError where that does
        not fit."""
        raise ModelError(
            Problem(
                f"{self.name} trains the model's own weights, so there is no adapter to continue from",
                f"model.adapter={folder}",
                "no adapter: name the trained model itself",
                f"model.name={folder}",
            )
        )

    def problems(self, model: PreTrainedModel, config: PretrainedConfig) -> list[Problem]:
        """Return everything that keeps the method from this model; shapes suffice, weights are not looked at."""
        return []

    def left_out(self, model: PreTrainedModel) -> list[Said]:
        """Return what of a model the method leaves as it is though its settings may not say so, in sentences."""
        return []

    def check_steps(self, total_steps: int, continues: bool = False) -> None:
        """Raise SettingsError where a run of so many steps does not fit; `continues` from a saved adapter."""

    def prepare(self, model: nn.Module, batches: Iterator[dict[str, object]]) -> None:
        """Do what needs data before training (data-driven initialisation); most methods need nothing.

        `model` is what `attach` gave; `batches` are read only by methods that need them, and hold input_ids,
        attention_mask and labels (-100 where nothing is trained), each of shape (B, T). A resumed run
        does not call it.
        """


def count_parameters(model: nn.Module) -> tuple[int, int]:
    """Return (trainable, all) parameters; a weight packed into 4 bits counts as the numbers it stands for."""
    sizes = [(p.requires_grad, numbers_of(p)) for p in model.parameters()]
    return sum(size for trains, size in sizes if trains), sum(size for _, size in sizes)


def numbers_of(parameter: Parameter) -> int:
    """Return how many numbers a parameter stands for, also where it is packed into 4 bits."""
    import torch

    if parameter.dtype is not torch.uint8:
        return parameter.numel()
    from bitsandbytes.nn import Params4bit

    if isinstance(parameter, Params4bit) and parameter.quant_state is not None:
        return int(parameter.quant_state.shape.numel())
    return parameter.numel()
