"""The interface of a method: settings that attach to a model, and the attached result."""

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

    from ._layers.base import OwnTuner

FAMILIES = ("low rank", "own weights", "scales and biases", "rotations", "prompts", "small networks")
"""The families of methods, in the order they are listed."""

MEASURED_WIDTH = 576
"""The hidden size of SmolLM2-135M, on which the methods' learning rates were measured (benchmarks/DEFAULTS.md)."""
WIDTH_EXPONENT = 0.78
"""How fast learning rates fall with the hidden size: the exponent that tinker found over Llama-like models
(https://github.com/thinking-machines-lab/tinker-cookbook). LoRA's 1e-3 at width 576 becomes 2.2e-4 at 4096 and 1.3e-4
at 8192, where QLoRA's authors chose 2e-4 and 1e-4 (https://arxiv.org/abs/2305.14314)."""


class Attached(ABC):
    """A method on a model: which parameters train, and how they are saved, switched off and merged."""

    model: nn.Module
    """The module whose forward and generate are called: the base itself or PEFT's wrapper around it."""
    packs: bool = True
    """Whether examples may be packed into one sequence; if False, each is passed through the model alone."""
    virtual_tokens: int = 0
    """How many tokens the method puts before each example; the logits are shifted by as many."""
    context_tokens: int = 0
    """How many positions of the model's context the method takes from every sequence."""
    saves_whole_model: bool = False
    """Whether `save` writes a plain model (the method changes the base's own weights) instead of an adapter."""

    def trainable(self) -> dict[str, Parameter]:
        """Return the trainable parameters by name, in model order."""
        return {name: p for name, p in self.model.named_parameters() if p.requires_grad}

    def checkpoint_state(self) -> dict[str, Tensor]:
        """Return the tensors, by name, that a checkpoint needs in addition to the values of `trainable()`."""
        return {}

    def load_checkpoint_state(self, state: dict[str, Tensor]) -> None:
        """Restore what `checkpoint_state` returned, on a model that the same method was just attached to.

        Raises RunFolderError for the state of another method or of other settings.
        """
        strange = set(state) ^ set(self.checkpoint_state())
        if strange:
            raise RunFolderError(
                Problem(
                    "the checkpoint's state belongs to another method or other settings",
                    ", ".join(sorted(strange)[:3]),
                    "a checkpoint of the same method with the same settings",
                )
            )

    @property
    def settled(self) -> bool:
        """Whether the trained parameters have their final form; until then no held-out loss counts as the best."""
        return True

    def starts(self, total_steps: int) -> None:  # noqa: B027  (most methods need nothing)
        """Receive the number of steps, once before the first one; raises SettingsError if it does not suit the
        method."""

    def penalty(self) -> Tensor | None:
        """Return a scalar that is added to each step's loss, with its graph; None if the method adds none."""
        return None

    def after_update(self, step: int) -> None:  # noqa: B027
        """Act after the optimizer's step number `step` (from 0), before its gradients are cleared."""

    def fast_parameters(self) -> frozenset[str]:
        """Return the names of the parameters whose learning rate LoRA+ multiplies: the B matrices, if there are any."""
        return frozenset()

    def undecayed_parameters(self) -> frozenset[str]:
        """Return the names of the parameters without weight decay: vectors that scale or shift (norms, biases)."""
        return frozenset(name for name, parameter in self.trainable().items() if parameter.ndim < 2)

    @abstractmethod
    def save(self, folder: Path) -> None:
        """Write the trained parameters into `folder`, as safetensors in PEFT's or transformers' format."""

    @abstractmethod
    def disabled(self) -> AbstractContextManager[None]:
        """Within the context the model is the base, bit-equal; raises ModelError if that would need a second copy of
        it."""

    @abstractmethod
    def merge(self) -> nn.Module:
        """Return a plain model with the trained parameters folded in; raises ModelError with the reason if that is
        impossible."""


