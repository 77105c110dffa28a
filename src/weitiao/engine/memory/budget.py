"""Chooses the token budget of a pack before the first step, so that a run that starts does not run out of memory."""

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
from ...objectives._base import Objective, SequenceObjective
from ..attention.backends import attention_scratch_bytes
from ..forward import Forward
from ..optim.optimizers import OptimizerName, state_bytes
from .activation_checkpointing import AUTO, TRIED_BY_AUTO, WITHOUT_BLOCKS, set_recompute
from .free_bytes import free_memory_bytes
from .live_bytes import Growth, growth, run_counted

PACK_TOKENS_CPU = 512
"""An Intel Xeon multiplies 512 rows as fast as 1024 or 2048. On an AMD Zen 5 a step of SmolLM2-135M is 7 % faster in
packs of 1024 and 10 % in packs of 2048, but packs of 1024 already take 1.8 times the memory."""
PACK_TOKENS_GPU, MOST_PACK_TOKENS_GPU = 8192, 32768
"""The budget for models of width 4096, and the maximum. With narrower models a GPU finishes operations faster than
Python launches them (H100, Qwen2.5-0.5B, 8,192 tokens: 90 of 250 ms), so their packs are larger, if memory allows."""
WIDTH_GPU = 4096

PROBED_TOKENS = (8, 16, 32)
"""Sizes of the measured packs: small enough to fit; together they take half the time of a pack of 512."""

USED_SHARE = 0.85
"""Share of the free memory to plan with; the rest covers what is not counted: allocator fragmentation, scratch memory
inside operations, other programs."""

IDLE_SHARES_CPU = {"none": 0.55, "elementwise": 0.85}
"""Fragmentation of the CPU allocator as a share of the live bytes without checkpointing: unusable gaps between live
tensors, which do not shrink when fewer tensors are saved. On a GPU fragmentation is small."""


