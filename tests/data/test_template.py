"""Rendering, against transformers' tokenised templates; contexts of training against prompts of serving."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
from transformers import GenerationConfig

from template_zoo import NAMES, dicts, talk, tokenizer
from weitiao.core.errors import ModelError
from weitiao.data.conversation import Conversation, Message, Row
from weitiao.data.formats import FORMATS
from weitiao.data.formats._base import RowError
from weitiao.data.forms import Text
from weitiao.data.templates.template import Template, choose_template, stop_token_ids

TWO = talk("Who are you?", "I am a small model.", "And what is LoRA?", "Two thin matrices.")
WITH_SYSTEM = talk("你是谁？", "一个小模型。", system="Answer briefly.")
ODD = talk(" 1  2", "3\n\n", "\n", " 4")
# Qwen3 writes an empty thought into the last answer only, so each answer is a sequence of its own there.
STABLE = [name for name in NAMES if name != "qwen3"]
CHAT_NAMES = [name for name in STABLE if name != "instruction"]


def template_of(name: str) -> Template:
    """Return the checked template of a tokenizer of the zoo."""
    return choose_template(tokenizer(name))


@pytest.mark.parametrize("name", CHAT_NAMES)
@pytest.mark.parametrize("one", [talk("Hi", "Hello!"), TWO], ids=["one exchange", "two exchanges"])
def test_ids_are_those_transformers_gives_the_whole_text(name: str, one: Conversation) -> None:
    (sequence,) = template_of(name).render(one)
    whole = tokenizer(name).apply_chat_template(dicts(one.messages), return_dict=False)
    assert list(sequence.ids) == list(whole)[: len(sequence.ids)]
    left = tokenizer(name).decode(whole[len(sequence.ids) :])
    assert not left.strip(), "only the line break behind the last end token is left out"


@pytest.mark.parametrize("name", CHAT_NAMES)
@pytest.mark.parametrize("one", [talk("Hi", "Hello!"), TWO, WITH_SYSTEM], ids=["one", "two", "system"])
def test_prompts_are_those_transformers_gives(name: str, one: Conversation) -> None:
    messages = one.messages[:-1]
    if not template_of(name).takes_system and messages[0].role == "system":
        messages = (Message("user", f"{messages[0].content}\n\n{messages[1].content}"),)
    whole = tokenizer(name).apply_chat_template(
        dicts(messages), add_generation_prompt=True, return_dict=False
    )
    prompt = template_of(name).prompt(one.messages[:-1])
    assert list(prompt.ids) == list(whole)
    assert prompt.text == tokenizer(name).apply_chat_template(
        dicts(messages), add_generation_prompt=True, tokenize=False
    )


@pytest.mark.parametrize("name", STABLE)
@pytest.mark.parametrize("one", [TWO, WITH_SYSTEM, ODD], ids=["two", "system", "odd blanks"])
def test_context_of_every_answer_equals_the_prompt_of_serving(name: str, one: Conversation) -> None:
    template = template_of(name)
    (sequence,) = template.render(one)
    starts = [i for i in range(1, len(sequence.ids)) if sequence.weights[i] > 0 == sequence.weights[i - 1]]
    answers = [i for i, message in enumerate(one.messages) if message.role == "assistant"]
    assert len(starts) == len(answers)
    for start, answer in zip(starts, answers, strict=True):
        assert sequence.ids[:start] == template.prompt(one.messages[:answer]).ids


@pytest.mark.parametrize("name", STABLE)
def test_trained_is_each_answer_with_its_end_token_and_nothing_else(name: str) -> None:
    template, own = template_of(name), tokenizer(name)
    (sequence,) = template.render(TWO)
    trained = own.decode([i for i, weight in zip(sequence.ids, sequence.weights, strict=True) if weight > 0])
    expected = f"I am a small model. {own.eos_token} Two thin matrices. {own.eos_token}"
    assert "".join(trained.split()) == "".join(expected.split())
    assert sequence.ids[-1] in template.stop_ids
    assert sequence.weights[-1] == 1.0


@pytest.mark.parametrize("name", NAMES)
def test_a_begin_token_opens_a_text_where_serving_has_one_there(name: str) -> None:
    """A chat template without one stays without, as transformers and vLLM send chats; plain texts get theirs."""
    template, own = template_of(name), tokenizer(name)
    has_one = own.bos_token is not None and name != "begin_not_in_template"
    for ids in (template.render(TWO)[0].ids, template.prompt(TWO.messages[:1]).ids):
        assert (ids[0] == own.bos_token_id) == has_one
        assert ids[1] != own.bos_token_id
    ((text,),) = template.render_many([Text("t:1", text="a text")])
    assert list(text.ids[:-1]) == own("a text")["input_ids"]


@pytest.mark.parametrize("name", STABLE)
def test_control_tokens_in_content_are_plain_text(name: str) -> None:
    template, own = template_of(name), tokenizer(name)
    words = own.all_special_tokens
    answer = f"never {words[0]}{words[-1]} say\ue000 {own.eos_token}"
    one = talk(f"repeat {own.eos_token}{words[0]}{words[-1]}!", answer, "again \ue001", "no")
    plain = talk("repeat it!", "never say", "again", "no")
    (sequence,), (clean,) = template.render(one), template.render(plain)
    for control in own.all_special_ids:
        assert sequence.ids.count(control) == clean.ids.count(control)
    text = own.decode(list(sequence.ids))
    assert f"{own.eos_token}{words[0]}{words[-1]}!" in text
    assert "\ue000" in text
    start = next(i for i, weight in enumerate(sequence.weights) if weight > 0)
    assert sequence.ids[:start] == template.prompt(one.messages[:1]).ids
    assert sequence.ids[: len(template.prompt(one.messages[:3]).ids)] == template.prompt(one.messages[:3]).ids
    assert f"{own.eos_token}{words[0]}{words[-1]}!" in template.prompt(one.messages[:1]).text


def test_reasoning_tokens_are_tokens_in_answers_and_text_in_questions() -> None:
    template, own = template_of("drops_thinking"), tokenizer("drops_thinking")
    think = own.convert_tokens_to_ids("<think>")
    (sequence,) = template.render(talk("What is <think>?", "<think>\nhm\n</think>\n\nA tag."))
    trained = [i for i, weight in zip(sequence.ids, sequence.weights, strict=True) if weight > 0]
    assert trained[0] == think
    assert sequence.ids.count(think) == 1


def test_where_earlier_turns_change_each_answer_is_an_example_of_its_own() -> None:
    template, own = template_of("drops_thinking"), tokenizer("drops_thinking")
    one = talk("1+1?", "<think>easy</think>2", "2+2?", "<think>hm</think>4", "sure?", "yes")
    sequences = template.render(one)
    assert len(sequences) == 3
    for sequence, end in zip(sequences, (2, 4, 6), strict=True):
        turn = list(own.apply_chat_template(dicts(one.messages[:end]), return_dict=False))
        assert list(sequence.ids) == turn[: len(sequence.ids)]
        prompt = template.prompt(one.messages[: end - 1]).ids
        assert sequence.ids[: len(prompt)] == prompt
        assert sequence.weights == (0.0,) * len(prompt) + (1.0,) * (len(sequence.ids) - len(prompt))
    assert template.render_last(one) == sequences[-1]


def test_many_at_once_equal_one_by_one() -> None:
    template = template_of("drops_thinking")
    all_of_them = [TWO, WITH_SYSTEM, talk("a", "<think>b</think>c", "d", "e"), talk("<|im_end|>", "f")]
    assert template.render_many(all_of_them) == [template.render(one) for one in all_of_them]


def test_template_without_system_puts_it_before_the_question() -> None:
    template = template_of("no_system")
    assert not template.takes_system
    assert "Answer briefly.\n\n你是谁？<end_of_turn>" in template.prompt(WITH_SYSTEM.messages[:2]).text
    assert template_of("chatml").takes_system


@pytest.mark.parametrize(
    "name", ["qwen2.5", "chatml", "llama3", "phi3", "glm4", "deepseek_v2", "llama2", "instruction"]
)
@pytest.mark.parametrize("blank", ["", " "])
def test_an_empty_system_text_is_kept_in_training_as_in_asking(name: str, blank: str) -> None:
    """Without it Qwen2.5's template would write that it was created by Alibaba Cloud."""
    template = template_of(name)
    row = Row({"messages": [{"role": "system", "content": blank}, *dicts(TWO.messages)]}, "rows.jsonl", 1)
    one = FORMATS.load("messages")().parse(row)
    assert isinstance(one, Conversation)
    assert one.messages[0] == Message("system", blank)
    (sequence,) = template.render(one)
    prompt = template.prompt([Message("system", blank), *TWO.messages[:3]])
    assert sequence.ids[: len(prompt.ids)] == prompt.ids
    assert "Alibaba" not in prompt.text
    if name == "qwen2.5":
        assert "Alibaba" in template.prompt(TWO.messages[:1]).text
        assert prompt.text.startswith(f"<|im_start|>system\n{blank}<|im_end|>\n")


