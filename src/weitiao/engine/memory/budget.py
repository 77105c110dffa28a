"""How many tokens go through the model at once: found before the first step, so that a run that starts goes on."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch.nn import Parameter

from ...core.errors import Problem, ResourceError
from ...core.units import readable_bytes
from ...data.batching.packing import make_pack
from ...data.example import Example, TokenSequence
from ...models.anatomy import base_of
from ...objectives._base import Objective
from ..attention.backends import attention_scratch_bytes
from ..forward import Forward
from ..optim.optimizers import OptimizerName, state_bytes
from .activation_checkpointing import AUTO, TRIED_BY_AUTO, WITHOUT_BLOCKS, set_recompute
from .free import free_memory_bytes
from .live_bytes import Growth, growth, run_counted

PACK_TOKENS_CPU = 512
"""An Intel Xeon multiplies 512 rows as fast as 1024 or 2048; an AMD Zen 5 makes a step of SmolLM2-135M 7 % faster in
packs of 1024 and 10 % in packs of 2048, and the first take 1.8 times the memory."""
PACK_TOKENS_GPU, MOST_PACK_TOKENS_GPU = 8192, 32768
"""For models of width 4096, and the most. Of narrower ones a GPU works off a pack faster than Python hands it the
next operation (an H100, Qwen2.5-0.5B, 8,192 tokens: 90 of 250 ms), so their packs are larger, as far as memory lets
them."""
WIDTH_GPU = 4096

PROBED_TOKENS = (8, 16, 32)
"""Sizes of the packs measured: small enough to fit, and together half the time of a pack of 512."""

USED_SHARE = 0.85
"""How much of the free memory is planned with; the rest is for what is not counted: the allocator's gaps, work space
inside operations, other programs."""

IDLE_SHARES_CPU = {"none": 0.55, "elementwise": 0.85}
"""What a CPU's allocator holds and cannot use, as a share of what lives without checkpointing: gaps between tensors
that stay, and between fewer of them the gaps are as large. A GPU's gaps are small."""


