"""Checks count rows, whatever a row repeats; words and personal data are told apart as their language writes them."""

from __future__ import annotations

import numpy as np
import pytest

import tiny
from weitiao.data.checks import CHECKS
from weitiao.data.checks._base import Check, GateContext, GateOutcome, RowFacts
from weitiao.data.checks.answers import Answers
from weitiao.data.checks.balance import Balance
from weitiao.data.checks.placeholders import Placeholders
from weitiao.data.conversation import Conversation, Message
from weitiao.data.forms import AnyForm, Labelled, Preference, Scored, Tagged, Unpaired
from weitiao.data.settings import DataSettings
from weitiao.data.templates.template import choose_template

AGAIN = "The same long answer to everything, <|im_end|> and ### Response: {{name}} 13812345678."
LOST = "half a se�tence Ã© &nbsp; " * 20


def talk(number: int, *answers: str) -> Conversation:
    """Make a row with several answers."""
    turns = [
        turn
        for at, answer in enumerate(answers)
        for turn in (Message("user", f"Question {number} {at} {AGAIN}?"), Message("assistant", answer))
    ]
    return Conversation((Message("system", ""), *turns), f"rows.jsonl:{number + 1}")


def repeated() -> list[AnyForm]:
    """Make rows that have each of their faults several times."""
    asked, answer = (Message("user", "q"),), (Message("assistant", "a"),)
    call = {"type": "function", "function": {"name": "add", "arguments": []}}
    calling = (Message("assistant", "", extra={"tool_calls": [call, call]}), Message("assistant", ""))
    rows: list[AnyForm] = [
        talk(n, AGAIN, AGAIN, "yes", "yes", "", "", LOST, LOST, "<think>", "<think>") for n in range(30)
    ]
    rows += [Conversation((*asked, *calling, *calling), f"rows.jsonl:{n}") for n in range(30, 40)]
    rows += [Labelled(f"rows.jsonl:{n}", labels=("x", "x", "x"), text=f"text {n}") for n in range(40, 300)]
    rows += [Tagged("rows.jsonl:301", tokens=("a", "b"), tags=("B-X", "I-X"))]
    rows += [Preference("rows.jsonl:302", prompt=asked, chosen=answer * 2, rejected=answer * 2)]
    rows += [Unpaired("rows.jsonl:303", prompt=asked, completion=answer * 2)]
    rows += [Scored("rows.jsonl:304", prompt=asked, completions=(answer, answer), scores=(1.0, 1.0))]
    return rows


def observed(check: Check, forms: list[AnyForm]) -> Check:
    """Let a check see some rows, not rendered."""
    for number, form in enumerate(forms):
        check.observe(RowFacts(number, form, ()))
    return check


def outcome(rows: int) -> GateOutcome:
    """Make what is known at the end of so many rows, none held out."""
    return GateOutcome(rows, [f"rows.jsonl:{n}" for n in range(rows)], np.zeros(rows, bool))


@pytest.mark.parametrize("name", CHECKS.names())
def test_no_finding_counts_a_row_twice(name: str) -> None:
    tokenizer = tiny.make_tokenizer()
    context = GateContext(DataSettings(sources="x.json"), choose_template(tokenizer), tokenizer)
    forms = repeated()
    for finding in observed(CHECKS.load(name)(context), forms).findings(outcome(len(forms))):
        assert len(set(finding.rows)) == len(finding.rows), finding.what
        assert finding.count <= len(forms), finding.what
        assert finding.share <= 1, finding.what
        assert list(finding.rows) == sorted(finding.rows), finding.what


def test_one_answer_of_every_turn_counts_its_rows() -> None:
    forms: list[AnyForm] = [talk(n, AGAIN, AGAIN) for n in range(50)]
    found = {one.what: one for one in observed(Answers(context_without()), forms).findings(outcome(50))}
    same = found["one answer is given to many different questions"]
    assert (same.count, same.share) == (50, 1.0)
    assert "50 rows: The same" in same.places[0]


