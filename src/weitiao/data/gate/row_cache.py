"""A cache of rendered rows: a row that occurs again, in any chunk, is not rendered again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from ..checks._row_text import RowText, row_text
from ..forms import AnyForm
from ..templates.rendered_row import RenderedRow
from .store import written_form

MOST_ROWS = 2048
"""Cached rows, of about 20 KB each; data that is repeated mostly has few rows."""


@dataclass
class Known:
    """The results that depend only on a row's content, not on its place."""

    rendered: RenderedRow
    text: RowText
    written: bytes
    """The form, serialised for the store."""
    place: str
    """The place of the row, which `rendered` contains too."""

    def at(self, place: str) -> Known:
        """Return the results for an equal row at another place."""
        own = self.rendered
        if place == self.place:
            return self
        moved = replace(
            own,
            lost=[replace(one, place=place) for one in own.lost],
        )
        return replace(self, rendered=moved, place=place)


@dataclass
class Remembered:
    """The latest distinct rows that a process has worked on."""

    render: Callable[[list[AnyForm]], list[RenderedRow]]
    _rows: dict[tuple[bytes, float], Known] = field(default_factory=dict)

    def __len__(self) -> int:
        """Return how many rows are cached."""
        return len(self._rows)

    def known(self, forms: Sequence[AnyForm]) -> list[Known]:
        """Return the results for each row; rows that are not cached are rendered in one batch."""
        keys = [(written_form(form), form.draws) for form in forms]
        new: dict[tuple[bytes, float], AnyForm] = {}
        for key, form in zip(keys, forms, strict=True):
            if key not in self._rows:
                new.setdefault(key, form)
        rendered = self.render([*new.values()])
        fresh = {
            key: Known(own, row_text(form), key[0], form.place)
            for (key, form), own in zip(new.items(), rendered, strict=True)
        }
        both = {key: fresh[key] if key in fresh else self._rows[key] for key in set(keys)}
        if len(self._rows) + len(fresh) > MOST_ROWS:
            self._rows.clear()
        self._rows.update(fresh if len(fresh) <= MOST_ROWS else {})
        return [both[key].at(form.place) for key, form in zip(keys, forms, strict=True)]
