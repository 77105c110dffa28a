"""Contracts of all checks: planted faults are found with their places, clean data is clean, chunks do not matter."""

from __future__ import annotations

import json
import pickle
import random
from collections.abc import Callable, Sequence
from functools import cache
from itertools import pairwise

import numpy as np
import pytest

import tiny
from weitiao.core.locale import in_language
from weitiao.data.checks import CHECKS
from weitiao.data.checks._base import Check, Finding, GateContext, GateOutcome, RowFacts
from weitiao.data.checks._kinds import excerpt
from weitiao.data.conversation import Conversation, Message
from weitiao.data.example import TokenSequence
from weitiao.data.forms import AnyForm, Choice, Labelled, Preference, Scored, Tagged, Text, Unpaired, parts
from weitiao.data.settings import DataSettings
from weitiao.data.templates.template import choose_template

WORDS = (
    *("river", "stone", "garden", "lantern", "winter", "market", "violin", "harbour", "copper", "meadow"),
    *("planet", "engine", "orchard", "bridge", "candle", "forest", "mirror", "island", "thunder", "basket"),
    *("marble", "pepper", "sailor", "tunnel", "velvet", "wagon", "yellow", "zephyr", "acorn", "bottle"),
)
HAN = "山川日月风雨花鸟城市桥梁音乐绘画茶酒书籍机器海洋森林星辰历史河流灯火石头园林冬夏春秋车船"


@cache
def context() -> GateContext:
    """Make what checks may ask."""
    tokenizer = tiny.make_tokenizer()
    return GateContext(DataSettings(sources="x.json"), choose_template(tokenizer), tokenizer)  # type: ignore[arg-type]


def talk(question: str, answer: str, number: int = 0, system: str = "") -> Conversation:
    """Make a conversation of one question."""
    begin = (Message("system", system),) if system else ()
    return Conversation((*begin, Message("user", question), Message("assistant", answer)), place(number))


def place(number: int) -> str:
    """Name a row's place."""
    return f"rows.jsonl:{number + 1}"


def sentence(seed: int, words: int = 40, chinese: bool = False) -> str:
    """Make a sentence nobody else makes."""
    draw = random.Random(seed)
    if chinese:
        return "".join(draw.choices(HAN, k=2 * words)) + "。"
    return " ".join(draw.choices(WORDS, k=words)).capitalize() + "."


def clean(count: int, seed: int = 0) -> list[AnyForm]:
    """Make good rows, half of them Chinese."""
    return [
        talk(sentence(seed + 2 * n, 12, n % 2 == 1), sentence(seed + 2 * n + 1, 60, n % 2 == 1), n)
        for n in range(count)
    ]


def facts_of(forms: Sequence[AnyForm], rendered: bool = True) -> list[RowFacts]:
    """Render rows as the pipeline does."""
    template = context().template
    assert template is not None
    rows = []
    for number, form in enumerate(forms):
        talks = [part for _, part in parts(form) if isinstance(part, Conversation)] if rendered else []
        rows.append(RowFacts(number, form, tuple(one for part in talks for one in template.render(part))))
    return rows


def checked(name: str, rows: Sequence[RowFacts], cuts: Sequence[int] = ()) -> Check:
    """Run one check over rows cut into chunks, each state carried as between processes."""
    whole = CHECKS.load(name)(context())
    borders = [0, *sorted(cuts), len(rows)]
    for start, end in pairwise(borders):
        own = CHECKS.load(name)(context())
        for row in rows[start:end]:
            own.observe(row)
        whole.merge(pickle.loads(pickle.dumps(own.state())))
    return whole


def outcome_of(rows: Sequence[RowFacts], held_out: Sequence[int] = ()) -> GateOutcome:
    """Make the outcome for rows."""
    mask = np.zeros(len(rows), dtype=bool)
    mask[list(held_out)] = True
    return GateOutcome(len(rows), [row.form.place for row in rows], mask, lambda number: rows[number].text)


def found(name: str, rows: Sequence[RowFacts], held_out: Sequence[int] = ()) -> list[Finding]:
    """Return what one check finds."""
    return checked(name, rows).findings(outcome_of(rows, held_out))


LONG = sentence(900, 60)
CALL = {"tool_calls": [{"function": {"name": "weather", "arguments": "{city"}}]}
TOOLS = ({"type": "function", "function": {"name": "time"}},)