def default_pack_tokens(device: torch.device, width: int) -> int:
    """Return the token budget of a pack, for a model so wide, on a device with memory enough."""
    if device.type == "cpu":
        return PACK_TOKENS_CPU
    return min(max(PACK_TOKENS_GPU, PACK_TOKENS_GPU * WIDTH_GPU // width), MOST_PACK_TOKENS_GPU)


@dataclass(frozen=True)
class Needs:
    """What packs take of the memory, what lies idle between tensors included."""

    grows: Growth
    plain: Growth
    """That of whole blocks, without checkpointing."""
    idle_share: float
    head_bytes: Callable[[int], int]
    """What a head applied in chunks takes for so many tokens, which `grows` leaves out."""
    scratch_bytes: Callable[[int], int]
    """What attention over an example of so many tokens takes for a moment, and over the short ones of `grows` not."""

    def peak_bytes(self, tokens: int, longest: int) -> int:
        """Return the most that a pack of `tokens` tokens takes, whose longest example has `longest`."""
        idle_bytes = self.idle_share * self.plain.peak_bytes(tokens, longest)
        made_bytes = max(self.head_bytes(tokens), self.scratch_bytes(longest))  # never at the same time
        return self.grows.peak_bytes(tokens, longest) + int(idle_bytes) + made_bytes

    def most_tokens(self, usable_bytes: float, longest: int, at_most: int) -> int:
        """Return the tokens of the largest pack that takes no more; 0 where none does."""
        sizes = range(1, at_most + 1)
        return bisect_right(sizes, usable_bytes, key=lambda tokens: self.peak_bytes(tokens, longest))

    def longest_row(self, usable_bytes: float, at_most: int) -> int:
        """Return the tokens of the longest example that takes no more, in a pack of its own."""
        sizes = range(1, at_most + 1)
        return bisect_right(sizes, usable_bytes, key=lambda tokens: self.peak_bytes(tokens, tokens))


@dataclass(frozen=True)
class MemoryPlan:
    """What a run's packs were found to need."""

    pack_tokens: int
    recompute: str
    """Which activations are made again: none, elementwise, full or every-n."""
    needed_bytes: int
    """The most that a pack takes at once, besides weights, gradients and optimizer."""
    free_bytes: float
    """What may be used for it; infinite where that is not known."""
    wanted_tokens: int
    """What the budget would be with memory enough."""

    @property
    def rematerializes(self) -> bool:
        """Whether elementwise outputs are made again in the backward pass."""
        return self.recompute != "none"

    def __str__(self) -> str:
        """Say it in a line."""
        text = f"packs of {self.pack_tokens} tokens"
        if self.pack_tokens < self.wanted_tokens:
            text += f" instead of {self.wanted_tokens} because memory is short"
        text += f": {readable_bytes(self.needed_bytes)} of activations"
        if self.free_bytes < math.inf:
            text += f", {readable_bytes(self.free_bytes)} free for them"
        return (
            text
            if self.recompute in WITHOUT_BLOCKS
            else f"{text}, activation checkpointing: {self.recompute}"
        )


def room_bytes(
    forward: Forward,
    parameters: Mapping[str, Parameter],
    optimizer: OptimizerName,
    free_bytes: float | None = None,
) -> float:
    """Return what gradients and optimizer will leave of the free memory; infinity where no one place is it.

    `free_bytes` is what is free now; left out, it is looked up.
    """
    devices = {parameter.device for parameter in forward.model.parameters()}
    if len(devices) > 1:
        return math.inf  # which device keeps how much of the activations is not known
    if free_bytes is None:
        free_bytes = free_memory_bytes(forward.device)
    gradients_bytes = sum(parameter.nbytes for parameter in parameters.values())
    return free_bytes - gradients_bytes - state_bytes(parameters.values(), optimizer)


def plan_memory(
    forward: Forward,
    objective: Objective,
    parameters: Mapping[str, Parameter],
    examples: tuple[Example, int],
    recompute: str,
    wanted_tokens: int,
    free_bytes: float,
) -> MemoryPlan:
    """Choose the token budget, and under `auto` the activation checkpointing, whose blocks are left switched on.

    `examples` are one of those to be trained on and the length of the longest; `free_bytes` is what may live besides
    weights, gradients and optimizer states. Raises ResourceError where the longest does not fit, ModelError for
    checkpointing the architecture has not.
    """
    example, longest = examples
    usable_bytes = USED_SHARE * free_bytes
    plain: Growth | None = None
    for choice in _tried(forward, recompute):
        forward = forward.with_options(rematerializes=choice != "none")
        # What lies idle on the CPU depends on what a pass makes, which checkpointing does not make less.
        if plain is None and choice not in WITHOUT_BLOCKS and forward.device.type == "cpu":
            plain = measure_growth(forward, objective, parameters, example)
        set_recompute(base_of(forward.model), choice)
        grows = measure_growth(forward, objective, parameters, example)
        if plain is None or choice in WITHOUT_BLOCKS:
            plain = grows
        idle_share = _idle_share(forward)
        scratch_bytes = partial(attention_scratch_bytes, base_of(forward.model))
        needs = Needs(grows, plain, idle_share, partial(_head_bytes, forward, objective), scratch_bytes)
        # Smaller packs cost more time than making elementwise output again does.
        whole = recompute == AUTO and choice == TRIED_BY_AUTO[0]
        if needs.peak_bytes(max(longest, wanted_tokens) if whole else longest, longest) <= usable_bytes:
            tokens = needs.most_tokens(usable_bytes, longest, wanted_tokens)
            needed = needs.peak_bytes(max(tokens, longest), longest)
            return MemoryPlan(tokens, choice, needed, usable_bytes, wanted_tokens)
    may_do_more = recompute not in (AUTO, TRIED_BY_AUTO[-1])
    raise ResourceError(_does_not_fit(longest, needs, usable_bytes, choice, may_do_more))


def _head_bytes(forward: Forward, objective: Objective, tokens: int) -> int:
    """Return what the head takes for a pack of so many tokens, where the objective applies it in chunks."""
    return objective.head_bytes(forward.head, tokens) if forward.head else 0


def _idle_share(forward: Forward) -> float:
    """Return what lies idle where blocks are not checkpointed, as a share of what lives."""
    return (
        IDLE_SHARES_CPU["elementwise" if forward.options.rematerializes else "none"]
        if forward.device.type == "cpu"
        else 0.0
    )


def _tried(forward: Forward, recompute: str) -> Sequence[str]:
    """Return the ways of checkpointing that may be chosen, from fast to small."""
    if recompute != "auto":
        return (recompute,)
    return TRIED_BY_AUTO if base_of(forward.model).supports_gradient_checkpointing else WITHOUT_BLOCKS


def measure_growth(
    forward: Forward, objective: Objective, parameters: Mapping[str, Parameter], example: Example
) -> Growth:
    """Return how the bytes that live in a pack's forward and backward pass grow with its tokens.

    A head applied in chunks is left out but for a few rows, as it does not grow; else every token counts as trained,
    so no real pack takes more. Weights, gradients, the random state and the model's mode are as before afterwards.
    """
    model, device = forward.model, forward.device

    def trained(size: int) -> int:
        return size if forward.head is None else PROBED_TOKENS[0]

    was_training = model.training
    gradients = {name: parameter.grad for name, parameter in parameters.items()}
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices), forward.attention():
        model.train()
        # From its second pack on a step has all gradients; made here, they are no part of what a pack takes.
        for parameter in parameters.values():
            parameter.grad = torch.zeros_like(parameter)
        probes = [
            partial(_pass, forward, objective, _cut_to(example, size, trained(size)))
            for size in PROBED_TOKENS
        ]
        if device.type == "cuda":  # what kernels make when they are first used is no part of it either
            for probe in probes:
                probe()
        passes = [run_counted(probe, device) for probe in probes]
    for name, parameter in parameters.items():
        parameter.grad = gradients[name]
    model.train(was_training)
    return growth(PROBED_TOKENS, passes)


def _cut_to(example: Example, size: int, trained: int) -> Example:
    """Return `size` tokens of an example's first sequence, repeated where it has fewer, the last of them trained; each
    of its sequences has these."""
    own = example.sequences[0].ids
    ids = (own * math.ceil(size / len(own)))[:size]
    weights = (0.0,) * (size - trained) + (1.0,) * trained
    return replace(example, sequences=(TokenSequence(ids, weights),) * len(example.sequences))


def _pass(forward: Forward, objective: Objective, example: Example) -> None:
    objective.loss(forward.outputs(make_pack([example]))).sum.backward()  # type: ignore[no-untyped-call]


def _does_not_fit(
    longest: int, needs: Needs, usable_bytes: float, recompute: str, may_do_more: bool
) -> Problem:
    shorter = needs.longest_row(usable_bytes, longest)
    more = ["train.gradient_checkpointing=auto"] if may_do_more else []
    tries = [*more, *([f"data.max_length={shorter}"] if shorter else []), "model.quantization=nf4"]
    return Problem(
        f"the longest row, {longest} tokens, does not fit into memory, forward and backward",
        f"{readable_bytes(needs.peak_bytes(longest, longest))} needed, {readable_bytes(max(0, usable_bytes))} free "
        f"(train.gradient_checkpointing: {recompute})",
        "memory for the longest row",
        " or ".join(tries),
    )
