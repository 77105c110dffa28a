"""Sequence-to-sequence pairs: a source text and the target to make of it (translation, summaries)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from ..conversation import Row
from ..forms import Pair
from ._base import Format, RowError, filled_text_in, missing, shortened_value, unpacked

NAMES = (
    ("source", "target"),
    ("src", "tgt"),
    ("article", "summary"),
    ("article", "highlights"),
    ("document", "summary"),
    ("dialogue", "summary"),
    ("text", "summary"),
)
"""Names of the source and target columns (CNN/DailyMail, XSum, SAMSum and others)."""
TRANSLATION = "translation"


class Pairs(Format):
    """A source and a target column, or `translation` with two languages: in {"en": ..., "zh": ...} the first is the
    source."""

    form: ClassVar[str] = "pair"
    columns: ClassVar[tuple[str, ...]] = (
        *dict.fromkeys(name for pair in NAMES for name in pair),
        TRANSLATION,
    )
    ways: ClassVar[tuple[frozenset[str], ...]] = (*map(frozenset, NAMES), frozenset({TRANSLATION}))
    example: ClassVar[str] = '{"source": "Good morning!", "target": "Guten Morgen!"}'

    def claims_rows(self, sample: Sequence[Row]) -> bool:
        """Return whether at least one row has a pair of columns, or an object of languages."""
        return any(_names(row.fields) or _languages(row.fields) for row in sample)

    def read(self, row: Row) -> Pair:
        """Parse a row into its source and target; raises RowError."""
        fields = row.fields
        names = _names(fields)
        if names is None:
            if TRANSLATION not in fields:
                raise missing("'source' or 'target'", fields)
            fields = _languages(fields)
            if len(fields) != 2:
                raise RowError(
                    f"{TRANSLATION!r} is not an object with two languages",
                    shortened_value(row.fields[TRANSLATION]),
                )
            names = (*fields,)[0], (*fields,)[1]
        source, target = (filled_text_in(fields, name) for name in names)
        return Pair(row.place, source=source, target=target)


def _names(fields: Mapping[str, Any]) -> tuple[str, str] | None:
    return next((names for names in NAMES if names[0] in fields and names[1] in fields), None)


def _languages(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return the texts by language in `translation`, empty if it is not an object; raises RowError for broken JSON."""
    found = unpacked(fields.get(TRANSLATION), TRANSLATION)
    return found if isinstance(found, dict) else {}
