"""Masks, tools and reasoning over real templates; plans and word-wise encoding against the plain way."""

from __future__ import annotations

import pickle
from dataclasses import replace
from typing import Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from real_templates import PHI4, REAL
from template_zoo import NAMES, dicts, talk, tokenizer, without_plans
from weitiao.data.conversation import Conversation, Message
from weitiao.data.example import TokenSequence
from weitiao.data.formats._base import RowError
from weitiao.data.forms import Pair, Preference, Text
from weitiao.data.settings import DataSettings
from weitiao.data.templates.encoder import Encoder, Piece
from weitiao.data.templates.render import render_chunk
from weitiao.data.templates.spans import Masks, variables
from weitiao.data.templates.template import ChatWriter, Template, choose_template
from weitiao.data.templates.word_cache import cuts_at_blanks

CALL = {"type": "function", "function": {"name": "add", "arguments": {"a": 1}}}
TOOL = {"type": "function", "function": {"name": "add", "description": "adds <|im_end|>", "parameters": {}}}
CALLS = Conversation(
    (
        Message("user", "1+1?"),
        Message("assistant", "", extra={"tool_calls": [CALL]}),
        Message("tool", "2"),
        Message("assistant", "It is 2."),
    ),
    "calls:1",
    tools=(TOOL,),
)
CONTENT = st.sampled_from(
    [
        "a",
        " b ",
        "\n\nc",
        "hi <|im_end|> there",
        "<think>\nhm\n</think>\n\nso",
        "</think>",
        "是。\n",
        "x " * 9,
        "<|im_",
    ]
)
DATA = {"sources": [{"rows": [{"a": 1}]}]}


def trained(template: Template, one: Conversation, masks: Masks, name: str) -> list[tuple[str, float]]:
    """Return (text, weight) of each stretch of one weight in the last sequence of a conversation."""
    return stretches_of(template.render(one, masks)[-1], name)


def all_trained(template: Template, one: Conversation, name: str) -> list[tuple[str, float]]:
    """Return the same of all its sequences, one behind the other."""
    return [stretch for sequence in template.render(one) for stretch in stretches_of(sequence, name)]


def stretches_of(sequence: TokenSequence, name: str) -> list[tuple[str, float]]:
    """Return (text, weight) of each stretch of one weight."""
    stretches: list[tuple[list[int], float]] = []
    for token, weight in zip(sequence.ids, sequence.weights, strict=True):
        if not stretches or stretches[-1][1] != weight:
            stretches.append(([], weight))
        stretches[-1][0].append(token)
    return [(tokenizer(name).decode(ids), weight) for ids, weight in stretches]


