"""Renames keys and roles of turns to the usual ones, as the setting `tags` says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ..bad_rows import Found
from ..conversation import Row

ROLES = {
    "user": "user",
    "assistant": "assistant",
    "system": "system",
    "observation": "tool",
    "function": "function_call",
}
"""A tag -> the role of a turn it stands for."""


def with_usual_tags(rows: Found, tags: Mapping[str, str]) -> Found:
    """Yield rows whose turns have the usual keys and roles in place of those in `tags`."""
    role_key, text_key = tags.get("role", "role"), tags.get("content", "content")
    roles = {tags.get(tag, tag): usual for tag, usual in ROLES.items()}

    def turn(value: Any) -> Any:  # noqa: ANN401  (any value in a row)
        if not isinstance(value, dict) or role_key not in value:
            return value
        others = {key: item for key, item in value.items() if key not in (role_key, text_key)}
        role = value[role_key]
        made = {"role": roles.get(role, role) if isinstance(role, str) else role}
        return {**made, **({"content": value[text_key]} if text_key in value else {}), **others}

    def turns(value: Any) -> Any:  # noqa: ANN401
        return [turn(one) for one in value] if isinstance(value, list) else turn(value)

    for one in rows:
        if isinstance(one, Row):
            yield replace(one, fields={name: turns(value) for name, value in one.fields.items()})
        else:
            yield one
