"""Columns under the names that a person's data has, in what is said of its rows."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from ..formats._base import RowError
from ..sources.ignored_columns import KEY_OF_EACH

SETTING = r"ignore_columns=|data\.columns\.\w+="
LISTS_NAMES = "it has "
"""How a detail begins that lists a row's columns; others show values."""


def in_their_names(error: RowError, mapping: Mapping[str, str], fields: Mapping[str, Any]) -> RowError:
    """Return a row's error with columns called as the data calls them; `mapping` is our name -> theirs."""
    names = _names(mapping, fields)
    if not names:
        return error
    detail = error.detail
    return RowError(
        _renamed(error.reason, names), _renamed(detail, names) if detail.startswith(LISTS_NAMES) else detail
    )


def paths_in_their_names(
    paths: Iterable[str], mapping: Mapping[str, str], fields: Mapping[str, Any]
) -> list[str]:
    """Return paths of columns and keys of turns with columns called as the data calls them."""
    names = _names(mapping, fields)
    parts = [path.partition(KEY_OF_EACH) for path in paths]
    return [names.get(column, column) + rest + key for column, rest, key in parts]


def _names(mapping: Mapping[str, str], fields: Mapping[str, Any]) -> dict[str, str]:
    """Return our name -> theirs, but for a column that a row has under our name."""
    return {
        ours: theirs
        for ours, theirs in mapping.items()
        if ours != theirs and (theirs in fields or ours not in fields)
    }


def _renamed(text: str, names: Mapping[str, str]) -> str:
    """Return a text with columns renamed where they stand in quotes, with a key behind them, or in a setting."""
    ours = "|".join(map(re.escape, names))
    column = re.compile(rf"(?<!turn's )(?<!part's )'({ours})(?='|\[\])|({SETTING})({ours})(?=[ \[;)])")
    return column.sub(lambda one: f"'{names[one[1]]}" if one[1] else one[2] + names[one[3]], text)
