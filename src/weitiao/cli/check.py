"""Look at data before it is trained on: what is in it, what is wrong with it, which tokens are trained."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..core.errors import DataError, Problem, SettingsError, nearest, raise_all
from ..core.locale import LANGUAGES, Language, in_language, language, shown
from ..models.settings import ModelSettings
from ._commands import Command
from ._completion import models, run_file_or_setting
from ._options import help_of, hub_option
from ._words import join_assignments

if TYPE_CHECKING:
    from transformers import GenerationConfig, PreTrainedTokenizerBase

    from ..data.gate.gate import Gate
    from ..data.report.overview import Overview
    from ..data.report.token_view import Sample, Samples
    from ..data.settings import DataSettings
    from ..recipe.names.reading import Understood

EPILOG = """
\b
Examples:
  weitiao check my.json
  weitiao check my.json more.jsonl --model smollm2-135m --html report.html
  weitiao check run.yaml data.max_length=2048
  weitiao check my.json --model smollm2-135m --row my.json:12

Exits with 0 if there is no error, with 3 if there is one.
"""
TYPICAL_TOKENS = 400
"""Tokens drawn of an automatically chosen sample; requested samples are drawn whole."""
QUIET_SECONDS, TERMINAL_SECONDS, PLAIN_SECONDS = 2.0, 0.2, 10.0
"""Seconds before progress is first shown, and between updates on a terminal and elsewhere."""


@click.command(cls=Command, epilog=EPILOG)
@click.argument(
    "words", nargs=-1, metavar="DATA... | RUN.yaml [KEY=VALUE]...", shell_complete=run_file_or_setting
)
@click.option("--model", metavar="MODEL", shell_complete=models, help=help_of(ModelSettings, "name"))
@hub_option
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object and nothing else.")
@click.option("--html", metavar="FILE", type=click.Path(path_type=Path), help="Write the report as one page.")
@click.option("--force", is_flag=True, help="Let --html replace a file that is not such a page.")
@click.option(
    "--sample",
    "numbers",
    metavar="N",
    type=int,
    multiple=True,
    help="Show the row with this number; the first is 0. May be repeated.",
)
@click.option(
    "--row",
    "places",
    metavar="FILE:LINE",
    multiple=True,
    help="Show the row that begins there. May be repeated.",
)
@click.option(
    "--skip-bad-rows",
    is_flag=True,
    help="Leave out and count rows that cannot be used (data.skip_bad_rows=true).",
)
@click.option("--lang", type=click.Choice(LANGUAGES), help="Language of the report.  [from LANG]")
def command(
    words: tuple[str, ...],
    model: str | None,
    hub: str | None,
    as_json: bool,
    html: Path | None,
    force: bool,
    numbers: tuple[int, ...],
    places: tuple[str, ...],
    skip_bad_rows: bool,
    lang: Language | None,
) -> int:
    """Show what is in your data, what will be trained on, and what is wrong with it.

    DATA are files, folders or data sets of the hub, or a run file with its data and model. With a model it also shows
    lengths, masks and coloured tokens.
    """
    from ..data.gate.gate import open_data
    from ..data.report.html import MOST_TOKENS, page, require_free, rows_to_show, write_page
    from ..data.report.overview import overview
    from ..data.report.token_view import Samples

    if html is not None:
        require_free(html, force)
    shown_in = lang or language()
    typed = (*words, "data.skip_bad_rows=true") if skip_bad_rows else words
    typed = (*typed, f"model.hub={hub}") if hub else typed
    data, from_model, seed = read_settings(typed, model)
    trained = trained_forms(typed)
    tokenizer, stops = _load(from_model)
    progress = RowProgress(shown_in, sys.stderr.isatty())
    gate = open_data(data, tokenizer, seed, stops, progress)
    progress.end()
    view, samples = overview(gate, trained), Samples(gate, tokenizer, {*chain(*trained.values())})
    rows = _asked(samples, numbers, places)
    if html is not None:
        pictured = sorted({*rows, *rows_to_show(view, samples)})
        write_page(html, page(gate, view, [samples.sample(row, MOST_TOKENS) for row in pictured], shown_in))
        click.echo(in_language(f"The page is in {html}", shown_in), err=True)
    asked = [samples.sample(row) for row in rows]
    if as_json:
        written = json.dumps(_plain(gate, view, asked), ensure_ascii=False, indent=2)
        # JSON may contain half a surrogate pair, which UTF-8 cannot encode.
        click.echo(written.encode("utf-8", "backslashreplace"))
    else:
        from ._gate import GatePrinter
        from ._tables import make_console

        drawn = asked or [samples.sample(row, TYPICAL_TOKENS) for row in samples.typical()]
        GatePrinter(make_console(), shown_in).print(gate, view, drawn)
    return DataError.exit_code if view.verdict == "error" else 0


def read_settings(words: Sequence[str], model: str | None) -> tuple[DataSettings, ModelSettings | None, int]:
    """Return data, model and seed from a run file, paths and overrides; raises SettingsError with all problems."""
    from ..core.settings import check_settings
    from ..data.settings import DataSettings
    from ..engine.settings import TrainSettings

    understood = _understood(words, model)
    problems = [*understood.problems, *_unknown_overrides(words, DataSettings)]
    blocks = understood.raw
    for line in understood.said:
        click.echo(shown(line), err=True)
    if not _names_data(blocks.get("data")) and not problems:
        what = "no data is named"
        raise SettingsError(
            Problem(what, expected="a file, a folder or a run file", remedy="weitiao check my.json")
        )
    raise_all(SettingsError, problems)
    data, found = check_settings(DataSettings, blocks["data"], "data")
    problems += found
    wanted, found = (
        check_settings(ModelSettings, blocks["model"], "model") if "model" in blocks else (None, [])
    )
    seed = _seed(blocks.get("train"), TrainSettings().seed)
    raise_all(SettingsError, [*problems, *found])
    if data is None:
        raise RuntimeError("settings without problems are missing")
    return data, wanted, seed


def _names_data(block: object) -> bool:
    """Return whether a data block says what to read, and not only how."""
    if not isinstance(block, Mapping):
        return block is not None
    sources = block.get("sources")
    return not isinstance(sources, Mapping) or bool({"path", "rows"} & set(sources))


def trained_forms(words: Sequence[str]) -> dict[str, frozenset[str]]:
    """Return the name of the objective (of the run file, else the default) and the forms of rows it trains on; raises
    SettingsError for an unknown one.
    """
    from ..objectives import OBJECTIVES
    from ..recipe.blocks import DEFAULT_NAMES

    block = _understood(words, None).raw.get("objective", DEFAULT_NAMES["objective"])
    name = str(block.get("name")) if isinstance(block, Mapping) else str(block)
    return {name: OBJECTIVES.load(name).forms}


def _understood(words: Sequence[str], model: str | None) -> Understood:
    """Read a run file, if it comes first, then paths, then overrides, under any tool's names."""
    from ..core.settings import read_yaml
    from ..recipe.recipe import read_words, understand_layers

    paths, overrides = _sorted_out(words)
    run_file = Path(paths[0]) if paths and paths[0].endswith((".yaml", ".yml")) else None
    given = paths[1:] if run_file else paths
    typed: dict[str, Any] = {"data": {"sources": list(given)}} if given else {}
    if model is not None:
        typed["model"] = {"name": model}
    return understand_layers(read_yaml(run_file) if run_file else {}, typed, read_words(overrides))


