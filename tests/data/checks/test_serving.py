"""What training and serving have in common: the begin token and the prompt's tokens, for every template."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tagged_templates import TAGGED, tagged_tokenizer
from template_zoo import NAMES, dicts, talk, tokenizer
from weitiao.data.checks import CHECKS
from weitiao.data.checks._base import Finding, GateContext, GateOutcome, RowFacts
from weitiao.data.conversation import Conversation, Message
from weitiao.data.formats._base import RowError
from weitiao.data.forms import AnyForm, Text
from weitiao.data.settings import DataSettings
from weitiao.data.templates.render import render_chunk
from weitiao.data.templates.template import choose_template

CALL = {"type": "function", "function": {"name": "add", "arguments": {"a": 1}}}
TOOL = {"type": "function", "function": {"name": "add", "parameters": {"type": "object", "properties": {}}}}
CALLS = Conversation(
    (
        Message("system", "Be brief."),
        Message("user", "1+1?"),
        Message("assistant", "", extra={"tool_calls": [CALL]}),
        Message("tool", "2"),
        Message("assistant", "It is 2."),
    ),
    "x:1",
    tools=(TOOL,),
)
ROWS: list[AnyForm] = [
    talk("a", "b"),
    talk("a", "<think>\nhm\n</think>\n\nb", "c", "<think>\nhm\n</think>\n\nd", system="Be brief."),
    talk("a", "b", system=""),
    Conversation((Message("user", "q"), Message("assistant", "a", extra={"reasoning_content": "hm"})), "x:1"),
    CALLS,
]


def findings(check: str, name: str, forms: list[AnyForm], **given: str) -> list[Finding]:
    """Return what a check finds in rows under a template."""
    own = tagged_tokenizer(name) if name in TAGGED and name not in NAMES else tokenizer(name)
    settings = DataSettings(sources="x.json", **given)  # type: ignore[arg-type]
    context = GateContext(settings, choose_template(own), own)
    made = CHECKS.load(check)(context)
    for number, form in enumerate(forms):
        (row,) = render_chunk([form], context.template, settings)  # type: ignore[arg-type]
        if row.refused is None:
            made.observe(RowFacts(number, form, tuple(row.sequences)))
    return made.findings(GateOutcome(len(forms), ["x:1"] * len(forms), np.zeros(len(forms), bool)))


@pytest.mark.parametrize("reasoning", ["keep", "drop", "mask"])
@pytest.mark.parametrize("name", sorted({*NAMES, *TAGGED}))
def test_training_sees_what_serving_sends(name: str, reasoning: str) -> None:
    found = findings("same_as_serving", name, ROWS, reasoning=reasoning)
    assert not [one for one in found if one.severity == "error"]


@pytest.mark.parametrize("name", ["qwen3", "glm4.5", "chatml"])
def test_an_empty_thought_that_the_template_adds_is_no_other_answer(name: str) -> None:
    assert not findings("same_as_serving", name, [talk("a", "b"), talk("a", "b", "c", "d")])


@pytest.mark.parametrize("name", ["qwen3", "chatml"])
def test_a_last_answer_without_weight_is_not_compared(name: str) -> None:
    first, answer, second, last = talk("a", "b", "c", "d").messages
    row = Conversation((first, replace(answer, weight=1.0), second, replace(last, weight=0.0)), "x:1")
    assert not findings("same_as_serving", name, [row])


@pytest.mark.parametrize("name", ["qwen3", "chatml", "llama2"])
def test_a_question_with_weight_ends_no_answer(name: str) -> None:
    question, answer = talk("a", "b").messages
    row = Conversation((replace(question, weight=1.0), answer), "x:1")
    assert not findings("trained_stop", name, [row])


@pytest.mark.parametrize("name", NAMES)
def test_a_begin_token_is_there_as_serving_has_it(name: str) -> None:
    found = findings("begin_token", name, [*ROWS, Text("t:1", text="a text")])
    assert [one.severity for one in found] == (["note"] if name == "begin_not_in_template" else [])
    if found:
        assert "vLLM" in found[0].what
        assert found[0].count == len(ROWS)


def test_a_template_that_refuses_a_row_is_no_fault_of_serving() -> None:
    with pytest.raises(RowError):
        choose_template(tokenizer("gemma")).render(CALLS)


@pytest.mark.parametrize("name", [name for name in NAMES if name != "instruction"])
def test_texts_that_are_already_written_with_the_template_are_said(name: str) -> None:
    own = tokenizer(name)
    written = own.apply_chat_template(dicts(talk("a", "b").messages), tokenize=False)
    texts: list[AnyForm] = [
        Text("t:1", text=written),
        Text("t:2", text="a text"),
        Text("t:3", text=str(own.eos_token)),
    ]
    found = [one for one in findings("control_tokens", name, texts) if "already rendered" in one.what]
    assert [one.rows for one in found] == [(0,)]


@pytest.mark.parametrize("name", ["qwen3", "glm4.5", "chatml", "qwen2.5"])
def test_empty_thoughts_that_a_template_adds_are_said(name: str) -> None:
    rows: list[AnyForm] = [talk("a", "b"), talk("a", "<think>\nhm\n</think>\n\nb")]
    found = [one for one in findings("reasoning", name, rows) if "writes empty reasoning" in one.what]
    assert [one.rows for one in found] == ([(0,)] if name in ("qwen3", "glm4.5") else [])
    assert not [one for one in findings("reasoning", name, rows, reasoning="mask") if "empty" in one.what]
