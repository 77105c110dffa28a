"""Formats whose rows become something other than a conversation: what each makes of a row, and its faults."""

from __future__ import annotations

from typing import Any

import pytest

from weitiao.data.conversation import Conversation, Message, Row
from weitiao.data.formats import FORMATS
from weitiao.data.formats._base import RowError
from weitiao.data.forms import (
    AnyForm,
    Choice,
    Labelled,
    Pair,
    Preference,
    Scored,
    Tagged,
    Text,
    Unpaired,
    parts,
)

PLACE = "f.json:7"


def parse(form: str, **fields: Any) -> AnyForm:  # noqa: ANN401  (whatever a row may hold)
    """Return what a format makes of a row."""
    return FORMATS.load(form)().parse(Row(fields, "f.json", 7))


def user(text: str) -> Message:
    """Return a question."""
    return Message("user", text)


def bot(text: str) -> Message:
    """Return an answer."""
    return Message("assistant", text)


def plain(*messages: Message) -> list[dict[str, str]]:
    """Write messages as data has them."""
    return [{"role": message.role, "content": message.content} for message in messages]


Q, A, B = user("q"), bot("a"), bot("b")
SYSTEM = Message("system", "s")
PAIR = Preference(PLACE, prompt=(Q,), chosen=(A,), rejected=(B,))


