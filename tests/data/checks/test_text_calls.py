"""Calls in an answer's text: sound ones of every kind pass, broken ones are named and counted."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from weitiao.data.checks._text_calls import EMPTY, NO_NAME, NOT_CLOSED, NOT_JSON, NOT_OPENED, broken_call
from weitiao.data.gate.gate import open_data
from weitiao.data.settings import DataSettings

CALL = '{"name": "weather", "arguments": {"city": "Bern"}}'
SOUND = [
    "It rains.",
    f"<tool_call>\n{CALL}\n</tool_call>",
    f"I look.\n<tool_call>{CALL}</tool_call>\n<tool_call>{CALL}</tool_call>",
    f"<tool_calls><tool_call>{CALL}</tool_call></tool_calls>",
    f"<tool_call>\n{CALL}\n{CALL}\n</tool_call>",
    f"<tool_call>[{CALL}]</tool_call>",
    f"<functioncall> {CALL} ",
    f"<functioncall> {CALL} <|endoftext|>",
    f"[TOOL_CALLS] [{CALL}]",
    '[TOOL_CALLS]weather[ARGS]{"city": "Bern"}',
    f"<|python_tag|>{CALL}",
    '<|python_tag|>weather.call(city="Bern")',
    '<function=weather>{"city": "Bern"}</function>',
    "<tool_call>\n<function=weather>\n<parameter=city>\nBern\n</parameter>\n</function>\n</tool_call>",
    "<tool_call>weather\n<arg_key>city</arg_key>\n<arg_value>[Bern]</arg_value>\n</tool_call>",
    '<tool_call>weather(city="Bern")</tool_call>',
    '✿FUNCTION✿: weather\n✿ARGS✿: {"city": "Bern"}\n✿RESULT✿: rain',
    '<function_calls><invoke name="f"><parameter name="a">1</parameter></invoke></function_calls>',
    'Thought: I look.\nAction: f\nAction Input: {"a": 1}\nObservation: x',
    "Action: search\nAction Input: weather in Bern",
    '<|tool_call_begin|>functions.f:0<|tool_call_argument_begin|>{"a": 1}<|tool_call_end|>',
    '<｜tool▁call▁begin｜>function<｜tool▁sep｜>f\n```json\n{"a": 1}\n```<｜tool▁call▁end｜>',
    '<tool_call>{"name": "f", "arguments": "{\\"a\\": 1}"}</tool_call>',
    '<tool_call>{"function": {"name": "f", "arguments": {}}}</tool_call>',
    '<tool_call>{"name": "f"}</tool_call>',
    "The <tool_call> tag opens a call, </tool_call> closes it.",
    "<think>Perhaps <tool_call>{</think>It rains.",
]
BROKEN = [
    (f"<tool_call>\n{CALL[:-1]}\n</tool_call>", NOT_JSON),
    (f"<tool_call>{CALL[1:]}</tool_call>", NOT_JSON),
    ("<tool_call>{'name': 'weather', 'arguments': {}}</tool_call>", NOT_JSON),
    (f"<tool_call>\n{CALL}\n{CALL[:-2]}}}\n</tool_call>", NOT_JSON),
    (f"<tool_call>{CALL}", NOT_CLOSED),
    ("I look. <tool_call>", NOT_CLOSED),
    (f"<tool_call>{CALL}<tool_call>{CALL}</tool_call>", NOT_CLOSED),
    (f"{CALL}</tool_call>", NOT_OPENED),
    (f"<function_call>{CALL}</tool_call>", NOT_OPENED),
    ('<tool_call>{"arguments": {}}</tool_call>', NO_NAME),
    ('<tool_call>{"name": "", "arguments": {}}</tool_call>', NO_NAME),
    ('<tool_call>{"name": "f", "arguments": "{bad"}</tool_call>', NOT_JSON),
    ('<tool_call>{"name": "f", "arguments": [1]}</tool_call>', NOT_JSON),
    ('<function_calls><invoke name="f"><parameter name="a">1</invoke></function_calls>', NOT_CLOSED),
    ("<tool_call>f\n<arg_key>a</arg_key>\n<arg_value>1\n</tool_call>", NOT_CLOSED),
    ('Action: f\nAction Input: {"a": 1', NOT_JSON),
    ('<|tool_call_begin|>f<|tool_call_argument_begin|>{"a":<|tool_call_end|>', NOT_JSON),
    ('<|tool_call_begin|>f<|tool_call_argument_begin|>{"a": 1}', NOT_CLOSED),
    ('<｜tool▁sep｜>f\n```json\n{"a": }\n```<｜tool▁call▁end｜>', NOT_JSON),
    ("<tool_call>[]</tool_call>", NO_NAME),
    ("<tool_call>\n</tool_call>", EMPTY),
    ("<functioncall> {\"name\": \"f\", \"arguments\": '{\"a\": 1}'}", NOT_JSON),
    (f"[TOOL_CALLS] [{CALL}", NOT_JSON),
    ('[TOOL_CALLS]weather[ARGS]{"city": ', NOT_JSON),
    ('<function=weather>{"city": "Bern"}', NOT_CLOSED),
    ('<function=weather>{"city": }</function>', NOT_JSON),
    ("✿FUNCTION✿: weather\n✿ARGS✿: {city}", NOT_JSON),
]  # fmt: skip


@pytest.mark.parametrize("text", SOUND)
def test_a_sound_call_is_no_fault(text: str) -> None:
    assert broken_call(text) == ""


@pytest.mark.parametrize(("text", "fault"), BROKEN)
def test_a_broken_call_is_named(text: str, fault: str) -> None:
    assert broken_call(text) == fault
    assert broken_call(f"Before it.\n{SOUND[1]}\n{text}") == fault


def test_rows_are_counted_and_what_is_not_trained_is_not(tmp_path: Path) -> None:
    def row(text: str, **turn: object) -> str:
        turns = [{"role": "user", "content": "q"}, {"role": "assistant", "content": text, **turn}]
        return json.dumps({"messages": [*turns, turns[0], {"role": "assistant", "content": "a"}]})

    path = tmp_path / "a.jsonl"
    texts = [text for text, _ in BROKEN]
    path.write_text(
        "\n".join([*map(row, texts), *map(row, SOUND), row(texts[0], weight=0)]), encoding="utf-8"
    )
    (finding,) = [
        one
        for one in open_data(DataSettings(sources=[str(path)], held_out=0)).findings
        if "malformed" in one.what
    ]
    assert (finding.count, finding.severity, finding.check) == (len(BROKEN), "warning", "tools")
    assert finding.places[0].endswith(f"a.jsonl:1: {NOT_JSON}")
