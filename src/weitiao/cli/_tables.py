"""Consoles and tables shared by several commands."""

from __future__ import annotations

from collections.abc import Iterator
from types import UnionType
from typing import TYPE_CHECKING, Any, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from ..core.locale import shown
from ..core.settings import LEFT_OUT, description_of
from ..core.visible import columns_of
from ._wrap_text import wrap

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions
    from rich.measure import Measurement
    from rich.table import Table
    from rich.text import Text


SETTING_COLUMNS = ("setting", "default", "what it does")


def make_console(*, stderr: bool = False) -> Console:
    """Return the console for a command's output: no automatic highlighting, control characters escaped."""
    from rich.console import Console

    from ._harmless import Harmless

    console = Console(highlight=False, stderr=stderr)
    console.push_render_hook(Harmless())
    return console


def print_sentence(console: Console, text: str, style: str = "") -> None:
    """Print a sentence, wrapped between words on a terminal; a pipe gets it in one line."""
    from rich.text import Text

    console.print(Text(text), style=style, soft_wrap=not console.is_terminal)


def plain_table(*columns: str) -> Table:
    """Return an empty table with only a line under its header, which is in the language in use."""
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for number, column in enumerate(columns):
        table.add_column(
            shown(column), style="bold" if number == 0 else "", overflow="fold", no_wrap=number == 0
        )
    return table


def settings_table(cls: type[BaseModel], block: str) -> Table:
    """Return a table of a block's settings: name, default and description."""
    from rich.markup import escape

    table = plain_table(*SETTING_COLUMNS)
    for name, field in cls.model_fields.items():
        for key, default, description in setting_rows(f"{block}.{name}", field):
            table.add_row(escape(key), *setting_cells(default, description))
    return table


def setting_rows(key: str, field: FieldInfo) -> Iterator[tuple[str, str, str]]:
    """Yield (key, default, description), one row per setting, nested blocks included."""
    default = None if field.is_required() else field.get_default(call_default_factory=True)
    if isinstance(default, BaseModel):
        for name, inner in type(default).model_fields.items():
            yield from setting_rows(f"{key}.{name}", inner)
        return
    yield key, "(needed)" if field.is_required() else _default(default, field), description_of(field)
    for block in _blocks_left_out(field):
        for name, inner in block.model_fields.items():
            yield from setting_rows(f"{key}.{name}", inner)


def setting_cells(default: str, description: str) -> tuple[Flowing, Flowing]:
    """Return the cells of a setting's default and description; only a default in brackets is a phrase."""
    return Flowing(shown(default) if default.startswith("(") else default), Flowing(shown(description))


class Flowing:
    """Text that wraps by columns in a table's cell: English between words, Chinese between characters."""

    def __init__(self, text: str) -> None:
        self._text = text

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Text]:
        """Yield the lines that fit."""
        from rich.text import Text

        lines = wrap(self._text, options.max_width)
        yield from (Text(line, overflow="fold") for line in lines or [""])

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        """Return the width of the longest word and that of the whole text."""
        from rich.measure import Measurement

        longest = max(map(columns_of, wrap(self._text, 1)), default=0)
        return Measurement(longest, max(longest, columns_of(self._text))).with_maximum(options.max_width)


def _blocks_left_out(field: FieldInfo) -> list[type[BaseModel]]:
    """Return the block that an optional setting can hold."""
    choices = get_args(field.annotation) if get_origin(field.annotation) in (Union, UnionType) else ()
    return [one for one in choices if isinstance(one, type) and issubclass(one, BaseModel)]


def _default(value: Any, field: FieldInfo) -> str:  # noqa: ANN401  (any default)
    """Write a field's default, or what None becomes where the field says so."""
    extra = field.json_schema_extra
    meaning = extra.get(LEFT_OUT) if value is None and isinstance(extra, dict) else None
    return str(meaning) if meaning else default_as_typed(value)


def default_as_typed(value: Any) -> str:  # noqa: ANN401  (any default)
    """Write a default as a person types it."""
    if value is None or value in ([], {}, ""):
        return "-"
    if isinstance(value, bool):
        return str(value).lower()
    return ", ".join(map(default_as_typed, value)) if isinstance(value, list | tuple) else str(value)