def test_a_label_named_twice_is_one_label_of_its_row() -> None:
    forms: list[AnyForm] = [Labelled("r:1", labels=("x", "x", "y"), multi=True, text="t")]
    facts = observed(Balance(context_without()), forms).facts(outcome(1))
    assert facts["rows_by_label"] == {"x": 1, "y": 1}


def context_without() -> GateContext:
    """Make what a check may ask where there is no model."""
    return GateContext(DataSettings(sources="x.json"))


ONE = "yes|Yes.|是|谢谢|谢谢！|42|Здравствуйте|Überraschung|안녕하세요|はい|北京。|café"
SEVERAL = "早上好|早上好。|我不知道|Yes, sir|да, конечно|AI模型|3天|おはよう|สวัสดี|a word of more than thirty letters"
NUMBERS = (
    "Call 13812345678.|打13812345678。|电话：13812345678|13812345678|(13812345678)|13812345678, please|+8613812345678"
    "|It is 13812345678.\nBye|+86 138 1234 5678|0086-138-1234-5678|tel:13812345678;|号码13812345678是我的|“13812345678”"
    "|+1 415 555 2671.|415-555-2671|(415) 555-2671!|+49 30 901820|+33 1 23 45 67 89|电话+442079460958。|1-415-555-2671"
    "|card 4111 1111 1111 1111.|卡号4111111111111111。|5500-0000-0000-0004|3400 000000 00009|+1 (415) 555-2671"
    "|11010519491231002X.|身份证11010519491231002X|110105194912310021。"
)
OTHER_NUMBERS = (
    "978-0-306-40615-7|0-306-40615-2|9780306406157|2024-05-17|2024-05-17 10:11:12|1,234,567,890|4111 1111 1111 1112"
    "|1 000 000 000|3.14159265358|+3.14159265358|300 400 5000|12+345678901|5 +415 555 2671|192.168.1.1|415-555-26711"
    "|1411111111111111|a1b2-415-555-2671|20240517101112|3.13812345678|13812345678.5|913812345678|138123456789|12345678901|1381234567|0.11010519491231002X"
)
MAILS = "To li@mail.cn.|邮箱li@mail.cn谢谢|(li.lei+a@mail.co.uk)|发到 li@mail.cn，谢|li@mail.cn|mailto:li@mail.cn?x=1"


@pytest.mark.parametrize("word", ONE.split("|"))
def test_one_word_in_any_script(word: str) -> None:
    assert observed(Answers(context_without()), [talk(0, word)]).facts(outcome(1))["one_word"] == 1


@pytest.mark.parametrize("words", SEVERAL.split("|"))
def test_more_than_one_word_in_any_script(words: str) -> None:
    assert observed(Answers(context_without()), [talk(0, words)]).facts(outcome(1))["one_word"] == 0


def signs(text: str) -> tuple[int, int]:
    """Return how many mail addresses and numbers a text has."""
    row = Conversation((Message("user", "q"), Message("assistant", text)), "r:1")
    facts = observed(Placeholders(context_without()), [row]).facts(outcome(1))
    return facts["mail_addresses"], facts["phone_or_identity_numbers"]


@pytest.mark.parametrize("text", NUMBERS.split("|"))
def test_numbers_are_found_wherever_they_stand(text: str) -> None:
    assert signs(text) == (0, 1)


@pytest.mark.parametrize("text", OTHER_NUMBERS.split("|"))
def test_other_numbers_are_not(text: str) -> None:
    assert signs(text) == (0, 0)


@pytest.mark.parametrize("text", MAILS.split("|"))
def test_mail_addresses_are_found_wherever_they_stand(text: str) -> None:
    assert signs(text) == (1, 0)


@pytest.mark.parametrize("before", ["", "密钥", "key=", "是："])
@pytest.mark.parametrize("after", ["", "。", "谢谢", ".", " ok"])
def test_keys_and_placeholders_are_found_beside_any_script(before: str, after: str) -> None:
    for hidden in ("sk-" + "a1B2" * 8, "AKIA" + "ABCDEFGH12345678", "hf_" + "abcDEF" * 6, "TODO:"):
        check = observed(Placeholders(context_without()), [talk(0, f"{before}{hidden}{after}")])
        assert any("key" in one.what or "placeholders" in one.what for one in check.findings(outcome(1)))
