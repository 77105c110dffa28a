"""From a pack to what the head reads at its trained positions: packed where the model allows it, else one by one.

Shapes: T tokens of a pack, K trained targets, P positions that predict them, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from itertools import accumulate

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from ..core.errors import ModelError, Problem
from ..data.batching.packing import Pack, cut_into_packs, make_pack
from ..data.batching.prefix_tree import SHORTEST_SHARED
from ..data.conversation import Example
from ..objectives._base import Head, Outputs
from .attention.backends import LAYOUT, attention_of_packs
from .attention.visibility import Layout
from .head import find_head, run_without_head, takes_positions, whole_logits
from .kernels.compile import compiled, parts_to_compile
from .memory.offload import offloaded
from .memory.oom import is_out_of_memory
from .memory.rematerialize import remade
from .optim.precision import Precision
from .runtime.transfer import PackTensors, Prefetch

FP32_TOLERANCE = 1e-4
"""How far any of a pack's logits may lie from the examples' own, as a share of their spread: rounding, but no leak."""
HALF_TOLERANCE = 0.1
"""The same in 16 bits, root mean square: two ways to compute attention take the logits of SmolLM2-135M 0.03 apart in
bf16, single ones 0.17; of examples that see each other they lie 0.5 and more apart."""
LEAK_TOLERANCE = 1e-3
"""How far the logits of an example may move in 16 bits when its neighbour is another, root mean square. The same
kernels compute both, so nothing else moves them."""
FAILURES = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    NotImplementedError,
    RuntimeError,
    TypeError,
    ValueError,
)
"""What an architecture's code raises where a method has changed more of it than it bears."""
SEEN_IN_LONG_ROWS = (
    "attention_chunk_size",
    "index_topk",
    "index_topk_blocks",
    "indexer_budget",
    "compress_rates",
    "keep_window_size",
)
"""Settings of attention that goes in chunks (Llama 4), and of attention that from some length on only reads the rows
that score highest, of which padding and other examples would take places (DeepSeek-V3.2 and those after it, Doge)."""


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
    shares: bool = True
    """Whether what examples of a pack have in common at their beginning goes through once."""
    head: Head | None = None
    """What the objective applies where it needs logits; None where the model applies its own, at all positions."""
    compiles: bool = False
    """Whether blocks run compiled, over packs that are filled up so that all are as long."""
    offloads: bool = False
    """Whether activations lie in the CPU's memory until the backward pass."""
    remakes: bool = False
    """Whether what follows from other activations by an elementwise operation is made again in the backward pass."""
    replay: Callable[[Pack], AbstractContextManager[object]] = nullcontext
    """The context a pack goes through the model in: where what frozen blocks give is stored, it takes their place."""
    _prefetch: Prefetch = field(init=False, default_factory=Prefetch)
    _lengths: tuple[int, ...] = field(init=False, default=())

    @classmethod
    def on(cls, model: nn.Module, precision: Precision, packs: bool = True, shares: bool = True) -> Forward:
        """Return the forward of a model whose head is looked for."""
        forward = cls(model, precision, packs, shares)
        return replace(forward, head=find_head(base_of(model), forward._run, precision))

    def cut(self, examples: Sequence[Example], pack_tokens: int) -> list[Pack]:
        """Return examples in packs of at most `pack_tokens` tokens, such as this forward takes."""
        return cut_into_packs(examples, pack_tokens, self.packs and self.shares, self.packs and self.compiles)

    def ahead(self, packs: Sequence[Pack]) -> Iterator[Pack]:
        """Yield packs one by one, the tensors of the next already on their way to the device."""
        # Without packs the tensors are those of single examples, made one by one.
        return self._prefetch.ahead(packs, self.device) if self.packs else iter(packs)

    def lengths(self) -> Tensor:
        """Return, for each of the T tokens going through now, the length of its example; only without sharing.

        Filler counts as one more example.
        """
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
        base = base_of(self.model)
        with (
            attention_of_packs(base) if self.packs else nullcontext(),
            compiled(parts_to_compile(base)) if self.packs and self.compiles else nullcontext(),
        ):
            yield

    def outputs(self, pack: Pack) -> Outputs:
        """Return hidden states (P, D), their head, and rows, targets and weights (K,); call inside `attention()`."""
        if not self.packs:
            return _end_to_end([self._one_pack(make_pack([example])) for example in pack.examples])
        return self._one_pack(pack)

    def _one_pack(self, pack: Pack) -> Outputs:
        tensors = self._prefetch.tensors(pack, self.device)
        with self._saving():
            hidden_PD = self._hidden(pack, tensors)
        rows_K, targets_K, weights_K = (
            part.to(hidden_PD.device) for part in (tensors.rows_K, tensors.targets_K, tensors.weights_K)
        )
        head = self.head or whole_logits(hidden_PD.shape[1])
        return Outputs(hidden_PD, head, rows_K, targets_K, weights_K)

    def _saving(self) -> AbstractContextManager[object]:
        """Return the context that decides what is kept for the backward pass, and where."""
        if not torch.is_grad_enabled():
            return nullcontext()
        if self.offloads:
            return offloaded(self.model)
        return remade() if self.remakes else nullcontext()

    def _hidden(self, pack: Pack, tensors: PackTensors) -> Tensor:
        """Return what goes into the head at the pack's P positions; where that is not known, what comes out."""
        self._lengths = (*(len(example.ids) for example in pack.examples), pack.filler)
        kept_P = tensors.kept_P
        arguments: dict[str, object] = {"input_ids": tensors.ids_1T, "use_cache": False}
        if self.packs:
            layout = Layout.of(pack)
            bounds, longest = layout.bounds(self.device), pack.longest
            if self.compiles:  # their shapes must not depend on the examples
                bounds, longest = layout.padded_bounds(self.device), layout.end
            # The bounds are for layers other than attention that know transformers' own padding-free arguments.
            arguments |= {"cu_seq_lens_q": bounds, "cu_seq_lens_k": bounds}
            arguments |= {"max_length_q": longest, "max_length_k": longest}
            arguments["position_ids"] = tensors.positions_1T
            arguments[LAYOUT] = layout
        base = base_of(self.model)
        keeps = takes_positions(base)
        if keeps:
            arguments["logits_to_keep"] = kept_P
        with self.replay(pack):
            # squeeze, as indexing would fill a gradient of the whole a second time
            found = (
                run_without_head(base, self._run, arguments) if self.head else self._run(arguments).squeeze(0)
            )
        return found if keeps else found[kept_P]

    def _run(self, arguments: dict[str, object]) -> Tensor:
        """Return the model's own logits (1, P, V)."""
        with self.precision.autocast(self.device):
            logits: Tensor = self.model(**arguments).logits
        return logits


