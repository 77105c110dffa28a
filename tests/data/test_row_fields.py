"""What of a row fills the fields of a text: columns under either name, nothing twice, nothing lost."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest

import tiny
from template_zoo import tokenizer
from weitiao.core.errors import DataError
from weitiao.data.dataset import Prepared, load_data
from weitiao.data.example import Example, TokenSequence
from weitiao.data.gate.gate import Gate, open_data
from weitiao.data.settings import DataSettings

ALPACA = "I: {instruction}\n{?input}X: {input}\n{/input}A: "


def prepared(rows: list[dict[str, Any]], template: str = ALPACA, **settings: Any) -> Prepared:  # noqa: ANN401
    """Bring rows through the gate."""
    chosen = {"sources": [{"rows": rows}], "held_out": 0, "template": template, **settings}
    return load_data(DataSettings.model_validate(chosen), tiny.make_tokenizer(chat_template=None))


def texts(rows: list[dict[str, Any]], template: str = ALPACA, **settings: Any) -> list[str]:  # noqa: ANN401
    """Return what rows become, without their answers."""
    data = prepared(rows, template, **settings)
    own = data.template.tokenizer
    return [
        own.decode([id for id, weight in zip(one.ids, one.weights, strict=True) if not weight])
        for one in sequences_of(data.train)
    ]


def sequences_of(examples: Iterable[Example]) -> list[TokenSequence]:
    """Return all sequences of examples, one behind the other."""
    return [one for example in examples for one in example.sequences]


def gate(rows: list[dict[str, Any]], **settings: Any) -> Gate:  # noqa: ANN401
    """Look at rows."""
    chosen = {"sources": [{"rows": rows}], **settings}
    return open_data(DataSettings.model_validate(chosen), tiny.make_tokenizer(chat_template=None))


def row(**columns: Any) -> dict[str, Any]:  # noqa: ANN401
    """Make a row."""
    return {"instruction": "Say it", "output": "Yes.", **columns}


def test_columns_have_places_of_their_own() -> None:
    assert texts([row(input="loud"), row(input=""), row(input=None)]) == [
        "I: Say it\nX: loud\nA: ",
        "I: Say it\nA: ",
        "I: Say it\nA: ",
    ]


def test_what_has_no_field_stays_with_the_question() -> None:
    assert texts([row(input="loud")], "I: {instruction}\nA: ") == ["I: Say it\nloud\nA: "]
    assert texts([row(input="loud", context="Here.")]) == ["I: Here.\n\nSay it\nX: loud\nA: "]
    assert texts([row(instruction="", input="loud")]) == ["I: \nX: loud\nA: "]
    assert texts([row(instruction="", input="loud")], "I: {instruction}\nA: ") == ["I: loud\nA: "]


def test_a_system_text_has_its_field_or_stands_in_front() -> None:
    assert texts([row(system="Be kind.")]) == ["Be kind.\n\nI: Say it\nA: "]
    assert texts([row(system="Be kind.")], "{system} {instruction}: ") == ["Be kind. Say it: "]
    assert texts([row()], ALPACA, system="Be brief.") == ["Be brief.\n\nI: Say it\nA: "]


def test_columns_that_no_format_reads_fill_fields_and_are_then_used() -> None:
    rows = [row(language="German", level=3, query="x"), row(language="Dutch", level=None)]
    assert texts(rows, "{language} {level} {query}|{instruction}: ") == [
        "German 3 x|Say it: ",
        "Dutch  |Say it: ",
    ]
    assert gate(rows[1:], template="{language}|{instruction}: ").tally.unused == {}
    assert "language" in str(gate(rows[1:]).tally.unused)


def test_columns_go_by_the_names_the_data_has_too() -> None:
    rows = [{"premise": "It rains.", "hypothesis": "It is wet.", "verdict": "yes", "note": "n"}]
    columns = {"instruction": "premise", "input": "hypothesis", "output": "verdict"}
    for text in (
        "P: {premise}\nH: {hypothesis}\n{note}: ",
        "P: {instruction}\nH: {input}\n{note}: ",
    ):
        assert texts(rows, text, columns=columns) == ["P: It rains.\nH: It is wet.\nn: "]


@pytest.mark.parametrize(
    "rows",
    [
        [{"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yo"}]}],
        [{"question": "Hi", "answer": "Yo"}],
        [{"prompt": "Hi", "completion": "Yo"}],
        [{"source": "Hi", "target": "Yo"}],
        [{"conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Yo"}]}],
    ],
)
@pytest.mark.parametrize("field", ["instruction", "question", "prompt"])
def test_the_question_of_every_format_is_the_question(rows: list[dict[str, Any]], field: str) -> None:
    assert texts(rows, f"Q: {{{field}}}\nA: ") == ["Q: Hi\nA: "]


def test_turns_are_written_one_behind_the_other_with_what_belongs_to_the_last() -> None:
    rows = [row(history=[["One", "1"]], input="loud")]
    assert texts(rows) == ["I: One\nA: \n\nI: Say it\nX: loud\nA: "]


def test_tasks_have_texts_of_their_own_from_a_column_or_a_source() -> None:
    settings = {
        "sources": [
            {"rows": [row(task="de"), row(task=7), row()]},
            {"rows": [{"source": "Hi", "target": "Hallo"}], "task": "de"},
            {"rows": [{"source": "Hi", "target": "Hi"}]},
        ],
        "held_out": 0,
        "template": "[{task}] {instruction}: ",
        "task_templates": {"de": "German of {instruction}: "},
    }
    data = load_data(DataSettings.model_validate(settings), tiny.make_tokenizer(chat_template=None))
    own = data.template.tokenizer
    assert [own.decode(one.ids) for one in sequences_of(data.train)] == [
        "German of Say it: Yes.<|im_end|>",
        "[7] Say it: Yes.<|im_end|>",
        "[] Say it: Yes.<|im_end|>",
        "German of Hi: Hallo<|im_end|>",
        "[] Hi: Hi<|im_end|>",
    ]


def test_held_out_rows_are_asked_with_the_fields_and_the_task_they_have() -> None:
    rows = [row(instruction=f"Say {n}", input=f"{n} times", task="de" if n % 2 else "") for n in range(20)]
    data = prepared(rows, ALPACA, held_out=8, task_templates={"de": "{input} in German {instruction}: "})
    asked = {data.template.prompt(one.messages[:-1]).text for one in data.held_out_conversations}
    written = {
        data.template.tokenizer.decode(one.ids).partition("Yes.")[0] for one in sequences_of(data.held_out)
    }
    assert asked == written
    assert {text.startswith("I: ") for text in asked} == {True, False}


def test_with_a_chat_template_tasks_without_a_text_go_by_it() -> None:
    settings = {"sources": [{"rows": [row(task="de"), row(task="fr")]}], "held_out": 0,
                "task_templates": {"de": "German of {instruction}: "}}  # fmt: skip
    own = tokenizer("qwen2.5")
    data = load_data(DataSettings.model_validate(settings), own)
    german, french = (own.decode(one.ids) for one in sequences_of(data.train))
    assert german == "German of Say it: Yes.<|im_end|>"
    assert french.startswith("<|im_start|>system\nYou are Qwen")


def test_a_misspelt_field_is_refused_with_what_to_type() -> None:
    with pytest.raises(DataError) as caught:
        prepared([row(language="German")], r"{langage}: {instrction}\nA: ")
    first, second = caught.value.problems
    assert "{langage}" in first.what and "{instrction}" in second.what
    assert first.remedy == r'data.template="{language}: {instrction}\nA: "'
    assert second.remedy == r'data.template="{langage}: {instruction}\nA: "'
    assert "language" in first.expected


def test_a_task_that_no_row_has_is_refused() -> None:
    with pytest.raises(DataError, match="no row has: ed; the data has de"):
        prepared([row(task="de")], task_templates={"ed": "G: {instruction}"})


def test_a_field_that_is_no_text_has_its_row_refused() -> None:
    with pytest.raises(DataError, match="'choices' must be text, not a list"):
        prepared([row(choices=["a", "b"])], "{instruction} {choices}: ")


def test_placeholders_in_fields_are_filled() -> None:
    rows = [row(input="for {{name}}", instruction="Hi {{name}}")]
    assert texts(rows, fill={"name": "Ada"}) == ["I: Hi Ada\nX: for Ada\nA: "]


def test_a_placeholder_may_stand_in_the_system_prompt_alone() -> None:
    assert texts([row()], system="You are {{name}}.", fill={"name": "Ada"}) == [
        "You are Ada.\n\nI: Say it\nA: "
    ]


def test_long_rows_are_cut_as_others_are() -> None:
    rows = [row(output="word " * 200, input="loud"), row(history=[["a " * 40, "b " * 40]] * 3)]
    data = prepared(rows, ALPACA, max_length=64, overlong="cut")
    made = sequences_of(data.train)
    assert all(len(one.ids) <= 64 and one.ids[-1] in data.template.stop_ids for one in made)
    assert data.summary.cut == 2


def test_the_same_rows_are_held_out_whatever_the_text() -> None:
    rows = [row(instruction=f"Say {n}", input=f"{n} times" * (n % 2)) for n in range(40)]
    splits = [
        gate(rows, held_out=9, template=text).held_out.tolist()
        for text in ("auto", ALPACA, "{instruction}: ")
    ]
    assert splits[0] == splits[1] == splits[2]


def test_fields_may_have_any_name_a_column_has() -> None:
    rows = [{"问题": "几点？", "回答": "五点。", "难 度-1": "低"}]
    columns = {"question": "问题", "answer": "回答"}
    assert texts(rows, "问：{问题}（{难 度-1}）答：", columns=columns) == ["问：几点？（低）答："]


def left_out(rows: list[dict[str, Any]], template: str, **settings: Any) -> dict[int, str]:  # noqa: ANN401
    """Return what of each row's question the template leaves out, by row number, as the gate says it."""
    found = gate(rows, template=template, held_out=0, **settings).findings
    return {
        row: place
        for one in found
        if one.check == "unwritten" and "a part of the question" in one.what
        for row, place in zip(one.rows, one.places, strict=True)
    }


