"""What a template has no place for is said, and what it writes is not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import tiny
from tagged_templates import TAGGED, tagged_tokenizer
from template_zoo import talk, tokenizer
from weitiao.data.checks._base import Finding, GateContext, GateOutcome, RowFacts
from weitiao.data.checks.unwritten import Unwritten
from weitiao.data.conversation import Conversation, Message
from weitiao.data.settings import DataSettings
from weitiao.data.templates.template import choose_template

FUNCTION = {"type": "function", "function": {"name": "look_up_weather", "arguments": {"city": "Oslo"}}}
OFFERED = {"type": "function", "function": {"name": "look_up_weather", "parameters": {"type": "object"}}}
CALLS = Conversation(
    (
        Message("user", "Is it cold in Oslo?"),
        Message("assistant", "", extra={"tool_calls": [FUNCTION]}),
        Message("tool", "-3", extra={"name": "look_up_weather"}),
        Message("assistant", "Yes, it is.", extra={"reasoning_content": "Three degrees below zero is cold."}),
    ),
    "rows.json:1",
    tools=(OFFERED,),
)


def findings(template: str) -> dict[str, Finding]:
    """Return what the check finds in one row under a template, by its severity and first words."""
    known = tokenizer(template)
    made = choose_template(known)
    check = Unwritten(GateContext(DataSettings(sources="x.json"), made, known))
    check.observe(RowFacts(0, CALLS, tuple(made.render(CALLS))))
    outcome = GateOutcome(1, ["rows.json:1"], np.zeros(1, bool))
    return {
        one.what.partition("no place for ")[2].split(",")[0].split(":")[0]: one
        for one in check.findings(outcome)
    }


def test_what_a_plain_template_leaves_out_is_said() -> None:
    found = findings("chatml")
    assert {(name, one.severity) for name, one in found.items()} == {
        ("tool calls", "error"),
        ("the list of functions", "warning"),
        ("this reasoning", "warning"),
    }
    assert all(one.places[0].startswith("rows.json:1") for one in found.values())


@pytest.mark.parametrize("template", ["qwen3"])
def test_what_a_template_writes_is_not(template: str) -> None:
    assert not findings(template)


def check_of(name: str, one: Conversation) -> dict[str, Finding]:
    """Return what the check finds in one conversation under a template, by kind."""
    known = tagged_tokenizer(name) if name in TAGGED else tokenizer(name)
    made = choose_template(known)
    check = Unwritten(GateContext(DataSettings(sources="x.json"), made, known))
    check.observe(RowFacts(0, one, tuple(made.render(one))))
    found = check.findings(GateOutcome(1, ["rows.json:1"], np.zeros(1, bool)))
    return {kind: item for kind, own in Unwritten.kinds.items() for item in found if item.what == own.what}


NAMES_USERS = (
    "{% for m in messages %}<|im_start|>{{ m.role }}"
    "{% if m.name and m.role == 'user' %} {{ m.name }}{% endif %}{{ '\\n' }}"
    "{{ m.content }}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


@pytest.mark.parametrize(
    ("named", "lost"), [(("user",), []), (("assistant",), ["Mia"]), (("user", "assistant"), ["Mia"])]
)
def test_names_of_speakers_that_are_not_written_are_said(named: tuple[str, ...], lost: list[str]) -> None:
    known = tiny.make_tokenizer()
    turns = (Message("user", "Who is Mia?"), Message("assistant", "I am."))
    one = Conversation(
        tuple(replace(turn, extra={"name": "Mia"} if turn.role in named else {}) for turn in turns), "x:1"
    )
    for template, wanted in ((NAMES_USERS, lost), (known.chat_template, ["Mia"])):
        known.chat_template = template
        check = Unwritten(GateContext(DataSettings(sources="x.json"), choose_template(known), known))
        check.observe(RowFacts(0, one, tuple(choose_template(known).render(one))))
        found = check.findings(GateOutcome(1, ["x:1"], np.zeros(1, bool)))
        assert [(item.severity, item.places) for item in found] == [("note", (f"x:1: {n}",)) for n in wanted]


def test_words_said_elsewhere_hide_nothing() -> None:
    """Question, thought, result and the last answer all name the function; only the calling turn counts."""
    said = Conversation(
        (
            Message("user", "Please use look_up_weather with Oslo."),
            Message("assistant", "", extra={"tool_calls": [FUNCTION]}),
            Message("tool", "look_up_weather: -3"),
            Message("assistant", "look_up_weather says -3 in Oslo."),
        ),
        "rows.json:1",
        tools=(OFFERED,),
    )
    assert set(check_of("chatml", said)) == {"calls", "tools"}
    assert "look_up_weather" in check_of("chatml", said)["calls"].places[0]
    assert not check_of("qwen2.5", said)
    # GLM-4's template shows functions, and writes no call of one.
    assert set(check_of("glm4", said)) == {"calls"}


@pytest.mark.parametrize("name", ["mistral", "qwen2.5"])
def test_text_beside_a_call_is_said_where_the_template_drops_it(name: str) -> None:
    both = Conversation(
        (
            Message("user", "go"),
            Message("assistant", "I look.", extra={"tool_calls": [FUNCTION]}),
            Message("tool", "1"),
            Message("assistant", "Done."),
        ),
        "rows.json:1",
    )
    assert set(check_of(name, both)) == ({"texts"} if name == "mistral" else set())


def test_results_without_a_place_are_an_error() -> None:
    known = tiny.make_tokenizer(
        chat_template=tiny.CHATML.replace(
            "{% for message in messages %}", "{% for message in messages if message.role != 'tool' %}"
        )
    )
    made = choose_template(known)
    check = Unwritten(GateContext(DataSettings(sources="x.json"), made, known))
    check.observe(RowFacts(0, CALLS, tuple(made.render(CALLS))))
    found = check.findings(GateOutcome(1, ["rows.json:1"], np.zeros(1, bool)))
    assert ("error", Unwritten.kinds["results"].what) in {(one.severity, one.what) for one in found}


def test_thoughts_that_a_template_takes_out_of_every_answer_are_said() -> None:
    thinks = talk("1+1?", "<think>hm</think>two")
    assert set(check_of("deepseek_r1", thinks)) == {"thoughts"}
    assert not check_of("qwen3", thinks)
    assert not check_of("chatml", thinks)
