"""What a template has no place for is said, and what it writes is not."""

from __future__ import annotations

import numpy as np
import pytest

from template_zoo import tokenizer
from weitiao.data.checks._base import Finding, GateContext, Outcome, RowFacts
from weitiao.data.checks.unwritten import Unwritten
from weitiao.data.conversation import Conversation, Message
from weitiao.data.settings import DataSettings
from weitiao.data.template import choose_template

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
    outcome = Outcome(1, ["rows.json:1"], np.zeros(1, bool))
    return {
        one.what.partition("no place for ")[2].split(",")[0].split(":")[0]: one
        for one in check.findings(outcome)
    }


def test_what_a_plain_template_leaves_out_is_said() -> None:
    found = findings("chatml")
    assert {(name, one.severity) for name, one in found.items()} == {
        ("tool calls", "error"),
        ("the list of functions", "warning"),
        ("reasoning_content", "warning"),
    }
    assert all(one.places[0].startswith("rows.json:1") for one in found.values())


@pytest.mark.parametrize("template", ["qwen3"])
def test_what_a_template_writes_is_not(template: str) -> None:
    assert not findings(template)
