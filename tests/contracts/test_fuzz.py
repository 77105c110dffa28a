"""Whatever stands in a run file, a row, a manifest or an adapter's folder: words and a documented code, never a fault.

The suite draws a sample with a seed of its own; `pytest -m slow tests/contracts/test_fuzz.py` tries everything.
"""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tiny_run import make_run
from weitiao.cli import run
from weitiao.core.errors import EXIT_CODES

DOCUMENTED = set(EXIT_CODES) - {1}
SAMPLE = 60

VALUES: list[Any] = [
    None, True, False, 0, -1, 1, 2**70, 0.5, -0.0, float("nan"), float("inf"), 1e308, "", " ", "x" * 5000, "\0",
    "a\nb", "../..", "/", "~", "no such thing", "${oc.env:HOME}", "???", "1e-4", "nan", "\u202e\x1b[2J", "微调", [],
    [[]], [None], {}, {"a": {"b": []}}, {"": ""}, ["a", 1, None], [{"path": "x"}],
]  # fmt: skip
"""What a setting may be given by mistake."""


def code_of(words: list[str]) -> int:
    """Run a command line; what it raises fails the test with its own traceback."""
    return run(words)


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory, tiny_model_folder: Path) -> dict[str, Any]:
    """The whole run file of a small run, every setting spelt out."""
    from weitiao.recipe.recipe import parse_recipe

    folder = tmp_path_factory.mktemp("fuzz")
    rows = [{"instruction": f"What is {n}?", "output": f"It is {n}."} for n in range(8)]
    (folder / "rows.json").write_text(json.dumps(rows), encoding="utf-8")
    given = {
        "model": {"name": str(tiny_model_folder)},
        "data": {"sources": str(folder / "rows.json"), "held_out": 2},
        "method": {"name": "lora", "r": 4},
        "train": {"steps": 2},
        "out": str(folder / "run"),
    }
    whole: dict[str, Any] = parse_recipe(given).as_dict()
    return whole