@pytest.mark.parametrize(
    "fields",
    [
        {"prompt": "q", "chosen": "a", "rejected": "b"},
        {"question": "q", "chosen": "a", "rejected": "b"},
        {"instruction": "q", "input": "", "chosen": "a", "rejected": "b"},
        {"prompt": plain(Q), "chosen": plain(A), "rejected": plain(B)},
        {"prompt": "q", "chosen": plain(Q, A), "rejected": plain(Q, B)},
        {"chosen": plain(Q, A), "rejected": plain(Q, B)},
        {"chosen": "\n\nHuman: q\n\nAssistant: a", "rejected": "\n\nHuman: q\n\nAssistant: b"},
        {"prompt": "\n\nHuman: q\n\nAssistant:", "chosen": "a", "rejected": "b"},
        {"conversations": [{"from": "human", "value": "q"}], "chosen": {"from": "gpt", "value": "a"},
         "rejected": {"from": "gpt", "value": "b"}},
        {"messages": plain(Q, A), "chosen": plain(A), "rejected": plain(B)},
        {"messages": plain(Q, A), "prompt": "q", "chosen": plain(Q, A), "rejected": plain(Q, B)},
        {"messages": plain(Q, A), "rejected_response": "b"},
        {"messages": plain(Q, A), "rejected_response": plain(B)},
        {"messages": plain(Q, A), "rejected_messages": plain(Q, B)},
        {"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}], "rejected_response": "b"},
        {"query": "q", "response": "a", "rejected_response": "b"},
        {"input": "q", "chosen": "a", "rejected": "b"},
        {"prompt": "", "input": "q", "chosen": "a", "rejected": "b"},
        {"prompt": "q", "chosen": "a", "rejected": "b", "system": "", "history": None, "tools": "", "reason": None},
    ],
)  # fmt: skip
def test_preference_in_all_its_writings(fields: dict[str, Any]) -> None:
    assert parse("preference", **fields) == PAIR


def test_preference_keeps_system_history_scores_and_reason() -> None:
    made = parse(
        "preference",
        prompt="q", chosen="a", rejected="b", system="s", history=[["x", "y"]],
        score_chosen="8", score_rejected=6.5, rationale="shorter",
    )  # fmt: skip
    whole = (SYSTEM, user("x"), bot("y"), Q)
    assert made == Preference(PLACE, prompt=whole, chosen=(A,), rejected=(B,), margin=1.5, reason="shorter")
    noted = parse(
        "preference",
        prompt="q",
        chosen="a",
        rejected="b",
        score={"chosen": 5, "rejected": 1},
        reject_reason="x",
    )
    assert noted == Preference(PLACE, prompt=(Q,), chosen=(A,), rejected=(B,), margin=4.0, reason="x")
    agreeing = parse(
        "preference", prompt="q", chosen="a", rejected="b", margin=2, score_chosen=3, score_rejected="1"
    )
    assert agreeing == Preference(PLACE, prompt=(Q,), chosen=(A,), rejected=(B,), margin=2.0)
    both = {"chosen": plain(Q, A), "rejected": plain(Q, B), "system": "s"}
    assert parse("preference", **both) == Preference(PLACE, prompt=(SYSTEM, Q), chosen=(A,), rejected=(B,))


def test_conversations_part_before_the_answer_where_they_differ() -> None:
    better, worse = plain(Q, A, user("r"), bot("c")), plain(Q, A, user("t"), bot("c"))
    made = parse("preference", chosen=better, rejected=worse)
    assert made == Preference(
        PLACE, prompt=(Q,), chosen=(A, user("r"), bot("c")), rejected=(A, user("t"), bot("c"))
    )


@pytest.mark.parametrize("form", ["unpaired", "scored"])
def test_a_prompt_is_made_in_the_same_way_everywhere(form: str) -> None:
    more = {"label": True} if form == "unpaired" else {"reward": 1}
    made = parse(form, prompt=plain(SYSTEM, Q), completion=plain(A), **more)
    assert isinstance(made, Unpaired | Scored)
    assert made.prompt == (SYSTEM, Q)
    made = parse(form, instruction="q", input="i", output="a", history=[["x", "y"]], **more)
    assert isinstance(made, Unpaired | Scored)
    assert made.prompt == (user("x"), bot("y"), user("q\ni"))


@pytest.mark.parametrize(
    ("label", "meant"), [(True, True), (0, False), (1.0, True), ("False", False), ("1", True)]
)
def test_unpaired(label: object, meant: bool) -> None:
    wanted = Unpaired(PLACE, prompt=(Q,), completion=(A,), label=meant)
    assert parse("unpaired", prompt="q", completion="a", label=label) == wanted
    assert parse("unpaired", instruction="q", output="a", kto_tag=label) == wanted
    assert parse("unpaired", messages=plain(Q, A), kto_tag=label) == wanted
    assert parse("unpaired", messages=plain(Q, A), label=label) == wanted
    assert parse("unpaired", instruction="q", input="", output="a", label=label) == wanted
    assert parse("unpaired", messages=plain(Q), completion="a", label=label) == wanted
    assert parse("unpaired", conversation=[{"human": "q", "assistant": "a"}], label=label) == wanted
    talk = [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]
    assert parse("unpaired", conversations=talk, kto_tag=label) == wanted


def test_scored() -> None:
    several = Scored(PLACE, prompt=(Q,), completions=((A,), (B,)), scores=(0.9, -1.0))
    assert parse("scored", prompt="q", completions=["a", "b"], rewards=[0.9, -1]) == several
    assert parse("scored", question="q", responses='["a", "b"]', scores="[0.9, -1]") == several
    assert parse("scored", prompt="q", completions=[plain(A), plain(B)], scores=[0.9, "-1"]) == several
    one = Scored(PLACE, prompt=(Q,), completions=((A,),), scores=(2.0,))
    assert parse("scored", prompt="q", response="a", reward="2") == one
    assert parse("scored", messages=plain(Q, A), reward=2) == one
    assert parse("scored", prompt="q", completions=[7], rewards=[2]).completions == ((bot("7"),),)


@pytest.mark.parametrize(
    "fields",
    [
        {"choices": ["x", "y", "z"], "answer": 1},
        {"choices": ["x", "y", "z"], "answer": 1.0},
        {"options": '["x", "y", "z"]', "answer": "B"},
        {"choices": ["x", "y", "z"], "answer": "b "},
        {"endings": ["x", "y", "z"], "label": "1"},
        {"choices": ["x", "y", "z"], "answer": "y"},
        {"A": "x", "B": "y", "C": "z", "D": None, "answer": "B"},
        {"choices": {"text": ["x", "y", "z"], "label": ["1", "2", "3"]}, "answerKey": "2"},
    ],
)
def test_choice(fields: dict[str, Any]) -> None:
    made = parse("choice", question="q", **fields)
    assert made == Choice(PLACE, prompt=(Q,), choices=("x", "y", "z"), correct=1)


def test_choice_whose_texts_look_like_letters_goes_by_its_texts() -> None:
    made = parse("choice", question="q", context="c", choices=["B", "A"], answer="A", system="s")
    assert made == Choice(PLACE, prompt=(SYSTEM, user("c\n\nq")), choices=("B", "A"), correct=1)


@pytest.mark.parametrize(
    ("label", "labels", "multi"),
    [("good", ("good",), False), (2, ("2",), False), (2.0, ("2",), False), (True, ("true",), False),
     (["a", "b"], ("a", "b"), True), ([], (), True), ([1, 3], ("1", "3"), True)],
)  # fmt: skip
def test_labelled(label: object, labels: tuple[str, ...], multi: bool) -> None:
    assert parse("labelled", text="t", label=label) == Labelled(PLACE, text="t", labels=labels, multi=multi)
    pair = parse("labelled", premise="p", hypothesis="h", labels=label)
    assert pair == Labelled(PLACE, text="p", second="h", labels=labels, multi=multi)


def test_labels_as_json_text_are_a_list() -> None:
    made = parse("labelled", sentence1="p", sentence2="h", labels='["a", "b"]')
    assert made == Labelled(PLACE, text="p", second="h", labels=("a", "b"), multi=True)


def test_tagged_lists() -> None:
    words, tags = ["Marie", "slept"], ["B-PER", "O"]
    wanted = Tagged(PLACE, tokens=tuple(words), tags=tuple(tags))
    for names in (("tokens", "tags"), ("words", "labels"), ("tokens", "ner_tags")):
        assert parse("tagged", **dict(zip(names, (words, tags), strict=True))) == wanted
    assert parse("tagged", tokens=words, tags=[1, 0]) == Tagged(PLACE, tokens=tuple(words), tags=("1", "0"))


def test_spans_become_bio_tags_by_words_and_by_chinese_characters() -> None:
    text = "Marie Curie去了北京, in 1903."
    spans = [{"start": 13, "end": 15, "label": "LOC"}, [0, 12 - 1, "PER"], [17, 24, "TIME"]]
    made = parse("tagged", text=text, entities=spans)
    assert isinstance(made, Tagged)
    assert list(zip(made.tokens, made.tags, strict=True)) == [
        ("Marie", "B-PER"), ("Curie", "I-PER"), ("去", "O"), ("了", "O"), ("北", "B-LOC"), ("京", "I-LOC"),
        (",", "O"), ("in", "B-TIME"), ("1903", "I-TIME"), (".", "O"),
    ]  # fmt: skip
    touching = parse("tagged", text="北京上海", spans=[[2, 4, "LOC"], [0, 2, "LOC"]])
    assert isinstance(touching, Tagged)
    assert touching.tags == ("B-LOC", "I-LOC", "B-LOC", "I-LOC")


def test_pair_and_text() -> None:
    wanted = Pair(PLACE, source="hi", target="你好")
    assert parse("pair", source="hi", target="你好") == wanted
    assert parse("pair", article="hi", highlights="你好") == wanted
    assert parse("pair", translation={"en": "hi", "zh": "你好"}) == wanted
    assert parse("pair", translation='{"en": "hi", "zh": "你好"}') == wanted
    assert parse("plain_text", text=" a\n") == parse("plain_text", content=" a\n") == Text(PLACE, text=" a\n")


@pytest.mark.parametrize(
    ("form", "fields", "reason"),
    [
        ("preference", {"prompt": "q", "chosen": "a", "rejected": "a"}, "are the same"),
        ("preference", {"prompt": "q", "chosen": "a"}, "'rejected' is missing"),
        ("preference", {"chosen": "a", "rejected": "b"}, "'instruction' or 'question' or 'query' is missing"),
        ("preference", {"prompt": "q", "chosen": " ", "rejected": "b"}, "an answer is empty"),
        ("preference", {"prompt": "q", "chosen": "a", "rejected": ""}, "an answer is empty"),
        ("preference", {"prompt": "", "chosen": "a", "rejected": "b"}, "a question is empty"),
        ("preference", {"prompt": "q", "chosen": None, "rejected": "b"}, "'chosen' must be text, not null"),
        ("preference", {"prompt": plain(Q, A), "chosen": "a", "rejected": "b"}, "two answers in a row"),
        ("preference", {"prompt": "x", "chosen": plain(Q, A), "rejected": plain(Q, B)}, "does not begin with 'prompt'"),
        ("preference", {"chosen": plain(Q, A), "rejected": plain(user("x"), B)}, "do not begin with the same question"),
        ("preference", {"prompt": "q", "chosen": "a", "rejected": "b", "margin": "x"}, "not a finite number"),
        ("preference", {"prompt": "q", "chosen": "a", "rejected": "b", "score": 4}, "not an object with two numbers"),
        ("preference", {"prompt": "q", "chosen": "a", "rejected": "b", "score": [5, 1]}, "not an object with two"),
        ("preference", {"prompt": "q", "chosen": "a", "rejected": "b", "score": {"chosen": "x", "rejected": 1}},
         "an item of 'score' is not a finite number"),
        ("preference", {"prompt": "q", "chosen": "a", "rejected": "b", "margin": 1,
                        "score": {"chosen": 3, "rejected": 1}}, "contradict each other"),
        ("preference", {"messages": plain(Q, A), "rejected_response": "a"}, "are the same"),
        ("preference", {"messages": plain(Q), "rejected_response": "b"}, "no answer"),
        ("preference", {"prompt": "q", "chosen": "a", "rejected": "b", "rejected_response": "c"},
         "'rejected_response' holds"),
        ("unpaired", {"prompt": "q", "completion": "a", "label": True, "kto_tag": False}, "'label' holds"),
        ("scored", {"messages": plain(Q, A), "reward": "x"}, "not a finite number"),
        ("preference", {"prompt": "q", "chosen": "a", "rejected": "b", "tools": [{}]}, "'tools' has no 'name'"),
        ("unpaired", {"prompt": "q", "completion": "a", "label": 2}, "neither true nor false"),
        ("unpaired", {"prompt": "q", "completion": "a", "label": []}, "neither true nor false"),
        ("unpaired", {"prompt": "q", "completion": "a"}, "'label' or 'kto_tag' is missing"),
        ("unpaired", {"prompt": "q", "completion": "", "label": 1}, "an answer is empty"),
        ("unpaired", {"messages": plain(Q), "kto_tag": True}, "no answer"),
        ("scored", {"prompt": "q", "completions": ["a"], "rewards": [1, 2]}, "different lengths"),
        ("scored", {"prompt": "q", "completions": [], "rewards": []}, "'completions' is an empty list"),
        ("scored", {"prompt": "q", "completions": [None], "rewards": [1]}, "must hold answers, not null"),
        ("scored", {"prompt": "q", "completions": ["a"], "rewards": [float("inf")]}, "not a finite number"),
        ("scored", {"completions": ["a"], "rewards": [1]}, "'prompt' or"),
        ("choice", {"question": "q", "choices": ["x", "y"], "answer": 2}, "index is not among the choices"),
        ("choice", {"question": "q", "choices": ["x", "y"], "answer": -1}, "index is not among the choices"),
        ("choice", {"question": "q", "choices": ["x", "y"], "answer": "C"}, "none of the choices"),
        ("choice", {"question": "q", "choices": ["x", "y"], "answer": True}, "must be text, not true or false"),
        ("choice", {"question": "q", "choices": ["x"], "answer": 0}, "fewer than two different choices"),
        ("choice", {"question": "q", "choices": ["x", "x"], "answer": 0}, "two are the same"),
        ("choice", {"question": "q", "choices": ["x", " "], "answer": 0}, "a choice is empty"),
        ("choice", {"question": "q", "choices": ["x", 3], "answer": 0}, "a choice must be text, not a number"),
        ("choice", {"question": "", "choices": ["x", "y"], "answer": 0}, "a question is empty"),
        ("choice", {"question": "q", "choices": "x", "answer": 0}, "'choices' is not a list of choices"),
        ("labelled", {"text": "", "label": 1}, "'text' is empty"),
        ("labelled", {"text": "t", "label": None}, "'label' or 'labels' is missing"),
        ("labelled", {"text": "t", "label": 1.5}, "'label' must be a label, not a number"),
        ("labelled", {"text": "t", "labels": ["a", "a"]}, "holds a label twice"),
        ("labelled", {"text": "t", "label": " "}, "'label' is empty"),
        ("labelled", {"premise": "t", "label": 1}, "'hypothesis' is missing"),
        ("tagged", {"tokens": ["a"], "tags": []}, "different lengths"),
        ("tagged", {"tokens": [], "tags": []}, "'tokens' is an empty list"),
        ("tagged", {"tokens": ["a"], "tags": [None]}, "must be text, not null"),
        ("tagged", {"text": "abc", "spans": [[0, 9, "X"]]}, "a span is outside its text"),
        ("tagged", {"text": "abc", "spans": [[0, 2, "X"]]}, "a span begins or ends inside a word"),
        ("tagged", {"text": "a b", "spans": [[0, 3, "X"], [2, 3, "Y"]]}, "overlap"),
        ("tagged", {"text": "a b", "spans": [{"start": 0}]}, "lacks start, end or label"),
        ("pair", {"source": "a", "target": " "}, "'target' is empty"),
        ("pair", {"translation": {"en": "a"}}, "not an object with two languages"),
        ("pair", {"translation": {"en": "a", "zh": None}}, "'zh' must be text, not null"),
        ("plain_text", {"text": "\n"}, "'text' is empty"),
        ("plain_text", {"text": 1}, "'text' must be text, not a number"),
    ],
)  # fmt: skip
def test_bad_rows_have_their_reason(form: str, fields: dict[str, Any], reason: str) -> None:
    with pytest.raises(RowError) as caught:
        parse(form, **fields)
    assert reason in caught.value.reason


TOOLS = [{"name": "f"}]


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("preference", {"prompt": "q", "chosen": "a", "rejected": "b", "tools": TOOLS}),
        ("unpaired", {"prompt": "q", "completion": "a", "label": True, "tools": TOOLS}),
        ("unpaired", {"messages": plain(Q, A), "kto_tag": True, "tools": TOOLS}),
        ("scored", {"prompt": "q", "completions": ["a"], "rewards": [1], "tools": TOOLS}),
    ],
)
def test_answers_that_are_compared_keep_the_tools(name: str, fields: dict[str, Any]) -> None:
    form = parse(name, **fields)
    told = [part.tools for _, part in parts(form) if isinstance(part, Conversation)]
    assert told and all(tools[0]["function"]["name"] == "f" for tools in told)


def test_the_letter_of_a_choice_is_that_of_its_column() -> None:
    made = parse("choice", question="q", A="x", B=None, C="z", answer="C")
    assert made == Choice(PLACE, prompt=(user("q"),), choices=("x", "z"), correct=1)
    with pytest.raises(RowError, match="none of the choices"):
        parse("choice", question="q", A="x", B=None, C="z", answer="B")
