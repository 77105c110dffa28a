"""Errors and their exit codes; each says what was wrong, what was given, what was expected and what to try.

WeitiaoError               1   a fault of weitiao's own
├── SettingsError          2   a run file, flag or override that cannot be used
├── DataError              3   a data file or row that cannot be used
├── ModelError             4   a model, tokenizer or method that cannot be used together
├── RunFolderError         5   an output folder in use, a checkpoint of another run or damaged
├── ResourceError          6   too little disk or memory
├── MissingExtraError      7   an optional package is not installed
└── NotFiniteError        10   a NaN or inf stopped the run; nothing of it was applied or saved

Interrupted (Ctrl-C, 130) and Terminated (SIGTERM, 143) are not errors but a KeyboardInterrupt and a SystemExit, so that
a loop over many runs that catches WeitiaoError still ends when it is interrupted.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import ClassVar

from .locale import shown
from .visible import padded, visible

SHORT_LIST = 12
"""Longer lists of names are not printed: nobody reads them."""

LABEL_COLUMNS = 9
"""Columns of a terminal that the label of a problem's part takes."""

LONGEST_GOT = 400
"""Characters of a given value that are shown."""


def shortened(text: str) -> str:
    """Return the text, with its middle left out where it is longer than LONGEST_GOT."""
    if len(text) <= LONGEST_GOT:
        return text
    half = LONGEST_GOT // 2
    return f"{text[:half]} ... {text[-half:]}"


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong, in the four parts a person needs to fix it."""

    what: str
    """What was wrong, in one sentence."""
    got: str = ""
    """The offending value, as the person wrote it."""
    expected: str = ""
    """What would have been right."""
    remedy: str = ""
    """What to type or change next."""

    def __str__(self) -> str:
        """Return the problem in the language in use."""
        # A single word that was given is the person's own, even where the code uses the same word.
        got = shortened(self.got) if " " not in self.got else shown(shortened(self.got))
        parts = (("got", got), ("expected", shown(self.expected)), ("try", _alternatives(self.remedy)))
        indented = [
            f"  {padded(shown(label), LABEL_COLUMNS)} {_indented(text)}" for label, text in parts if text
        ]
        return visible("\n".join([shown(self.what), *indented]))


def _alternatives(text: str) -> str:
    """Return what to try in the language in use; alternatives such as `a=1 or b=2` one by one."""
    said = shown(text)
    return said if said != text else f" {shown('or')} ".join(map(shown, text.split(" or ")))


def _indented(text: str) -> str:
    """Return a text whose further lines begin where its first one does."""
    return text.replace("\n", "\n" + " " * (LABEL_COLUMNS + 3))


class WeitiaoError(Exception):
    """Base of every error a person can fix; carries all problems found, not only the first."""

    exit_code: int = 1

    def __init__(self, *problems: Problem) -> None:
        self.problems: tuple[Problem, ...] = problems
        super().__init__(*problems)

    def __str__(self) -> str:
        """Return all problems in the language in use."""
        return "\n\n".join(map(str, self.problems))


class SettingsError(WeitiaoError):
    """A run file, flag or override that cannot be used."""

    exit_code = 2


class DataError(WeitiaoError):
    """A data file or row that cannot be used."""

    exit_code = 3


class ModelError(WeitiaoError):
    """A model, tokenizer or method that cannot be used, alone or together."""

    exit_code = 4


class RunFolderError(WeitiaoError):
    """An output folder in use, or a checkpoint that is damaged or belongs to another run."""

    exit_code = 5


class ResourceError(WeitiaoError):
    """Too little disk or memory for what was asked."""

    exit_code = 6


class MissingExtraError(WeitiaoError):
    """An optional package is needed and not installed."""

    exit_code = 7


class NotFiniteError(WeitiaoError):
    """A NaN or inf appeared in the loss, a gradient or a weight; it was not applied or saved."""

    exit_code = 10


class Stopped(BaseException):
    """A signal ended the command; the problem says what state things are in and how to continue."""

    exit_code: ClassVar[int]
    """The exit code a shell reports for a process ended by this signal."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem)
        self.problems = (problem,)

    def __str__(self) -> str:
        """Return the problem in the language in use."""
        return str(self.problems[0])


class Interrupted(Stopped, KeyboardInterrupt):
    """Ctrl-C ended the command."""

    exit_code = 130


class Terminated(Stopped, SystemExit):
    """SIGTERM ended the command."""

    exit_code = 143

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem)
        self.code = self.exit_code


EXIT_CODES: dict[int, str] = {
    0: "done",
    1: "a fault of weitiao's own: please report it",
    2: "a setting, flag or run file cannot be used",
    3: "the data cannot be used",
    4: "the model or method cannot be used",
    5: "the run folder, a checkpoint or another file cannot be used",
    6: "too little disk or memory",
    7: "an optional package is missing",
    10: "stopped on a NaN or inf; the last good state is saved",
    130: "stopped by Ctrl-C; steps are saved, resumable",
    143: "stopped by SIGTERM; steps are saved, resumable",
}


MALFORMED = (
    ArithmeticError,
    AttributeError,
    LookupError,
    RuntimeError,
    TypeError,
    UnicodeError,
    ValueError,
    re.error,
)
"""What libraries raise, besides their own errors, for a file that is not in the format they expect."""


def raise_all(error: type[WeitiaoError], problems: Sequence[Problem]) -> None:
    """Raise `error` with every problem found; do nothing when there is none."""
    if problems:
        raise error(*problems)


def nearest(name: str, known: Iterable[str], count: int = 3) -> list[str]:
    """Return the known names spelt most like `name`, nearest first (case is ignored)."""
    by_lower = {k.lower(): k for k in known}
    close = difflib.get_close_matches(name.lower(), by_lower, n=count, cutoff=0.6)
    # Swapped letters are the likeliest typo, and difflib's ratio does not favour them.
    close.sort(key=lambda known_name: sorted(known_name) != sorted(name.lower()))
    return [by_lower[m] for m in close]


def unknown_name(kind: str, name: str, known: Iterable[str], command: str = "") -> Problem:
    """Describe an unknown name: the nearest spellings as the remedy, all known names as what was expected."""
    names = sorted(known)
    near = nearest(name, names)
    remedy = " or ".join(near) if near else command
    listed = "one of " + ", ".join(names)
    expected = f"one that `{command}` lists" if command and len(names) > SHORT_LIST else listed
    return Problem(f"there is no {kind} called {name!r}", name, expected, remedy)


def missing_extra(package: str, extra: str, purpose: str) -> MissingExtraError:
    """Return the error that says which extra to install for an optional package."""
    what = f"{purpose} needs the package {package}, which is not installed"
    return MissingExtraError(Problem(what, remedy=f"pip install 'weitiao[{extra}]'"))
