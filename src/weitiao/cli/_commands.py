"""Commands are listed from file names and docstrings, and imported only when they run."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from typing import Any

import click
from click.shell_completion import CompletionItem

from ..core.errors import EXIT_CODES, Problem, SettingsError, nearest, unknown_name
from ..core.locale import shown, use_language
from ..core.registry import Registry
from ..core.version import VERSION
from ._completion import SHELLS
from ._help import HelpContext
from ._language import lang_option, language_named

FILES: Registry[object] = Registry(__package__, "click:Command", "command")


class LazyCommands(click.Group):
    """A group whose commands are the files of this folder; each file defines a `command`."""

    context_class = HelpContext

    def main(self, args: Sequence[str] | None = None, *given: Any, **more: Any) -> Any:  # noqa: ANN401  (click's)
        """Run a command line in the language it names; it is chosen before anything is parsed."""
        with use_language(language_named(sys.argv[1:] if args is None else args)):
            return super().main(args, *given, **more)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of the commands; imports none of them."""
        return FILES.names()

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import one command; None if it does not exist."""
        if cmd_name not in FILES.names():
            return None
        command: click.Command = importlib.import_module(f"{__package__}.{cmd_name}").command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command typed; raises SettingsError with the nearest name if it does not exist."""
        if args and not args[0].startswith("-") and not ctx.resilient_parsing:
            self._require_known(args[0])
        return super().resolve_command(ctx, args)

    def _require_known(self, name: str) -> None:
        if name not in FILES.names():
            raise SettingsError(unknown_name("command", name, FILES.names(), "weitiao --help"))

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List each command with the first line of its file."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, FILES.summary(name)) for name in FILES.names()])

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Return the commands that start with the typed text; imports none of them."""
        if incomplete.startswith("-"):
            return super().shell_complete(ctx, incomplete)
        return [
            CompletionItem(name, help=shown(FILES.summary(name)))
            for name in FILES.names()
            if name.startswith(incomplete)
        ]

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the exit codes, and the lines that enable completion in each shell."""
        with formatter.section("Exit codes"):
            formatter.write_dl([(str(code), meaning) for code, meaning in EXIT_CODES.items()])
        with formatter.section("Words completed with Tab: a line for your shell's file"):
            for line, file in SHELLS.values():
                formatter.write_text(f"{line}  # {file}")


class Command(click.Command):
    """A command that reports unknown options in the same form as all other errors, and takes `--lang`."""

    context_class = HelpContext

    def __init__(self, *given: Any, **more: Any) -> None:  # noqa: ANN401  (what click's command takes)
        """Add the option for the language, unless the command has its own."""
        super().__init__(*given, **more)
        if not any(parameter.name == "lang" for parameter in self.params):
            self.params.append(lang_option())

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the arguments; raises SettingsError for unknown options and bad usage."""
        try:
            return super().parse_args(ctx, [self._as_spelt_here(ctx, word) for word in args])
        except click.NoSuchOption as error:
            raise SettingsError(self.unknown_option(ctx, error.option_name)) from error
        except click.BadOptionUsage as error:
            name = error.option_name
            raise SettingsError(
                Problem(
                    f"{name} cannot be used like this",
                    name,
                    error.format_message(),
                    f"{ctx.command_path} --help",
                )
            ) from error

    def flags(self, ctx: click.Context) -> dict[str, bool]:
        """Return the command's flags, and whether each takes a value."""
        options = [parameter for parameter in self.get_params(ctx) if isinstance(parameter, click.Option)]
        return {spelling: not option.is_flag for option in options for spelling in option.opts}

    def _as_spelt_here(self, ctx: click.Context, word: str) -> str:
        """Return a flag in this command's spelling, for `--max_new_tokens`, `--Model` and `--max_tokens` too."""
        (name, equals, value), known = word.partition("="), self.flags(ctx)
        if not name.startswith("--") or name in known or len(name) < len("--x"):
            return word
        plain = "--" + name[2:].lower().replace("_", "-")
        if plain in known:
            return plain + equals + value
        meant = self.flag_elsewhere(plain[2:].replace("-", "_"))
        if meant not in known:
            return word
        click.echo(shown(f"{name}, read as {meant}"), err=True)
        return meant + equals + value

    def flag_elsewhere(self, name: str) -> str:
        """Return this command's flag for another tool's name of a generation setting; empty if there is none."""
        from ..recipe.names.table import entry

        found = entry(name, "evaluate.generation")
        return "--" + found.becomes.rpartition(".")[2].replace("_", "-") if found else ""

    def unknown_option(self, ctx: click.Context, name: str) -> Problem:
        """Describe an option that does not exist, with the nearest one that does."""
        known = [spelling for spelling in self.flags(ctx) if spelling.startswith("--")]
        remedy = " or ".join(nearest(name, known)) or f"{ctx.command_path} --help"
        return Problem(f"there is no option {name}", name, "one of " + ", ".join(known), remedy)


def _print_version(ctx: click.Context, _: click.Parameter, wanted: bool) -> None:
    if wanted and not ctx.resilient_parsing:
        click.echo(f"weitiao {VERSION}")
        ctx.exit()


@click.command(cls=LazyCommands, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_print_version,
    help="Print the version.",
)
def commands() -> None:
    """Fine-tune a language model on your own data (微调), and compare its answers before and after."""


commands.params.append(lang_option())