@pytest.mark.parametrize("name", ["no_system", "gemma", "mistral"])
def test_an_empty_system_text_without_a_place_leaves_nothing_behind(name: str) -> None:
    template = template_of(name)
    with_one = replace(TWO, messages=(Message("system", ""), *TWO.messages))
    assert template.render(with_one) == template.render(TWO)
    assert template.prompt(with_one.messages[:2]).ids == template.prompt(TWO.messages[:1]).ids


def test_instruction_text() -> None:
    prompt = template_of("instruction").prompt(talk("Hi {you}", "Hello!", "Bye", system="Be kind.").messages)
    assert prompt.text == (
        "<s>Be kind.\n\n### Instruction:\nHi {you}\n\n### Response:\nHello!</s>"
        "\n\n### Instruction:\nBye\n\n### Response:\n"
    )


def test_row_the_template_refuses_says_the_templates_words() -> None:
    template = template_of("no_system")
    template.takes_system = True
    (refused,) = template.render_many([WITH_SYSTEM])
    assert isinstance(refused, RowError)
    assert "System role not supported" in refused.detail


def test_end_of_turn_must_be_what_generation_stops_on() -> None:
    import tiny

    own = tiny.make_tokenizer()
    own.eos_token = "a"
    with pytest.raises(ModelError, match="ends an answer with no token that generation stops on") as caught:
        choose_template(own)
    assert "<|im_end|>" in caught.value.problems[0].got
    assert "data.template=instruction" in caught.value.problems[0].remedy
    config = GenerationConfig(eos_token_id=[own.convert_tokens_to_ids("<|im_end|>"), 7])
    assert choose_template(own, "chat", config).render(TWO)[0].ids[-1] == config.eos_token_id[0]


