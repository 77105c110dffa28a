"""Caches the output of frozen leading blocks on disk, if nothing in them trains or is random.

The output of the first k blocks for an example's tokens is then the same in every epoch. It is computed once, before
the first step and in a fixed order of its own, so that a resumed run computes the same numbers. A pack reads the
rows of its sequences from the cache, and its forward pass starts at block k.

Shapes: T rows of a pack, t tokens of a sequence, N rows in the cache, D width.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from hashlib import blake2b
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ...core.errors import ModelError, ResourceError
from ...core.events import EventLog
from ...core.files import need_disk
from ...core.units import readable_bytes
from ...data.batching.packing import Pack, make_pack
from ...data.example import Example, TokenSequence
from ...data.gate.store import tokens_in
from ...models.anatomy import base_of, block_stacks
from ..forward import Forward, ReplayPack
from ..probe import computes_exactly, probe, probe_examples, same_logits
from ..runtime.transfer import begin_copy
from .oom import MAY_SAY_SO, is_out_of_memory

EXAMPLES_AT_ONCE = 256
"""Examples processed together, so that a prefix many of them share is computed once."""
PACKS_IN_ONE = 4
"""How much larger packs are than in training: no activations are saved for a backward pass."""
SECONDS_BETWEEN_REPORTS = 1.0
AS_INTEGERS = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
"""The integer type that stores a number of this many bytes: numpy has no bfloat16."""


class StandIn(nn.Module):
    """Replaces a block: returns its input or the given hidden states; other attributes are the block's."""

    def __init__(self, block: nn.Module, parts: int | None) -> None:
        """Replace `block`, whose output is a tuple of `parts` elements, or a tensor if `parts` is None."""
        super().__init__()
        self._block = (block,)  # in a tuple, so that torch does not register it as a submodule
        self._parts = parts
        self.given_TD: Tensor | None = None

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401  (any attribute of the block)
        """Read other attributes from the block: models read its attention type, for example."""
        return getattr(self.__dict__["_block"][0], name)

    def forward(self, *args: Tensor, **kwargs: Any) -> Tensor | tuple[Tensor | None, ...]:  # noqa: ANN401
        """Return hidden states (1, T, D) in the form of the block's output."""
        hidden_1TD: Tensor = args[0] if args else kwargs["hidden_states"]
        if self.given_TD is not None:
            hidden_1TD = begin_copy(self.given_TD[None], hidden_1TD.device)
        return hidden_1TD if self._parts is None else (hidden_1TD, *[None] * (self._parts - 1))


@dataclass(frozen=True)
class FrozenBlocks:
    """The first `count` blocks of a model, which do not train and are not random, and stand-ins for all blocks."""

    stack: nn.ModuleList
    stand_ins: tuple[StandIn, ...]
    count: int
    width: int
    dtype: torch.dtype

    @property
    def row_bytes(self) -> int:
        """Bytes of one token's hidden state."""
        return self.width * self.dtype.itemsize

    @contextmanager
    def replaced(self, numbers: range) -> Iterator[None]:
        """Within the context, these blocks are replaced by their stand-ins."""
        own = {n: self.stack[n] for n in numbers}
        try:
            for n in numbers:
                self.stack[n] = self.stand_ins[n]
            yield
        finally:
            for n, block in own.items():
                self.stack[n] = block

    @contextmanager
    def giving(self, hidden_TD: Tensor) -> Iterator[None]:
        """Within the context, the frozen blocks output these hidden states, whatever their input."""
        last = self.stand_ins[self.count - 1]
        last.given_TD = hidden_TD
        try:
            with self.replaced(range(self.count)):
                yield
        finally:
            last.given_TD = None


@dataclass(frozen=True)
class HiddenStates:
    """Cached outputs of the frozen blocks for the tokens of some sequences."""

    rows_ND: NDArray[Any]
    """Bit patterns as integers, memory-mapped."""
    width: int
    dtype: torch.dtype
    first_rows: Mapping[bytes, int]
    """First row of each sequence, by the digest of its ids: example objects are recreated, so identity is no key."""

    def of(self, pack: Pack) -> Tensor | None:
        """Return the rows (T, D) of a pack; None if any of its sequences is not cached."""
        firsts = [self.first_rows.get(digest_of(sequence)) for sequence in pack.sequences]
        known = [first for first in firsts if first is not None]
        if len(known) < len(firsts):
            return None
        here_T = np.zeros(len(pack.ids_T), np.int64)  # filler reads row 0
        # In reverse, so that rows shared by several sequences are all read from the first of these.
        for first, rows in reversed(list(zip(known, pack.rows, strict=True))):
            here_T[rows] = np.arange(first, first + len(rows))
        # Into memory allocated by torch, whose alignment is constant: the last bits of a matrix product depend on it.
        integers_TD = torch.empty(len(here_T), self.width, dtype=AS_INTEGERS[self.dtype.itemsize])
        np.take(self.rows_ND, here_T, axis=0, out=integers_TD.numpy(), mode="clip")
        return integers_TD.view(self.dtype)


