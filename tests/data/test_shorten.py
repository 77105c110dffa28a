"""Rows cut to a length keep what holds them together: thoughts closed, calls whole, an answer behind a thought."""

from __future__ import annotations

import json
import re

import pytest

from tagged_templates import TAGGED, tagged_tokenizer
from template_zoo import talk, tokenizer
from weitiao.data.conversation import Conversation, Message
from weitiao.data.settings import DataSettings
from weitiao.data.templates.render import render_chunk
from weitiao.data.templates.rendered_row import RenderedRow
from weitiao.data.templates.shorten_answer import has_structure, shortenable
from weitiao.data.templates.template import choose_template
from weitiao.data.templates.truncation import NEVER_CUT, NO_ROOM

NOTHING = re.compile(r"(?!)")
LONG = "because of this " * 60
THOUGHT = f"<think>\nfirst {LONG}last\n</think>\n\n"
CALL = {
    "type": "function",
    "function": {"name": "add", "arguments": {"text": "word " * 60}},
    "id": "abcdefghi",
}
TEMPLATES = ["chatml", "qwen3", "drops_thinking", "phi3", "glm4"]


def render(one: Conversation, name: str, max_length: int, **given: object) -> RenderedRow:
    """Cut one conversation to a length."""
    own = tagged_tokenizer(name) if name in TAGGED and name not in TEMPLATES else tokenizer(name)
    settings = DataSettings(sources="rows.json", max_length=max_length, overlong="cut", **given)  # type: ignore[arg-type]
    (row,) = render_chunk([one], choose_template(own), settings)
    return row


def answer_of(row: RenderedRow, name: str) -> str:
    """Return what the last sequence trains."""
    (sequence,) = row.sequences[-1:]
    own = tagged_tokenizer(name) if name in TAGGED and name not in TEMPLATES else tokenizer(name)
    return own.decode([i for i, weight in zip(sequence.ids, sequence.weights, strict=True) if weight])


@pytest.mark.parametrize("name", [*TEMPLATES, "glm4.5", "always_thinks"])
@pytest.mark.parametrize("max_length", [90, 120, 200, 300])
@pytest.mark.parametrize("beside", [False, True], ids=["in the text", "beside"])
def test_a_thought_loses_its_middle_and_stays_closed(name: str, max_length: int, beside: bool) -> None:
    if beside and name not in ("qwen3", "glm4.5", "always_thinks"):
        pytest.skip("this template has no place for a thought beside the text")
    one = talk("why?", THOUGHT + "So it is.")
    if beside:
        thinks = Message("assistant", "So it is.", extra={"reasoning_content": f"first {LONG}last"})
        one = Conversation((one.messages[0], thinks), "x:1")
    row = render(one, name, max_length)
    if name == "always_thinks" and not beside:
        assert row.sequences or row.lost
        return
    answer = answer_of(row, name)
    assert answer.count("</think>") == 1
    assert re.search(r"first because.*last\s*</think>\s*So it is\.", answer, re.DOTALL)
    assert max_length - 12 <= len(row.sequences[0].ids) <= max_length
    assert (row.cut, row.answers_shortened) == (1, 1)
    assert row.cut_tokens > 0


@pytest.mark.parametrize("name", TEMPLATES)
def test_where_the_thought_is_not_enough_the_answer_loses_its_end(name: str) -> None:
    row = render(talk("why?", f"<think>\nfirst and last\n</think>\n\nSo {LONG}it is."), name, 120)
    assert re.search(r"<think>\s*first last\s*</think>\s*So because of", answer_of(row, name))
    assert "it is." not in answer_of(row, name)
    assert row.sequences[0].ids[-1] in choose_template(tokenizer(name)).stop_ids


@pytest.mark.parametrize("max_length", [60, 100])
def test_what_the_template_writes_before_an_answer_is_not_cut(max_length: int) -> None:
    """Qwen3 opens and closes an empty thought before an answer that has none."""
    row = render(talk("why?", LONG), "qwen3", max_length)
    assert re.match(r"<think>\s*</think>\s*because of", answer_of(row, "qwen3"))
    assert len(row.sequences[0].ids) <= max_length


@pytest.mark.parametrize("max_length", range(20, 60))
def test_no_length_leaves_half_a_structure(max_length: int) -> None:
    for name in ("qwen3", "glm4.5"):
        row = render(
            talk("why?", "<think>\na b c d e f g h\n</think>\n\nSo it is and so on."), name, max_length
        )
        assert len(row.sequences) + len(row.lost) == 1
        if row.sequences:
            answer = answer_of(row, name)
            assert answer.count("</think>") == 1
            assert re.search(r"</think>\s*So", answer)
        else:
            assert row.lost[0].reason in {one.format(max_length=max_length) for one in (NO_ROOM, NEVER_CUT)}