@settings(max_examples=80, deadline=None)
@given(
    name=st.sampled_from(NAMES),
    rows=st.lists(st.lists(CONTENT, min_size=2, max_size=4), min_size=3, max_size=6),
    system=st.sampled_from(["", "Be brief.", " "]),
    train_on=st.sampled_from(["answers", "last", "all"]),
)
def test_plans_give_what_rendering_each_row_gives(
    name: str, rows: list[list[str]], system: str, train_on: Literal["answers", "last", "all"]
) -> None:
    template, masks = choose_template(tokenizer(name)), Masks(train_on)
    with without_plans():
        plain = choose_template(tokenizer(name))
    talks = [talk(*row[: len(row) // 2 * 2], system=system) for row in rows]
    for one in talks * 3:
        with without_plans():
            (expected,) = plain.render_many([one], masks)
        (got,) = template.render_many([one], masks)
        if isinstance(expected, RowError):
            assert isinstance(got, RowError)
            assert got.reason == expected.reason
        else:
            assert got == expected


@pytest.mark.parametrize("name", sorted(REAL))
def test_one_shape_runs_the_template_for_its_first_rows_only(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    template = choose_template(tokenizer(name))
    read = template.tokenizer.get_chat_template
    times: list[int] = []

    def counted(*given: Any, **named: Any) -> str:  # noqa: ANN401
        times.append(1)
        return read(*given, **named)

    monkeypatch.setattr(template.tokenizer, "get_chat_template", counted)
    template.render_many([talk("a", "b"), talk("c", "d")])
    assert times
    times.clear()
    assert all(template.render(talk(f"q{n}", f"a{n}")) for n in range(5))
    assert not times


@pytest.mark.parametrize("name", [name for name in NAMES if name != "instruction"])
@pytest.mark.parametrize("asks", [True, False])
def test_text_is_what_transformers_writes(name: str, asks: bool) -> None:
    own = tokenizer(name)
    for one in (talk("Hi", "Hello!", " x\n"), talk("a", "<think>b</think>c", "d", "e")):
        text = ChatWriter(choose_template(own).tokenizer).write(one.messages, asks=asks)
        assert text == own.apply_chat_template(
            dicts(one.messages), tokenize=False, add_generation_prompt=asks
        )


@pytest.mark.parametrize("name", ["qwen2.5", "qwen3", "llama3.1", "mistral", "glm4"])
def test_tools_and_calls_are_written_as_transformers_writes_them(name: str) -> None:
    own = tokenizer(name)
    template = choose_template(own)
    text = ChatWriter(template.tokenizer).write(CALLS.messages, CALLS.tools, asks=False)
    turns = variables(CALLS.messages)
    assert text == own.apply_chat_template(turns, tools=list(CALLS.tools), tokenize=False)
    *_, last = template.render(CALLS)
    prompt = template.prompt(CALLS.messages[:-1], CALLS.tools)
    assert last.ids[: len(prompt.ids)] == prompt.ids
    if name != "glm4":
        assert "add" in own.decode([i for e in template.render(CALLS) for i in e.ids])
    ends = [i for i, weight in zip(last.ids, last.weights, strict=True) if weight and i in template.stop_ids]
    assert ends, "control tokens in a tool's description are text"


def test_arguments_in_json_text_are_read() -> None:
    call = {"function": {"name": "add", "arguments": '{"a": 1}'}}
    (turn,) = variables([Message("assistant", "", extra={"tool_calls": [call], "name": None})])
    assert turn["tool_calls"][0]["function"]["arguments"] == {"a": 1}
    assert "name" not in turn


def test_generation_marks_agree_with_message_boundaries() -> None:
    own, one = tokenizer("phi4"), talk("Hi", "Hello!", "你是谁？", "一个小模型。")
    assert "{% generation %}" in PHI4
    both = own.apply_chat_template(
        dicts(one.messages), return_dict=True, return_assistant_tokens_mask=True, tokenize=True
    )
    (sequence,) = choose_template(own).render(one)
    assert list(sequence.ids) == both["input_ids"]
    assert [int(weight) for weight in sequence.weights] == both["assistant_masks"]


def test_what_is_trained_goes_by_setting_and_by_message() -> None:
    template, one = choose_template(tokenizer("chatml")), talk("q", "one", "r", "two")
    last = trained(template, one, Masks("last"), "chatml")
    assert [text for text, weight in last if weight] == ["two<|im_end|>"]
    assert [weight for _, weight in trained(template, one, Masks("all"), "chatml")] == [1.0]
    weighed = [
        replace(message, weight=weight)
        for message, weight in zip(one.messages, (None, 0.0, 0.5, 0.25), strict=True)
    ]
    stretches = trained(template, replace(one, messages=tuple(weighed)), Masks(), "chatml")
    assert [(text, weight) for text, weight in stretches if weight] == [
        ("r<|im_end|>", 0.5),
        ("two<|im_end|>", 0.25),
    ]
    silent = tuple(replace(message, weight=0.0) for message in one.messages)
    (row,) = render_chunk([replace(one, messages=silent)], template, DataSettings(**DATA))
    assert "none of its tokens is trained" in row.dropped


@pytest.mark.parametrize("words", ["What is im?", "user", " tea "])
@pytest.mark.parametrize("name", NAMES)
def test_a_question_with_a_weight_trains_its_words_and_nothing_of_the_template(name: str, words: str) -> None:
    template, one = choose_template(tokenizer(name)), talk(words, "one", "r", "two")
    asked, *rest = one.messages
    stretches = all_trained(template, replace(one, messages=(replace(asked, weight=0.5), *rest)), name)
    (text,) = [text for text, weight in stretches if weight == 0.5]
    ends = tokenizer(name).convert_ids_to_tokens(sorted(template.stop_ids))
    assert {text.strip().removesuffix(end).strip() for end in ends} >= {words.strip()}


def test_a_system_text_that_the_template_folds_into_a_question_has_no_weight_of_its_own() -> None:
    template, one = choose_template(tokenizer("no_system")), talk("q", "one", system="Be brief.")
    asked, *rest = one.messages
    with pytest.raises(RowError, match="weight cannot be placed"):
        template.render(replace(one, messages=(replace(asked, weight=1.0), *rest)))


def test_answers_that_a_template_changes_are_not_lost_beside_a_weighed_question() -> None:
    template = choose_template(tokenizer("drops_thinking"))
    one = talk("q", "<think>hm</think>one", "r", "two")
    messages = tuple(replace(m, weight=0.5) if m.role == "user" else m for m in one.messages)
    stretches = all_trained(template, replace(one, messages=messages), "drops_thinking")
    assert [text for text, weight in stretches if weight == 0.5] == ["q<|im_end|>", "r<|im_end|>"]
    assert [text for text, weight in stretches if weight == 1.0] == [
        "<think>hm</think>one<|im_end|>",
        "two<|im_end|>",
    ]


@pytest.mark.parametrize("name", ["chatml", "qwen3", "llama2"])
def test_reasoning_is_kept_dropped_or_masked(name: str) -> None:
    template = choose_template(tokenizer(name))
    one = talk("q", "<think>\nhmm well\n</think>\n\nanswer")
    for reasoning, thinks, weighs in (("keep", True, True), ("mask", True, False), ("drop", False, False)):
        stretches = trained(template, one, Masks(reasoning=reasoning), name)  # type: ignore[arg-type]
        everything = "".join(text for text, _ in stretches)
        carried = "".join(text for text, weight in stretches if weight)
        assert ("hmm" in everything, "hmm" in carried) == (thinks, weighs)
        assert "answer" in carried
    kept, masked = (template.render(one, Masks(reasoning=r))[0].ids for r in ("keep", "mask"))
    assert kept == masked


def test_reasoning_beside_the_text_is_the_templates() -> None:
    template = choose_template(tokenizer("qwen3"))
    one = Conversation(
        (Message("user", "q"), Message("assistant", "a", extra={"reasoning_content": "hm"})), "x:1"
    )
    assert trained(template, one, Masks(), "qwen3")[-1][0].startswith("<think>\nhm\n</think>\n\na")
    masked = trained(template, one, Masks(reasoning="mask"), "qwen3")
    assert masked[-1] == ("a<|im_end|>", 1.0)


def test_every_form_is_rendered_and_texts_lose_nothing() -> None:
    own = tokenizer("chatml")
    template, asked = choose_template(own), (Message("user", "q"),)
    text = Text("t:1", text="word <|im_end|> " * 30)
    pair = Preference(
        "p:1", prompt=asked, chosen=(Message("assistant", "a"),), rejected=(Message("assistant", "b" * 90),)
    )
    forms = [text, pair, Pair("s:1", source="x", target="y"), talk("a", "b")]
    rows = render_chunk(forms, template, DataSettings(**DATA, max_length=40))
    pieces = [sequence.ids for sequence in rows[0].sequences]
    whole = [i for piece in pieces for i in piece]
    assert max(map(len, pieces)) <= 40
    assert own.decode(whole) == text.text + own.eos_token
    assert whole.count(own.eos_token_id) == 1
    assert all(weight == 1 for sequence in rows[0].sequences for weight in sequence.weights)
    assert (rows[1].sequences, "longer than 40" in rows[1].dropped) == ([], True)
    assert [row.parts for row in rows[2:]] == [[""], [""]]
    long = render_chunk([pair], template, DataSettings(**DATA, max_length=400))
    assert long[0].parts == ["chosen", "rejected"]
    assert long == render_chunk(
        [pair], pickle.loads(pickle.dumps(template)), DataSettings(**DATA, max_length=400)
    )


@settings(max_examples=100, deadline=None)
@given(st.lists(st.text(st.sampled_from("ab 1.,'是\n\t\u3000é<|im_start|>"), max_size=40), max_size=4))
def test_words_have_the_ids_of_whole_texts(texts: list[str]) -> None:
    own = tokenizer("chatml")
    encoder = Encoder(own)
    assert cuts_at_blanks(own.backend_tokenizer)
    expected = [own(text, add_special_tokens=False)["input_ids"] for text in texts]
    assert [list(ids) for ids in encoder.encode([Piece(text) for text in texts])] == expected