@dataclass(frozen=True)
class Replay:
    """Starts packs of cached sequences after the frozen blocks; other packs run in full."""

    frozen: FrozenBlocks
    states: HiddenStates

    @contextmanager
    def __call__(self, pack: Pack) -> Iterator[None]:
        """Within the context, the model's forward pass of this pack starts after the frozen blocks."""
        hidden_TD = self.states.of(pack)
        with nullcontext() if hidden_TD is None else self.frozen.giving(hidden_TD):
            yield


def digest_of(sequence: TokenSequence) -> bytes:
    """Return a 16-byte digest of a sequence's ids."""
    return blake2b(np.asarray(sequence.ids, np.int64).tobytes(), digest_size=16).digest()


@contextmanager
def frozen_blocks_once(
    forward: Forward,
    examples: Sequence[Sequence[Example]],
    pack_tokens: int,
    file: Path,
    reserved_bytes: int,
    log: EventLog,
) -> Iterator[None]:
    """Within the context, packs of these examples start after the frozen blocks, if there are any.

    The hidden states are computed on entry and stored in `file`, which is deleted on exit. If the disk cannot hold them
    besides `reserved_bytes`, or logits would differ, a note is logged and nothing is cached.
    """
    replay: ReplayPack = nullcontext
    try:
        frozen = find_frozen_blocks(forward, log)
        if frozen is not None and _fits(frozen, examples, file, reserved_bytes, log):
            states = _kept(forward, frozen, examples, pack_tokens, file, log)
            if states is not None:
                replay = Replay(frozen, states)
            del states  # else the file stays mapped, and Windows refuses to delete it
        with forward.state.replaying(replay):
            del replay
            yield
    finally:
        file.unlink(missing_ok=True)


def find_frozen_blocks(forward: Forward, log: EventLog) -> FrozenBlocks | None:
    """Return the model's frozen leading blocks; None if there are none or their output cannot be replayed.

    A short probe runs three times: twice in training mode with different seeds, once in evaluation mode. Blocks whose
    output needs no gradient do not train; blocks whose output is bitwise equal in all three runs are not random.
    """
    try:
        stacks = block_stacks(base_of(forward.model))
    except ModelError:
        return None
    if len(stacks) != 1:
        return None
    stack = cast("nn.ModuleList", base_of(forward.model).get_submodule(stacks[0]))
    if any(parameter.requires_grad for parameter in stack[0].parameters()):
        return None  # so with most adapters, and no probe is needed
    first = _observe(forward, stack, training=True, seed=0)
    others = [_observe(forward, stack, training=training, seed=1) for training in (True, False)]
    untrained = _leading(len(stack), lambda n: n in first and not first[n].trains)
    count = _leading(untrained, lambda n: all(first[n].same_as(other.get(n)) for other in others))
    if count < untrained:
        text = (
            f"the first {untrained} of {len(stack)} blocks do not train, but the outputs of block {count + 1} vary "
            "(dropout), so from there on they are computed in every step"
        )
        log.emit("note", text=text)
    if not count:
        return None
    hidden_1TD = first[count - 1].hidden_1TD
    stand_ins = tuple(StandIn(block, first[n].parts if n in first else None) for n, block in enumerate(stack))
    frozen = FrozenBlocks(stack, stand_ins, count, hidden_1TD.shape[-1], hidden_1TD.dtype)
    if _replays(forward, frozen):
        return frozen
    what = "this model gives other results from stored hidden states, so frozen blocks are computed in every step"
    log.emit("note", text=what)
    return None


@dataclass(frozen=True)
class _Seen:
    """A block's output in a probe."""

    hidden_1TD: Tensor
    trains: bool
    """Whether it depends on a trained parameter."""
    parts: int | None
    """Number of elements of the output tuple; None for a tensor."""

    def same_as(self, other: _Seen | None) -> bool:
        """Return whether another output is bitwise equal, and the output has shape (1, T, D)."""
        if other is None or self.hidden_1TD.dtype != other.hidden_1TD.dtype:
            return False
        return self.hidden_1TD.dim() == 3 and torch.equal(self.hidden_1TD, other.hidden_1TD)


