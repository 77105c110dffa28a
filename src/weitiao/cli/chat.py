"""Talk to a trained model: streaming, with its base beside it where you want to compare."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import click

from ..core.errors import Problem, SettingsError, raise_all
from ..core.settings import parse_settings
from ..evaluation.settings import GenerationSettings
from ._commands import Command
from ._options import BASE_HELP, FORCE_HELP, given, hub_option, options_of

if TYPE_CHECKING:
    from ..models.hubs import HubName
    from ._chat import Chat

EPILOG = """
\b
In the chat: /reset, /base, /both, /system TEXT, /field NAME VALUE, /set NAME VALUE, /help, /exit.
Ctrl-C stops an answer, Ctrl-D ends the chat. A pipe may ask one question a line.
"""


@click.command(cls=Command, epilog=EPILOG)
@click.argument("run")
@click.option("--both", is_flag=True, help="Answer each question before and after training.")
@click.option("--system", metavar="TEXT", default="", help="The system message to begin with.")
@click.option(
    "--field",
    "fields",
    multiple=True,
    metavar="NAME=VALUE",
    help="What fills a field of a template with fields, such as task=translate.",
)
@click.option("--base", metavar="MODEL", help=BASE_HELP)
@hub_option
@click.option("--force", is_flag=True, help=FORCE_HELP)
@options_of(GenerationSettings)
def command(
    run: str,
    both: bool,
    system: str,
    fields: tuple[str, ...],
    base: str | None,
    hub: HubName | None,
    force: bool,
    **options: Any,  # noqa: ANN401  (the settings check them)
) -> None:
    """Talk to what RUN trained; RUN may also be an adapter's folder or any model's name."""
    settings = parse_settings(GenerationSettings, given(options))
    from ..evaluation.opened import locate, open_source
    from ._chat import Chat
    from ._tables import make_console
    from ._transfers import download_shown

    source = locate(run, base, force, hub)
    download_shown(source.trained or source.base)
    chat = Chat(open_source(source), settings, make_console(), system=system, fields=_beside(fields))
    for note in chat.opened.notes:
        chat.console.print(f"note: {note}", style="dim", markup=False, soft_wrap=True)
    if given_beside := chat.opened.source.wording.beside_a_question:
        note = f"/field NAME VALUE gives beside a question: {given_beside}"
        chat.console.print(note, style="dim", markup=False, soft_wrap=True)
    if both:
        chat.take("/both")
    if sys.stdin.isatty():
        chat.console.print("/help lists the commands; Ctrl-D ends", style="dim")
    for line in _lines(chat):
        chat.take(line)
        if chat.ended:
            return


def _beside(fields: Sequence[str]) -> dict[str, str]:
    """Return NAME=VALUE pairs as a table; raises SettingsError for one of another form."""
    bad = [one for one in fields if not one.partition("=")[1]]
    raise_all(
        SettingsError,
        [Problem("a field has the form NAME=VALUE", one, "for example task=translate") for one in bad],
    )
    return {name: value for name, _, value in (one.partition("=") for one in fields)}


def _lines(chat: Chat) -> Iterator[str]:
    """Yield what is typed, or the lines of a pipe, which are shown before their answers."""
    if not sys.stdin.isatty():
        for typed in sys.stdin.buffer:
            line = typed.decode("utf-8", errors="replace")
            if line.strip():
                chat.console.out(f"> {line.rstrip()}", highlight=False)
            yield line
        return
    if find_spec("readline"):  # gives the prompt arrow keys and a history; Windows has none
        import_module("readline")
    while True:
        try:
            yield input("> ")
        except EOFError:
            chat.console.print()
            return
        except KeyboardInterrupt:
            chat.console.print("\n(Ctrl-D or /exit ends)", style="dim")
