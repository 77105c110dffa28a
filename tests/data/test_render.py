"""The policy for long rows: what is never cut, over lengths and templates, and what is counted."""

from __future__ import annotations

from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from template_zoo import NAMES, talk, tokenizer
from weitiao.data.conversation import Conversation
from weitiao.data.forms import Text
from weitiao.data.settings import DataSettings
from weitiao.data.templates.render import NO_TOKEN, render_chunk
from weitiao.data.templates.rendered_row import RenderedRow
from weitiao.data.templates.template import Template, choose_template

WORDS = st.text("ab 是\n", min_size=1, max_size=40).map(lambda text: f"x{text}y")


@cache
def template_of(name: str) -> Template:
    return choose_template(tokenizer(name))


def render(one: Conversation, name: str, max_length: int, overlong: str) -> RenderedRow:
    """Render one conversation under a policy."""
    settings = DataSettings(sources="rows.json", max_length=max_length, overlong=overlong)
    (row,) = render_chunk([one], template_of(name), settings)
    return row


@settings(max_examples=200, deadline=None)
@given(
    name=st.sampled_from(NAMES),
    turns=st.lists(st.tuples(WORDS, WORDS), min_size=1, max_size=4),
    system=st.sampled_from(["", "Be brief."]),
    max_length=st.integers(8, 150),
    overlong=st.sampled_from(["drop", "cut"]),
)
def test_what_is_kept_is_whole_where_it_must_be(
    name: str, turns: list[tuple[str, str]], system: str, max_length: int, overlong: str
) -> None:
    one = talk(*(text for turn in turns for text in turn), system=system)
    template = template_of(name)
    result = render(one, name, max_length, overlong)
    assert len(result.sequences) + len(result.lost) == len(template.render(one))
    for sequence in result.sequences:
        assert len(sequence.ids) <= max_length
        assert sequence.trained_tokens >= 2, "a token of the answer and the one that ends it"
        assert sequence.ids[-1] in template.stop_ids
        assert sequence.weights[-1] == 1.0
        # the ids begin with a whole prompt: system, question and the assistant's header
        head = one.messages[: 1 if system else 0]
        spoken = one.messages[len(head) :]
        prompts = [
            template.prompt((*head, *spoken[begin:end])).ids
            for begin in range(0, len(spoken), 2)
            for end in range(begin + 1, len(spoken), 2)
        ]
        start = next(i for i, weight in enumerate(sequence.weights) if weight > 0)
        assert sequence.ids[:start] in prompts
        if overlong == "drop":
            assert sequence in template.render(one)


def test_drop_leaves_out_and_counts() -> None:
    result = render(talk("q", "long " * 50), "chatml", 40, "drop")
    assert not result.sequences
    assert "longer than 40 tokens" in result.lost[0].reason
    assert result.lost[0].place == "talk:1"


def test_cut_leaves_out_early_exchanges_before_it_shortens_an_answer() -> None:
    one = talk("first question", "first answer", "second question", "second answer", system="sys")
    template = choose_template(tokenizer("chatml"))
    later = template.render(talk("second question", "second answer", system="sys"))[0]
    result = render(one, "chatml", len(later.ids), "cut")
    assert result.sequences[0].ids == later.ids
    assert (result.cut, result.turns_left_out, result.answers_shortened) == (1, 2, 0)
    result = render(one, "chatml", len(later.ids) - 3, "cut")
    assert result.sequences[0].ids == (*later.ids[:-4], later.ids[-1])
    assert (result.cut, result.turns_left_out, result.answers_shortened) == (1, 2, 1)


@pytest.mark.parametrize("spare", [0, 1, 2])
def test_question_that_leaves_no_room_is_left_out(spare: int) -> None:
    one = talk("question", "an answer")
    prompt = choose_template(tokenizer("chatml")).prompt(one.messages[:1])
    result = render(one, "chatml", len(prompt.ids) + spare, "cut")
    assert len(result.sequences) == (1 if spare == 2 else 0)
    if spare < 2:
        assert "leaves no room" in result.lost[0].reason
        assert (result.cut, result.answers_shortened) == (0, 0)


def test_a_row_whose_only_token_is_its_first_is_left_out() -> None:
    """Nothing comes before the first token, so it is never predicted."""
    template = choose_template(tokenizer("chatml"))
    one_token, two_tokens = Text("rows:1", text=""), Text("rows:2", text="a")
    empty, whole = render_chunk([one_token, two_tokens], template, DataSettings(sources="rows.txt"))
    assert not empty.sequences
    assert empty.dropped == "none of its tokens is trained (the tokenizer produces none from its text)"
    assert empty.dropped == NO_TOKEN
    assert [sequence.trained_tokens for sequence in whole.sequences] == [1]


def test_answers_of_their_own_are_cut_each_by_itself() -> None:
    one = talk("1+1?", "<think>" + "hm " * 40 + "</think>2", "2+2?", "<think>hm</think>4")
    result = render(one, "drops_thinking", 60, "cut")
    assert [len(sequence.ids) <= 60 for sequence in result.sequences] == [True, True]
    assert (result.cut, result.answers_shortened) == (1, 1)
    assert result.sequences[1] == choose_template(tokenizer("drops_thinking")).render(one)[1]


def test_cut_leaves_out_no_more_exchanges_than_it_must() -> None:
    texts = [f"{role} {number}" for number in range(4) for role in ("question", "answer")]
    template = choose_template(tokenizer("chatml"))
    wanted = template.render(talk(*texts[4:]))[0]
    result = render(talk(*texts), "chatml", len(wanted.ids) + 1, "cut")
    assert result.sequences[0].ids == wanted.ids
    assert result.turns_left_out == 4


def test_answer_of_its_own_trains_no_earlier_answer_again_when_cut() -> None:
    one = talk("q", "zero", "q", "one", "q", "<think>hm</think>" + "two " * 20, "q", "three")
    own, template = tokenizer("drops_thinking"), choose_template(tokenizer("drops_thinking"))
    third = template.render(one)[2]
    result = render(one, "drops_thinking", len(third.ids) - 1, "cut")
    cut = next(e for e in result.sequences if "two" in own.decode(e.ids) and "three" not in own.decode(e.ids))
    trained = own.decode([i for i, weight in zip(cut.ids, cut.weights, strict=True) if weight > 0])
    assert "one" in own.decode(cut.ids)
    assert "one" not in trained