def _observe(forward: Forward, stack: nn.ModuleList, *, training: bool, seed: int) -> dict[int, _Seen]:
    """Run a probe and return each block's output by number; preserves torch's random state."""
    seen: dict[int, _Seen] = {}

    def see(number: int, _block: nn.Module, _inputs: object, output: Any) -> None:  # noqa: ANN401
        parts = len(output) if isinstance(output, tuple) else None
        hidden_1TD = output if parts is None else output[0]
        seen[number] = _Seen(hidden_1TD.detach(), hidden_1TD.requires_grad, parts)

    pack = make_pack(probe_examples(base_of(forward.model), forward.options.shares), forward.options.shares)
    devices = [forward.device] if forward.device.type == "cuda" else []
    with ExitStack() as stays:
        stays.enter_context(torch.random.fork_rng(devices))
        stays.enter_context(_mode(forward.model, training))
        stays.enter_context(forward.attention())
        for number, block in enumerate(stack):
            stays.callback(block.register_forward_hook(partial(see, number)).remove)
        torch.manual_seed(seed)
        forward.outputs(pack)
    return seen


@contextmanager
def _mode(model: nn.Module, training: bool) -> Iterator[None]:
    before = model.training
    model.train(training)
    try:
        yield
    finally:
        model.train(before)


def _leading(count: int, holds: Callable[[int], bool]) -> int:
    """Return how many leading numbers of 0, 1, ..., count - 1 satisfy `holds`."""
    return next((n for n in range(count) if not holds(n)), count)


def _replays(forward: Forward, frozen: FrozenBlocks) -> bool:
    """Return whether a probe that starts from cached hidden states gives the same logits, up to rounding."""
    base = base_of(forward.model)
    examples = probe_examples(base, forward.options.shares)
    with _mode(forward.model, training=False):
        wanted_KV = probe(forward, examples)
        try:
            parts: list[NDArray[Any]] = []
            writer = _Writer(frozen, parts.append)
            # One sequence at a time, so that state a block leaves for a later block is not that of the probed pack.
            for sequence, hidden_tD in _hidden_states(forward, frozen, examples, pack_tokens=1):
                writer.add(sequence, hidden_tD)
            with forward.state.replaying(Replay(frozen, writer.states(np.concatenate(parts)))):
                found_KV = probe(forward, examples)
        except (TypeError, ValueError, LookupError, AttributeError):
            return False  # a later block needs more than hidden states from the frozen ones
    return same_logits(found_KV, wanted_KV, computes_exactly(base, forward.precision))


@torch.no_grad()
def _hidden_states(
    forward: Forward, frozen: FrozenBlocks, examples: Sequence[Example], pack_tokens: int
) -> Iterator[tuple[TokenSequence, Tensor]]:
    """Yield the frozen blocks' output (t, D) for each sequence; no other block and no head runs."""
    given: list[Tensor] = []

    def keep(_block: nn.Module, _inputs: object, output: Any) -> None:  # noqa: ANN401
        given.append(output[0] if isinstance(output, tuple) else output)

    none = np.zeros(0, np.int64)
    with ExitStack() as stays:
        stays.enter_context(forward.attention())
        stays.enter_context(frozen.replaced(range(frozen.count, len(frozen.stack))))
        stays.callback(frozen.stack[frozen.count - 1].register_forward_hook(keep).remove)
        for pack in forward.cut(examples, pack_tokens):
            given.clear()
            forward.outputs(
                replace(pack, kept_P=none, rows_K=none, targets_K=none, weights_K=none.astype(np.float32))
            )
            hidden_TD = torch.cat(given, dim=1)[0]
            for sequence, rows in zip(pack.sequences, pack.rows, strict=True):
                yield sequence, hidden_TD[torch.from_numpy(rows).to(hidden_TD.device)]


@dataclass
class _Writer:
    """Writes the rows of sequences one after another and records where each begins."""

    frozen: FrozenBlocks
    write: Callable[[NDArray[Any]], object]
    first_rows: dict[bytes, int] = field(default_factory=dict)
    rows: int = 0

    def add(self, sequence: TokenSequence, hidden_tD: Tensor) -> None:
        """Write the rows of one sequence."""
        integers = hidden_tD.contiguous().view(AS_INTEGERS[self.frozen.dtype.itemsize])
        self.write(integers.cpu().numpy())
        self.first_rows[digest_of(sequence)] = self.rows
        self.rows += len(sequence.ids)

    def states(self, rows_ND: NDArray[Any]) -> HiddenStates:
        """Return the cache over `rows_ND`, which holds all rows written."""
        return HiddenStates(rows_ND, self.frozen.width, self.frozen.dtype, self.first_rows)


