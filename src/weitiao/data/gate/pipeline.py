"""Parses, renders and checks rows chunk by chunk, on all cores, with bounded memory.

Chunks are cut from the stream of rows and processed in worker processes. Results come back in the order of the stream,
so they do not depend on the number of processes.
"""

from __future__ import annotations

import gc
import multiprocessing
import os
import re
import signal
import sys
import threading
from collections import Counter, deque
from collections.abc import Generator, Iterable, Iterator, Mapping
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import chain, islice
from typing import Any

from ...core.errors import Problem, ResourceError
from ..bad_rows import BadRow
from ..checks import CHECKS
from ..checks._base import Check, GateContext, Hits, RowFacts
from ..conversation import Row
from ..formats._base import RowError
from ..formats._detect import displaced_by, load_formats, rename
from ..forms import AnyForm, kind_of_form, with_texts
from ..settings import PLACEHOLDER
from ..templates.render import render_chunk
from ..templates.rendered_row import RenderedRow
from ..templates.row_fields import parse_with_fields, with_task_of
from ..templates.template_choice import Wording
from .column_names import in_their_names, paths_in_their_names
from .row_cache import Remembered
from .split import content_key
from .store import KEY_BYTES, Block, BlockBuilder

CHUNK_ROWS = 2048
YOUNG_OBJECTS = 100_000
"""Threshold of the garbage collector's young generation. A chunk's tokens are many objects without reference cycles; at
Python's default threshold, garbage collection takes a tenth of the time."""
ALONE_CHUNKS = 4
"""Data of at most this many chunks is processed in this process: starting workers would take longer."""


@dataclass(frozen=True)
class Effort:
    """How the work is divided; the result does not depend on this."""

    processes: int | None = None
    """Number of worker processes; default: the number of cores this process may use."""
    chunk_rows: int = CHUNK_ROWS
    """Rows per chunk."""


EFFORT = Effort()


@dataclass(frozen=True)
class Chunk:
    """Consecutive rows of one source."""

    first: int
    """The number of its first row in the whole data, from 0."""
    rows: tuple[Row | BadRow, ...]
    format: str
    columns: Mapping[str, str]
    """The name of a column here -> its name in the data."""
    weight: float
    """How many times an epoch sees each row."""
    source: str = ""
    """The source's name, as shown to the user."""
    named: bool = False
    """Whether the user named the format."""
    task: str = ""
    """The task of rows that do not name one."""


@dataclass
class Worked:
    """The result of a chunk."""

    first: int
    block: Block
    bad: list[tuple[int, BadRow]] = field(default_factory=list)
    """Rows that cannot be used, with their numbers."""
    states: dict[str, Any] = field(default_factory=dict)
    """The state of each check."""
    formats: Counter[str] = field(default_factory=Counter)
    """Rows by format."""
    forms: Counter[str] = field(default_factory=Counter)
    """Rows by form (forms.FORMS)."""
    columns: set[str] = field(default_factory=set)
    """The columns that occur, by their names in the data."""
    unused: dict[str, Counter[str]] = field(default_factory=dict)
    """By source: the unused columns and keys of turns, with their numbers of rows."""
    filled: Counter[str] = field(default_factory=Counter)
    unfilled: Counter[str] = field(default_factory=Counter)
    """Placeholders with and without a value, by name."""
    dropped: dict[str, Hits] = field(default_factory=dict)
    """Usable rows that were left out, by reason."""
    left_out_tokens: list[int] = field(default_factory=list)
    """For each row that lost a sequence because of its length: the tokens of the longest one."""
    turns_left_out: int = 0
    answers_shortened: int = 0
    cut: int = 0
    rows: int = 0


@dataclass
class Worker:
    """Processes chunks; every process has an equal one."""

    context: GateContext

    @cached_property
    def _remembered(self) -> Remembered:
        return Remembered(self._render)

    @cached_property
    def _wording(self) -> Wording:
        return self.context.settings.wording

    def work(self, chunk: Chunk) -> Worked:
        """Parse, render and check the rows of a chunk."""
        builder, worked = BlockBuilder(), Worked(chunk.first, BlockBuilder().block(), rows=len(chunk.rows))
        parsed = [self._parse(row, chunk, worked) for row in chunk.rows]
        known = iter(self._remembered.known([one for one in parsed if not isinstance(one, BadRow)]))
        checks = self._checks()
        for number, (row, one) in enumerate(zip(chunk.rows, parsed, strict=True), start=chunk.first):
            if isinstance(one, BadRow):
                self._refuse(number, row, one, builder, worked)
                continue
            row_known = next(known)
            own = row_known.rendered
            if own.refused is not None:
                bad = BadRow(one.place, own.refused.reason, own.refused.detail)
                self._refuse(number, row, bad, builder, worked)
                continue
            facts = RowFacts(
                number,
                one,
                tuple(own.sequences),
                own.dropped,
                own.cut_tokens,
                own.lost_tokens,
                row_known.text,
            )
            key = content_key(facts.text)
            builder.add_row(number, _place(row), key, one, own.sequences, row_known.written)
            _count(worked, own, facts)
            for check in checks.values():
                check.observe(facts)
        worked.block = builder.block()
        worked.states = {name: check.state() for name, check in checks.items()}
        return worked

    def _checks(self) -> dict[str, Check]:
        return make_checks(self.context)

    def _parse(self, row: Row | BadRow, chunk: Chunk, worked: Worked) -> AnyForm | BadRow:
        if isinstance(row, BadRow):
            return row
        worked.columns.update(row.fields)
        try:
            parsed, unused = parse_with_fields(
                with_task_of(chunk.task, rename(row, chunk.columns)),
                chunk.columns,
                load_formats()[chunk.format],
                self._wording,
                named=chunk.named,
            )
        except RowError as refused:
            error = in_their_names(refused, chunk.columns, row.fields)
            return BadRow(row.place, error.reason, error.detail)
        displaced = displaced_by(chunk.columns, row.fields)
        if unused or displaced:
            counts = worked.unused.setdefault(chunk.source, Counter())
            counts.update([*displaced, *paths_in_their_names(unused, chunk.columns, row.fields)])
        worked.formats[chunk.format] += 1
        worked.forms[kind_of_form(parsed)] += 1
        filled = self._fill(parsed, worked)
        return filled if filled.draws == chunk.weight else replace(filled, draws=chunk.weight)

    def _fill(self, form: AnyForm, worked: Worked) -> AnyForm:
        """Replace placeholders in all texts, and count those filled and those left."""
        values = self.context.settings.fill

        def value_of(found: re.Match[str]) -> str:
            name = found[1]
            (worked.filled if name in values else worked.unfilled)[name] += 1
            return values.get(name, found[0])

        return with_texts(form, lambda text: PLACEHOLDER.sub(value_of, text) if "{{" in text else text)

    def _render(self, forms: list[AnyForm]) -> list[RenderedRow]:
        if self.context.template is None:
            return [RenderedRow() for _ in forms]
        return render_chunk(forms, self.context.template, self.context.settings)

    def _refuse(
        self, number: int, row: Row | BadRow, bad: BadRow, builder: BlockBuilder, worked: Worked
    ) -> None:
        worked.bad.append((number, bad))
        builder.add_row(number, _place(row), bytes(KEY_BYTES), None, ())


