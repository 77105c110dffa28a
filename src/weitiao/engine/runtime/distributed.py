"""Data-parallel training: how ranks share a step's packs, sum gradients and agree on decisions.

Every rank knows the whole step (its order is a function of seed, epoch and index) and cuts it into the same packs, so
only sums are communicated: gradients, losses, and an out-of-memory flag. All decisions (redo, refuse, stop, keep the
best) are based on numbers that are equal on all ranks, so no rank waits for another forever.

The processes are those of torch.distributed: gloo on the CPU, nccl on CUDA. torchrun starts them, on GPUs `accelerate
launch` too, and each holds the whole model on its own device. This module covers what the engine needs: steps,
evaluation on the held-out set (every rank measures, the first rank's number counts), stopping, and checkpoints, which
only the first rank writes and all read. The commands that make a run folder, report and chat run in one process.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, distributed
from torch.nn import Parameter

from ...data.batching.packing import Pack
from ...data.example import Example

BUCKET_VALUES = 1 << 23
"""Values per all-reduce: 32 MiB in fp32, enough to saturate a network and small compared with a model."""


@dataclass(frozen=True)
class Ranks:
    """This process's rank among the processes that make a step together."""

    rank: int = 0
    world_size: int = 1

    @classmethod
    def alone(cls) -> Ranks:
        """Return the ranks of a single-process run."""
        return cls()

    @classmethod
    def current(cls) -> Ranks:
        """Return the ranks of torch.distributed's default group, or `alone()` if there is none."""
        if not (distributed.is_available() and distributed.is_initialized()):
            return cls.alone()
        return cls(distributed.get_rank(), distributed.get_world_size())

    @property
    def first(self) -> bool:
        """Whether this process writes files and reports for all."""
        return self.rank == 0

    def budget(self, examples: Sequence[Example], pack_tokens: int) -> int:
        """Return the token budget of a step's packs: at most `pack_tokens`, or one rank's share if less."""
        if self.world_size == 1:
            return pack_tokens
        tokens = sum(example.tokens for example in examples)
        return min(pack_tokens, math.ceil(tokens / self.world_size))

    def share(self, packs: Sequence[Pack]) -> list[tuple[int, Pack]]:
        """Return this rank's packs, in ascending order, each with its index in the step.

        Packs are assigned from longest to shortest, each to the rank with the fewest tokens so far.
        """
        tokens_of = [0] * self.world_size
        mine = []
        for index in sorted(range(len(packs)), key=lambda i: -len(packs[i].ids_T)):
            rank = tokens_of.index(min(tokens_of))
            tokens_of[rank] += len(packs[index].ids_T)
            if rank == self.rank:
                mine.append(index)
        return [(index, packs[index]) for index in sorted(mine)]

    def sum_gradients(self, parameters: Sequence[Parameter], others: Sequence[Tensor]) -> Tensor:
        """Sum gradients and `others` over the ranks, in place and without synchronising.

        A parameter without a gradient counts as zero. Returns, for each of the N parameters, on how many ranks it had a
        gradient, (N,); for a single process changes nothing and returns shape (0,).
        """
        device = others[0].device
        if self.world_size == 1:
            return torch.zeros(0, device=device)
        one, zero = torch.ones((), device=device), torch.zeros((), device=device)
        had_N = torch.stack([zero if p.grad is None else one for p in parameters])
        gradients = []
        for parameter in parameters:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            gradients.append(parameter.grad)
        for bucket in _buckets([*gradients, *others, had_N]):
            _sum_bucket(bucket)
        return had_N

    def any(self, flag: bool) -> bool:
        """Return whether the flag is set on any rank (collective: every rank must call it)."""
        if self.world_size == 1:
            return flag
        flags = torch.tensor([float(flag)], device=self._device)
        distributed.all_reduce(flags, distributed.ReduceOp.MAX)
        return bool(flags.item())

    def least(self, number: int) -> int:
        """Return the smallest of the ranks' numbers (collective)."""
        if self.world_size == 1:
            return number
        numbers = torch.tensor([number], dtype=torch.int64, device=self._device)
        distributed.all_reduce(numbers, distributed.ReduceOp.MIN)
        return int(numbers.item())

    def largest(self, number: int) -> int:
        """Return the largest of the ranks' numbers (collective)."""
        return -self.least(-number)

    def sum(self, values: Tensor) -> None:
        """Sum a tensor over the ranks, in place and in fp32 (collective)."""
        if self.world_size > 1:
            _sum_bucket([values])

    def value_of_first(self, value: float) -> float:
        """Return the first rank's number on all ranks (collective)."""
        if self.world_size == 1:
            return value
        values = torch.tensor([value], dtype=torch.float64, device=self._device)
        distributed.broadcast(values, src=0)
        return float(values.item())

    def take_from_first(self, parameters: Sequence[Parameter]) -> None:
        """Set parameters to the first rank's values, bit for bit (collective)."""
        if self.world_size > 1:
            for parameter in parameters:
                distributed.broadcast(parameter.data, src=0)

    @property
    def _device(self) -> torch.device:
        """The device that the process group communicates from."""
        if distributed.get_backend() == "nccl":
            return torch.device("cuda", torch.cuda.current_device())
        return torch.device("cpu")


def _buckets(tensors: Sequence[Tensor]) -> Iterator[list[Tensor]]:
    """Yield consecutive tensors on one device, in groups of at most BUCKET_VALUES values (or one larger tensor)."""
    bucket: list[Tensor] = []
    for tensor in tensors:
        values = sum(member.numel() for member in bucket) + tensor.numel()
        if bucket and (values > BUCKET_VALUES or tensor.device != bucket[0].device):
            yield bucket
            bucket = []
        bucket.append(tensor)
    if bucket:
        yield bucket


def _sum_bucket(bucket: Sequence[Tensor]) -> None:
    """Sum tensors over the ranks, in place, in fp32 and in one all-reduce."""
    flat = torch.cat([tensor.reshape(-1).float() for tensor in bucket])
    distributed.all_reduce(flat)
    for tensor, summed in zip(bucket, torch.split(flat, [tensor.numel() for tensor in bucket]), strict=True):
        tensor.copy_(summed.view_as(tensor))