def _fits(
    frozen: FrozenBlocks,
    examples: Sequence[Sequence[Example]],
    file: Path,
    reserved_bytes: int,
    log: EventLog,
) -> bool:
    """Return whether the disk can hold the hidden states of all examples; logs a note if not."""
    size_bytes = sum(map(tokens_in, examples)) * frozen.row_bytes
    purpose = "the stored outputs of the frozen blocks"
    try:
        need_disk(file.parent, size_bytes + reserved_bytes + (1 << 20), purpose)
    except ResourceError as error:
        (problem,) = error.problems
        log.emit(
            "note",
            text=f"{problem.what} ({readable_bytes(size_bytes)}): {problem.got}, {problem.expected} needed with the "
            "rest of the run; they are computed in every step",
        )
        return False
    return True


def _kept(
    forward: Forward,
    frozen: FrozenBlocks,
    examples: Sequence[Sequence[Example]],
    pack_tokens: int,
    file: Path,
    log: EventLog,
) -> HiddenStates | None:
    """Write the hidden states of all examples to `file` and map it; on failure log a note and return None."""
    try:
        with _mode(forward.model, training=False):
            writer = _write(forward, frozen, examples, PACKS_IN_ONE * pack_tokens, file, log)
    except (OSError, *MAY_SAY_SO) as error:
        if not (isinstance(error, OSError) or is_out_of_memory(error)):
            raise
        why = str(error) if isinstance(error, OSError) else "too little memory"
        log.emit(
            "note",
            text=f"frozen blocks are computed in every step, because storing their outputs failed: {why}",
        )
        file.unlink(missing_ok=True)
        forward.free_memory()
        return None
    if not writer.rows:
        return None
    kind = np.dtype(f"i{frozen.dtype.itemsize}")
    return writer.states(np.memmap(file, kind, "r", shape=(writer.rows, frozen.width)))


def _write(
    forward: Forward,
    frozen: FrozenBlocks,
    examples: Sequence[Sequence[Example]],
    pack_tokens: int,
    file: Path,
    log: EventLog,
) -> _Writer:
    """Compute and write the sequences not yet written, and report progress."""
    report = _Report(frozen, sum(map(tokens_in, examples)), log)
    # Plain writes: a full disk raises an error here, but would kill the process through a memory map.
    with file.open("wb") as out:
        writer = _Writer(frozen, lambda rows_tD: out.write(rows_tD.data))
        for side in examples:
            for start in range(0, len(side), EXAMPLES_AT_ONCE):
                together = side[start : start + EXAMPLES_AT_ONCE]
                fresh = {digest_of(one): one for example in together for one in example.sequences}
                wanted = [
                    Example((one,), "") for digest, one in fresh.items() if digest not in writer.first_rows
                ]
                for sequence, hidden_tD in _hidden_states(forward, frozen, wanted, pack_tokens):
                    writer.add(sequence, hidden_tD)
                report.passed(tokens_in(together))
    return writer


@dataclass
class _Report:
    """Logs progress and remaining time, at most once every SECONDS_BETWEEN_REPORTS."""

    frozen: FrozenBlocks
    total_tokens: int
    log: EventLog
    done_tokens: int = 0
    _began_seconds: float = field(default_factory=time.monotonic)
    _told_seconds: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        """Announce the stage."""
        count, blocks = self.frozen.count, len(self.frozen.stack)
        size = readable_bytes(self.total_tokens * self.frozen.row_bytes)
        what = f"computing the outputs of {count} frozen blocks (of {blocks}) once"
        self.log.emit("stage", text=f"{what} ({self.total_tokens:,} tokens, {size} on disk)")

    def passed(self, tokens: int) -> None:
        """Count tokens computed, or skipped because they are cached."""
        self.done_tokens += tokens
        now_seconds = time.monotonic()
        if now_seconds - self._told_seconds < SECONDS_BETWEEN_REPORTS:
            return
        self._told_seconds = now_seconds
        per_token = (now_seconds - self._began_seconds) / self.done_tokens
        left = per_token * (self.total_tokens - self.done_tokens)
        self.log.emit("progress", done=self.done_tokens, total=self.total_tokens, seconds_left=left)
