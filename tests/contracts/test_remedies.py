"""What the program says to try is tried: every setting, command and flag in its texts, and every remedy of settings."""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Iterator
from functools import cache
from typing import Any

import click
import pytest

from source_code import Source, sources
from weitiao.cli._commands import FILES, commands
from weitiao.cli._words import flags_as_words
from weitiao.core.errors import Problem, SettingsError
from weitiao.data.settings import ReplaySettings
from weitiao.methods import METHODS
from weitiao.objectives import OBJECTIVES
from weitiao.recipe.blocks import FIXED
from weitiao.recipe.recipe import parse_recipe, read_recipe

HOLE = "\N{REPLACEMENT CHARACTER}"
"""Stands in an f-string for what is only known when it is printed."""
PLACE = re.compile(r"\{\w*\}")
"""The same in a text for `str.format`."""
SETTING = re.compile(
    r"(?<![\w./-])((?:model|data|method|train|evaluate|track|objective)(?:\.[a-z_\d]+)+)=([^\s`'\"),;，；。]*)"
)
COMMAND = re.compile(r"weitiao ([a-z]+)((?: (?:--?[a-z][\w-]*(?:=\S+)?|(?!-)[\w./=" + HOLE + r"-]+))*)")
LEAST: dict[str, Any] = {"model": "m", "data": {"sources": "my.json"}, "out": "runs/a"}


@cache
def texts() -> tuple[tuple[str, str], ...]:
    """Return (place, text) of every text in the program but docstrings, holes marked."""
    return tuple(
        (f"{source.module}:{node.lineno}", PLACE.sub(HOLE, text))
        for source in sources()
        for node, text in _texts_of(source)
    )


