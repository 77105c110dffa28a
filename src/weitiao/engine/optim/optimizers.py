"""Optimizers by name, parameter groups without weight decay for biases and norms, and LoRA+'s faster B matrices."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from importlib.util import find_spec
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from ...core.errors import Problem, SettingsError, missing_extra
from ...core.settings import Settings

if TYPE_CHECKING:
    from torch.nn import Parameter
    from torch.optim import Optimizer

DecayRate = Annotated[float, Field(ge=0, lt=1)]
OptimizerName = Literal["adamw", "adamw_fused", "adamw_8bit", "paged_adamw_8bit", "adafactor", "lion"]


class OptimizerSettings(Settings):
    """How gradients become updates."""

    lr: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    """Peak learning rate. Default: the one suggested for the method (`weitiao methods NAME` shows it)."""
    optimizer: OptimizerName = "adamw"
    """adamw (fused on CUDA), adamw_fused (fused on the CPU too), adafactor, lion, adamw_8bit or paged_adamw_8bit
    (bitsandbytes: their state takes a quarter of the memory)."""
    weight_decay: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    """Decoupled weight decay; not applied to biases, norms and other scaling vectors."""
    betas: tuple[DecayRate, DecayRate] = (0.9, 0.999)
    """Decay rates of the running averages of the gradient and of its square."""
    eps: float = Field(default=1e-8, gt=0, allow_inf_nan=False)
    """Added to the denominator to avoid division by zero."""
    max_grad_norm: float = Field(default=1.0, ge=0, allow_inf_nan=False)
    """Clip the norm of the gradient to this value; 0 does not clip."""
    loraplus_lr_ratio: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    """LoRA+: factor on the learning rate of the B matrices (the paper suggests 16);
    https://arxiv.org/abs/2402.12354."""


FROM_BITSANDBYTES = frozenset({"adamw_8bit", "paged_adamw_8bit", "lion"})

Groups = list[dict[str, Any]]


def _adamw(groups: Groups, settings: OptimizerSettings, lr: float) -> Optimizer:
    from torch.optim import AdamW

    # None leaves the choice to torch, which never picks the fused kernel by default.
    fused = True if _all_on_cuda(groups) else None
    return AdamW(groups, lr=lr, betas=settings.betas, eps=settings.eps, fused=fused)


def _all_on_cuda(groups: Groups) -> bool:
    return all(parameter.is_cuda for group in groups for parameter in group["params"])


def _adamw_fused(groups: Groups, settings: OptimizerSettings, lr: float) -> Optimizer:
    from torch.optim import AdamW

    return AdamW(groups, lr=lr, betas=settings.betas, eps=settings.eps, fused=True)


def _adamw_8bit(groups: Groups, settings: OptimizerSettings, lr: float) -> Optimizer:
    from bitsandbytes.optim import AdamW8bit

    return _typed(AdamW8bit(groups, lr=lr, betas=settings.betas, eps=settings.eps))


def _paged_adamw_8bit(groups: Groups, settings: OptimizerSettings, lr: float) -> Optimizer:
    from bitsandbytes.optim import PagedAdamW8bit

    return _typed(PagedAdamW8bit(groups, lr=lr, betas=settings.betas, eps=settings.eps))


def _adafactor(groups: Groups, settings: OptimizerSettings, lr: float) -> Optimizer:
    from transformers.optimization import Adafactor

    return _typed(Adafactor(groups, lr=lr, scale_parameter=False, relative_step=False, warmup_init=False))


def _lion(groups: Groups, settings: OptimizerSettings, lr: float) -> Optimizer:
    from bitsandbytes.optim import Lion

    return _typed(Lion(groups, lr=lr, betas=settings.betas))


def _typed(optimizer: Any) -> Optimizer:  # noqa: ANN401  (the libraries above are untyped)
    from torch.optim import Optimizer

    if not isinstance(optimizer, Optimizer):
        raise TypeError(type(optimizer))
    return optimizer


OPTIMIZERS: Mapping[str, Callable[[Groups, OptimizerSettings, float], Optimizer]] = {
    "adamw": _adamw,
    "adamw_fused": _adamw_fused,
    "adamw_8bit": _adamw_8bit,
    "paged_adamw_8bit": _paged_adamw_8bit,
    "adafactor": _adafactor,
    "lion": _lion,
}


STATE_BYTES: Mapping[str, int] = {
    "adamw": 8,
    "adamw_fused": 8,
    "adamw_8bit": 2,
    "paged_adamw_8bit": 2,
    "lion": 4,
}
"""Optimizer state in bytes per trained parameter; Adafactor's depends on the shape."""


def state_bytes(parameters: Iterable[Parameter], optimizer: OptimizerName) -> int:
    """Return the bytes of an optimizer's state for parameters trained in fp32, accurate to a few percent."""
    if optimizer == "adafactor":
        return sum(_factored_bytes(parameter) for parameter in parameters)
    return STATE_BYTES[optimizer] * sum(parameter.numel() for parameter in parameters)


def _factored_bytes(parameter: Parameter) -> int:
    """Return the bytes of Adafactor's state: for a matrix only the means of its rows and columns."""
    numbers = parameter.numel()
    if parameter.ndim < 2:
        return 4 * numbers
    return 4 * (numbers // parameter.shape[-1] + numbers // parameter.shape[-2])


def require_installed(settings: OptimizerSettings) -> None:
    """Raise MissingExtraError if the chosen optimizer needs bitsandbytes and that is not installed."""
    if settings.optimizer in FROM_BITSANDBYTES and find_spec("bitsandbytes") is None:
        raise missing_extra("bitsandbytes", "quantization", f"train.optimizer={settings.optimizer}")


def build_optimizer(
    parameters: Mapping[str, Parameter],
    fast: frozenset[str],
    settings: OptimizerSettings,
    lr: float,
    undecayed: frozenset[str] = frozenset(),
) -> Optimizer:
    """Build the optimizer for named parameters; raises SettingsError if LoRA+ is set and no parameter is `fast`."""
    require_fast(settings, fast)
    groups = group_parameters(parameters, fast, settings, lr, undecayed)
    return OPTIMIZERS[settings.optimizer](groups, settings, lr)


def require_fast(settings: OptimizerSettings, fast: frozenset[str]) -> None:
    """Raise SettingsError if LoRA+ is set and no parameter is `fast`."""
    if settings.loraplus_lr_ratio and not fast:
        raise SettingsError(
            Problem(
                "this method has no B matrices for LoRA+ to speed up",
                f"train.loraplus_lr_ratio: {settings.loraplus_lr_ratio}",
                "a method of the LoRA family",
                "leave train.loraplus_lr_ratio out",
            )
        )


def group_parameters(
    parameters: Mapping[str, Parameter],
    fast: frozenset[str],
    settings: OptimizerSettings,
    lr: float,
    undecayed: frozenset[str] = frozenset(),
) -> Groups:
    """Group parameters by learning rate and weight decay; each is in exactly one group, in a fixed order.

    Parameters of at most one dimension and those named in `undecayed` have no weight decay.
    """
    ratio = settings.loraplus_lr_ratio or 1.0
    groups: dict[tuple[float, float], list[Parameter]] = {}
    for name, parameter in parameters.items():
        group_lr = lr * ratio if name in fast else lr
        decay = settings.weight_decay if parameter.ndim > 1 and name not in undecayed else 0.0
        groups.setdefault((group_lr, decay), []).append(parameter)
    return [{"params": members, "lr": lr_, "weight_decay": decay} for (lr_, decay), members in groups.items()]
