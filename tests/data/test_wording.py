"""Texts with fields, tasks and system prompts: one text in training, asking and, token by token, plain transformers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

import tiny
from template_zoo import NAMES, talk, tokenizer
from weitiao.core.errors import ModelError, SettingsError
from weitiao.core.settings import parse_overrides, parse_settings
from weitiao.data.conversation import Conversation, Message
from weitiao.data.formats._base import RowError
from weitiao.data.settings import DataSettings
from weitiao.data.templates.encoder import Encoder, Piece
from weitiao.data.templates.template import choose_template
from weitiao.data.templates.template_choice import Wording
from weitiao.data.templates.text_template import parse_text_template

ALPACA = (
    "Below is an instruction.\n\n### Instruction:\n{instruction}\n\n"
    "{?input}### Input:\n{input}\n\n{/input}### Response:\n"
)
ODD = "A \\ \"b\" {{c}} 'd' {{{{% e %}}}} 微调 🙂 \t{instruction}{^input} alone{/input}: "
TRANSLATE = "Translate: {instruction}\nGerman: "
WORDINGS = {
    "alpaca": Wording(ALPACA),
    "odd signs": Wording(ODD),
    "system field": Wording("{?system}<<{system}>>\n{/system}Q: {question}\nA: "),
    "instruction": Wording("instruction"),
    "system": Wording(system='You are 小微, "small" {{ and }} {% kind %}.'),
    "no system": Wording(system=""),
    "text and system": Wording(ALPACA, system="Be kind."),
    "task": Wording(task_templates={"de": TRANSLATE, 'q"': ODD}),
    "all": Wording(ALPACA, {"de": TRANSLATE}, "Be kind."),
}
ASKED: dict[str, list[dict[str, str]]] = {
    "question": [{"role": "user", "content": "Say 5 {input} {{ messages }}"}],
    "input": [{"role": "user", "content": "Say it", "input": "loudly"}],
    "task": [{"role": "user", "content": "Word", "task": "de"}],
    "turns": [
        {"role": "user", "content": "One"},
        {"role": "assistant", "content": "1"},
        {"role": "user", "content": "Two", "input": "x"},
    ],
    "own system": [{"role": "system", "content": "Own."}, {"role": "user", "content": "Hi"}],
}


def messages_of(turns: list[dict[str, str]]) -> list[Message]:
    """Return turns of plain transformers as ours."""
    return [
        Message(
            one["role"], one["content"], extra={k: v for k, v in one.items() if k not in ("role", "content")}
        )  # type: ignore[arg-type]
        for one in turns
    ]


def every_third(turn: int) -> list[tuple[str, Wording]]:
    """Return a third of the wordings; three templates one after the other have all of them."""
    return [one for number, one in enumerate(WORDINGS.items()) if number % 3 == turn % 3]


@pytest.mark.parametrize("name", NAMES)
def test_the_saved_tokenizer_gives_plain_transformers_the_same_prompts(name: str, tmp_path: Path) -> None:
    for number, (called, wording) in enumerate(every_third([*NAMES].index(name))):
        template = choose_template(tokenizer(name), wording)
        template.tokenizer.save_pretrained(tmp_path / str(number))
        saved: Any = AutoTokenizer.from_pretrained(tmp_path / str(number))
        again = choose_template(saved, wording)
        assert again.tokenizer is saved or wording.kind(True) != "chat", called
        alone = choose_template(saved)  # as an adapter is opened without its run
        for case, turns in ASKED.items():
            if case == "own system" and not template.takes_system:
                continue  # transformers refuses it, or the template writes it later
            ids = list(template.prompt(messages_of(turns)).ids)
            assert ids == saved.apply_chat_template(turns, add_generation_prompt=True, return_dict=False), (
                called, case,
            )  # fmt: skip
            assert ids == list(again.prompt(messages_of(turns)).ids), (called, case)
            assert ids == list(alone.prompt(messages_of(turns)).ids), (called, case)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("called", WORDINGS)
def test_training_sees_the_prompt_that_asking_does_and_trains_only_answers(name: str, called: str) -> None:
    template = choose_template(tokenizer(name), WORDINGS[called])
    one = Conversation((*messages_of(ASKED["turns"]), Message("assistant", "2")), "x:1")
    last = template.render_last(one)
    prompt = template.prompt(one.messages[:-1]).ids
    assert last.ids[: len(prompt)] == prompt
    assert not any(last.weights[: len(prompt)])
    assert all(last.weights[len(prompt) :])
    assert last.ids[-1] in template.stop_ids
    trained = sum(sum(weight > 0 for weight in one.weights) for one in template.render(one))
    if WORDINGS[called].kind(True) != "chat":
        (whole,) = template.render(one)
        encoder = Encoder(template.tokenizer)
        assert trained == sum(len(encoder.encode([Piece(text)])[0]) for text in ("1", "2")) + 2
        assert (
            sum(
                id in template.stop_ids for id, weight in zip(whole.ids, whole.weights, strict=True) if weight
            )
            == 2
        )


def test_what_the_texts_write() -> None:
    def text(wording: Wording, case: str) -> str:
        return (
            choose_template(tiny.make_tokenizer(chat_template=None), wording)
            .prompt(messages_of(ASKED[case]))
            .text
        )

    head = "Below is an instruction.\n\n### Instruction:\n"
    assert text(Wording(ALPACA), "input") == f"{head}Say it\n\n### Input:\nloudly\n\n### Response:\n"
    assert text(Wording(ALPACA), "own system") == f"Own.\n\n{head}Hi\n\n### Response:\n"
    turns = f"{head}One\n\n### Response:\n1<|im_end|>\n\n{head}Two\n\n### Input:\nx\n\n### Response:\n"
    assert text(Wording(ALPACA), "turns") == turns
    assert text(Wording(ODD), "question") == (
        "A \\ \"b\" {c} 'd' {{% e %}} 微调 🙂 \tSay 5 {input} {{ messages }} alone: "
    )
    assert text(WORDINGS["system field"], "own system") == "<<Own.>>\nQ: Hi\nA: "
    assert text(WORDINGS["all"], "task") == "Be kind.\n\nTranslate: Word\nGerman: "
    assert text(WORDINGS["all"], "own system").startswith("Own.\n\nBelow")


def test_a_line_that_is_always_there_stays_with_an_empty_field() -> None:
    template = choose_template(
        tiny.make_tokenizer(chat_template=None), "Q: {instruction}\nInput: {input}\nA: "
    )
    assert template.prompt([Message("user", "Hi")]).text == "Q: Hi\nInput: \nA: "


def test_control_tokens_of_the_author_are_tokens_and_those_of_content_are_text() -> None:
    own = tiny.make_tokenizer(chat_template=None)
    text = "<|im_start|>user\n{instruction} {input}<|im_end|>\n<|im_start|>assistant\n"
    template = choose_template(own, text)
    start, end = own.convert_tokens_to_ids(["<|im_start|>", "<|im_end|>"])
    asked = Message("user", "a <|im_end|> b <|im_start|>", extra={"input": "<|im_start|>"})
    ids = template.prompt([asked]).ids
    assert (ids.count(start), ids.count(end)) == (2, 1)
    (sequence,) = template.render(Conversation((asked, Message("assistant", "<|im_end|> x")), "x:1"))
    assert sequence.ids.count(end) == 2
    assert sequence.weights[sequence.ids.index(end)] == 0
    assert (sequence.ids[-1], sequence.weights[-1]) == (end, 1)


def test_the_tokenizer_given_keeps_its_own_template() -> None:
    own = tokenizer("qwen2.5")
    before = own.chat_template
    for wording in WORDINGS.values():
        choose_template(own, wording)
    assert own.chat_template == before


def test_a_system_prompt_takes_the_place_of_the_templates_own_and_none_leaves_it_empty() -> None:
    own = choose_template(tokenizer("qwen2.5"))
    assert "You are Qwen" in own.before_question
    named = choose_template(tokenizer("qwen2.5"), Wording(system="You are 小微."))
    assert named.before_question.startswith("<|im_start|>system\nYou are 小微.<|im_end|>\n")
    none = choose_template(tokenizer("qwen2.5"), Wording(system=""))
    assert none.before_question.startswith("<|im_start|>system\n<|im_end|>\n")
    row = talk("Hi", "Hello!", system="")
    empty = (Message("system", ""), *row.messages)
    assert named.prompt(empty[:2]).ids == none.prompt(row.messages[:1]).ids, (
        "a row's own empty turn stays empty"
    )


@pytest.mark.parametrize("name", ["gemma", "no_system"])
def test_without_a_place_for_it_a_system_prompt_stands_before_the_first_question(name: str) -> None:
    template = choose_template(tokenizer(name), Wording(system="Be kind."))
    own = choose_template(tokenizer(name)).prompt([Message("system", "Be kind."), Message("user", "Hi")])
    assert template.prompt([Message("user", "Hi")]).ids == own.ids
    other = template.prompt([Message("system", "Own."), Message("user", "Hi")]).text
    assert "Own." in other


def test_tool_turns_have_no_place_in_a_text_with_fields() -> None:
    template = choose_template(tiny.make_tokenizer(), ALPACA)
    turns = [Message("user", "a"), Message("assistant", "b"), Message("tool", "c"), Message("assistant", "d")]
    with pytest.raises(RowError, match="no place for the role tool"):
        template.render(Conversation(tuple(turns), "x:1"))


def test_a_tokenizer_without_an_end_token_is_refused() -> None:
    own = tiny.make_tokenizer(chat_template=None)
    own.eos_token = None
    for wording in (Wording(ALPACA), Wording(task_templates={"de": TRANSLATE})):
        with pytest.raises(ModelError, match="no end-of-sequence token"):
            choose_template(own, wording)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("alpaca", "no such template"),
        ("instruct", "data.template=instruction"),
        ("", "no such template"),
        ("just\ntext", "no field"),
        ("{{instruction}}", "no field"),
        ("Q: {}", "no name"),
        ("Q: {0} {1}", "no name"),
        ("Q: {instruction", "a single brace at"),
        ("Q: instruction}", "a single brace at"),
        ('{"q": {instruction}}', "a single brace at"),
        ("{?input}{instruction}", "{/input}"),
        ("{instruction}{/input}", "closes nothing"),
        ("{?a}{?b}{instruction}{/a}{/b}", "closes nothing"),
        ("{output} {instruction}", "is the answer"),
        ("{instruction}\nA: {answer}</s>", "is the answer"),
        ("{role}: {instruction}", "something else"),
        ("{instruction!r}:{x:>10}", "not a valid field name"),
        ("{% for m in messages %}{{ m }}{% endfor %}", "Jinja"),
    ],
)
def test_what_is_no_template_is_refused_and_what_to_type_works(text: str, said: str) -> None:
    with pytest.raises(SettingsError) as caught:
        parse_settings(DataSettings, {"sources": "a.json", "template": text}, "data")
    (problem,) = caught.value.problems
    assert said in f"{problem.what} {problem.remedy}"
    if problem.remedy.startswith("data.template="):
        typed = (
            problem.remedy.removeprefix('data.template="').removesuffix('"').removeprefix("data.template=")
        )
        again = parse_overrides([f"data.template={typed}"])["data"]
        assert parse_settings(DataSettings, {"sources": "a.json", **again}, "data").template


@pytest.mark.parametrize(
    "word",
    [
        "data.template=Instruction: {instruction}\nAnswer: ",
        r"data.template=Instruction: {instruction}\nAnswer: ",
        r'data.template="Instruction: {instruction}\nAnswer: "',
        "data.template=Instruction: {instruction}\nAnswer: {output}",
        "data.template=Instruction: { instruction }\nAnswer: ",
    ],
)
def test_a_text_is_typed_as_a_word_as_it_is(word: str) -> None:
    value = parse_overrides([word])["data"]["template"]
    found = parse_text_template(value)
    assert found == parse_text_template("Instruction: {instruction}\nAnswer: ")


def test_words_that_hold_objects_stay_objects() -> None:
    assert parse_overrides(["data.columns={instruction: q, output: a}"]) == {
        "data": {"columns": {"instruction": "q", "output": "a"}}
    }
    assert parse_overrides(["data.template={instruction}"]) == {"data": {"template": "{instruction}"}}
    assert parse_overrides(["data.sources=[{path: a.json}, b.json]"])["data"]["sources"][0] == {
        "path": "a.json"
    }


@pytest.mark.parametrize("value", [None, "", "none"])
def test_an_empty_system_prompt_has_three_spellings(value: str | None) -> None:
    made = parse_settings(DataSettings, {"sources": "a.json", "system": value})
    assert made.wording.system == ""
    assert parse_settings(DataSettings, {"sources": "a.json"}).wording == Wording()


def test_placeholders_of_a_system_prompt_are_filled() -> None:
    made = parse_settings(
        DataSettings, {"sources": "a", "system": "You are {{ name }}, {{x}}.", "fill": {"name": "Ada"}}
    )
    assert made.wording.system == "You are Ada, {{x}}."


def test_signs_that_stand_for_contents_may_stand_in_the_text_itself() -> None:
    template = choose_template(tiny.make_tokenizer(), "\ue000 \U000f0000 {instruction}: ")
    one = Conversation((Message("user", "<|im_end|>"), Message("assistant", "Yes.")), "x:1")
    for _ in range(3):
        (sequence,) = template.render(one)
        assert template.tokenizer.decode(sequence.ids) == "\ue000 \U000f0000 <|im_end|>: Yes.<|im_end|>"
        assert sum(id in template.stop_ids for id in sequence.ids) == 1


@pytest.mark.parametrize("before", ["", "\n", "  ", " \n ", "x\n", "{#- c -#}\n", "{%- set a = 1 %}\n"])
@pytest.mark.parametrize("behind", ["", "\n", "\n\n", "{{ '' }}\n", "{% if true %}\n{% endif %}\n"])
def test_a_template_inside_of_another_writes_what_it_wrote(before: str, behind: str) -> None:
    own = tiny.make_tokenizer(chat_template=before + tiny.CHATML + behind)
    asked = [{"role": "system", "content": "Own."}, {"role": "user", "content": "Hi"}]
    alone = own.apply_chat_template(asked, add_generation_prompt=True, tokenize=False)
    for wording in (
        WORDINGS["system"],
        WORDINGS["task"],
        Wording(system="x", task_templates={"de": TRANSLATE}),
    ):
        inside = choose_template(own, wording)
        assert (
            inside.tokenizer.apply_chat_template(asked, add_generation_prompt=True, tokenize=False) == alone
        )
        assert inside.prompt(messages_of(asked)).text == alone
