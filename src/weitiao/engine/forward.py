"""From a pack to the logits at its trained positions: packed where the model allows it, else one example at a time.

Shapes: T tokens of a pack, K trained positions, V vocabulary.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from ..data.conversation import Example
from ..data.packs import Pack, make_pack
from ..objectives._base import Outputs
from .attention import attention_of_packs
from .precision import Precision

FP32_TOLERANCE = 1e-4
HALF_TOLERANCE = 1e-2
"""How far a pack's logits may lie from the examples' own, as a share of their spread: rounding, but never a leak."""


def base_of(model: nn.Module) -> PreTrainedModel:
    """Return the transformers model inside whatever a method wrapped around it."""
    return next(m for m in model.modules() if isinstance(m, PreTrainedModel))


@dataclass
class Forward:
    """Runs packs through a model."""

    model: nn.Module
    precision: Precision
    packs: bool = True
    """Whether examples go through end to end (True) or one at a time."""
    _keeps_logits: bool = field(init=False)
    _lengths: tuple[int, ...] = field(init=False, default=())

    def __post_init__(self) -> None:
        """Read off the model what its forward takes."""
        self._keeps_logits = "logits_to_keep" in inspect.signature(base_of(self.model).forward).parameters

    def lengths(self) -> Tensor:
        """Return, for each of the T tokens going through now, the length of its example."""
        sizes = torch.tensor(self._lengths)
        return sizes.repeat_interleave(sizes)

    def free_memory(self) -> None:
        """Give cached memory of the GPU back, after an allocation failed."""
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    @property
    def device(self) -> torch.device:
        """Where the model's embeddings lie, and so where ids go."""
        device: torch.device = base_of(self.model).get_input_embeddings().weight.device
        return device

    @contextmanager
    def attention(self) -> Iterator[None]:
        """Within the context the model's attention is the one packs need."""
        with attention_of_packs(base_of(self.model)) if self.packs else nullcontext():
            yield

    def outputs(self, pack: Pack) -> Outputs:
        """Return logits (K, V), targets (K,) and weights (K,) of a pack; call inside `attention()`."""
        if self.packs:
            logits_KV = self._logits(pack)
        else:
            logits_KV = torch.cat([self._logits(make_pack([example])) for example in pack.examples])
        return Outputs(
            logits_KV=logits_KV,
            targets_K=torch.from_numpy(pack.targets_K).to(logits_KV.device),
            weights_K=torch.from_numpy(pack.weights_K).to(logits_KV.device),
        )

    def _logits(self, pack: Pack) -> Tensor:
        self._lengths = tuple(len(example.ids) for example in pack.examples)
        kept_K = torch.from_numpy(pack.kept_K).to(self.device)
        arguments: dict[str, object] = {
            "input_ids": torch.from_numpy(pack.ids_T)[None].to(self.device),
            "use_cache": False,
        }
        if self.packs:
            bounds = torch.tensor(pack.starts, dtype=torch.int32, device=self.device)
            arguments |= {"cu_seq_lens_q": bounds, "cu_seq_lens_k": bounds}
            arguments |= {"max_length_q": pack.longest, "max_length_k": pack.longest}
            arguments["position_ids"] = torch.from_numpy(pack.positions_T)[None].to(self.device)
        if self._keeps_logits:
            arguments["logits_to_keep"] = kept_K
        with self.precision.autocast(self.device):
            logits: Tensor = self.model(**arguments).logits[0]
        return logits if self._keeps_logits else logits[kept_K]


def choose_forward(model: nn.Module, precision: Precision) -> Forward:
    """Return a packed forward where a probe shows that the model keeps examples apart, else one example at a time.

    Two short examples are run in one pack and alone. A model whose attention does not take part, or that carries a
    state from token to token (convolutions, recurrences), gives other logits in a pack; one whose attention does more
    (sinks, capped scores) is refused by the packs' attention.
    """
    forward = Forward(model, precision)
    base = base_of(model)
    takes_attention = base._supports_attention_backend and base._can_set_attn_implementation()
    if not takes_attention or _depends_on_length(base):
        return Forward(model, precision, packs=False)
    vocabulary = base.get_input_embeddings().weight.shape[0]
    first, second = (_probe_example(n, vocabulary) for n in (5, 7))
    was_training = model.training
    model.eval()
    try:
        packs = _same(
            _probe(forward, [first, second]),
            _probe(Forward(model, precision, packs=False), [first, second]),
            _tolerance(base, precision),
        )
    except (TypeError, ValueError, KeyError):  # the model's forward does not pass the pack's bounds on
        packs = False
    finally:
        model.train(was_training)
    return Forward(model, precision, packs=packs)


def _depends_on_length(base: PreTrainedModel) -> bool:
    """Tell what a short probe cannot see: attention in chunks, and positions scaled by a pack's longest example."""
    config = base.config.get_text_config().to_dict()
    ropes = config.get("rope_parameters") or {}
    each = [ropes, *(rope for rope in ropes.values() if isinstance(rope, dict))]
    scaled = any(rope.get("rope_type") in ("dynamic", "longrope") for rope in each)
    return scaled or config.get("attention_chunk_size") is not None


def _tolerance(base: PreTrainedModel, precision: Precision) -> float:
    """Return how far rounding may take logits apart: 8- and 16-bit numbers round more than fp32."""
    exact = precision.compute is None and all(p.dtype is torch.float32 for p in base.parameters())
    return FP32_TOLERANCE if exact else HALF_TOLERANCE


def _probe_example(length: int, vocabulary: int) -> Example:
    ids = tuple((7919 * (i + length)) % vocabulary for i in range(length))
    return Example(ids=ids, weights=(1.0,) * length, place="<probe>")


@torch.no_grad()
def _probe(forward: Forward, examples: list[Example]) -> Tensor:
    with forward.attention():
        return forward.outputs(make_pack(examples)).logits_KV.float()


def _same(packed_KV: Tensor, alone_KV: Tensor, tolerance: float) -> bool:
    spread = float(alone_KV.std()) or 1.0
    return float((packed_KV - alone_KV).abs().max()) <= tolerance * spread