def test_a_field_alone_stands_for_all_that_is_asked() -> None:
    for template in ("Q: {input}\nA: ", "{system}Q: {input}\nA: ", "{?task}{task}{/task}Q: {input}\nA: "):
        assert texts([row(input="loud")], template) == ["Q: Say it\nloud\nA: "]
        assert not left_out([row(input="loud")], template)


@pytest.mark.parametrize("template", ["{system}\nA: ", "{task}: ", "{?system}{system}{/system}"])
def test_a_template_without_a_field_for_the_question_is_refused(template: str) -> None:
    with pytest.raises(ValueError, match="no field for the question"):
        DataSettings(sources="x.json", template=template)


def test_what_a_template_leaves_out_of_the_question_is_said_with_its_columns() -> None:
    rows = [row(topic="tea", input="loud"), row(topic="tea", instruction=""), row(topic="", input="loud")]
    found = gate(rows, template="Q: {topic}\nA: ", held_out=0)
    lost = left_out(rows, "Q: {topic}\nA: ")
    assert set(lost) == {0} and "Say it loud" in lost[0]
    assert [*found.tally.unused.values()] == [{"instruction": 1, "input": 1}]


def test_nothing_is_said_where_fields_hold_the_whole_question() -> None:
    assert not left_out([row(input="loud")], ALPACA)
    assert not left_out([row(input="loud", topic="tea")], "{topic}|{input}|{instruction}: ")
    assert not left_out([row(topic="tea", instruction="")], "Q: {topic}\nA: ")