def _count(worked: Worked, own: RenderedRow, facts: RowFacts) -> None:
    """Add the counts of a usable row."""
    worked.turns_left_out += own.turns_left_out
    worked.answers_shortened += own.answers_shortened
    worked.cut += own.cut
    if own.dropped:
        worked.dropped.setdefault(own.dropped, Hits()).add(facts)
    if own.lost_tokens:
        worked.left_out_tokens.append(own.lost_tokens)


def make_checks(context: GateContext) -> dict[str, Check]:
    """Return a new instance of every check; without a template, only of those that need no tokens."""
    loaded = {name: CHECKS.load(name) for name in CHECKS.names()}
    return {
        name: cls(context)
        for name, cls in loaded.items()
        if context.template is not None or not cls.needs_tokens
    }


def _place(row: Row | BadRow) -> tuple[str, int, int]:
    return (row.source, row.line, row.number) if isinstance(row, Row) else (row.place, 0, 0)


def chunks_of(
    rows: Iterable[Row | BadRow], first: int, like: Chunk, chunk_rows: int = CHUNK_ROWS
) -> Iterator[Chunk]:
    """Split a source's rows into chunks; format, columns, weight and the rest are copied from `like`."""
    stream = iter(rows)
    while taken := tuple(islice(stream, chunk_rows)):
        yield replace(like, first=first, rows=taken)
        first += len(taken)


_worker: Worker | None = None
"""The worker of this process, if it is a worker process."""


def _begin(worker: Worker) -> None:
    """Initialise a worker process: only the parent handles Ctrl-C, and the process ends when its parent does."""
    global _worker
    _worker = worker
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    # Objects from before the fork never become garbage, and scanning them would copy their pages (copy-on-write).
    gc.freeze()
    gc.set_threshold(YOUNG_OBJECTS)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """Wait until the parent ends, even by a kill, and then exit; otherwise this process would wait for work forever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _work(chunk: Chunk) -> Worked:
    if _worker is None:
        raise RuntimeError("a worker process was not given its work")
    return _worker.work(chunk)


def work_on(
    chunks: Iterator[Chunk], worker: Worker, processes: int | None = None
) -> Generator[Worked, None, None]:
    """Yield the result of each chunk, in order, with several processes if there is enough to do.

    Processes are forked, which is safe only on Linux; elsewhere, and for small data, this process does all the work.
    `processes` defaults to the number of cores this process may use. Raises what a worker raises, and ResourceError if
    a worker was killed.
    """
    count = processes or len(os.sched_getaffinity(0)) if sys.platform == "linux" else 1
    begun = list(islice(chunks, ALONE_CHUNKS + 1))
    if count == 1 or len(begun) <= ALONE_CHUNKS:
        yield from map(worker.work, chain(begun, chunks))
        return
    try:
        with (
            _quiet_tokenizers(),
            ProcessPoolExecutor(count, multiprocessing.get_context("fork"), _begin, (worker,)) as pool,
        ):
            yield from _in_order(pool, chain(begun, chunks), 2 * count)
    except BrokenProcessPool as error:
        what, remedy = (
            "a worker process that reads the data was killed",
            "free some memory, or use fewer cores (taskset)",
        )
        got = "the system usually does this when memory runs out"
        raise ResourceError(Problem(what, got, "enough memory for every worker", remedy)) from error


def _in_order(pool: ProcessPoolExecutor, chunks: Iterable[Chunk], most: int) -> Iterator[Worked]:
    """Process at most `most` chunks at a time, so that memory does not grow with the data."""
    waiting: deque[Future[Worked]] = deque()
    try:
        for chunk in chunks:
            waiting.append(pool.submit(_work, chunk))
            if len(waiting) >= most:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        for future in waiting:
            future.cancel()


@contextmanager
def _quiet_tokenizers() -> Iterator[None]:
    """Make tokenizers single-threaded in forked processes, which they must be there; this also silences a warning."""
    name = "TOKENIZERS_PARALLELISM"
    before = os.environ.get(name)
    os.environ[name] = "false"
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before