def called(number: int) -> Conversation:
    """Make a conversation whose call has three faults."""
    turns = (
        Message("user", "How warm is it?"),
        Message("assistant", "", extra=CALL),
        Message("user", "And now?"),
        Message("assistant", "It is warm."),
    )
    return Conversation(turns, place(number), tools=TOOLS)


def pair(chosen: str, rejected: str, number: int) -> Preference:
    """Make a preference."""
    asked = (Message("user", sentence(number, 9)),)
    return Preference(
        place(number),
        prompt=asked,
        chosen=(Message("assistant", chosen),),
        rejected=(Message("assistant", rejected),),
    )


PLANTED: list[tuple[str, str, Callable[[int], AnyForm]]] = [
    ("answers", "empty", lambda n: talk("Say something.", " \n", n)),
    (
        "answers",
        "refusals",
        lambda n: talk("Help me.", "As an AI language model, I cannot help with that.", n),
    ),
    ("answers", "refusals", lambda n: talk("帮帮我。", "抱歉，我无法回答这个问题。", n)),
    ("answers", "over and over", lambda n: talk("Go on.", "It begins. " + "I go on and on. " * 20, n)),
    ("answers", "another prompt format", lambda n: talk("Go on.", "### Response: a fine day", n)),
    ("answers", "equal to their question", lambda n: talk("Tell me more!", "tell me more", n)),
    ("answers", "middle of a sentence", lambda n: talk("Go on.", LONG * 3 + "and then it", n)),
    ("encoding", "lost characters", lambda n: talk("你好", "锟斤拷锟斤拷，好", n)),
    ("encoding", "lost characters", lambda n: talk("Hello", "It is \ufffd fine.", n)),
    ("encoding", "wrong encoding", lambda n: talk("Hello", "CafÃ© au lait.", n)),
    ("encoding", "wrong encoding", lambda n: talk("ï»¿Hello", "A fine day.", n)),
    ("encoding", "control characters", lambda n: talk("Hello", "A fine\x00 day.", n)),
    ("encoding", "invisible", lambda n: talk("Hello", "A fine\u200b day.", n)),
    ("encoding", "half a character", lambda n: talk("Hello", "A fine \ud83d day.", n)),
    ("encoding", "line ends", lambda n: talk("Hello", "A fine\r\nday\nit is.", n)),
    ("placeholders", "that are not filled in", lambda n: talk("Who are you?", "I am {{name}}.", n)),
    ("placeholders", "that are not filled in", lambda n: talk("Write.", "Dear [Your Name], hello.", n)),
    ("placeholders", "secret", lambda n: talk("Key?", "It is AKIA" + "ABCDEFGH12345678.", n)),
    ("encoding", "lost a backslash", lambda n: talk("Solve.", "It is 3 \times 4.", n)),
    ("encoding", "lost a backslash", lambda n: talk("Solve.", "It is $\nabla f$.", n)),
    ("encoding", "lost a backslash", lambda n: talk("Solve.", "It is $\frac{1}{2}$.", n)),
    ("placeholders", "tags for images", lambda n: talk("<image>\nWhat is this?", "A cat.", n)),
    ("placeholders", "tags for images", lambda n: talk("<|vision_start|>看图", "猫", n)),
    ("placeholders", "mail addresses", lambda n: talk("Mail?", "Write to li.lei@weitiao.cn today.", n)),
    ("reasoning", "never closed", lambda n: talk("Why?", "<think>Because of", n)),
    ("reasoning", "with nothing after it", lambda n: talk("Why?", "<think>Because.</think>\n", n)),
    ("reasoning", "some answers have reasoning", lambda n: talk("Why?", "<think>Hm.</think>So it is.", n)),
    ("tools", "not a JSON object", called),
    ("tools", "do not describe", called),
    ("tools", "without the result", called),
    ("roles", "no question", lambda n: Conversation((Message("assistant", "Hello there."),), place(n))),
    ("roles", "system prompts are empty", lambda n: talk("Hello?", "Hello.", n, system=" ")),
    (
        "languages",
        "different languages",
        lambda n: talk("How do you say that it is the day?", sentence(3, 40, True), n),
    ),
    ("balance", "the rejected answer are the same", lambda n: pair("Yes, it is.", "Yes, it is.", n)),
    (
        "balance",
        "same score",
        lambda n: Scored(
            place(n),
            completions=((Message("assistant", "a"),), (Message("assistant", "b"),)),
            scores=(1.0, 1.0),
        ),
    ),
    ("control_tokens", "control tokens", lambda n: talk("What is <|im_end|> for?", "It ends a turn.", n)),
    ("control_tokens", "control tokens", lambda n: talk("What ends it?", "That is <|im_end|> here.", n)),
    ("control_tokens", "control tokens", lambda n: talk("Hello?", "Hello.", n, system="<|im_start|>system")),
]
WITH_TOKENS = {"control_tokens"}