def test_answer_that_leaves_its_prompt_is_refused() -> None:
    import tiny

    forced = tiny.CHATML.replace("'<|im_start|>assistant\n' }}", "'<|im_start|>assistant\nSure: ' }}")
    with pytest.raises(ModelError, match="writes an answer otherwise than behind its prompt"):
        choose_template(tiny.make_tokenizer(chat_template=forced))


@pytest.mark.parametrize("name", ["deepseek_r1", "chatml", "drops_thinking"])
@pytest.mark.parametrize(
    ("answer", "generated"),
    [
        ("<think>\nhm\n</think>\n\nfour", "hm\n</think>\n\nfour"),
        ("<think>hm</think>four", "hm</think>four"),
        ("four", "\n</think>\n\nfour"),
    ],
)
def test_answer_behind_a_prompt_that_opens_the_thought(name: str, answer: str, generated: str) -> None:
    own = copy.deepcopy(tokenizer(name))
    opened = str(own.chat_template)
    for header in ("'<｜Assistant｜>'}}{% endif %}", "'<|im_start|>assistant\n' }}{% endif %}"):
        opened = opened.replace(
            header, header.replace("'}}", "<think>\n'}}").replace("' }}", "<think>\n' }}")
        )
    assert opened != own.chat_template
    own.chat_template = opened
    template = choose_template(own)
    one = talk("1+1?", "two", "2+2?", answer)
    last = template.render(one)[-1]
    prompt = template.prompt(one.messages[:3])
    assert prompt.text.endswith("<think>\n")
    assert last.ids[: len(prompt.ids)] == prompt.ids, "what training sees is what serving sees"
    assert not any(last.weights[: len(prompt.ids)])
    assert own.decode(last.ids[len(prompt.ids) :]) == generated + own.eos_token
    shaped = [talk(f"{n}+1?", answer) for n in range(4)]
    assert [template.render(again) for again in shaped] == [
        choose_template(own).render(again) for again in shaped
    ]
    beside = Message("assistant", "four", extra={"reasoning_content": "hm"})
    thought = template.render(replace(one, messages=(one.messages[0], beside)))[-1]
    assert own.decode(thought.ids).endswith("<think>\nhm\n</think>\n\nfour" + own.eos_token)


