"""Talk to a trained model: streaming, with its base beside it where you want to compare."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..core.errors import Problem, SettingsError, raise_all
from ..core.locale import shown
from ..core.settings import parse_settings
from ..evaluation.settings import GenerationSettings
from ._commands import Command
from ._completion import models
from ._options import BASE_HELP, FORCE_HELP, given, hub_option, options_of

if TYPE_CHECKING:
    from ..evaluation.open_model import Opened
    from ..models.hubs.hub import HubName
    from ._chat import Chat

EPILOG = """
\b
In the chat: /reset, /base, /both, /system TEXT, /adapter NAME, /field NAME VALUE,
/set NAME VALUE, /help, /exit.
Ctrl-C stops an answer; exit, quit or Ctrl-D ends the chat. A pipe gives one question a line.

Several adapters of one base: weitiao chat --adapter a=RUN --adapter b=RUN
"""


@click.command(cls=Command, epilog=EPILOG)
@click.argument("run", required=False, shell_complete=models)
@click.option(
    "--adapter",
    "adapters",
    metavar="NAME=RUN",
    multiple=True,
    help="An adapter to switch to with /adapter NAME, instead of RUN; all must have one base. May be repeated.",
)
@click.option("--both", is_flag=True, help="Answer each question before and after training.")
@click.option(
    "--system",
    metavar="TEXT",
    help="The system prompt at the start, or none; by default that of the rows trained on, if they had one.",
)
@click.option(
    "--field",
    "fields",
    multiple=True,
    metavar="NAME=VALUE",
    help="The value of a field of the template, such as task=translate. May be repeated.",
)
@click.option("--base", metavar="MODEL", help=BASE_HELP)
@hub_option
@click.option("--force", is_flag=True, help=FORCE_HELP)
@options_of(GenerationSettings)
def command(
    run: str | None,
    adapters: tuple[str, ...],
    both: bool,
    system: str | None,
    fields: tuple[str, ...],
    base: str | None,
    hub: HubName | None,
    force: bool,
    **options: Any,  # noqa: ANN401  (the settings check them)
) -> None:
    """Chat with the model that RUN trained; RUN may also be the folder of an adapter, or a model's name."""
    settings = parse_settings(GenerationSettings, given(options))
    named = _named(run, adapters)
    beside = _beside(fields)
    opened = _opened(run, named, base, force, hub)
    from ._chat import NO_SYSTEM, Chat
    from ._tables import make_console, print_sentence

    first = next(iter(opened.values()))
    others = opened if named else {}
    prompt = "" if system is not None and system.lower() in NO_SYSTEM else system
    chat = Chat(first, settings, make_console(), system=prompt, fields=beside, adapters=others)
    for note in dict.fromkeys(note for one in opened.values() for note in one.notes):
        print_sentence(chat.console, shown(f"note: {note}"), "dim")
    if chat.system_prompt:
        chat.say_system()
    if given_beside := chat.opened.source.wording.beside_a_question:
        note = f"/field NAME VALUE sets what is given beside a question: {given_beside}"
        print_sentence(chat.console, shown(note), "dim")
    if both:
        chat.take("/both")
    if sys.stdin.isatty():
        chat.console.print(shown("/help lists the commands; exit or Ctrl-D ends the chat"), style="dim")
    for line in _lines(chat):
        chat.take(line)
        if chat.ended:
            return


def _beside(fields: Sequence[str]) -> dict[str, str]:
    """Parse NAME=VALUE pairs; raises SettingsError for every word of another form."""
    bad = [one for one in fields if not one.partition("=")[1]]
    raise_all(
        SettingsError,
        [Problem("a field has the form NAME=VALUE", one, "for example task=translate") for one in bad],
    )
    return {name: value for name, _, value in (one.partition("=") for one in fields)}


def _named(run: str | None, adapters: Sequence[str]) -> dict[str, str]:
    """Return the runs of --adapter by name; raises SettingsError with all problems of them and RUN."""
    pairs = [(name, path) if path else (Path(name).name, name) for name, _, path in map(_parted, adapters)]
    problems = [
        Problem(f"two adapters are called {name}", f"--adapter {name}=...", "a different name for each")
        for name, count in Counter(name for name, _ in pairs).items()
        if count > 1
    ]
    if run is not None and adapters:
        remedy = " ".join(f"--adapter {name}={path}" for name, path in [(Path(run).name, run), *pairs])
        what = "RUN and --adapter are given together"
        problems.append(Problem(what, run, "one of the two", f"weitiao chat {remedy}"))
    if run is None and not adapters:
        what = "no model to chat with is named"
        problems.append(Problem(what, expected="a run, an adapter or a model", remedy="weitiao chat RUN"))
    raise_all(SettingsError, problems)
    return dict(pairs)


def _parted(adapter: str) -> tuple[str, str, str]:
    """Split NAME=RUN; an existing path is not split, since it may contain an equals sign."""
    return (adapter, "", "") if Path(adapter).exists() else adapter.partition("=")


def _opened(
    run: str | None, named: Mapping[str, str], base: str | None, force: bool, hub: HubName | None
) -> dict[str, Opened]:
    """Open the models that answer, by name, showing the progress of downloading and loading."""
    from ..evaluation.locate import locate
    from ..evaluation.open_model import open_located
    from ..evaluation.several_adapters import open_several
    from ..models.resolve import convert_first
    from ._tables import make_console
    from ._transfers import download_shown
    from ._waiting import waiting

    given = named or {run or "": run or ""}
    sources = {name: locate(path, base, force, hub) for name, path in given.items()}
    first = next(iter(sources.values()))
    download_shown(first.trained or first.base)
    with waiting(make_console(stderr=True)) as stage:
        convert_first(first.base.name, stage)
        stage(f"loading {', '.join(named) or run}")
        return open_several(sources) if named else {name: open_located(one) for name, one in sources.items()}


def _lines(chat: Chat) -> Iterator[str]:
    """Yield the typed lines, or those of a pipe, which are echoed before their answers."""
    if not sys.stdin.isatty():
        for typed in sys.stdin.buffer:
            line = typed.decode("utf-8", errors="replace")
            if line.strip():
                chat.console.out(f"> {line.rstrip()}", highlight=False)
            yield line
        return
    if find_spec("readline"):  # adds arrow keys and a history to the prompt; Windows has none
        import_module("readline")
    while True:
        try:
            yield input("> ")
        except EOFError:
            chat.console.print()
            return
        except KeyboardInterrupt:
            chat.console.print("\n" + shown("(Ctrl-D or /exit ends the chat)"), style="dim")
