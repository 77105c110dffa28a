"""Sorts the words of a command line: a run file, data, settings as KEY=VALUE, and flags that are settings."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..core.errors import Problem, SettingsError, nearest, raise_all

RUN_FILES = (".yaml", ".yml")
NUMBER = re.compile(r"-?[\d.]+(e[-+]?\d+)?", re.IGNORECASE)
HUB_NAME = re.compile(r"(modelscope:)?[\w.-]+/[\w.-]+")
PLAIN = re.compile(r"[\w.]+")


@dataclass(frozen=True)
class Sorted:
    """The words of a command line, sorted by kind."""

    run_file: Path | None
    data: tuple[str, ...]
    """Data files, folders and hub ids, typed without --data."""
    settings: tuple[str, ...]
    """Words with `=`."""


def sort_words(words: Sequence[str]) -> Sorted:
    """Sort words by kind; raises SettingsError, with what to type, for each word of no kind."""
    settings: list[str] = []
    plain: list[str] = []
    for word in join_assignments(words):
        (settings if "=" in word and not Path(word).exists() else plain).append(word)
    run_files = [word for word in plain if word.endswith(RUN_FILES)]
    problems = [_second_run_file(word, run_files[0]) for word in run_files[1:]]
    rest = [word for word in plain if word not in run_files]
    problems += [_unknown_word(word) for word in rest if not is_data(word)]
    raise_all(SettingsError, problems)
    run_file = Path(run_files[0]) if run_files else None
    return Sorted(run_file, tuple(rest), tuple(settings))


def join_assignments(words: Sequence[str]) -> Iterator[str]:
    """Yield words, joining assignments split by blanks around `=`: `train.lr = 1e-4`, `train.lr= 1e-4`."""
    waiting = list(words)
    while waiting:
        word = waiting.pop(0)
        if waiting and "=" not in word and waiting[0].startswith("=") and not waiting[0].startswith("=="):
            word += waiting.pop(0)
        if word.endswith("=") and word != "=" and waiting and _may_be_value(waiting[0]):
            word += waiting.pop(0)
        yield word


def _may_be_value(word: str) -> bool:
    """Return whether a word can be the value after a lone `=`: not a setting, a flag or a run file."""
    return "=" not in word and not word.startswith("--") and not word.endswith(RUN_FILES)


def is_data(word: str) -> bool:
    """Return whether a word names data: an existing path, a readable file type, or a hub id."""
    return Path(word).exists() or _is_read(word) or bool(HUB_NAME.fullmatch(word))


def _is_read(name: str) -> bool:
    """Return whether some reader reads files of this name."""
    from ..data.sources.readers import READERS

    suffixes = tuple(suffix for reader in READERS.names() for suffix in READERS.load(reader).suffixes)
    return name.removesuffix(".gz").removesuffix(".zst").endswith(suffixes)


def _second_run_file(word: str, first: str) -> Problem:
    return Problem(
        "there is more than one run file", f"{first} and {word}", "one run file", f"weitiao train {first}"
    )


def _unknown_word(word: str) -> Problem:
    """Describe a word of no kind, with what it was probably meant as."""
    what = "this word is neither a run file nor data nor a setting"
    expected = "RUN.yaml, a data file, or KEY=VALUE such as train.lr=2e-4"
    return Problem(what, word, expected, " or ".join(_meant(word)))


def _meant(word: str) -> list[str]:
    from ..methods import METHODS
    from ..models.aliases import ALIASES

    if (method := METHODS.spelling(word)) is not None:
        return [f"--method {method}"]
    if word in ALIASES:
        return [f"--model {word}"]
    folder = Path(word).parent
    there = [one.name for one in folder.iterdir()] if folder.is_dir() else []
    files = [name for name in there if _is_read(name) or name.endswith(RUN_FILES)]
    return [str(folder / name) for name in nearest(Path(word).name, files)]


def flags_as_words(arguments: Sequence[str], options: Mapping[str, bool]) -> list[str]:
    """Return a command line with each flag that is a setting as KEY=VALUE: `--learning_rate 1e-4`, `--bf16`.

    `options` are the command's own flags, and whether each takes a value; they and unknown flags stay as they are.
    """
    from ..recipe.names.table import LISTED, letters

    left: list[str] = []
    waiting = list(arguments)
    while waiting:
        word = waiting.pop(0)
        name, equals, value = word.partition("=")
        key = name.removeprefix("--")
        if name in options:
            left += [word, *_taken(waiting, options[name] and not equals)]
        elif not name.startswith("--") or key == "" or not _is_setting(key):
            left.append(word)
        elif equals:
            left.append(f"{key}={value}")
        elif letters(key) in LISTED:
            left.append(f"{key}={','.join(_several(waiting))}")
        else:
            left.append(f"{key}={_value(key, waiting)}")
    return left


def _taken(waiting: list[str], takes_value: bool) -> list[str]:
    return [waiting.pop(0)] if takes_value and waiting else []


def _is_setting(key: str) -> bool:
    """Return whether a flag's name is a setting, under its name here or in another tool."""
    from ..recipe.blocks import BLOCKS
    from ..recipe.names.own import known_setting
    from ..recipe.names.table import entries

    return (key.partition(".")[0] in BLOCKS and "." in key) or bool(entries(key)) or known_setting(key)


def _value(key: str, waiting: list[str]) -> str:
    """Take a flag's value from the words that follow; a switch without a value is on."""
    from ..recipe.names.table import SWITCHES, letters

    following = waiting[0] if waiting else None
    is_value = following is not None and (not following.startswith("-") or NUMBER.fullmatch(following))
    if letters(key) in SWITCHES:
        is_value = following is not None and following.lower() in ("true", "false", "yes", "no")
    if is_value:
        return waiting.pop(0)
    return "true" if letters(key) in SWITCHES else ""


def _several(waiting: list[str]) -> Iterator[str]:
    """Take all words that belong to a flag with several values."""
    first = True
    while waiting and (PLAIN.fullmatch(waiting[0]) or first) and not waiting[0].startswith("-"):
        if not first and Path(waiting[0]).exists():
            return
        first = False
        yield waiting.pop(0)