def default_pack_tokens(device: torch.device, width: int) -> int:
    """Return the default token budget for a model of this width, if memory suffices."""
    if device.type == "cpu":
        return PACK_TOKENS_CPU
    return min(max(PACK_TOKENS_GPU, PACK_TOKENS_GPU * WIDTH_GPU // width), MOST_PACK_TOKENS_GPU)


@dataclass(frozen=True)
class Needs:
    """The memory that packs need, fragmentation included."""

    grows: Growth
    """Growth of live bytes with the chosen checkpointing."""
    plain: Growth
    """The same without block checkpointing; fragmentation is a share of it."""
    idle_share: float
    """Fragmentation as a share of `plain`."""
    head_bytes: Callable[[int], int]
    """Maps a pack's tokens to the memory of a head applied in chunks, which `grows` leaves out."""
    scratch_bytes: Callable[[int], int]
    """Maps an example's tokens to attention's scratch memory, which the short examples behind `grows` do not show."""

    def peak_bytes(self, tokens: int, longest: int) -> int:
        """Return the peak memory of a pack of `tokens` tokens whose longest example has `longest`."""
        idle_bytes = self.idle_share * self.plain.peak_bytes(tokens, longest)
        made_bytes = max(self.head_bytes(tokens), self.scratch_bytes(longest))  # never at the same time
        return self.grows.peak_bytes(tokens, longest) + int(idle_bytes) + made_bytes

    def most_tokens(self, usable_bytes: float, longest: int, at_most: int) -> int:
        """Return the tokens of the largest pack that fits into `usable_bytes`; 0 if none does."""
        sizes = range(1, at_most + 1)
        return bisect_right(sizes, usable_bytes, key=lambda tokens: self.peak_bytes(tokens, longest))

    def longest_row(self, usable_bytes: float, at_most: int) -> int:
        """Return the tokens of the longest example that fits into `usable_bytes` in a pack of its own."""
        sizes = range(1, at_most + 1)
        return bisect_right(sizes, usable_bytes, key=lambda tokens: self.peak_bytes(tokens, tokens))


@dataclass(frozen=True)
class MemoryPlan:
    """The token budget and checkpointing chosen for a run, with the memory they need."""

    pack_tokens: int
    recompute: str
    """Which activations are recomputed: none, elementwise, full or every-n."""
    needed_bytes: int
    """Peak memory of a pack, besides weights, gradients and optimizer states."""
    free_bytes: float
    """Memory usable for it; infinite if unknown."""
    wanted_tokens: int
    """The budget if memory sufficed."""

    @property
    def rematerializes(self) -> bool:
        """Whether elementwise outputs are recomputed in the backward pass."""
        return self.recompute != "none"

    def __str__(self) -> str:
        """Describe the plan in one line."""
        needed = readable_bytes(self.needed_bytes)
        needs = f"activations take {needed}"
        if self.free_bytes < math.inf:
            needs = f"activations take {needed}, {readable_bytes(self.free_bytes)} are free"
        if self.recompute not in WITHOUT_BLOCKS:
            needs = f"{needs}, activation checkpointing: {self.recompute}"
        if self.pack_tokens == self.wanted_tokens:
            return f"packs of {self.pack_tokens} tokens: {needs}"
        return f"packs of {self.pack_tokens} tokens ({self.wanted_tokens} do not fit in memory): {needs}"


def room_bytes(
    forward: Forward,
    parameters: Mapping[str, Parameter],
    optimizer: OptimizerName,
    free_bytes: float | None = None,
) -> float:
    """Return the free memory minus gradients and optimizer states; infinity if the model spans several devices.

    `free_bytes` is the memory free now; if None, it is queried.
    """
    devices = {parameter.device for parameter in forward.model.parameters()}
    if len(devices) > 1:
        return math.inf  # how activations divide among the devices is not known
    if free_bytes is None:
        free_bytes = free_memory_bytes(forward.device)
    gradients_bytes = sum(parameter.nbytes for parameter in parameters.values())
    return free_bytes - gradients_bytes - state_bytes(parameters.values(), optimizer)


MeasureGrowth = Callable[[Forward, Objective, Mapping[str, Parameter], Example], Growth]


def plan_memory(
    forward: Forward,
    objective: Objective,
    parameters: Mapping[str, Parameter],
    examples: tuple[Example, int],
    recompute: str,
    wanted_tokens: int,
    free_bytes: float,
    measure: MeasureGrowth,
) -> MemoryPlan:
    """Choose the token budget and, under `auto`, the activation checkpointing; leaves it enabled on the model.

    `examples` holds one training example and the length of the longest; `free_bytes` is the memory for everything
    besides weights, gradients and optimizer states; `measure` is `measure_growth` or gives what it gives. Raises
    ResourceError if the longest example does not fit, ModelError if the architecture does not support the requested
    checkpointing.
    """
    example, longest = examples
    usable_bytes = USED_SHARE * free_bytes
    plain: Growth | None = None
    for choice in _tried(forward, recompute):
        forward = forward.with_options(rematerializes=choice != "none")
        # Fragmentation on the CPU depends on all tensors a pass creates, and checkpointing creates no fewer.
        if plain is None and choice not in WITHOUT_BLOCKS and forward.device.type == "cpu":
            plain = measure(forward, objective, parameters, example)
        set_recompute(base_of(forward.model), choice)
        grows = measure(forward, objective, parameters, example)
        if plain is None or choice in WITHOUT_BLOCKS:
            plain = grows
        idle_share = _idle_share(forward)
        scratch_bytes = partial(attention_scratch_bytes, base_of(forward.model))
        needs = Needs(grows, plain, idle_share, partial(_head_bytes, forward, objective), scratch_bytes)
        # `none` is chosen only if whole packs fit: recomputing elementwise outputs costs less time than smaller packs.
        whole = recompute == AUTO and choice == TRIED_BY_AUTO[0]
        if needs.peak_bytes(max(longest, wanted_tokens) if whole else longest, longest) <= usable_bytes:
            tokens = needs.most_tokens(usable_bytes, longest, wanted_tokens)
            needed = needs.peak_bytes(max(tokens, longest), longest)
            return MemoryPlan(tokens, choice, needed, usable_bytes, wanted_tokens)
    may_do_more = recompute not in (AUTO, TRIED_BY_AUTO[-1])
    raise ResourceError(_does_not_fit(longest, needs, usable_bytes, choice, may_do_more))


def _head_bytes(forward: Forward, objective: Objective, tokens: int) -> int:
    """Return the head's memory for a pack of `tokens` tokens if the objective applies it in chunks, else 0."""
    return objective.head_bytes(forward.head, tokens) if forward.head else 0


def _idle_share(forward: Forward) -> float:
    """Return fragmentation without block checkpointing, as a share of the live bytes."""
    return (
        IDLE_SHARES_CPU["elementwise" if forward.options.rematerializes else "none"]
        if forward.device.type == "cpu"
        else 0.0
    )


def _tried(forward: Forward, recompute: str) -> Sequence[str]:
    """Return the checkpointing choices to try, from the fastest to the one with the least memory."""
    if recompute != "auto":
        return (recompute,)
    return TRIED_BY_AUTO if base_of(forward.model).supports_gradient_checkpointing else WITHOUT_BLOCKS


def measure_growth(
    forward: Forward, objective: Objective, parameters: Mapping[str, Parameter], example: Example
) -> Growth:
    """Measure how the live bytes of a pack's forward and backward pass grow with its tokens.

    With a head applied in chunks only a few rows are trained, because its memory does not grow; otherwise every token
    counts as trained, so no real pack takes more. Restores gradients, random state and the model's mode.
    """
    model, device = forward.model, forward.device

    def trained(size: int) -> int:
        return size if forward.head is None else PROBED_TOKENS[0]

    was_training = model.training
    gradients = {name: parameter.grad for name, parameter in parameters.items()}
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices), forward.attention():
        model.train()
        # Allocated before measuring: from a step's second pack on they exist already, and are not a pack's memory.
        for parameter in parameters.values():
            parameter.grad = torch.zeros_like(parameter)
        probes = [
            partial(_pass, forward, objective, _cut_to(example, size, trained(size)))
            for size in PROBED_TOKENS
        ]
        if device.type == "cuda":  # warm up: allocations at a kernel's first use do not count either
            for probe in probes:
                probe()
        passes = [run_counted(probe, device) for probe in probes]
    for name, parameter in parameters.items():
        parameter.grad = gradients[name]
    model.train(was_training)
    return growth(PROBED_TOKENS, passes)


def _cut_to(example: Example, size: int, trained: int) -> Example:
    """Return an example whose every sequence is `size` tokens of the first one, repeated if too short; the last
    `trained` of them are trained."""
    own = example.sequences[0].ids
    ids = (own * math.ceil(size / len(own)))[:size]
    weights = (0.0,) * (size - trained) + (1.0,) * trained
    return replace(example, sequences=(TokenSequence(ids, weights),) * len(example.sequences))


def _pass(forward: Forward, objective: Objective, example: Example) -> None:
    pack, reference = make_pack([example]), None
    if objective.needs_reference and isinstance(objective, SequenceObjective):
        with (
            torch.no_grad()
        ):  # a run's reference has features of this shape, from a pass that needs less memory
            reference = objective.features(forward.outputs(pack))
    # The outputs get no name: training keeps none of them alive in the backward pass either.
    objective.loss(forward.outputs(pack), reference).sum.backward()  # type: ignore[no-untyped-call]


def _does_not_fit(
    longest: int, needs: Needs, usable_bytes: float, recompute: str, may_do_more: bool
) -> Problem:
    shorter = needs.longest_row(usable_bytes, longest)
    more = ["train.gradient_checkpointing=auto"] if may_do_more else []
    tries = [*more, *([f"data.max_length={shorter}"] if shorter else []), "model.quantization=nf4"]
    return Problem(
        f"the longest row ({longest} tokens) does not fit into memory in the forward and backward pass",
        f"{readable_bytes(needs.peak_bytes(longest, longest))} needed, {readable_bytes(max(0, usable_bytes))} free "
        f"(train.gradient_checkpointing: {recompute})",
        "memory for the longest row",
        " or ".join(tries),
    )