@pytest.mark.parametrize(("name", "what", "make"), PLANTED, ids=[f"{n}-{w}" for n, w, _ in PLANTED])
def test_a_planted_fault_is_found_at_its_place(name: str, what: str, make: Callable[[int], AnyForm]) -> None:
    forms = clean(40)
    for number in (7, 23):
        forms[number] = make(number)
    rows = facts_of(forms, rendered=name in WITH_TOKENS)
    (finding,) = [one for one in found(name, rows) if what in one.what]
    assert finding.rows == (7, 23)
    assert finding.count == 2
    assert [one.startswith(f"{place(n)}") for one, n in zip(finding.places, (7, 23), strict=True)] == [
        True,
        True,
    ]
    assert finding.share == pytest.approx(2 / 40)


@pytest.mark.parametrize("name", CHECKS.names())
def test_clean_data_has_neither_errors_nor_warnings(name: str) -> None:
    rows = facts_of(clean(300))
    grave = [one for one in found(name, rows, range(0, 300, 20)) if one.severity != "note"]
    assert not grave


def many_forms() -> list[AnyForm]:
    """Make rows with every fault and every form."""
    forms = [*clean(60), *(make(n) for n, (_, _, make) in enumerate(PLANTED))]
    forms += clean(20) + [pair(sentence(n, 20), sentence(n, 9), n) for n in range(210)]
    forms += [Labelled(place(n), text=sentence(n, 8), labels=("a" if n else "b",)) for n in range(210)]
    forms += [Choice(place(n), choices=("x", "y"), correct=0) for n in range(205)]
    forms += [Tagged(place(n), tokens=("Ann", "runs"), tags=("B-PER", "O")) for n in range(4)]
    forms += [Unpaired(place(n), completion=(Message("assistant", LONG),), label=n > 1) for n in range(4)]
    forms += [Text(place(n), text=LONG, task=f"t{n % 2}") for n in range(6)]
    forms += [talk(sentence(n, 5), "The same long answer to everything.", n) for n in range(40)]
    return forms


@pytest.mark.parametrize("name", CHECKS.names())
def test_findings_do_not_depend_on_chunks_and_are_complete(name: str) -> None:
    rendered = facts_of([form for form in many_forms() if _renderable(form)])
    plain = facts_of(many_forms(), rendered=False)
    for rows in (rendered, plain):
        rows = [*rows, RowFacts(len(rows), clean(1)[0], (), "longer than 9 tokens"), *_odd(len(rows) + 1)]
        outcome = outcome_of(rows, range(0, len(rows), 9))
        once = checked(name, rows)
        findings = once.findings(outcome)
        draw = random.Random(name)
        for _ in range(3):
            again = checked(name, rows, draw.choices(range(len(rows)), k=7))
            assert again.findings(outcome) == findings
            assert json.dumps(again.facts(outcome)) == json.dumps(once.facts(outcome))
        for finding in findings:
            assert finding.what.strip() and in_language(finding.what, "zh") != finding.what
            assert finding.severity == "note" or finding.fix
            assert not finding.fix or in_language(finding.fix, "zh") != finding.fix or "=" in finding.fix
            assert all(0 <= row < len(rows) for row in finding.rows)


def _renderable(form: AnyForm) -> bool:
    """Leave out what the test's template cannot take."""
    if isinstance(form, Conversation) and (form.tools or form.messages[0].role == "assistant"):
        return False
    return not any(
        "\ud83d" in m.content
        for _, part in parts(form)
        if isinstance(part, Conversation)
        for m in part.messages
    )


def _odd(first: int) -> list[RowFacts]:
    """Make rows whose sequences are faulty: cut, untrained, without a stop token."""
    form = clean(1)[0]
    return [
        RowFacts(first, form, (TokenSequence((5, 6, 7), (0.0, 1.0, 1.0)),)),
        RowFacts(first + 1, form, (TokenSequence((5, 6), (0.0, 0.0)),), cut_tokens=4),
    ]