@pytest.mark.parametrize("name", ["qwen2.5", "qwen3", "mistral", "glm4.5"])
@pytest.mark.parametrize("thinks", [False, True])
def test_a_call_is_whole_or_its_row_is_left_out(name: str, thinks: bool) -> None:
    extra = {"tool_calls": [CALL], **({"reasoning_content": LONG} if thinks else {})}
    one = Conversation((Message("user", "go"), Message("assistant", "", extra=extra)), "x:1")
    own = tagged_tokenizer(name) if name not in TEMPLATES and name in TAGGED else tokenizer(name)
    whole = len(choose_template(own).render(one)[0].ids)
    for max_length in (whole - 1, whole - 30, whole // 2, 60):
        row = render(one, name, max_length)
        if row.sequences:
            assert thinks
            assert "word " * 59 + "word" in answer_of(row, name)
        else:
            reasons = (NEVER_CUT,) if max_length > 60 else (NEVER_CUT, NO_ROOM)
            assert row.lost[0].reason in [one.format(max_length=max_length) for one in reasons]


@pytest.mark.parametrize(
    "answer",
    [
        '<tool_call>\n{"name": "add", "arguments": {"text": "%s"}}\n</tool_call>' % ("word " * 80),
        'I call.\n<tool_call>\n{"name": "add", "arguments": {"text": "%s"}}\n</tool_call>' % ("word " * 80),
        json.dumps({"name": "add", "arguments": {"text": "word " * 80}}),
        json.dumps([{"a": n} for n in range(80)], indent=1),
        'Action: add\nAction Input: {"text": "%s"}' % ("word " * 80),
        '```json\n{"text": "%s"}\n```' % ("word " * 80),
        '[TOOL_CALLS][{"name": "add", "arguments": {"text": "%s"}}]' % ("word " * 80),
        '<function_call>{"text": "%s"}</function_call>' % ("word " * 80),
        "<tool_call>add\n<arg_key>text</arg_key>\n<arg_value>%s</arg_value>\n</tool_call>" % ("word " * 80),
    ],
)
def test_calls_written_into_the_text_are_whole_or_left_out(answer: str) -> None:
    for name in ("chatml", "glm4.5"):
        if "arg_key" in answer and name == "chatml":
            continue  # these are tags to one of the two only
        row = render(talk("go", answer), name, 80)
        assert not row.sequences
        assert row.lost[0].reason == NEVER_CUT.format(max_length=80)
        row = render(talk("go", f"<think>\n{LONG}\n</think>\n\n{answer}"), name, 80)
        assert not row.sequences


@pytest.mark.parametrize(
    "answer",
    ["a {b} c " * 60, "Use <b>bold</b> text. " * 30, "x = [1, 2] and so " * 40, "见下 [1] 文。" * 60],
)
def test_ordinary_text_is_cut_at_its_end(answer: str) -> None:
    assert not has_structure(answer * 60, NOTHING)
    row = render(talk("go", answer * 60), "chatml", 80)
    assert len(row.sequences[0].ids) == 80


def test_reasoning_that_is_dropped_or_masked_goes_before_the_answer_is_cut() -> None:
    one = talk("why?", THOUGHT + "So it is.")
    for name in ("chatml", "qwen3"):
        dropped = render(one, name, 80, reasoning="drop")
        assert "So it is." in answer_of(dropped, name)
        masked = render(one, name, 80, reasoning="mask")
        assert answer_of(masked, name).strip().startswith("So it is.")
        assert "first" in tokenizer(name).decode(list(masked.sequences[0].ids))


def test_no_question_is_cut_where_all_tokens_are_trained() -> None:
    row = render(talk("why? " * 40, LONG), "chatml", 60, train_on="all")
    assert row.lost[0].reason == NO_ROOM.format(max_length=60)
    row = render(talk("why?", LONG), "chatml", 60, train_on="all")
    assert answer_of(row, "chatml").startswith(
        "<|im_start|>user\nwhy?<|im_end|>\n<|im_start|>assistant\nbecause"
    )


def test_pieces_leave_nothing_out_but_what_they_should() -> None:
    parts = shortenable(Message("assistant", "<think>一二三四五六</think>七八九十"), NOTHING)
    assert parts.without(0) == parts.message
    assert parts.without(3).content == "<think>一二六</think>七八九十"
    assert parts.without(parts.most).content == "<think>一六</think>七"
    opened = shortenable(Message("assistant", "a b c d\n</think>\n\nso"), NOTHING)
    assert opened.without(opened.most).content == "a d\n</think>\n\nso"
