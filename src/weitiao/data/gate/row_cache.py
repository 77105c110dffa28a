"""Rows that stood in the data before: rendered and taken apart once, in whichever chunk they come again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from ..checks._row_text import RowText, row_text
from ..forms import AnyForm
from ..templates.render import RenderedRow
from .store import written_form

MOST_ROWS = 2048
"""As many are remembered, at some 20 KB each; data that is repeated has mostly few rows."""


@dataclass
class Known:
    """What a row's content decides, wherever the row stands."""

    rendered: RenderedRow
    text: RowText
    written: bytes
    """The form as it is stored."""
    place: str
    """Where the row whose places are in `rendered` stands."""

    def at(self, place: str) -> Known:
        """Return the same of an equal row that stands elsewhere."""
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
    """The last different rows that a process has worked on."""

    render: Callable[[list[AnyForm]], list[RenderedRow]]
    _rows: dict[tuple[bytes, float], Known] = field(default_factory=dict)

    def known(self, forms: Sequence[AnyForm]) -> list[Known]:
        """Return what becomes of each row; those not seen lately are rendered together."""
        keys = [(written_form(form), form.weight) for form in forms]
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