@pytest.mark.parametrize("share", [0.0, 0.01, 0.1, 0.8])
@pytest.mark.parametrize("kind", ["exact", "normalised", "near"])
def test_planted_shares_of_duplicates_are_recovered(share: float, kind: str) -> None:
    count, copies = 1000, round(1000 * share)
    forms = clean(count - copies)
    draw = random.Random(7)
    for number in range(count - copies, count):
        forms.append(_copy(draw.choice(forms[: count - copies]), kind, draw, number))
    rows = facts_of(forms, rendered=False)
    facts = checked("duplicates", rows).facts(outcome_of(rows))
    total = sum(one["copies"] for one in facts.values())
    assert total / count == pytest.approx(share, abs=0.01)
    if share <= 0.1:  # of more copies, several are of one row, and so equal to each other
        assert facts[kind]["copies"] == pytest.approx(copies, abs=10)


def _copy(form: AnyForm, kind: str, draw: random.Random, number: int) -> Conversation:
    assert isinstance(form, Conversation)
    question, answer = (message.content for message in form.messages)
    if kind == "normalised":
        question, answer = question.upper().replace(" ", "  "), answer.replace("。", "！") + "!"
    if kind == "near":
        chinese = answer.endswith("。")
        words = list(answer) if chinese else answer.split()
        for _ in range(3):
            words[draw.randrange(len(words))] = draw.choice(HAN if chinese else WORDS)
        answer = ("" if chinese else " ").join(words)
    return talk(question, answer, number)


@pytest.mark.parametrize("kind", ["exact", "normalised", "near"])
def test_leaks_into_held_out_rows_are_found(kind: str) -> None:
    forms = clean(400)
    draw = random.Random(3)
    for number in range(360, 380):
        forms[number] = _copy(forms[number - 360], kind, draw, number)
    rows = facts_of(forms, rendered=False)
    findings = found("overlap", rows, range(360, 400))
    assert {row for finding in findings for row in finding.rows} == set(range(360, 380))
    assert findings[0].share == pytest.approx(0.5)


def test_a_question_answered_in_two_ways_is_noted_and_shared_questions_too() -> None:
    forms = clean(40)
    forms[30] = talk(forms[4].messages[0].content, "Something else.", 30)  # type: ignore[union-attr]
    rows = facts_of(forms, rendered=False)
    (conflict,) = found("conflicting_answers", rows)
    assert (conflict.rows, conflict.severity) == ((30,), "note")
    (leak,) = found("overlap", rows, [30])
    assert leak.rows == (30,)
    assert "another answer" in leak.what


def test_an_answer_without_a_trained_stop_is_an_error() -> None:
    form = clean(1)[0]
    stop = next(iter(context().template.stop_ids))  # type: ignore[union-attr]
    sequences = [
        TokenSequence((5, 6, stop), (0.0, 1.0, 1.0)),
        TokenSequence((5, 6, 7), (0.0, 1.0, 1.0)),
        TokenSequence((5, 6, stop), (0.0, 1.0, 0.0)),
    ]
    findings = found("trained_stop", [RowFacts(n, form, (one,)) for n, one in enumerate(sequences)])
    assert [(one.rows, one.severity) for one in findings] == [((1,), "error"), ((2,), "error")]


def test_other_tokens_than_in_serving_are_an_error() -> None:
    rows = facts_of(clean(6))
    ids = rows[4].sequences[0].ids
    rows[4] = RowFacts(4, rows[4].form, (TokenSequence((9, *ids[1:]), rows[4].sequences[0].weights),))
    rows[5] = RowFacts(
        5, rows[5].form, (TokenSequence((*ids[:-3], *ids[-1:]), (0.0, 1.0, *[1.0] * (len(ids) - 4))),)
    )
    findings = found("same_as_serving", rows)
    assert (findings[0].severity, findings[0].rows) == ("error", (4, 5))


def test_classes_that_are_rare_or_nearly_all_are_named() -> None:
    forms = [Labelled(place(n), text=sentence(n), labels=("spam" if n == 3 else "ham",)) for n in range(300)]
    findings = found("balance", facts_of(forms, rendered=False))
    assert [(one.what.rpartition(": ")[2], one.count) for one in findings] == [("spam", 1), ("ham", 299)]