def _texts_of(source: Source) -> Iterator[tuple[ast.expr, str]]:
    f_strings = {node for node in source.nodes if isinstance(node, ast.JoinedStr)}
    inside = {part for node in f_strings for part in ast.walk(node)} - f_strings
    docstrings = {
        node.value
        for node in source.nodes
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    left_out = inside | docstrings
    for node in source.nodes:
        if isinstance(node, ast.JoinedStr):
            parts = (str(p.value) if isinstance(p, ast.Constant) else HOLE for p in node.values)
            yield node, "".join(parts)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node not in left_out:
            yield node, node.value


def blocks_with(setting: str) -> list[dict[str, Any]]:
    """Return runs' blocks under which a dotted setting is one: for a method's, those of methods that have it."""
    path, _, name = setting.rpartition(".")
    if path in FIXED:
        return [LEAST] if name in FIXED[path].model_fields else []
    if path == "method":
        named = [one for one in METHODS.names() if name in {*METHODS.load(one).model_fields, "name"}]
        return [{**LEAST, "method": {"name": one, **METHODS.load(one).example}} for one in named]
    if path == "data.replay":
        return [LEAST] if name in ReplaySettings.model_fields else []
    if path.startswith(("data.columns", "data.fill")):
        return [LEAST]
    return [LEAST] if (path, name) == ("objective", "name") else []


def is_value(text: str) -> bool:
    """Whether a value in a text is one to be typed as it is, no place for one."""
    return bool(text) and HOLE not in text and not re.fullmatch(r"[A-Z.…]+|\.\.\.", text)


def refusal(blocks: dict[str, Any], words: list[str]) -> list[Problem]:
    try:
        read_recipe(None, blocks, words)
    except SettingsError as error:
        return list(error.problems)
    return []


def test_every_setting_in_a_text_is_there_and_takes_the_value_shown() -> None:
    wrong = []
    for place, text in texts():
        for setting, value in SETTING.findall(text):
            if HOLE in setting:
                continue
            runs = blocks_with(setting)
            if not runs:
                wrong.append(f"{place}: there is no {setting}")
            elif is_value(value) and not any(_takes(run, f"{setting}={value.rstrip(':.')}") for run in runs):
                wrong.append(f"{place}: {setting}={value} is refused")
    assert wrong == []


def _takes(run: dict[str, Any], word: str) -> bool:
    """Whether a value is taken; what it needs beside it (4 bits, a patience) is another setting's affair."""
    setting = word.partition("=")[0]
    return not any(one.what.startswith(f"{setting} ") for one in refusal(run, [word]))


def options_of(name: str) -> dict[str, bool]:
    """Return a command's flags, and whether each takes a value."""
    context = click.Context(commands, **commands.context_settings)  # a command keeps its first context's `-h`
    command = commands.get_command(context, name)
    assert command is not None
    shown = (one for one in command.get_params(context) if isinstance(one, click.Option))
    return {flag: not one.is_flag for one in shown for flag in one.opts}


def test_every_command_in_a_text_is_there_with_its_flags() -> None:
    wrong = []
    for place, text in texts():
        for name, rest in COMMAND.findall(text):
            if name not in FILES.names():
                if place.startswith("weitiao.cli") or rest.strip().startswith("--"):
                    wrong.append(f"{place}: weitiao {name}")
                continue
            known = options_of(name)
            words = shlex.split(rest.replace(HOLE, "X"))
            left = flags_as_words(words, known) if name == "train" else words
            wrong += [
                f"{place}: weitiao {name} {word}"
                for word in left
                if word.startswith("--") and word.partition("=")[0] not in {*known, "--help"}
            ]
    assert wrong == []


@cache
def every_flag() -> frozenset[str]:
    context = click.Context(commands, **commands.context_settings)
    groups = (
        one for name in FILES.names() if isinstance(one := commands.get_command(context, name), click.Group)
    )
    inside = (
        flag
        for group in groups
        for one in group.commands.values()
        for option in one.get_params(context)
        for flag in option.opts
    )
    return frozenset([*(flag for name in FILES.names() for flag in options_of(name)), *inside])


def test_every_flag_in_a_text_is_some_commands() -> None:
    flags = re.compile(r"(?<![\w-])--[a-z][\w-]+")
    elsewhere = {"--no-deps", "--help", "--version", "--nproc-per-node"}
    wrong = [
        f"{place}: {flag}"
        for place, text in texts()
        if not text.startswith("pip ")
        for flag in flags.findall(text)
        if flag not in every_flag() | elsewhere
    ]
    assert wrong == []


def settings_there_are() -> list[tuple[str, str, dict[str, Any]]]:
    """Return (block, setting, run) for every setting of every block and method."""
    found = [(path, name, LEAST) for path, cls in FIXED.items() for name in cls.model_fields]
    for method in METHODS.names():
        run = {**LEAST, "method": {"name": method, **METHODS.load(method).example}}
        found += [("method", name, run) for name in METHODS.load(method).model_fields]
    return found


def laid(path: str, name: str, value: object) -> dict[str, Any]:
    nested: dict[str, Any] = {name: value}
    for part in reversed(path.split(".")):
        nested = {part: nested}
    return nested


WRONG_VALUES = ("nonsens", -7, [], {"a": 1}, 1e400, True)


@pytest.mark.parametrize("value", WRONG_VALUES, ids=str)
def test_what_to_try_for_a_wrong_value_works(value: object) -> None:
    tried = 0
    for path, name, run in settings_there_are():
        try:
            parse_recipe(run, laid(path, name, value))
        except SettingsError as error:
            for problem in error.problems:
                for remedy in alternatives(problem):
                    tried += 1
                    left = [one.what for one in _after(run, laid(path, name, value), remedy)]
                    assert problem.what not in left, (path, name, value, problem)
    assert tried or value not in WRONG_VALUES[:1]


def alternatives(problem: Problem) -> list[str]:
    """Return what a remedy says to type, where that is settings as words."""
    ways = problem.remedy.split(" or ")
    return [way for way in ways if way and all("=" in word for word in shlex.split(way))]


def _after(run: dict[str, Any], wrong: dict[str, Any], remedy: str) -> list[Problem]:
    """Return the problems of a run with a wrong layer once a remedy is typed over it."""
    from weitiao.core.settings import parse_overrides

    try:
        parse_recipe(run, wrong, parse_overrides(shlex.split(remedy)))
    except SettingsError as error:
        return list(error.problems)
    return []


def test_what_to_try_for_a_misspelt_setting_is_a_setting() -> None:
    for path, name, run in settings_there_are():
        if path == "data.sources":
            continue
        slip = f"{name}x" if len(name) < 3 else name[:-2] + name[-1] + name[-2]
        try:
            parse_recipe(run, laid(path, slip, 3))
        except SettingsError as error:
            for problem in error.problems:
                for remedy in alternatives(problem):
                    gone = [
                        one for one in refusal(run, shlex.split(remedy)) if one.what.startswith("there is no")
                    ]
                    assert gone == [], (path, slip, remedy)


CLASHES: list[dict[str, Any]] = [
    {"learning_rate": 1e-4, "lr": 2e-4},
    {"fp16": True, "bf16": True},
    {"fp16": True, "bf16": True, "torch_dtype": "float32"},
    {"cutoff_len": 64, "max_seq_length": 128},
    {"load_in_4bit": True, "model": {"name": "m", "quantization": "int8"}},
    {"output_dir": "x", "out": "y"},
    {"do_sample": False, "temperature": 0.5},
    {"name": "x"},
    {"eps": 1e-7, "method": "oft"},
    {"label_smoothing_factor": 0.1},
    {"use_galore": True},
    {"optim": "sgd"},
    {"quantization_bit": 3},
    {"gradient_accumulation_steps": "auto"},
    {"report_to": "all"},
    {"eval_steps": 0.2},
    *[{"stage": name} for name in OBJECTIVES.known_elsewhere][:1],
    {"metric_for_best_model": "bleu"},
    {"early_stopping": True, "length_penalty": 2.0},
    {"mix_strategy": "interleave_over"},
    {"freeze_trainable_modules": "mlp", "finetuning_type": "freeze"},
    {"rank_pattern": {"q": 4}},
]


@pytest.mark.parametrize("given", CLASHES, ids=str)
def test_what_to_try_for_names_of_other_tools_works(given: dict[str, Any]) -> None:
    run = {**LEAST, **{key: {} for key in given if key == "out"}}
    run = {key: value for key, value in run.items() if value != {}}
    with pytest.raises(SettingsError) as caught:
        parse_recipe({**run, **given})
    for problem in caught.value.problems:
        ways = alternatives(problem)
        assert ways, problem
        for remedy in ways:
            left = [one.what for one in _after({**run, **given}, {}, remedy)]
            assert problem.what not in left, (remedy, left)


def test_the_checks_see_what_is_not_there() -> None:
    """The texts are those that are printed, and a name that is none is found in them."""
    joined = " ".join(text for _, text in texts())
    assert "weitiao train --resume" in joined
    assert blocks_with("train.lrr") == []
    assert blocks_with("method.last_n")
    assert not _takes(LEAST, "train.lr=fast")
    assert _takes(LEAST, "train.lr=1e-4")
    planted = Source("weitiao.core.planted", False, 'x = f"train.odd={y} or weitiao chatt {z} --odd"')
    ((_, text),) = _texts_of(planted)
    assert SETTING.findall(text) == [("train.odd", HOLE)]
    assert COMMAND.findall(text)[0][0] == "chatt"