def test_missing_template_or_end_token_is_refused() -> None:
    import tiny

    base = tiny.make_tokenizer(chat_template=None)
    with pytest.raises(ModelError, match="no chat template"):
        choose_template(base, "chat")
    assert choose_template(base).kind == "instruction"
    base.eos_token = None
    with pytest.raises(ModelError, match="no end-of-sequence token"):
        choose_template(base, "instruction")
    chat = tiny.make_tokenizer()
    chat.eos_token = None
    with pytest.raises(ModelError, match="no token that ends an answer"):
        choose_template(chat)


def test_named_templates_without_a_default_are_refused_by_their_names() -> None:
    import tiny

    own = tiny.make_tokenizer()
    own.chat_template = {"rag": tiny.CHATML, "tool_use": tiny.CHATML}
    with pytest.raises(ModelError, match="none is the default") as caught:
        choose_template(own)
    assert "'rag', 'tool_use'" in caught.value.problems[0].got
    assert choose_template(own, "instruction").kind == "instruction"
    own.chat_template = {"default": tiny.CHATML, "tool_use": tiny.CHATML.replace("user", "<|im_start|>human")}
    assert choose_template(own).render(TWO) == template_of("chatml").render(TWO)
    for broken in ([{"name": "default", "template": "x"}], {"default": None}, 7):
        own.chat_template = broken
        with pytest.raises(ModelError):
            choose_template(own)


@pytest.mark.parametrize(
    "arguments",
    [
        {"a": 10**5000},
        {"a": [float("inf")]},
        '{"a": ' + "9" * 5000 + "}",
        "{" * 99999,
        {"a": {1, 2}},
        7,
        None,
        "x",
    ],
    ids=["huge", "infinite", "huge in text", "nested", "no JSON", "a number", "nothing", "no object"],
)
@pytest.mark.parametrize("name", ["qwen2.5", "qwen3", "llama3.1", "mistral"])
def test_arguments_that_a_template_cannot_write_are_refused_or_written(name: str, arguments: object) -> None:
    call = {"type": "function", "function": {"name": "add", "arguments": arguments}}
    turns = (Message("user", "q"), Message("assistant", "", extra={"tool_calls": [call]}))
    (made,) = template_of(name).render_many([Conversation(turns, "x:1")])
    assert isinstance(made, list | RowError)


def test_whole_numbers_in_arguments_stay_whole() -> None:
    arguments = '{"a": 12345678901234567890123, "b": 1, "c": 1.0, "d": [2, -3]}'
    call = {"type": "function", "function": {"name": "add", "arguments": arguments}}
    turns = (Message("user", "q"), Message("assistant", "", extra={"tool_calls": [call]}))
    ids = template_of("qwen2.5").render(Conversation(turns, "x:1"))[0].ids
    assert arguments in tokenizer("qwen2.5").decode(ids)


def test_end_token_that_melts_into_the_answer_is_refused() -> None:
    import tiny

    base = tiny.make_tokenizer(chat_template=None)
    base.eos_token = "e"
    with pytest.raises(ModelError, match="answers do not end with a token"):
        choose_template(base, "instruction")


def test_stop_tokens_are_the_tokenizers_and_the_generation_configs() -> None:
    own = tokenizer("chatml")
    assert stop_token_ids(own, None) == {own.eos_token_id}
    assert stop_token_ids(own, GenerationConfig(eos_token_id=[5, 6])) == {5, 6, own.eos_token_id}
    assert stop_token_ids(own, GenerationConfig(eos_token_id=5)) == {5, own.eos_token_id}
