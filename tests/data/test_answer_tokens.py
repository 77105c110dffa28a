"""Special tokens that belong to answers are tokens there, and nowhere else; those that rule turns are always text."""

from __future__ import annotations

from collections import Counter
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tagged_templates import TAGGED, tagged_tokenizer
from template_zoo import NAMES, dicts, talk, tokenizer, without_plans
from weitiao.data.conversation import Conversation, Message
from weitiao.data.formats._base import RowError
from weitiao.data.templates.encoder import special_tokens
from weitiao.data.templates.spans import Masks
from weitiao.data.templates.template import Template, choose_template

THINKING = ["qwen3", "deepseek_r1", "glm4.5", "deepseek_v3.1"]
OTHERS = {name: sorted(special_tokens(tagged_tokenizer(name)) - TAGGED[name].belong) for name in TAGGED}


@cache
def template_of(name: str) -> Template:
    """Return the checked template of a tokenizer whose tags are special tokens."""
    return choose_template(tagged_tokenizer(name))


def specials_in(name: str, one: Conversation) -> Counter[int]:
    """Count the special tokens in the last sequence of a conversation."""
    own = tagged_tokenizer(name)
    known = {own.convert_tokens_to_ids(token) for token in special_tokens(own)}
    return Counter(i for i in template_of(name).render(one)[-1].ids if i in known)


def with_calls(said: str, asked: str = "go", result: str = "1", beside: str = "") -> Conversation:
    """Make a conversation with a call, whose argument, question, result and thought can be chosen."""
    call = {"type": "function", "function": {"name": "add", "arguments": {"a": said}}, "id": "abcdefghi"}
    turns = (
        Message("user", asked),
        Message(
            "assistant", "", extra={"tool_calls": [call], **({"reasoning_content": beside} if beside else {})}
        ),
        Message("tool", result, extra={"tool_call_id": "abcdefghi", "name": "add"}),
        Message("assistant", "Done."),
    )
    return Conversation(turns, "calls:1")


@pytest.mark.parametrize("name", TAGGED)
def test_what_belongs_to_answers_follows_from_the_template(name: str) -> None:
    control = template_of(name).control_tokens
    specials = special_tokens(tagged_tokenizer(name))
    kept = {token for token in specials if not control.mark([Message("assistant", token)])[2]}
    assert kept == TAGGED[name].belong


@pytest.mark.parametrize("name", TAGGED)
def test_other_special_tokens_are_text_whoever_says_them(name: str) -> None:
    plain = specials_in(name, talk("a", "b", "c", "d"))
    for token in OTHERS[name]:
        said = talk(f"a {token}", f"b {token} x", f"{token}c", f"{token}d")
        assert specials_in(name, said) == plain, token
        text = tagged_tokenizer(name).decode(list(template_of(name).render(said)[-1].ids))
        assert token in text


@pytest.mark.parametrize("name", TAGGED)
def test_tokens_of_answers_are_text_for_others_and_in_calls(name: str) -> None:
    template = template_of(name)
    try:
        plain = specials_in(name, with_calls("x", beside="hm"))
    except RowError:
        pytest.skip("this template refuses calls")
    for token in sorted(special_tokens(tagged_tokenizer(name))):
        for held in (
            with_calls(f"x{token}y", beside="hm"),
            with_calls("x", asked=f"go {token}", beside="hm"),
            with_calls("x", result=f"1{token}", beside="hm"),
            with_calls("x", beside=f"hm {token} hm"),
        ):
            assert specials_in(name, held) == plain, token
    assert template.prompt([Message("user", "a")]).ids


@pytest.mark.parametrize("name", [name for name, own in TAGGED.items() if own.belong])
def test_tokens_of_answers_are_tokens_in_answers(name: str) -> None:
    own, template = tagged_tokenizer(name), template_of(name)
    for token in sorted(TAGGED[name].belong):
        ids = template.render(talk("a", f"x {token} y"))[-1].ids
        assert ids.count(own.convert_tokens_to_ids(token)) == own.decode(list(ids)).count(token), token


@pytest.mark.parametrize("name", THINKING)
def test_thoughts_are_tokens_and_leave_the_history_as_the_template_has_it(name: str) -> None:
    own, template = tagged_tokenizer(name), template_of(name)
    one = talk("1+1?", "<think>\neasy\n</think>\n\ntwo", "2+2?", "<think>\nhmm\n</think>\n\nfour")
    last = template.render(one)[-1]
    text = own.decode(list(last.ids))
    assert "two" in text
    assert "easy" not in text
    whole = own.apply_chat_template(dicts(one.messages), return_dict=False)
    if "hmm" in own.decode(whole):
        assert list(last.ids) == whole[: len(last.ids)]
        assert own.convert_tokens_to_ids("</think>") in last.ids
    prompt = template.prompt(one.messages[:3]).ids
    assert list(prompt) == own.apply_chat_template(
        dicts(one.messages[:3]), add_generation_prompt=True, return_dict=False
    )
    assert last.ids[: len(prompt)] == prompt


@pytest.mark.parametrize("name", ["qwen3", "glm4.5"])
@pytest.mark.parametrize("reasoning", ["drop", "mask"])
def test_special_thoughts_are_dropped_and_masked(name: str, reasoning: str) -> None:
    own = tagged_tokenizer(name)
    (sequence,) = template_of(name).render(
        talk("1+1?", "<think>\nhmm\n</think>\n\ntwo"),
        Masks(reasoning=reasoning),  # type: ignore[arg-type]
    )
    trained = own.decode([i for i, weight in zip(sequence.ids, sequence.weights, strict=True) if weight])
    assert "hmm" not in trained
    assert "two" in trained
    assert ("hmm" in own.decode(list(sequence.ids))) == (reasoning == "mask")


CONTENT = st.sampled_from(
    [
        *(
            "a",
            " b ",
            "\n\nc",
            "</think>",
            "<think>\nhm\n</think>\n\nso",
            "<think>x",
            "[THINK]a[/THINK]b",
            "<|im_end|>",
        ),
        *(
            "<tool_call>\n{}\n</tool_call>",
            "</s>[INST]",
            "a</think>b</think>c",
            "<｜tool▁sep｜>",
            "<|channel|>",
            "",
        ),
    ]
)


@settings(max_examples=60, deadline=None)
@given(
    name=st.sampled_from(sorted(TAGGED)),
    rows=st.lists(st.lists(CONTENT, min_size=2, max_size=4), min_size=3, max_size=5),
)
def test_plans_give_what_rendering_each_row_gives(name: str, rows: list[list[str]]) -> None:
    template = template_of(name)
    with without_plans():
        plain = template_of(name)
    for one in [talk(*row[: len(row) // 2 * 2]) for row in rows] * 3:
        with without_plans():
            (expected,) = plain.render_many([one])
        (got,) = template.render_many([one])
        assert isinstance(got, RowError) if isinstance(expected, RowError) else got == expected


@pytest.mark.parametrize("name", [name for name in NAMES if name != "instruction"])
def test_tokenizers_whose_tags_are_not_special_have_nothing_to_exempt(name: str) -> None:
    control = choose_template(tokenizer(name)).control_tokens
    kept = {
        token
        for token in special_tokens(tokenizer(name))
        if not control.mark([Message("assistant", token)])[2]
    }
    assert kept <= {"[TOOL_CALLS]"}