class Method(Settings, ABC):
    """Settings of one method; each public file in this folder defines one subclass."""

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
    """The share of all parameters, including those the method adds, that trains with default settings (or `example`) on
    the shape of Llama-3.1-8B, such as 0.042 %, and in a few words what else matters about it."""
    inference_cost: ClassVar[str]
    """What it costs at inference compared with the base, in a few words."""
    memory: ClassVar[str]
    """What training needs besides the base and 16 bytes per trained number (fp32, its gradient, AdamW), in a few
    words."""
    drawing: ClassVar[str]
    """A drawing in text of what is trained and where it is: at most 12 lines of 72 columns."""
    merges: ClassVar[bool | None] = True
    """Whether the trained parameters fold into the base's weights; None if that is known only when merging."""
    starts_as_base: ClassVar[bool] = True
    """Whether the model's output equals the base's before the first step."""
    when: ClassVar[str] = ""
    """When to choose it, in one sentence."""
    on_quantized: ClassVar[bool] = True
    """Whether it trains on a base quantised to 4 or 8 bits."""
    on_transposed: ClassVar[bool] = True
    """Whether it adapts Conv1D layers (GPT-2), which store their weights transposed."""
    example: ClassVar[Mapping[str, object]] = {}
    """Values for the settings that have no default, for help texts and tests."""
    suggested_lr: ClassVar[float] = 1e-3
    """The suggested peak learning rate (AdamW) on a model of width MEASURED_WIDTH."""
    lr_falls_with_width: ClassVar[bool] = True
    """Whether wider models need a lower rate: true for methods that train matrices, false for vectors that scale, shift
    or act as tokens (Tensor Programs V, table 3: https://arxiv.org/abs/2203.03466)."""

    @classmethod
    def tuner(cls) -> type[OwnTuner] | None:
        """Return the class that puts layers of our own on a model; None if PEFT has the method, or needs none."""
        return None

    @property
    def name(self) -> str:
        """The method's name: its file's name."""
        return type(self).__module__.rpartition(".")[2]

    def lr_for(self, width: int) -> float:
        """Return the suggested peak learning rate for a hidden size, to two digits; it is never above
        `suggested_lr`."""
        falls = min(1.0, (MEASURED_WIDTH / width) ** WIDTH_EXPONENT) if self.lr_falls_with_width else 1.0
        return float(f"{self.suggested_lr * falls:.2g}")

    @abstractmethod
    def attach(self, model: PreTrainedModel) -> Attached:
        """Put the method on a loaded (or weightless) model; raises ModelError if it does not apply."""

    def plan(self, model: PreTrainedModel) -> Attached:
        """Put the method on a weightless model to count what it adds; values are not read."""
        return self.attach(model)

    def continue_from(self, model: PreTrainedModel, folder: Path) -> Attached:
        """Put what an earlier run saved on a model, to train it further; raises ModelError if it does not fit."""
        raise ModelError(
            Problem(
                f"{self.name} trains the model's own weights, so there is no adapter to continue from",
                f"model.adapter={folder}",
                "no adapter: name the trained model itself",
                f"model.name={folder}",
            )
        )

    def problems(self, model: PreTrainedModel, config: PretrainedConfig) -> list[Problem]:
        """Return everything that keeps the method from this model; needs shapes only, not weights."""
        return []

    def left_out(self, model: PreTrainedModel) -> list[str]:
        """Return sentences on the parts of a model that the method leaves unchanged, although its settings may not say
        so."""
        return []

    def check_steps(self, total_steps: int, continues: bool = False) -> None:
        """Raise SettingsError if the method cannot train for `total_steps`; `continues` from a saved adapter."""

    def prepare(self, model: nn.Module, batches: Iterator[dict[str, object]]) -> None:
        """Do what needs data before training (data-driven initialisation); most methods need nothing.

        `model` is the model of `attach`'s result. `batches` are read only by methods that need them, and hold
        input_ids, attention_mask and labels (-100 where nothing is trained), each of shape (B, T). A resumed run does
        not call it.
        """


def count_parameters(model: nn.Module) -> tuple[int, int]:
    """Return (trainable, all) parameters; a weight packed into 4 bits counts with its unpacked size."""
    sizes = [(p.requires_grad, numbers_of(p)) for p in model.parameters()]
    return sum(size for trains, size in sizes if trains), sum(size for _, size in sizes)


def numbers_of(parameter: Parameter) -> int:
    """Return how many numbers a parameter holds; one packed into 4 bits counts with its unpacked size."""
    import torch

    if parameter.dtype is not torch.uint8:
        return parameter.numel()
    from bitsandbytes.nn import Params4bit

    if isinstance(parameter, Params4bit) and parameter.quant_state is not None:
        return int(parameter.quant_state.shape.numel())
    return parameter.numel()