def _sorted_out(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Separate paths from overrides: a word with `=` is an override, unless a file of that name exists."""
    whole = list(join_assignments(words))
    overrides = [word for word in whole if "=" in word and not Path(word).exists()]
    return [word for word in whole if word not in overrides], overrides


def _unknown_overrides(words: Sequence[str], data: type[DataSettings]) -> list[Problem]:
    """Describe overrides of blocks that a check does not read."""
    from ..recipe.names.layers import Layer
    from ..recipe.recipe import read_words

    known = {"data", "model", "train", "objective"}
    problems = []
    for key, value in Layer(read_words(_sorted_out(words)[1])).own.items():
        if key not in known:
            homes = [f"data.{name}" for name in nearest(key, data.model_fields)]
            remedy = " or ".join(f"{home}={value}" for home in homes)
            problems.append(Problem(f"there is no block {key}", f"{key}={value}", "data.KEY=VALUE", remedy))
    return problems


def _seed(train: object, default: int) -> int:
    seed = train.get("seed", default) if isinstance(train, Mapping) else default
    return seed if isinstance(seed, int) else default


def _load(model: ModelSettings | None) -> tuple[PreTrainedTokenizerBase | None, GenerationConfig | None]:
    """Load the tokenizer and the generation config, which names the stop tokens; (None, None) without a model."""
    if model is None:
        return None, None
    from ..models.load import load_generation_config, load_tokenizer
    from ..models.resolve import convert_first
    from ._tables import make_console
    from ._waiting import waiting

    with waiting(make_console(stderr=True)) as stage:
        convert_first(model.name, stage)
    return load_tokenizer(model), load_generation_config(model)


def _asked(samples: Samples, numbers: Iterable[int], places: Iterable[str]) -> list[int]:
    """Return the rows requested by number and by place; raises DataError with all that do not exist."""
    rows: list[int] = []
    problems: list[Problem] = []
    for look_up in (
        *(partial(samples.known, number) for number in numbers),
        *(partial(samples.row_at, place) for place in places),
    ):
        try:
            rows.append(look_up())
        except DataError as error:
            problems += error.problems
    raise_all(DataError, problems)
    return rows


def _plain(gate: Gate, view: Overview, samples: Iterable[Sample]) -> dict[str, Any]:
    """Return the report as plain values."""
    return {
        **gate.as_dict(),
        "verdict": view.verdict,
        "findings": [finding.as_dict() for finding in view.findings],
        "samples": [asdict(sample) for sample in samples],
    }


class RowProgress:
    """Shows on stderr how many rows were checked, if checking takes more than QUIET_SECONDS."""

    def __init__(
        self, language: Language, terminal: bool, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._language, self._terminal, self._clock = language, terminal, clock
        self._started = self._said = clock()

    def __call__(self, rows: int) -> None:
        """Show the number of rows, unless it was shown a moment ago."""
        now = self._clock()
        passed = now - self._started
        if passed < QUIET_SECONDS or now - self._said < (
            TERMINAL_SECONDS if self._terminal else PLAIN_SECONDS
        ):
            return
        self._said = now
        line = in_language(f"{rows:,} rows checked, {rows / passed:,.0f} rows/s", self._language)
        click.echo(
            f"\r{line}\033[K" if self._terminal else line,
            err=True,
            nl=not self._terminal,
            color=self._terminal,
        )

    def end(self) -> None:
        """Erase the progress line."""
        if self._terminal and self._said != self._started:
            click.echo("\r\033[K", err=True, nl=False, color=True)
