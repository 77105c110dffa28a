"""Limits the filters and methods that a template may call, and the size of their arguments and results."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import jinja2

from ...core.lists import name_list
from . import sandbox_limits as limits
from .sandbox_limits import TooCostly

TEXT_METHODS = frozenset(
    name_list(
        "capitalize casefold center count endswith expandtabs find format format_map index isalnum isalpha "
        "isascii isdecimal isdigit isidentifier islower isnumeric isprintable isspace istitle isupper join "
        "ljust lower lstrip partition removeprefix removesuffix replace rfind rindex rjust rpartition "
        "rsplit rstrip split splitlines startswith strip swapcase title upper zfill"
    )
)
"""String methods that a template may call; the others return bytes, or texts of any length."""
COLLECTION_METHODS = frozenset(name_list("copy count get index items keys values fromkeys"))
COMPARING = frozenset(name_list("lstrip rfind rindex rpartition rsplit rstrip strip trim"))
"""Methods and filters with a worst case of len(text) * len(other) character comparisons."""
LINEAR = frozenset(
    name_list(
        "abs attr batch capitalize center count d default dictsort e escape first float forceescape format "
        "groupby indent int items join last length list lower map max min reject rejectattr replace reverse "
        "round safe select selectattr slice sort string sum tojson trim unique upper"
    )
)
"""Filters that take linear time; the others accept only short texts (`MOST_SLOW`)."""
ANY_NUMBER = frozenset(name_list("abs d default float int max min select selectattr reject rejectattr sum"))
"""Filters whose number arguments are values, not widths or counts."""
READING = frozenset(name_list("groupby map max min rejectattr selectattr sort sum unique join"))
"""Filters that read an attribute of every item, given as a path such as `a.b.c`."""
COUNTS = frozenset(name_list("split rsplit replace find index rfind rindex count startswith endswith"))
"""Methods whose number arguments are positions in a text, or maximum counts."""
MOST_NUMERAL = 4_300
"""Maximum characters of a text that is converted to an integer, as in Python (`sys.set_int_max_str_digits`)."""


def within_filter(name: str, value: object, settings: Sequence[Any]) -> None:
    """Raise TooCostly if a filter would take too long on a value, or its result would be too large."""
    if name not in ANY_NUMBER:
        limits.within_width(settings)
    if name not in LINEAR and limits.weight([value, *settings])[1] > limits.MOST_SLOW:
        raise TooCostly(f"it gives more than {limits.MOST_SLOW} characters to the filter {name}")
    texts = [one for one in settings if isinstance(one, str)]
    if name in READING:
        limits.within_path(value, settings)
    if name == "int" and limits.size(value) > MOST_NUMERAL:
        raise TooCostly(f"it reads a text of more than {MOST_NUMERAL} characters as a number")
    if name == "format" and isinstance(value, str):
        limits.within_percent(value, tuple(settings))
    elif name == "replace" and len(texts) > 1:
        limits.within_replace(str(value), texts[0], texts[1])
    elif name == "indent":
        width = max((limits.size(one) if isinstance(one, str) else int(one) for one in settings), default=4)
        limits.within(limits.size(value) + (str(value).count("\n") + 1) * width)
    elif name in COMPARING and texts:
        limits.within_comparisons(str(value), texts[0])


def within_method(owner: object, name: str, given: Sequence[Any]) -> None:
    """Raise TooCostly if a Python method would take too long or its result be too large, SecurityError if the method
    is not allowed."""
    if isinstance(owner, str):
        _within_text_method(owner, name, given)
    elif isinstance(owner, bool | int | float | bytes) or (
        isinstance(owner, Collection) and name not in COLLECTION_METHODS
    ):
        raise jinja2.exceptions.SecurityError(
            f"{name!r} of {type(owner).__name__} cannot be used in a template"
        )


def _within_text_method(text: str, name: str, given: Sequence[Any]) -> None:
    if name not in TEXT_METHODS:
        raise jinja2.exceptions.SecurityError(f"{name!r} of a text cannot be used in a template")
    if name in ("format", "format_map"):
        return  # see wrap_str_format
    limits.within_width([] if name in COUNTS else given)
    texts = [one for one in given if isinstance(one, str)]
    if name == "join" and given:
        limits.within_join(text, given[0])
    elif name == "replace" and len(texts) > 1:
        limits.within_replace(text, texts[0], texts[1])
    elif name == "expandtabs":
        limits.within(limits.size(text) + text.count("\t") * max(8, *given))
    elif name in COMPARING and texts:
        limits.within_comparisons(text, texts[0])
