"""Why a value cannot be a setting, in plain words instead of pydantic's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

NO_NUMBER, NO_WHOLE_NUMBER = "it is not a number", "it is not a whole number"
NO_TEXT, NO_LIST, NO_BLOCK = "it is not text", "it is not a list", "it is not a block of keys and values"
NO_SWITCH = "it must be true or false"

REASONS: Mapping[str, str] = {
    "int_type": NO_WHOLE_NUMBER,
    "int_parsing": NO_WHOLE_NUMBER,
    "int_from_float": NO_WHOLE_NUMBER,
    "float_type": NO_NUMBER,
    "float_parsing": NO_NUMBER,
    "finite_number": "it is not a finite number",
    "bool_type": NO_SWITCH,
    "bool_parsing": NO_SWITCH,
    "string_type": NO_TEXT,
    "path_type": NO_TEXT,
    "list_type": NO_LIST,
    "tuple_type": NO_LIST,
    "set_type": NO_LIST,
    "dict_type": NO_BLOCK,
    "model_type": NO_BLOCK,
    "model_attributes_type": NO_BLOCK,
    "greater_than": "it must be above {gt:g}",
    "greater_than_equal": "it must be at least {ge:g}",
    "less_than": "it must be below {lt:g}",
    "less_than_equal": "it must be at most {le:g}",
    "too_short": "it needs at least {min_length} values",
    "too_long": "it may have at most {max_length} values",
}
"""Type of pydantic's error -> a sentence with fields of the error's context."""


def reason_of(details: Mapping[str, Any]) -> str:
    """Return why pydantic refused a value, from one of its error records."""
    sentence = REASONS.get(details["type"])
    if sentence is not None:
        return sentence.format(**details.get("ctx", {}))
    return str(details["msg"]).removeprefix("Value error, ")
