"""Cutting text: at stop texts, and between whole characters only."""

from __future__ import annotations

from hypothesis import example, given, settings
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerFast

import tiny
from tagged_templates import tagged_tokenizer
from weitiao.data.conversation import Conversation, Message
from weitiao.data.templates.template import choose_template
from weitiao.evaluation.stop_strings import PieceDecoder, StopCutter, cut_at, decoded

TOKENIZER: PreTrainedTokenizerFast = tiny.make_tokenizer()
SHORT = st.text("ab你", min_size=1, max_size=3)


@given(st.lists(st.text("ab你", max_size=4), max_size=8), st.lists(SHORT, max_size=3))
@example(["你a", "a"], ["a", "你aa"])  # the later one is complete first
@example(["你aa"], ["aa", "你aa"])
@settings(deadline=None)
def test_pieces_are_cut_as_the_whole_is(pieces: list[str], stops: list[str]) -> None:
    cutter = StopCutter(stops)
    shown = "".join(cutter.push(piece) for piece in pieces) + cutter.rest()
    assert shown == cut_at("".join(pieces), stops)


def test_the_stop_text_that_is_complete_first_ends_the_answer() -> None:
    assert cut_at("one two", ["two", "e"]) == "on"
    assert cut_at("你aa", ["a", "你aa"]) == "你"
    assert cut_at("你aa", ["aa", "你aa"]) == ""


def test_what_may_become_a_stop_text_is_kept_back() -> None:
    cutter = StopCutter(["###"])
    assert cutter.push("a##") == "a"
    assert cutter.push("b") == "##b"
    assert cutter.push("#") == ""
    assert cutter.push("##c") == ""
    assert cutter.ended


@given(st.text(max_size=30))
@settings(deadline=None, max_examples=50)
def test_no_character_is_cut_in_half(text: str) -> None:
    ids = TOKENIZER(text)["input_ids"]
    decoder = PieceDecoder(TOKENIZER)
    pieces = [decoder.push(token_id) for token_id in ids]
    assert "".join(pieces) + decoder.rest() == decoded(TOKENIZER, ids)
    if "\ufffd" not in text:
        assert all("\ufffd" not in piece for piece in pieces)


def test_a_rare_character_of_several_tokens_comes_once_it_is_whole() -> None:
    ids = TOKENIZER("鑫!")["input_ids"]
    assert len(ids) == 4
    decoder = PieceDecoder(TOKENIZER)
    assert [decoder.push(token_id) for token_id in ids] == ["", "", "鑫", "!"]


def test_a_character_never_finished_is_not_lost() -> None:
    decoder = PieceDecoder(TOKENIZER)
    for token_id in TOKENIZER("鑫")["input_ids"][:-1]:
        assert decoder.push(token_id) == ""
    assert decoder.rest() == "\ufffd"


def test_special_tokens_of_answers_stay_in_their_text() -> None:
    """What a model thought is told from what it answered, and goes back into the next prompt as it was written."""
    own = tagged_tokenizer("qwen3")
    template = choose_template(own)
    asked = Message("user", "2+2?")
    said = "<think>\nhm\n</think>\n\nfour"
    prompt = template.prompt([asked])
    sequence = template.render(Conversation((asked, Message("assistant", said)), "x:1"))[0]
    ids = list(sequence.ids[len(prompt.ids) :])
    assert decoded(own, ids, template.answer_ids) == said
    assert "<think>" not in decoded(own, ids)
    decoder = PieceDecoder(own, template.answer_ids)
    assert "".join(map(decoder.push, ids)) + decoder.rest() == said
    again = [asked, Message("assistant", said), asked]
    assert "hm" not in template.prompt(again).text
