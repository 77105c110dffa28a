"""Opens all sources in order, detects their formats, and splits their rows into chunks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain, islice
from pathlib import Path

from ...core.errors import DataError, Problem, nearest
from ...core.files import sha256_of
from ..bad_rows import BadRow, problems_of
from ..conversation import Row
from ..formats._choosing import SPLIT
from ..formats._detect import LAST_RESORT, Detected, detect, known_columns, load_formats
from ..formats._row_shapes import shape_problem
from ..settings import DataSettings, SourceSettings
from ..sources.header_rows import no_header, with_header_hint
from ..sources.ignored_columns import Ignored
from ..sources.mapped_columns import MappedColumns
from ..sources.sources import expand_source, open_source
from ..sources.stream import Stream
from .pipeline import EFFORT, Chunk, Effort, chunks_of

SAMPLE_ROWS = 1000
"""The number of first rows by which a source's format is detected."""


class Sourced:
    """Yields the chunks of all sources, and collects problems and notes about them."""

    def __init__(self, settings: DataSettings, seed: int, effort: Effort = EFFORT) -> None:
        self.settings, self.seed, self._effort = settings, seed, effort
        self.problems: list[Problem] = []
        self.notes: list[str] = []
        self.detected: list[dict[str, str]] = []
        """For each source: its name, its format, and why."""
        self.columns_met: set[str] = set()
        self._seen: list[tuple[str, int, int]] | None = None
        """Every file's name, size in bytes and modification time, from before its content was hashed."""
        self.sources_end: int | None = None
        """The number of the first row of `held_out_path`; None without one."""
        self._rows = 0
        self._ignored: dict[str, bool] = {}
        """Columns to ignore -> whether any source has them."""

    def chunks(self) -> Iterator[Chunk]:
        """Yield the chunks of all sources, then those of `held_out_path`; a source that fails ends early."""
        for source in self.settings.sources:
            yield from self._chunks_of(source)
        if self.settings.held_out_path is not None:
            self.sources_end = self._rows
            yield from self._chunks_of(self._held_out(self.settings.held_out_path))

    def _mapping(self, source: SourceSettings) -> dict[str, str]:
        """Return our name of a column -> its name in a source, from the settings."""
        return {**self.settings.columns, **source.columns}

    def _held_out(self, path: str) -> SourceSettings:
        """Return the source settings of `held_out_path`.

        It ignores the columns that the sources ignore, and the columns that name the split, whose value there differs
        from that of training rows.
        """
        ignored = dict.fromkeys((*self._asked_to_ignore(), *sorted(SPLIT)))
        return SourceSettings(path=path, ignore_columns=list(ignored))

    def _asked_to_ignore(self) -> list[str]:
        return [name for one in self.settings.sources for name in one.ignore_columns]

    def _chunks_of(self, source: SourceSettings) -> Iterator[Chunk]:
        streams: list[Stream] = []
        try:
            expanded = expand_source(source)
            self.notes += expanded.notes
            streams = [open_source(one, self.seed) for one in expanded.sources]
        except DataError as error:
            self.problems += error.problems
        for stream in streams:
            yield from self._chunks_in(stream)

    def _chunks_in(self, stream: Stream) -> Iterator[Chunk]:
        names, mapping = stream.source.ignore_columns, self._mapping(stream.source)
        ignored = Ignored(names, mapping) if names else None
        awaited = MappedColumns(stream.source.columns)
        try:
            rows = awaited.rows(stream)
            rows = rows if ignored is None else ignored.rows(rows)
            sample = list(islice(rows, SAMPLE_ROWS))
            found = self._detected_or_refused(stream, sample)
            for chunk in chunks_of(chain(sample, rows), self._rows, found, self._effort.chunk_rows):
                yield chunk
                self._rows += len(chunk.rows)
        except DataError as error:
            self.problems += error.problems
        self.notes += stream.notes
        self.problems += awaited.problems(stream.name)
        if ignored is not None:
            # The right operand of `|` wins, so a column found in an earlier source stays True.
            self._ignored |= dict.fromkeys(stream.source.ignore_columns, False) | self._ignored
            self._ignored |= dict.fromkeys(ignored.met, True)

    def _detected_or_refused(self, stream: Stream, sample: list[Row | BadRow]) -> Chunk:
        """Return the result of `_detected`; if no format is found, the error also describes unreadable rows."""
        try:
            return self._detected(stream, [row for row in sample if isinstance(row, Row)])
        except DataError as error:
            bad = [row for row in sample if isinstance(row, BadRow)]
            rows = [row for row in sample if isinstance(row, Row)]
            path = stream.source.path
            known = no_header(rows, path) or shape_problem(rows, stream.name)
            hinted = (with_header_hint(one, path, LAST_RESORT) for one in error.problems)
            problems = (known,) if known else tuple(hinted)
            raise DataError(*problems, *problems_of(bad, "", len(sample))) from error

    def _detected(self, stream: Stream, sample: list[Row]) -> Chunk:
        """Return an empty chunk with the format of a stream's rows; raises DataError if none or several fit."""
        source = stream.source
        columns = set().union(*(row.fields for row in sample))
        self.columns_met |= columns
        mapping = self._mapping(source)
        found = detect(columns, sample, source.format, mapping) if sample else Detected("messages", "")
        self.detected.append({
            "source": stream.name, "format": found.format, "why": found.reason,
            "proposals": " ".join(found.proposals), "as_answers": load_formats()[found.format].as_answers(columns),
        })  # fmt: skip
        return Chunk(
            0,
            (),
            found.format,
            {**found.columns, **mapping},
            source.weight,
            stream.name,
            source.format != "auto",
            source.task,
        )

    def content(self) -> list[str] | None:
        """Return the sources' settings and file hashes; None if a source has no local files, or they cannot be read."""
        given = list(self.settings.sources)
        if self.settings.held_out_path is not None:
            given.append(self._held_out(self.settings.held_out_path))
        try:
            files_of = [(one, _files_of(one)) for source in given for one in expand_source(source).sources]
            if not all(files for _, files in files_of):
                return None
            self._seen = _seen(file for _, files in files_of for file in files)
            return [
                part
                for one, files in files_of
                for part in (one.model_dump_json(), *(f"{file} {sha256_of(file)}" for file in files))
            ]
        except (DataError, OSError):
            return None

    def is_unchanged(self) -> bool:
        """Return whether no file has changed since `content` was called; False if `content` was not called or None."""
        if self._seen is None:
            return False
        try:
            return _seen(Path(name) for name, _, _ in self._seen) == self._seen
        except OSError:
            return False

    def problems_at_end(self) -> list[Problem]:
        """Return the problems so far, and those of mappings, which are known only after all data was read."""
        return self.problems + self._unknown_columns()

    def _unknown_columns(self) -> list[Problem]:
        """Return problems for mappings to a column that no format reads, or from one that no source has."""
        known, met = sorted(known_columns()), self.columns_met
        problems = [
            Problem(
                f"no format reads a column {ours!r}",
                f"data.columns.{ours}={theirs}",
                "one of " + ", ".join(known),
                " or ".join(f"data.columns.{name}={theirs}" for name in nearest(ours, known)),
            )
            for ours, theirs in self.settings.columns.items()
            if ours not in known
        ]
        missed = [
            (f"data.columns.{ours}=", theirs)
            for ours, theirs in self.settings.columns.items()
            if theirs not in met
        ]
        missed += [
            ("data.sources.ignore_columns=", name)
            for name, found in self._ignored.items()
            if not found and name in self._asked_to_ignore()
        ]
        return problems + [
            Problem(
                f"no source has a column {theirs!r}",
                setting + theirs,
                "one of " + ", ".join(sorted(met)),
                " or ".join(setting + near for near in nearest(theirs, met)),
            )
            for setting, theirs in missed
            if met
        ]


def _files_of(source: SourceSettings) -> list[Path]:
    """Return the files of a source; none for rows from Python, hubs, pipes and missing files; raises OSError."""
    if source.path is None:
        return []
    path = Path(source.path).expanduser()
    if path.is_dir():
        return sorted(file for file in path.rglob("*") if file.is_file())
    return [path] if path.is_file() else []


def _seen(files: Iterable[Path]) -> list[tuple[str, int, int]]:
    """Return each file's name, size in bytes and modification time in ns; raises OSError."""
    return [(str(file), file.stat().st_size, file.stat().st_mtime_ns) for file in files]