def _end_to_end(parts: Sequence[Outputs]) -> Outputs:
    """Return several outputs as one."""
    before = [0, *accumulate(len(part.hidden_PD) for part in parts)]
    return Outputs(
        hidden_PD=torch.cat([part.hidden_PD for part in parts]),
        head=parts[0].head,
        rows_K=torch.cat([part.rows_K + rows for part, rows in zip(parts, before, strict=False)]),
        targets_K=torch.cat([part.targets_K for part in parts]),
        weights_K=torch.cat([part.weights_K for part in parts]),
    )


def one_by_one(model: nn.Module, precision: Precision) -> Forward:
    """Return the forward of one example at a time; raises ModelError where the model fails on the first."""
    base = base_of(model)
    was_training = model.training
    model.eval()
    try:
        forward = Forward.on(model, precision, packs=False, shares=False)
        example = probe_examples(base, alike=False)[:1]
        probe(forward, example)
        model.train()  # in which Reformer takes rows of one length only
        with torch.random.fork_rng([forward.device] if forward.device.type == "cuda" else []):
            probe(forward, example)
    except FAILURES as error:
        if is_out_of_memory(error):
            raise
        what = "this architecture does not run with what the method puts into it"
        said = f"{type(base).__name__}: {type(error).__name__}: {error}".splitlines()[0]
        remedy = "method.name=lora, or another release of transformers"
        raise ModelError(Problem(what, said, "logits for a text of five tokens", remedy)) from error
    finally:
        model.train(was_training)
    return forward