def keys_of(plain: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:  # noqa: ANN401
    """Yield the path of every value within nested settings, blocks included."""
    items = plain.items() if isinstance(plain, dict) else enumerate(plain) if isinstance(plain, list) else ()
    for key, value in items:
        yield (*path, key)
        yield from keys_of(value, (*path, key))


def with_value(plain: Any, path: tuple[Any, ...], value: Any) -> Any:  # noqa: ANN401
    """Return nested settings with one value replaced."""
    copied = json.loads(json.dumps(plain))
    inner = copied
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    return copied


def wrong_values(recipe: dict[str, Any], count: int | None) -> list[tuple[tuple[Any, ...], Any]]:
    """Return settings with what each is given: a sample, or all of them."""
    every = [(path, value) for path in keys_of(recipe) for value in VALUES]
    return every if count is None else random.Random(11).sample(every, count)


def try_wrong_values(recipe: dict[str, Any], folder: Path, count: int | None) -> None:
    file = folder / "run.yaml"
    for path, value in wrong_values(recipe, count):
        plain = with_value(recipe, path, value)
        file.write_text(yaml.safe_dump(plain, allow_unicode=True, sort_keys=False), encoding="utf-8")
        try:
            code = code_of(["train", str(file), "--dry-run"])
        except BaseException as error:
            raise AssertionError(f"{'.'.join(map(str, path))} = {value!r:.100}") from error
        assert code in DOCUMENTED, (path, value)


def test_a_setting_of_any_value_is_taken_or_refused_in_words(recipe: dict[str, Any], tmp_path: Path) -> None:
    try_wrong_values(recipe, tmp_path, SAMPLE)


@pytest.mark.slow
def test_every_setting_of_any_value_is_taken_or_refused_in_words(
    recipe: dict[str, Any], tmp_path: Path
) -> None:
    try_wrong_values(recipe, tmp_path, None)


INSERTED = [b"{", b"[", b'"', b"\n", b"- ", b": ", b"&a *a ", b"!!python/x ", b"\t"]


def damaged_texts(text: str, count: int, seed: int) -> Iterator[bytes]:
    """Yield a file's content with pieces cut, doubled, moved or overwritten."""
    dice = random.Random(seed)
    for _ in range(count):
        content = bytearray(text.encode("utf-8"))
        for _ in range(dice.randrange(1, 4)):
            at = dice.randrange(len(content) + 1)
            end = min(len(content), at + dice.randrange(1, 40))
            match dice.randrange(5):
                case 0:
                    del content[at:end]
                case 1:
                    content[at:at] = content[at:end]
                case 2:
                    content[at:end] = bytes(dice.randrange(256) for _ in range(end - at))
                case 3:
                    content[at:at] = dice.choice(
                        [b"{", b"[", b'"', b"\n", b"- ", b": ", b"&a *a ", b"!!python/x ", b"\t"]
                    )
                case _:
                    del content[at:]
        yield bytes(content)


ANCHORS = zip("abcdefgh", "bcdefghi", strict=True)
YAML_TRAPS = {
    "nothing": "",
    "a list": "- a\n- b\n",
    "a text": "just words",
    "deep": "a: " + "[" * 3000 + "]" * 3000,
    "deep mappings": "".join("  " * n + "a:\n" for n in range(300)),
    "a bomb of anchors": "a: &a [x,x,x,x,x,x,x,x,x]\n"
    + "".join(
        f"{new}: &{new} [{','.join([f'*{old}'] * 9)}]\n"
        for old, new in zip("abcdefgh", "bcdefghi", strict=True)
    ),
    "itself": "a: &a\n  b: *a\n",
    "a tag that makes objects": "model: !!python/object/apply:os.system ['false']\n",
    "a key that is a list": "? [a, b]\n: c\n",
    "a key that is a number": "1: 2\n",
    "a key twice": "model: a\nmodel: b\n",
    "a tab": "model:\n\tname: x\n",
    "two documents": "model: a\n---\nmodel: b\n",
    "a date": "out: 2026-11-26\n",
    "binary": "out: !!binary aGVsbG8=\n",
    "a set": "out: !!set {a, b}\n",
    "merge keys": "a: &a {r: 1}\nmethod:\n  <<: *a\n  name: lora\n",
    "a huge number": "train: {lr: " + "9" * 5000 + "}\n",
    "a byte order mark": "\ufeffmodel: a\n",
    "a nul": "model: 'a\0b'\n",
}


@pytest.mark.parametrize("what", YAML_TRAPS)
def test_a_run_file_that_is_none_is_refused_in_words(what: str, tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    file.write_text(YAML_TRAPS[what], encoding="utf-8")
    assert code_of(["train", str(file), "--dry-run"]) in DOCUMENTED


def try_damaged_run_files(recipe: dict[str, Any], folder: Path, count: int) -> None:
    file = folder / "run.yaml"
    text = yaml.safe_dump(recipe, sort_keys=False)
    for content in damaged_texts(text, count, seed=3):
        file.write_bytes(content)
        assert code_of(["train", str(file), "--dry-run"]) in DOCUMENTED, content


def test_a_damaged_run_file_is_refused_in_words(recipe: dict[str, Any], tmp_path: Path) -> None:
    try_damaged_run_files(recipe, tmp_path, 30)


@pytest.mark.slow
def test_a_thousand_damaged_run_files_are_refused_in_words(recipe: dict[str, Any], tmp_path: Path) -> None:
    try_damaged_run_files(recipe, tmp_path, 1000)


ROW_VALUES: list[Any] = [
    *VALUES, [{"role": "user", "content": "q"}], [{"role": "assistant"}], [{"from": "gpt", "value": 1}],
    [{"role": [], "content": {}}], [{"content": [{"type": "image"}]}], {"role": "user"}, [[{"role": "user"}]],
    [{"role": "assistant", "tool_calls": [{"function": 5}]}], "\ud800", [{"role": "user", "content": None}] * 3,
]  # fmt: skip


def odd_rows(count: int, seed: int) -> Iterator[list[Any]]:
    """Yield small files of rows whose columns are those that formats know, and hold anything."""
    from weitiao.data.formats._detect import known_columns

    dice = random.Random(seed)
    columns = [*sorted(known_columns()), "extra", "", "微调"]
    for _ in range(count):
        chosen = dice.sample(columns, dice.randrange(1, 5))
        yield [{name: dice.choice(ROW_VALUES) for name in chosen} for _ in range(dice.randrange(1, 4))]


def try_odd_rows(folder: Path, model: Path, count: int) -> None:
    file = folder / "rows.json"
    for rows in odd_rows(count, seed=5):
        file.write_text(json.dumps(rows), encoding="utf-8")
        try:
            code = code_of(["check", str(file), "--model", str(model)])
        except BaseException as error:
            raise AssertionError(f"{json.dumps(rows):.400}") from error
        assert code in DOCUMENTED


def test_rows_of_anything_are_read_or_refused_in_words(tmp_path: Path, tiny_model_folder: Path) -> None:
    try_odd_rows(tmp_path, tiny_model_folder, SAMPLE)


@pytest.mark.slow
def test_two_thousand_rows_of_anything_are_read_or_refused_in_words(
    tmp_path: Path, tiny_model_folder: Path
) -> None:
    try_odd_rows(tmp_path, tiny_model_folder, 2000)


def _damage_json(path: Path, dice: random.Random) -> None:
    """Give a key of a JSON file another value, or the file another form."""
    plain = json.loads(path.read_text(encoding="utf-8"))
    paths = [*keys_of(plain)]
    if dice.random() < 0.2:
        path.write_text(dice.choice(["", "[]", "null", "{", "[" * 100_000, '"x"', "\0"]), encoding="utf-8")
    else:
        path.write_text(
            json.dumps(with_value(plain, dice.choice(paths), dice.choice(VALUES))), encoding="utf-8"
        )


def _damage_bytes(path: Path, dice: random.Random) -> None:
    """Cut a file, or change bytes at its beginning, where a header stands."""
    content = bytearray(path.read_bytes())
    if dice.random() < 0.5:
        path.write_bytes(content[: dice.randrange(len(content))])
    else:
        for _ in range(3):
            content[dice.randrange(min(400, len(content)))] = dice.randrange(256)
        path.write_bytes(content)


def _replace(path: Path, dice: random.Random) -> None:
    """Put a folder, a link to nothing, or nothing in a file's place."""
    path.unlink()
    match dice.randrange(3):
        case 0:
            path.mkdir()
        case 1:
            path.symlink_to(path.with_name("nothing"))


DAMAGES: dict[str, tuple[Callable[[Path, random.Random], None], ...]] = {
    ".json": (_damage_json, _damage_bytes, _replace),
    ".safetensors": (_damage_bytes, _replace),
}


def try_damaged_folders(folder: Path, whole: Path, count: int, part: str) -> None:
    dice = random.Random(7)
    for number in range(count):
        run_folder = folder / f"run{number}"
        shutil.copytree(whole, run_folder)
        files = sorted(path for path in (run_folder / part).iterdir() if path.suffix in DAMAGES)
        file = dice.choice(files)
        damage = dice.choice(DAMAGES[file.suffix])
        damage(file, dice)
        try:
            code = code_of(["merge", str(run_folder), str(folder / f"merged{number}")])
        except BaseException as error:
            raise AssertionError(f"{file.name}: {damage.__name__}") from error
        assert code in DOCUMENTED, (file.name, damage.__name__)
        shutil.rmtree(run_folder)


@pytest.fixture(scope="module")
def adapter_run(tmp_path_factory: pytest.TempPathFactory, tiny_model_folder: Path) -> Path:
    return make_run(tmp_path_factory.mktemp("whole") / "run", tiny_model_folder)


@pytest.fixture(scope="module")
def model_run(tmp_path_factory: pytest.TempPathFactory, tiny_model_folder: Path) -> Path:
    return make_run(tmp_path_factory.mktemp("whole") / "run", tiny_model_folder, "full")


def test_a_damaged_adapter_is_refused_in_words(tmp_path: Path, adapter_run: Path) -> None:
    try_damaged_folders(tmp_path, adapter_run, 25, "adapter")


@pytest.mark.slow
def test_many_damaged_adapters_are_refused_in_words(tmp_path: Path, adapter_run: Path) -> None:
    try_damaged_folders(tmp_path, adapter_run, 400, "adapter")


@pytest.mark.slow
def test_many_damaged_models_are_refused_in_words(tmp_path: Path, model_run: Path) -> None:
    try_damaged_folders(tmp_path, model_run, 400, "model")
