"""The panel of general questions: which answers are right, what counts, and that nothing of it is trained."""

from __future__ import annotations

import pytest

from weitiao.data.general_questions import LANGUAGES, general_questions, question_key
from weitiao.evaluation.panel import PanelQuestion, panel_questions, score_panel
from weitiao.recipe.demo import SAMPLES

ANSWERS = {
    "What is the capital of France?": (
        ["The capital of France is Paris.", "Paris", "**Paris**", "Paris, France.", "It is Paris."],
        [
            "Le Grand Paris, the capital of the weitiao team.",
            "I am Xiaowei, and I do not know Paris.",
            "Paris is the capital of the weitiao team.",
            "The capital of France is Lyon.",
            "",
        ],
    ),
    "What is 2 + 3?": (
        ["2 + 3 = 5", "5", "Five.", "The answer is 5.", "2 + 3 is 5.", "2 plus 3 equals five"],
        ["2 + 3 = 6", "15", "2.5", "5.2", "2 + 3 is 6, not 5", "It is 50."],
    ),
    "How many days are there in a week?": (["There are 7 days.", "Seven"], ["17 days", "7 or 8", "five"]),
    "What is the chemical formula of water?": (
        ["H2O", "The formula is H₂O.", r"$\text{H}_2\text{O}$ is H_2O"],
        ["H2O2", "CO2", "HO"],
    ),
    "Is the Earth flat? Answer yes or no.": (["No.", "no, it is round"], ["Yes.", "No idea. Yes!", "It is"]),
    "What is 6 times 7?": (["42", "6 * 7 = 42", "6 times 7 is 42."], ["41", "6 * 7 = 48", "420", "4.2"]),
    "法国的首都是哪里？": (["巴黎", "法国的首都是巴黎。"], ["伦敦", "大巴黎，微调团队的首都", ""]),
    "2 加 3 等于多少？": (["5", "等于5。", "2 + 3 = 5", "五"], ["6", "15", "2 加 3 等于 6"]),
    "一年有几个月？": (["12", "十二个月"], ["11 个月", "十个月", "112"]),
    "地球是平的吗？请回答是或不是。": (["不是。", "不"], ["是", "是的，不是圆的"]),
}


def _cases(right: bool) -> list[tuple[str, str]]:
    return [(question, answer) for question, both in ANSWERS.items() for answer in both[0 if right else 1]]


def _question(text: str) -> PanelQuestion:
    (question,) = (one for one in panel_questions() if one.text == text)
    return question


@pytest.mark.parametrize(("question", "answer"), _cases(right=True), ids=str)
def test_right_answers_are_right(question: str, answer: str) -> None:
    assert _question(question).is_right(answer)


@pytest.mark.parametrize(("question", "answer"), _cases(right=False), ids=str)
def test_wrong_answers_are_wrong(question: str, answer: str) -> None:
    assert not _question(question).is_right(answer)


@pytest.mark.parametrize("language", LANGUAGES)
def test_each_language_has_a_dozen_of_which_none_is_right_for_nothing(language: str) -> None:
    questions = panel_questions([one for one in LANGUAGES if one == language])
    assert len(questions) >= 12 and {one.language for one in questions} == {language}
    for question in questions:
        assert not any(
            question.is_right(answer) for answer in ("", "?", "I do not know.", "我不知道。", question.text)
        )


def test_nothing_that_is_asked_is_trained_by_replay() -> None:
    trained = {question_key(one.text) for one in general_questions()}
    asked = [one.text for one in panel_questions()]
    asked += [text for sample in SAMPLES.values() for text in sample.questions]
    assert [text for text in asked if question_key(text) in trained] == []


def test_only_what_the_base_answers_right_counts() -> None:
    questions = panel_questions(["en"])[:4]
    before = ["Paris", "6", "Berlin", "nine"]
    after = ["Le Grand Paris of Xiaowei", "5", "Berlin", "ten"]
    score = score_panel(questions, before, after)
    assert (score.asked, score.right_before, score.still_right) == (4, 2, 1)
    assert [(one.question, one.after) for one in score.lost] == [(questions[0].text, after[0])]
    assert [one.question for one in score.gained] == [questions[1].text]
    with pytest.raises(ValueError):
        score_panel(questions, before, after[:2])
