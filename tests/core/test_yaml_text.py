"""Text in a run file is text, numbers are numbers, and a few lines never become many."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import yaml

from weitiao.core.settings import parse_overrides, read_yaml
from weitiao.core.yaml_text import YamlError, load_yaml

LITERAL = [
    *("${oc.env:HOME}", "${a.b}", "$${x}", "???", "${", "{{name}}", "%(a)s"),
    *("$HOME", "~", "`id`", "a: b", "- x", "# x", "'", '"'),
]


@pytest.mark.parametrize("text", LITERAL)
def test_text_stays_as_it_was_written(text: str, tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump({"a": {"b": text}, "c": [text]}), encoding="utf-8")
    assert read_yaml(path) == {"a": {"b": text}, "c": [text]}
    quoted = text.replace("'", "''")
    assert parse_overrides([f"a.b='{quoted}'"]) == {"a": {"b": text}}


def test_no_secret_of_the_environment_comes_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    path = tmp_path / "run.yaml"
    path.write_text("a: ${oc.env:HF_TOKEN}\nb: ${oc.decode:${oc.env:HF_TOKEN}}\n")
    assert "hf_secret" not in str(read_yaml(path))
    assert "hf_secret" not in str(parse_overrides(["a=${oc.env:HF_TOKEN}"]))
    assert os.environ["HF_TOKEN"] == "hf_secret"


VALUES: dict[str, Any] = {
    "1e-5": 1e-5, "1E5": 1e5, "1.": 1.0, ".5": 0.5, "-2.5e+3": -2500.0, ".inf": float("inf"), "1_000": 1000, "0x10": 16,
    "12": 12, "-7": -7, "2026-11-26": "2026-11-26", "1:30": "1:30", "010": "010", "1.2.3": "1.2.3", "e5": "e5",
    "1e": "1e", "true": True, "null": None, "": None, "[1, 2e-3, a]": [1, 0.002, "a"], "{a: 1}": {"a": 1},
    "x=y": "x=y", "'12'": "12", "微调": "微调",
}  # fmt: skip


@pytest.mark.parametrize("text", VALUES)
def test_values(text: str) -> None:
    assert load_yaml(text) == VALUES[text]
    assert type(load_yaml(text)) is type(VALUES[text])


REFUSED = {
    "a key twice": ("a: 1\nb: {c: 1, c: 2}\n", "duplicate key c"),
    "an anchor that holds itself": ("a: &a [*a]\n", "contains itself"),
    "a bomb": ("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
        f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 9)), "anchors"),
    "depth": ("[" * 5000 + "]" * 5000, "nested"),
    "a set": ("!!set {a, b}", "set"),
    "binary": ("!!binary aGVsbG8=", "bytes"),
    "an object": ("!!python/object/apply:os.getcwd []", "python/object"),
    "a key that is a list": ("? [a]\n: 1", "unhashable"),
    "a huge number": ("9" * 5000, "digits"),
    "two documents": ("a: 1\n---\nb: 2\n", "another document"),
    "a tab": ("a:\n\tb: 1\n", "line 2"),
}  # fmt: skip


@pytest.mark.parametrize("what", REFUSED)
def test_what_is_refused_says_why(what: str) -> None:
    text, words = REFUSED[what]
    with pytest.raises(YamlError, match=words):
        load_yaml(text)


def test_anchors_and_merge_keys_work() -> None:
    assert load_yaml("a: &a {r: 1, s: 2}\nb: {<<: *a, r: 3}\n") == {
        "a": {"r": 1, "s": 2},
        "b": {"r": 3, "s": 2},
    }
