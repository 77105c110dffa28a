"""Renames columns in messages about rows to the names that the user's data has."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from ..formats._base import RowError
from ..sources.ignored_columns import KEY_OF_EACH

SETTING = r"ignore_columns=|data\.columns\.\w+="
LISTS_NAMES = "it has "
"""The beginning of a detail that lists a row's columns; other details show values."""


def in_their_names(error: RowError, mapping: Mapping[str, str], fields: Mapping[str, Any]) -> RowError:
    """Return a row's error with the data's column names; `mapping` is our name -> name in the data."""
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
    """Return paths of columns and keys of turns, with the data's column names."""
    names = _names(mapping, fields)
    parts = [path.partition(KEY_OF_EACH) for path in paths]
    return [names.get(column, column) + rest + key for column, rest, key in parts]


def _names(mapping: Mapping[str, str], fields: Mapping[str, Any]) -> dict[str, str]:
    """Return our name -> name in the data, without columns that a row has under our name."""
    return {
        ours: theirs
        for ours, theirs in mapping.items()
        if ours != theirs and (theirs in fields or ours not in fields)
    }


def _renamed(text: str, names: Mapping[str, str]) -> str:
    """Return a text with column names replaced: quoted ones, ones followed by a key (`[]`), and ones in a setting."""
    ours = "|".join(map(re.escape, names))
    column = re.compile(rf"(?<!turn's )(?<!part's )'({ours})(?='|\[\])|({SETTING})({ours})(?=[ \[;)])")
    return column.sub(lambda one: f"'{names[one[1]]}" if one[1] else one[2] + names[one[3]], text)
