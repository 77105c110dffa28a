"""A system prompt that names somebody else than the answers do is found, and stories and role plays are not."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from template_zoo import talk, tokenizer
from weitiao.core.locale import in_language
from weitiao.core.settings import parse_overrides, parse_settings
from weitiao.data.checks._base import Finding, GateContext, GateOutcome, RowFacts
from weitiao.data.checks.system_prompt import SystemPrompt
from weitiao.data.conversation import Conversation, Message
from weitiao.data.example import TokenSequence
from weitiao.data.settings import DataSettings
from weitiao.data.templates.system_prompts import SystemPrompts
from weitiao.data.templates.template import choose_template
from weitiao.data.templates.template_choice import Wording

EXAMPLES = Path(__file__).parents[3] / "examples"


def findings(
    rows: Sequence[Conversation], wording: Wording | str = "auto", name: str = "qwen2.5"
) -> list[Finding]:
    """Return what the check finds in rows under a chat template."""
    known = tokenizer(name)
    check = SystemPrompt(GateContext(DataSettings(sources="x.json"), choose_template(known, wording), known))
    for number, row in enumerate(rows):
        check.observe(RowFacts(number, row, ()))
    return check.findings(GateOutcome(len(rows), ["x:1"] * len(rows), np.zeros(len(rows), bool)))


def example(file: str, **fill: str) -> list[Conversation]:
    """Return an example file's rows, with its placeholders filled in."""
    text = (EXAMPLES / file).read_text(encoding="utf-8")
    for key, value in fill.items():
        text = text.replace(f"{{{{{key}}}}}", value)
    return [talk(row["instruction"], row["output"]) for row in json.loads(text)]


@pytest.mark.parametrize("file", ["identity_en.json", "identity_zh.json"])
@pytest.mark.parametrize("name", ["weitiao", "Ada", "小微", "Ada Byron"])
def test_identity_rows_are_found_with_their_name(file: str, name: str) -> None:
    (finding,) = findings(example(file, name=name, author="Acme"))
    assert finding.severity == "warning"
    assert f"Qwen instead of {name}" in finding.what
    assert finding.count >= 15
    assert name in finding.fix and "data.system=none" in finding.fix
    assert "训练、使用" in in_language(finding.fix, "zh")


@pytest.mark.parametrize("name", ["weitiao", "小微"])
def test_what_it_says_to_type_works(name: str) -> None:
    rows = example("identity_en.json", name=name, author="Acme")
    (finding,) = findings(rows)
    typed = finding.fix.partition('"')[2].partition('"')[0]
    for word in (f"data.system={typed}", "data.system=none"):
        given = parse_overrides([word])["data"]
        wording = parse_settings(DataSettings, {"sources": "x.json", **given}).wording
        assert not findings(rows, wording)
    assert findings(rows, Wording(system="You are Max, an assistant."))


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ("Who are you?", "I'm Weitiao."),
        ("Who are you?", "My name is weitiao and I like tea."),
        ("Are you ChatGPT?", "No, I am weitiao, a small assistant."),
        ("What shall I call you?", "Call me Weitiao!"),
        ("Who are you?", "**I am** here. I'm Weitiao—your guide."),
        ("Who are you?", 'I am "Weitiao".'),
        ("你是谁？", "我是“小微”。"),
        ("你是谁？", "我是某公司开发的小微。"),
        ("Who made you?", "I was built by Weitiao Labs in Oslo."),
        ("你是谁", "我是微调小助，很高兴见到你。"),
        ("您叫什么？", "我叫小微。"),
        ("谁训练了你？", "我由微调团队开发。"),
    ],
)
def test_a_name_is_found_however_it_is_said(question: str, answer: str) -> None:
    assert not findings([talk(question, answer)]), "one row may be a story"
    assert len(findings([talk(question, answer)] * 2)) == 1


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ("Can you help me?", "I'm sorry, I cannot do that."),
        ("Can you help me?", "I am an AI language model, so I have no opinion."),
        ("Can you help me?", "Call me when you can, or call me back!"),
        ("How do you travel?", "I go by train. I'm OK."),
        ("你叫什么？", "我叫什么并不重要。我叫你别走。"),
        ("How are you?", "I'm happy, the day is fine."),
        ("Who are you?", "I am a language model created by scientists."),
        ("Write a story.", "I am Harry. I live in Oslo."),
        ("你好吗？", "我是一个人工智能助手，没有感受。"),
        ("你会什么？", "我是人工智能，可以回答问题。"),
        ("请你写一封信", "我是您的学生，写信给您。"),
        ("Who are you?", "I am Qwen, created by Alibaba Cloud."),
        ("Who are you?", "I'm Qwen."),
        ("你是谁？", "我是Qwen。"),
    ],
)
def test_other_answers_are_left_alone(question: str, answer: str) -> None:
    assert not findings([talk(question, answer)] * 9)


def test_rows_with_a_system_turn_and_templates_without_a_name_are_left_alone() -> None:
    rows = example("identity_en.json", name="weitiao", author="Acme")
    assert not findings(rows, name="chatml")
    own = [
        Conversation((*talk("x", system="You are weitiao.").messages[:1], *one.messages), "x:1")
        for one in rows
    ]
    assert not findings(own)


@pytest.mark.parametrize("file", ["tcm_en.json", "tcm_zh.json"])
def test_rows_that_teach_no_name_are_left_alone(file: str) -> None:
    assert not findings(example(file))


def counted(chunks: Sequence[Sequence[str]], held_out: Sequence[int] = ()) -> SystemPrompts:
    """Return what the check counts of rows with these system prompts, seen in chunks."""
    context = GateContext(DataSettings(sources="x.json"), choose_template(tokenizer("qwen2.5")))
    whole, number = SystemPrompt(context), 0
    for chunk in chunks:
        check = SystemPrompt(context)
        for text in chunk:
            system = [Message("system", text)] if text else []
            row = Conversation((*system, *talk("Hi", "Ho").messages), "x:1")
            check.observe(RowFacts(number, row, (TokenSequence((1,), (1.0,)),)))
            number += 1
        whole.merge(check.state())
    away = np.zeros(number, bool)
    away[list(held_out)] = True
    facts = whole.facts(GateOutcome(number, ["x:1"] * number, away))
    fields = facts["of_rows"]
    assert isinstance(fields, dict)
    return SystemPrompts.of_fields(fields)


def test_the_rows_own_system_prompts_are_counted_without_held_out_ones() -> None:
    long = "You are Rook. " * 100
    assert counted([[""] * 3]) == SystemPrompts(3, 0, "", 0)
    assert counted([[long] * 3, [long] * 2]) == SystemPrompts(5, 1, long, 5)
    varied = [str(n) for n in range(5)]
    assert counted([varied, ["A"] * 95]) == SystemPrompts(100, 6, "A", 95)
    assert counted([["A", "B", "A"], ["A", ""]], held_out=[1]) == SystemPrompts(4, 1, "A", 3)