def choose_forward(model: nn.Module, precision: Precision) -> Forward:
    """Return a packed forward where a probe shows that the model keeps examples apart, else one example at a time.

    Short examples are run in one pack and alone. A model whose attention does not take part, or that carries a
    state from token to token (convolutions, recurrences), gives other logits in a pack; one whose attention does more
    (sinks, capped scores) is refused by the packs' attention. What examples have in common is shared where the same
    is found of examples that begin alike.
    """
    base = base_of(model)
    chosen = one_by_one(model, precision)
    takes_attention = base._supports_attention_backend and base._can_set_attn_implementation()
    if not takes_attention or depends_on_length(base):
        return chosen
    was_training = model.training
    model.eval()
    try:
        for shares in (False, True):
            forward = replace(chosen, packs=True, shares=shares)
            examples = probe_examples(base, alike=shares)
            exact = computes_exactly(base, precision)
            if not same_logits(probe(forward, examples), probe(chosen, examples), exact):
                break
            if not exact and not _keeps_apart(forward, examples):
                break
            chosen = forward
    except (TypeError, ValueError, KeyError):  # the model's forward does not pass the pack's layout on
        pass
    finally:
        model.train(was_training)
    return chosen


def depends_on_length(base: PreTrainedModel) -> bool:
    """Return what a short probe cannot see: whether attention goes in chunks or picks some of the rows before, and
    whether positions are scaled by the longest example that goes through."""
    config = base.config.get_text_config().to_dict()
    ropes = config.get("rope_parameters") or {}
    each = [ropes, *(rope for rope in ropes.values() if isinstance(rope, dict))]
    scaled = any(rope.get("rope_type") in ("dynamic", "longrope") for rope in each)
    return scaled or any(config.get(name) for name in SEEN_IN_LONG_ROWS)


def computes_exactly(base: PreTrainedModel, precision: Precision) -> bool:
    """Return whether everything is in fp32; 8- and 16-bit numbers round more."""
    return precision.compute is None and all(p.dtype is torch.float32 for p in base.parameters())


def _keeps_apart(forward: Forward, examples: Sequence[Example]) -> bool:
    """Return whether an example's logits in a pack stay the same when another one changes.

    In 16 bits the comparison with an example alone is coarse, as other kernels may compute it; this one is not.
    """
    vocabulary = base_of(forward.model).get_input_embeddings().weight.shape[0]
    for index, example in enumerate(examples):
        # Only trained ids change, which come after all that is shared.
        others = tuple(
            (token + (weight > 0)) % vocabulary
            for token, weight in zip(example.ids, example.weights, strict=True)
        )
        silent = replace(example, weights=(0.0,) * len(others))
        before, after = (
            probe(forward, [*examples[:index], replace(silent, ids=ids), *examples[index + 1 :]])
            for ids in (example.ids, others)
        )
        if mean_distance(before, after) > LEAK_TOLERANCE:
            return False
    return True


def probe_examples(base: PreTrainedModel, alike: bool) -> list[Example]:
    """Return two short examples; where they begin `alike`, only what follows is trained."""
    vocabulary = base.get_input_embeddings().weight.shape[0]
    first, second = (probe_ids(n, vocabulary) for n in (5, 7))
    header = probe_ids(SHORTEST_SHARED, vocabulary) if alike else ()
    return [
        Example(header + ids, (0.0,) * len(header) + (1.0,) * len(ids), "<probe>") for ids in (first, second)
    ]


@torch.no_grad()
def probe(forward: Forward, examples: Sequence[Example]) -> Tensor:
    """Return the logits (K, V) for some examples in one pack."""
    with forward.attention():
        outputs = forward.outputs(make_pack(examples, forward.shares))
    return outputs.logits_PV()[outputs.rows_K].float()


def probe_ids(length: int, vocabulary: int) -> tuple[int, ...]:
    """Return ids spread over a vocabulary, other ones for each length."""
    return tuple((7919 * (i + length)) % vocabulary for i in range(length))


def same_logits(found_KV: Tensor, wanted_KV: Tensor, exact: bool) -> bool:
    """Return whether two sets of logits are the same but for rounding, that of fp32 or of 16 bits."""
    if not exact:
        return mean_distance(found_KV, wanted_KV) <= HALF_TOLERANCE
    return float((found_KV - wanted_KV).abs().max()) <= FP32_TOLERANCE * _spread(wanted_KV)


def mean_distance(found_KV: Tensor, wanted_KV: Tensor) -> float:
    """Return the root mean square of the differences, as a share of the logits' spread."""
    return float((found_KV - wanted_KV).square().mean().sqrt()) / _spread(wanted_KV)


def _spread(logits_KV: Tensor) -> float:
    return float(logits_KV.std()) or 1.0
