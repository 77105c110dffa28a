"""The forward pass of a pack, up to the head's input: packed if the model supports it, else one sequence at a time.

Shapes: T tokens of a pack, K trained targets, P positions that predict them, D width, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from itertools import accumulate

import torch
from torch import Tensor, nn

from ..data.batching.packing import Pack, cut_into_packs, make_pack
from ..data.example import Example
from ..models.anatomy import base_of
from ..objectives._outputs import Head, Outputs
from .attention.backends import LAYOUT, attention_of_packs
from .attention.visibility import Layout
from .head import find_head, run_without_head, takes_positions, whole_logits
from .kernels.compile import compiled_blocks, parts_to_compile
from .memory.offload import offloaded
from .memory.rematerialize import remade
from .optim.precision import Precision
from .runtime.transfer import PackTensors, Prefetch


@dataclass(frozen=True)
class ForwardOptions:
    """Options of the forward pass."""

    packs: bool = True
    """Whether sequences run concatenated (True) or one at a time."""
    shares: bool = True
    """Whether a prefix that several sequences of a pack share is computed once."""
    compiles: bool = False
    """Whether blocks run compiled; packs are then padded to one length."""
    offloads: bool = False
    """Whether saved activations are moved to CPU memory until the backward pass."""
    rematerializes: bool = False
    """Whether outputs of elementwise operations are recomputed in the backward pass."""


ReplayPack = Callable[[Pack], AbstractContextManager[object]]


@dataclass
class PackState:
    """State that changes from pack to pack; shared by all `Forward` objects of one model, whatever their options."""

    prefetch: Prefetch = field(default_factory=Prefetch)
    lengths: tuple[int, ...] = ()
    """Tokens of each sequence of the current pack, then the number of its filler tokens."""
    replay: ReplayPack = nullcontext
    """Returns the context manager the model runs in for a pack."""

    @contextmanager
    def replaying(self, replay: ReplayPack) -> Iterator[None]:
        """Within the context, each pack runs inside `replay(pack)`, which replaces frozen blocks by stored outputs."""
        self.replay = replay
        try:
            yield
        finally:
            self.replay = nullcontext


@dataclass(frozen=True)
class Forward:
    """Runs packs through a model."""

    model: nn.Module
    precision: Precision
    options: ForwardOptions = ForwardOptions()
    head: Head | None = None
    """The head the objective applies itself; None if the model must apply its own, at all positions."""
    state: PackState = field(default_factory=PackState, repr=False)

    @classmethod
    def on(
        cls, model: nn.Module, precision: Precision, options: ForwardOptions = ForwardOptions()
    ) -> Forward:
        """Return a forward for a model, detecting the model's head."""
        forward = cls(model, precision, options)
        return replace(forward, head=find_head(base_of(model), forward._run, precision))

    def with_options(self, **changes: bool) -> Forward:
        """Return a forward of the same model with some options changed."""
        return replace(self, options=replace(self.options, **changes))

    def cut(self, examples: Sequence[Example], pack_tokens: int) -> list[Pack]:
        """Cut examples into packs of at most `pack_tokens` tokens that fit this forward's options."""
        packs, options = self.options.packs, self.options
        return cut_into_packs(examples, pack_tokens, packs and options.shares, packs and options.compiles)

    def ahead(self, packs: Sequence[Pack]) -> Iterator[Pack]:
        """Yield packs one by one; copying the next pack's tensors to the device has already begun."""
        # Without packing, tensors are made per sequence in `outputs`, so there is nothing to prefetch.
        return self.state.prefetch.ahead(packs, self.device) if self.options.packs else iter(packs)

    def lengths(self) -> Tensor:
        """Return the sequence length of each of the current pack's T tokens; valid only without shared prefixes.

        Filler counts as one more sequence.
        """
        sizes = torch.tensor(self.state.lengths)
        return sizes.repeat_interleave(sizes)

    def free_memory(self) -> None:
        """Release the GPU's cached memory after an allocation failed."""
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    @property
    def device(self) -> torch.device:
        """The device of the model's input embeddings, to which token ids are sent."""
        device: torch.device = base_of(self.model).get_input_embeddings().weight.device
        return device

    @contextmanager
    def attention(self) -> Iterator[None]:
        """Within the context, the model uses packed attention and compiled blocks as the options say."""
        base = base_of(self.model)
        packs = self.options.packs
        with (
            attention_of_packs(base) if packs else nullcontext(),
            compiled_blocks(parts_to_compile(base)) if packs and self.options.compiles else nullcontext(),
        ):
            yield

    def outputs(self, pack: Pack) -> Outputs:
        """Return hidden states (P, D), head, and rows, targets and weights (K,); call inside `attention()`."""
        if self.options.packs:
            return self._one_pack(pack)
        alone = [Example((sequence,), "") for sequence in pack.sequences]
        return _end_to_end([self._one_pack(make_pack([one])) for one in alone], pack)

    def _one_pack(self, pack: Pack) -> Outputs:
        tensors = self.state.prefetch.tensors(pack, self.device)
        with self._saving():
            hidden_PD = self._hidden(pack, tensors)
        rows_K, targets_K, weights_K = (
            part.to(hidden_PD.device) for part in (tensors.rows_K, tensors.targets_K, tensors.weights_K)
        )
        head = self.head or whole_logits(hidden_PD.shape[1])
        return Outputs(hidden_PD, head, rows_K, targets_K, weights_K, pack)

    def _saving(self) -> AbstractContextManager[object]:
        """Return the context that decides which tensors are saved for the backward pass, and where."""
        if not torch.is_grad_enabled():
            return nullcontext()
        if self.options.offloads:
            return offloaded(self.model)
        return remade() if self.options.rematerializes else nullcontext()

    def _hidden(self, pack: Pack, tensors: PackTensors) -> Tensor:
        """Return the head's input at the pack's P positions, or the logits if the model applies its own head."""
        self.state.lengths = (*(len(sequence.ids) for sequence in pack.sequences), pack.filler)
        kept_P = tensors.kept_P
        arguments: dict[str, object] = {"input_ids": tensors.ids_1T, "use_cache": False}
        if self.options.packs:
            layout = Layout.of(pack)
            bounds, longest = layout.bounds(self.device), pack.longest
            if self.options.compiles:  # compiled code needs shapes that do not depend on the examples
                bounds, longest = layout.padded_bounds(self.device), layout.end
            # For layers other than attention that understand transformers' own padding-free arguments.
            arguments |= {"cu_seq_lens_q": bounds, "cu_seq_lens_k": bounds}
            arguments |= {"max_length_q": longest, "max_length_k": longest}
            arguments["position_ids"] = tensors.positions_1T
            arguments[LAYOUT] = layout
        base = base_of(self.model)
        keeps = takes_positions(base)
        if keeps:
            arguments["logits_to_keep"] = kept_P
        with self.state.replay(pack):
            # squeeze, not [0]: the backward pass of indexing would allocate a second full-size gradient
            found = (
                run_without_head(base, self._run, arguments) if self.head else self._run(arguments).squeeze(0)
            )
        return found if keeps else found[kept_P]

    def _run(self, arguments: dict[str, object]) -> Tensor:
        """Return the model's own logits (1, P, V)."""
        with self.precision.autocast(self.device):
            logits: Tensor = self.model(**arguments).logits
        return logits


def _end_to_end(parts: Sequence[Outputs], pack: Pack) -> Outputs:
    """Concatenate the outputs of a pack's sequences."""
    before = [0, *accumulate(len(part.hidden_PD) for part in parts)]
    return Outputs(
        hidden_PD=torch.cat([part.hidden_PD for part in parts]),
        head=parts[0].head,
        rows_K=torch.cat([part.rows_K + rows for part, rows in zip(parts, before, strict=False)]),
        targets_K=torch.cat([part.targets_K for part in parts]),
        weights_K=torch.cat([part.weights_K for part in parts]),
        pack=pack,
    )