SUBJECT = "the customer asks about an order that was delivered later than the shop had promised, "
LONG_NAMES = (
    SUBJECT + "for the first time",
    SUBJECT + "for the second time",
    SUBJECT * 2 + "again",
    SUBJECT * 3 + "again",
)


def test_long_classes_that_begin_alike_are_counted_apart() -> None:
    labels = [LONG_NAMES[1]] + [LONG_NAMES[2]] * 2 + [LONG_NAMES[3]] + [LONG_NAMES[0]] * 296
    forms = [Labelled(place(n), text=sentence(n), labels=(labels[n],)) for n in range(300)]
    rows = facts_of(forms, rendered=False)
    named = [(one.what.partition(": ")[2], one.count, one.rows[0]) for one in found("balance", rows)]
    begin = "the customer asks about an order that…"
    again = f"{begin}later than the shop had promised, again"
    expected = [
        (f"{again}", 2, 1),
        (f"{begin}shop had promised, for the second time", 1, 0),
        (f"{again} (2)", 1, 3),
    ]
    expected.append((f"{begin}shop had promised, for the first time", 296, 4))
    assert sorted(named) == sorted(expected)
    facts = checked("balance", rows).facts(outcome_of(rows))
    assert facts["labels"] == 4 and sum(facts["rows_by_label"].values()) == 300


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("short " * 3, "short short short"),
        ("word " * 40, "word " * 14 + "word word…"),
        ("字" * 100, "字" * 79 + "…"),
        ("a" + " " * 200 + "b", "a…"),
        ("a" + " " * 200, "a"),
        ("x" * 75 + " <|im_start|> y" * 9, "x" * 75 + " <|im_start|>…"),
    ],
)
def test_an_excerpt_says_where_it_was_cut(text: str, shown: str) -> None:
    assert excerpt(text) == shown


def test_rows_that_train_questions_are_counted() -> None:
    answer = Message("assistant", "A drink.")
    rows = facts_of(
        [
            Conversation((Message("user", "What is tea?", weight), answer), place(number))
            for number, weight in enumerate((1.0, 0.0, None, 0.5))
        ]
    )
    (found,) = checked("lengths", rows, [2]).findings(outcome_of(rows))
    assert (found.severity, found.count, found.rows) == ("note", 2, (0, 3))
    assert found.what.startswith("rows also train questions or system prompts")


def test_lengths_count_tokens_left_out_and_cut() -> None:
    rows = facts_of(clean(10))
    rows[2] = RowFacts(2, rows[2].form, (), "longer than 9 tokens")
    rows[3] = RowFacts(3, rows[3].form, rows[3].sequences, cut_tokens=5)
    check = checked("lengths", rows)
    facts = check.facts(outcome_of(rows))
    assert facts["tokens"] == sum(len(one.ids) for row in rows for one in row.sequences)
    assert facts["trained_tokens"] == sum(one.trained_tokens for row in rows for one in row.sequences)
    assert sum(facts["histogram_counts"]) == 9
    assert [one.rows for one in check.findings(outcome_of(rows))] == [(2,), (3,)]


LANGUAGES = {
    "zh-Hans": "今天我们来学习这个语言的发音和写法，还有时间问题。",
    "zh-Hant": "今天我們來學習這個語言的發音和寫法，還有時間問題。",
    "ja": "これは日本語で書かれた短い文章です。とても簡単です。",
    "ko": "오늘은 날씨가 아주 좋아서 산책을 하고 싶습니다.",
    "ru": "Сегодня хорошая погода, и мы идём гулять.",
    "ar": "الطقس جميل اليوم وسنذهب في نزهة.",
    "en": "The weather is nice and we are going for a walk in the park.",
    "de": "Das Wetter ist schön und wir gehen mit dem Hund in den Park.",
    "fr": "Il fait beau et nous allons dans le parc avec les enfants.",
    "es": "El tiempo es bueno y los niños van al parque con el perro para jugar.",
}


@pytest.mark.parametrize(("language", "text"), LANGUAGES.items(), ids=list(LANGUAGES))
def test_languages_are_told(language: str, text: str) -> None:
    rows = facts_of([talk(text, text + "!", 0)], rendered=False)
    assert checked("languages", rows).facts(outcome_of(rows)) == {"rows_by_language": {language: 1}}
