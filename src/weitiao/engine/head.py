"""Runs a model without its head: a hook captures the head's input, and the objective applies the head itself.

Shapes: P positions, D width, V vocabulary.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from ..objectives._outputs import Head
from .memory.oom import is_out_of_memory
from .optim.precision import Precision

if TYPE_CHECKING:
    from transformers import PreTrainedModel

PROBE_TOKENS = 8
TOLERANCES = {torch.float32: 1e-5, torch.float64: 1e-5}
HALF_TOLERANCE = 2e-2
"""Largest allowed difference from the model's own logits, as a share of their standard deviation."""

RunModel = Callable[[dict[str, object]], Tensor]
"""Maps the arguments of a model's forward to its logits (1, P, V)."""


def takes_positions(base: PreTrainedModel) -> bool:
    """Return whether a model's forward takes `logits_to_keep`, the positions to apply the head at."""
    return "logits_to_keep" in inspect.signature(base.forward).parameters


def run_without_head(base: PreTrainedModel, run: RunModel, arguments: dict[str, object]) -> Tensor:
    """Return the head's input (P, D); the head itself runs on an empty slice."""
    caught: list[Tensor] = []

    def catch(_: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor]:
        caught.append(inputs[0])
        return (inputs[0][:, :0],)

    handle = base.get_output_embeddings().register_forward_pre_hook(catch)
    try:
        run(arguments)
    finally:
        handle.remove()
    return caught[0].squeeze(0)


@torch.no_grad()
def find_head(base: PreTrainedModel, run: RunModel, precision: Precision) -> Head | None:
    """Return the head of a model, verified on a few tokens; None if the model changes logits in an unknown way.

    Known are an unchanged head, a factor on the logits (Granite, Cohere) and a cap on them (Gemma):
    logits = cap * tanh(head(hidden) / cap).
    """
    module = base.get_output_embeddings()
    if module is None:
        return None
    embeddings = base.get_input_embeddings().weight
    ids_BT = torch.arange(PROBE_TOKENS, device=embeddings.device)[None] % len(embeddings)
    arguments: dict[str, object] = {"input_ids": ids_BT, "use_cache": False}
    was_training = base.training
    base.eval()
    try:
        logits_PV = run(arguments).squeeze(0).float()
        with precision.autocast(embeddings.device):
            raw_PV = module(run_without_head(base, run, arguments)).float()
    except (
        IndexError,
        TypeError,
        RuntimeError,
    ) as error:  # the head is never called, or rejects an empty input
        if is_out_of_memory(error):  # all logits at once would take even more
            raise
        return None
    finally:
        base.train(was_training)
    head = _same_logits(base, module, raw_PV, logits_PV)
    return head and replace(head, project=_in_precision(head.project, precision), compute=precision.compute)


def _same_logits(base: PreTrainedModel, module: nn.Module, raw_PV: Tensor, logits_PV: Tensor) -> Head | None:
    """Return the head that turns the module's raw output into these logits; None if no known form does."""
    vocabulary = raw_PV.shape[1]
    tolerance = TOLERANCES.get(base.dtype, HALF_TOLERANCE) * (float(logits_PV.std()) or 1.0)

    def same(found_PV: Tensor) -> bool:
        return found_PV.shape == logits_PV.shape and float((found_PV - logits_PV).abs().max()) <= tolerance

    factor = 1.0 if same(raw_PV) else float((raw_PV * logits_PV).sum() / raw_PV.square().sum())
    if same(raw_PV * factor):
        weight_VD = module.weight if isinstance(module, nn.Linear) and _is_plain(module) else None
        return Head(lambda hidden: module(hidden) * factor, vocabulary, weight_VD, factor)
    cap = base.config.get_text_config().to_dict().get("final_logit_softcapping")
    if cap and same(cap * torch.tanh(raw_PV / cap)):
        return Head(lambda hidden: cap * torch.tanh(module(hidden) / cap), vocabulary)
    return None


def _is_plain(module: nn.Linear) -> bool:
    """Return whether a layer is a plain matrix: no bias, no adapter, not quantised."""
    return type(module) is nn.Linear and module.bias is None


def _in_precision(project: Callable[[Tensor], Tensor], precision: Precision) -> Callable[[Tensor], Tensor]:
    def projected(hidden_PD: Tensor) -> Tensor:
        with precision.autocast(hidden_PD.device):
            return project(hidden_PD)

    return projected


def whole_logits(vocabulary: int) -> Head:
    """Identity head: the model applies its own, so `hidden_PD` already holds logits."""
    return Head(lambda logits_PV: logits_PV, vocabulary)
