"""The processes that make one step together: which packs are whose, and what they sum and agree on.

Every rank knows the whole step (its order is a function of seed, epoch and index) and cuts it into the same packs, so
nothing is sent but sums: gradients, losses, and a flag for memory that did not suffice. Whatever a rank decides (redo,
refuse, stop, keep the best) it decides by numbers that are the same on all, so that none waits for another for ever.

The processes are torch.distributed's: gloo on the CPU, nccl on CUDA; torchrun starts them, on GPUs `accelerate
launch` too, and each holds the whole model on its own device. Here is what the engine needs: steps, looks at the
held-out loss (measured by every rank, the first's number counts), stopping, and checkpoints that the first rank alone
writes and all read. The commands that make a run folder, report and chat are written for one process.
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
"""How many values go into one message: 32 MiB in fp32, enough to fill a network and little beside a model."""


@dataclass(frozen=True)
class Ranks:
    """This process among those that make a step together."""

    rank: int = 0
    world_size: int = 1

    @classmethod
    def alone(cls) -> Ranks:
        """Return the ranks of a run in one process."""
        return cls()

    @classmethod
    def current(cls) -> Ranks:
        """Return the ranks of torch.distributed's default group, or `alone()` where there is none."""
        if not (distributed.is_available() and distributed.is_initialized()):
            return cls.alone()
        return cls(distributed.get_rank(), distributed.get_world_size())

    @property
    def first(self) -> bool:
        """Whether this process writes files and reports for all."""
        return self.rank == 0

    def budget(self, examples: Sequence[Example], pack_tokens: int) -> int:
        """Return the token budget of a step's packs: at most `pack_tokens`, and so small that every rank gets some."""
        if self.world_size == 1:
            return pack_tokens
        tokens = sum(example.tokens for example in examples)
        return min(pack_tokens, math.ceil(tokens / self.world_size))

    def share(self, packs: Sequence[Pack]) -> list[tuple[int, Pack]]:
        """Return this rank's packs, ascending, each with its index in the step.

        The longest go first, each to the rank that has the fewest tokens so far.
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
        """Sum gradients, and `others` with them, over the ranks in place; nothing is read from the device.

        A parameter without a gradient counts as zero. Returns on how many ranks each of the N parameters had one,
        (N,), or (0,) for a single process, whose gradients stay as they are.
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
        """Return whether the flag is set on any rank; all must ask."""
        if self.world_size == 1:
            return flag
        flags = torch.tensor([float(flag)], device=self._device)
        distributed.all_reduce(flags, distributed.ReduceOp.MAX)
        return bool(flags.item())

    def least(self, number: int) -> int:
        """Return the smallest of the ranks' numbers; all must ask."""
        if self.world_size == 1:
            return number
        numbers = torch.tensor([number], dtype=torch.int64, device=self._device)
        distributed.all_reduce(numbers, distributed.ReduceOp.MIN)
        return int(numbers.item())

    def largest(self, number: int) -> int:
        """Return the largest of the ranks' numbers; all must ask."""
        return -self.least(-number)

    def sum(self, values: Tensor) -> None:
        """Sum a tensor over the ranks in place, in fp32; all must ask."""
        if self.world_size > 1:
            _sum_bucket([values])

    def value_of_first(self, value: float) -> float:
        """Return the first rank's number on all; all must ask."""
        if self.world_size == 1:
            return value
        values = torch.tensor([value], dtype=torch.float64, device=self._device)
        distributed.broadcast(values, src=0)
        return float(values.item())

    def take_from_first(self, parameters: Sequence[Parameter]) -> None:
        """Set parameters to the first rank's values, bit by bit."""
        if self.world_size > 1:
            for parameter in parameters:
                distributed.broadcast(parameter.data, src=0)

    @property
    def _device(self) -> torch.device:
        """Where the group sends numbers from."""
        if distributed.get_backend() == "nccl":
            return torch.device("cuda", torch.cuda.current_device())
        return torch.device("cpu")


def _buckets(tensors: Sequence[Tensor]) -> Iterator[list[Tensor]]:
    """Yield runs of tensors on one device, of about BUCKET_VALUES values each."""
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
    """Sum tensors over the ranks in place, in fp32 and in one message."""
    flat = torch.cat([tensor.reshape(-1).float() for tensor in bucket])
    distributed.all_reduce(flat)
    for tensor, summed in zip(bucket, torch.split(flat, [tensor.numel() for tensor in bucket]), strict=True):
        tensor.copy_(summed.view_as(tensor))
