"""Hostile templates are stopped in words, in little time and memory; ordinary ones write what transformers writes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from datetime import date
from pathlib import Path

import pytest

import hostile_templates
import tiny
from hostile_templates import HOSTILE
from weitiao.core.errors import ModelError
from weitiao.data.templates.sandbox import REFUSALS, Now, TooCostly, compiled
from weitiao.data.templates.template import choose_template

HARMLESS = {
    "{{ raise_exception.__globals__ }}": "",
    "{{ '{0.__class__}'.format(1) }}": "",
    "{{ (['b', 'a'] | sort | join(',')) ~ ('x' | center(5)) ~ ('a\nb' | indent(2)) }}": "a,b  x  a\n  b",
    "{{ '%s has %03d' % ('a', 7) }}{{ '{} {:>3}'.format('b', 1) }}": "a has 007b   1",
    "{{ [1, 2] | tojson(indent=4) }}": "[\n    1,\n    2\n]",
    "{{ {'a': [x, (1, x)]} }}": "{'a': ['hi', (1, 'hi')]}",
    "{{ 'abcde'[1:3] }}{{ [1, 2, 3][::-1] }}{{ 'a b'.split(' ', 1) | last }}": "bc[3, 2, 1]b",
    "{% set n = namespace(l=[]) %}{% for i in range(3) %}{% set n.l = n.l + [i] %}{% endfor %}{{ n.l }}": "[0, 1, 2]",
    "{{ namespace(a=1) }}": "<namespace>",
    "{% for k, v in {'a': 1}.items() %}{{ k }}{{ v }}{% endfor %}{{ 'é' | title }}": "a1É",
}


def ended() -> dict[str, str]:
    """Return what each hostile template ended in, rendered in a process with limits of the system's own."""
    sources = Path(choose_template.__code__.co_filename).parents[3]
    paths = os.pathsep.join((str(sources), str(Path(hostile_templates.__file__).parent)))
    made = subprocess.run(
        [sys.executable, hostile_templates.__file__],
        env={**os.environ, "PYTHONPATH": paths},
        capture_output=True,
        check=False,
        text=True,
    )
    assert made.returncode == 0, made.stderr[-2000:]
    words: dict[str, str] = json.loads(made.stdout)
    return words


def test_hostile_templates_are_stopped_in_words() -> None:
    """One test of them all, since each of pytest's processes would make the process anew."""
    words = ended()
    assert words.keys() == HOSTILE.keys()
    assert {name: said for name, said in words.items() if not said or said.startswith("written:")} == {}


@pytest.mark.parametrize("source", HARMLESS)
def test_harmless_template_is_written(source: str) -> None:
    assert compiled(source).render({"x": "hi"}) == HARMLESS[source]


def test_long_rows_may_be_copied_as_often_as_templates_copy() -> None:
    """Some templates join the text turn by turn: what they make in all grows with what they are given."""
    source = "{% set n = namespace(s='') %}{% for m in messages %}{% set n.s = n.s + m.content %}{% endfor %}{{ n.s }}"
    turns = [{"content": "x" * 5000} for _ in range(300)]
    assert len(compiled(source).render({"messages": turns})) == 1_500_000


@pytest.mark.parametrize("name", ["searched again", "deep blocks", "long source", "nested json", "broken"])
def test_model_with_a_hostile_template_is_refused(name: str) -> None:
    own = tiny.make_tokenizer(chat_template=HOSTILE[name])
    with pytest.raises(ModelError, match="the chat template refuses it") as caught:
        choose_template(own)
    assert caught.value.problems[0].got


def test_what_is_too_costly_says_so() -> None:
    with pytest.raises(TooCostly, match="characters"):
        compiled(HOSTILE["doubling"]).render({})
    assert issubclass(TooCostly, REFUSALS)


def test_the_time_of_a_day_that_is_given_is_midnight_and_else_that_of_now() -> None:
    source = "{{ strftime_now('%Y-%m-%d %H:%M') }}"
    assert compiled(source).render({"strftime_now": Now(date(2026, 1, 2))}) == "2026-01-02 00:00"
    assert compiled(source).render({})[:4] == str(date.today().year)


def test_a_busy_machine_refuses_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """No clock decides: what a template may do is counted."""
    hours = iter(range(0, 10**9, 3600))
    for clock in ("time", "monotonic", "perf_counter", "thread_time", "process_time"):
        monkeypatch.setattr(time, clock, lambda: float(next(hours)))
    source = (
        "{% for m in messages %}{% for n in messages %}{{ m.content if m is eq(n) }}{% endfor %}{% endfor %}"
    )
    turns = [{"content": str(n)} for n in range(200)]
    assert compiled(source).render({"messages": turns}) == "".join(str(n) for n in range(200))
