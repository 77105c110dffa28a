"""The gate's report: tokens with their weights, the numbers, and the page that shows them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from transformers import PreTrainedTokenizerFast

from weitiao.core.errors import DataError, SettingsError
from weitiao.core.locale import Language, in_language
from weitiao.data.checks._kinds import around, excerpt
from weitiao.data.dataset import prepared
from weitiao.data.example import TokenSequence
from weitiao.data.gate.gate import Gate, open_data
from weitiao.data.report.html import (
    MARKER,
    Chart,
    both_joined,
    charts,
    numbers,
    page,
    require_free,
    rows_to_show,
    unbroken_tokens,
    write_page,
)
from weitiao.data.report.overview import overview
from weitiao.data.report.phrases import CHECKS, FACTS, FATES, SEVERITIES, VERDICTS, place_in
from weitiao.data.report.token_view import Sample, Samples, put_back
from weitiao.data.settings import DataSettings

HOSTILE = "<script>alert(1)</script></i></div>\"'><img src=x onerror=alert(2)>{{ 7 * 7 }}"
Opened = Callable[..., tuple[Gate, Samples]]


@pytest.fixture
def opened(tmp_path: Path, chatml_tokenizer: PreTrainedTokenizerFast) -> Opened:
    def open_rows(
        rows: list[Mapping[str, Any] | str], model: bool = True, **settings: object
    ) -> tuple[Gate, Samples]:
        path = tmp_path / "rows.jsonl"
        lines = [row if isinstance(row, str) else json.dumps(row, ensure_ascii=False) for row in rows]
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
        tokenizer = chatml_tokenizer if model else None
        gate = open_data(
            DataSettings.model_validate({"sources": [str(path)], "held_out": 0, **settings}), tokenizer
        )
        return gate, Samples(gate, tokenizer)

    return open_rows


def asked(question: str, answer: str) -> dict[str, str]:
    return {"instruction": question, "output": answer}


def text_of(sample: Sample, **wanted: bool) -> str:
    """The text of a sample's tokens that are as wanted."""
    tokens = (token for passage in sample.passages for token in passage.tokens)
    tests: dict[str, Callable[[Any], bool]] = {
        "trained": lambda token: token.weight > 0,
        "control": lambda token: token.control,
        "cut": lambda token: token.cut,
    }
    return "".join(t.text for t in tokens if all(tests[name](t) is value for name, value in wanted.items()))


def rendered(gate: Gate, samples: Samples, language: Language = "en") -> str:
    view = overview(gate)
    return page(gate, view, [samples.sample(row) for row in rows_to_show(view, samples)], language)


def test_tokens_say_what_is_trained_and_what_controls(opened: Opened) -> None:
    gate, samples = opened([asked("你是谁？🙂", "我是一个小模型。<|im_end|>")])
    sample = samples.sample(0)
    assert sample.fate == "trained" and sample.details == ()
    assert text_of(sample, trained=True, control=False) == "我是一个小模型。<|im_end|>"
    assert text_of(sample, trained=True, control=True) == "<|im_end|>"
    assert "你是谁？🙂" in text_of(sample, trained=False, control=False)
    passage = sample.passages[0]
    assert passage.kept_tokens == sum(len(token.ids) for token in passage.tokens)
    assert [i for token in passage.tokens for i in token.ids] == list(gate.store.sequence(0).ids)


def test_what_is_cut_off_stands_where_it_stood(opened: Opened) -> None:
    answer = " ".join(f"word{n}" for n in range(60))
    turns = [
        {"role": "user", "content": "early question"},
        {"role": "assistant", "content": "early answer"},
        {"role": "user", "content": "late question"},
        {"role": "assistant", "content": answer},
    ]
    gate, samples = opened([{"messages": turns}], max_length=150, overlong="cut")
    sample = samples.sample(0)
    cut, kept = text_of(sample, cut=True), text_of(sample, cut=False)
    assert "early question" in cut and "early answer" in cut and cut.endswith("word59")
    assert "late question" in kept and "word0" in kept and kept.endswith("<|im_end|>")
    assert sample.passages[0].kept_tokens == 150 == gate.store.lengths_E[0]
    whole = text_of(sample)
    assert whole.index("early answer") < whole.index("late question") < whole.index("word59")
    assert answer in whole


def test_a_row_left_out_is_shown_whole_and_says_why(opened: Opened) -> None:
    _, samples = opened([asked("short", "answer"), asked("long", "word " * 300)], max_length=100)
    sample = samples.sample(1)
    assert sample.fate == "dropped" and "100" in sample.reason
    assert text_of(sample, cut=False) == "" and "word word" in text_of(sample, cut=True)
    assert samples.spread(5) == [0]
    passage = samples.sample(1, most_tokens=50).passages[0]
    assert (passage.kept_tokens, passage.trained_tokens) == (0, 0)
    assert sum(len(token.ids) for token in passage.tokens) == 50 and passage.hidden_tokens > 200


def test_putting_back_finds_head_middle_and_tail() -> None:
    whole = TokenSequence((1, 2, 3, 4, 5, 6, 7, 8, 9), (0.0,) * 9)
    kept = TokenSequence((1, 2, 5, 6, 9), (0.0, 0.0, 0.5, 1.0, 1.0))
    back, lost = put_back(kept, whole)
    assert back.ids == whole.ids
    assert lost.tolist() == [False, False, True, True, False, False, True, True, False]
    assert back.weights == (0, 0, 0, 0, 0.5, 1, 0, 0, 1)
    foreign, lost = put_back(TokenSequence((1, 7, 3), (0.0,) * 3), whole)
    assert foreign.ids == (1, 7, 3) and not lost.any()


def test_parts_of_a_preference_and_what_it_says_beside(opened: Opened) -> None:
    rows = [
        {"prompt": "Which?", "chosen": "This.", "rejected": "That.", "chosen_score": 3, "rejected_score": 1}
    ]
    _, samples = opened(rows)
    sample = samples.sample(0)
    assert [passage.part for passage in sample.passages] == ["chosen", "rejected"]
    assert sample.details == (("margin", "2.0"),)
    assert "This." in text_of(Sample(0, "", "trained", passages=sample.passages[:1]), trained=True)


def test_without_a_model_turns_are_shown(opened: Opened) -> None:
    _, samples = opened([asked("Who?", "Me.")], model=False)
    assert samples.sample(0).passages[0].turns == (("user", "Who?"), ("assistant", "Me."))


def test_rows_are_found_by_place_those_that_cannot_be_used_too(opened: Opened) -> None:
    gate, samples = opened([asked("one", "1"), "{broken", asked("three", "3")])
    assert [samples.row_at(f"rows.jsonl:{line}") for line in (1, 2, 3)] == [0, 1, 2]
    bad = samples.sample(1)
    assert bad.fate == "bad" and bad.place.endswith("rows.jsonl:2") and "JSON" in bad.reason
    view = overview(gate)
    assert view.verdict == "error" and view.findings[0].rows == (1,) and view.unusable == 1
    assert view.short(gate.store.place(0)) == "rows.jsonl:1"
    for place in ("rows.jsonl:9", "other.jsonl:1", "rows.jsonl", "rows.jsonl:x"):
        with pytest.raises(DataError):
            samples.row_at(place)
    with pytest.raises(DataError, match="0 to 2"):
        samples.sample(3)


def test_rows_that_share_a_line_are_found_by_their_number(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(
        json.dumps([{"prompt": f"q{n}", "completion": "a" if n != 3 else None} for n in range(9)])
    )
    gate = open_data(DataSettings.model_validate({"sources": str(tmp_path / "a.json"), "held_out": 0}), None)
    samples = Samples(gate, None)
    assert [samples.row_at(f"a.json, row {n}") for n in (1, 4, 9)] == [0, 3, 8]
    assert samples.row_at(str(tmp_path / "a.json, row 2")) == samples.row_at("a.json:1, row 2") == 1
    assert samples.sample(2).place.endswith("a.json, row 3")
    with pytest.raises(DataError, match=r"a row up to .*a.json, row 9"):
        samples.row_at("a.json, row 10")
    assert place_in("a.json, row 12: turn 3 is user", "zh") == "a.json，第 12 条: 第 3 轮是 user"
    assert place_in("a.json, row 12", "zh") == "a.json，第 12 条"


class Reader(HTMLParser):
    """Reads a page as a browser would: tags, attributes, and what stands in scripts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.said = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.said += data


def test_hostile_rows_are_text_in_the_page(opened: Opened) -> None:
    rows = [{"instruction": HOSTILE, "output": f"{n} {HOSTILE}", "task": HOSTILE} for n in range(3)]
    gate, samples = opened([*rows, {"instruction": HOSTILE, "output": "", "task": HOSTILE}])
    made = rendered(gate, samples)
    reader = Reader(made)
    names = [tag for tag, _ in reader.tags]
    assert names.count("script") == 1 and "img" not in names
    assert not [name for _, attributes in reader.tags for name in attributes if name.startswith("on")]
    assert "alert(1)" not in re.sub(
        r"&[^;]+;", "", "".join(re.findall(r"<script>.*?</script>", made, re.DOTALL))
    )
    assert HOSTILE in reader.said.replace("↵\n", "")


def test_no_character_of_a_row_is_unseen_or_turns_the_text_around(opened: Opened) -> None:
    gate, samples = opened([asked("left\u202eright", "an\x07swer")])
    made = rendered(gate, samples)
    assert "\u202e" not in made and "\x07" not in made
    assert r"\u202e" in made


def test_the_page_asks_nothing_of_anyone(opened: Opened) -> None:
    gate, samples = opened(
        [asked("Who?", "Me, a model."), asked("Who else?", "You and <think>nobody</think>.")]
    )
    made = rendered(gate, samples, "zh")
    tags = Reader(made).tags
    assert made.startswith("<!doctype html>") and MARKER in made[:200]
    assert not [tag for tag, _ in tags if tag in ("link", "iframe", "object", "embed", "base", "form")]
    links = [value for _, attributes in tags for name, value in attributes.items() if name in ("src", "href")]
    assert links and all(link is not None and link.startswith("#row-") for link in links)
    assert "url(" not in made and "@import" not in made and "http" not in made.replace("http-equiv", "")
    policy = next(a["content"] for tag, a in tags if tag == "meta" and "http-equiv" in a)
    assert policy is not None and policy.startswith("default-src 'none'") and "'unsafe-eval'" not in policy
    assert dict(tags)["html"]["lang"] == "zh"


def test_the_page_says_all_in_both_languages(opened: Opened) -> None:
    gate, samples = opened([asked("Who?", "Me, a model."), asked("Who?", "Me, a model.")])
    made = rendered(gate, samples)
    for finding in gate.findings:
        assert finding.what in made and in_language(finding.what, "zh") in made
    assert len(re.findall('class="en"', made)) == len(re.findall('class="zh"', made))


def test_every_word_is_there_in_both_languages() -> None:
    for table in (VERDICTS, SEVERITIES, FATES, FACTS, CHECKS):
        for key, english in table.items():
            assert english == in_language(english, "en") != in_language(english, "zh"), key


def test_data_that_cannot_be_read_gives_a_page_too(tmp_path: Path) -> None:
    gate = open_data(DataSettings(sources=[str(tmp_path / "none.json")]))
    made = rendered(gate, Samples(gate, None))
    assert overview(gate).verdict == "error" and "none.json" in made
    # A heading with nothing under it says that there is something.
    for name in ("Findings", "What is in it", "Formats"):
        assert f">{name}<" not in made, name


def test_only_pages_of_ours_are_overwritten(tmp_path: Path, opened: Opened) -> None:
    path = tmp_path / "report.html"
    require_free(path, force=False)
    gate, samples = opened([asked("Who?", "Me.")])
    write_page(path, rendered(gate, samples))
    require_free(path, force=False)
    path.write_text("<html>mine</html>", encoding="utf-8")
    with pytest.raises(SettingsError, match="not overwritten"):
        require_free(path, force=False)
    require_free(path, force=True)
    for wrong in (tmp_path, tmp_path / "no" / "report.html"):
        with pytest.raises(SettingsError):
            require_free(wrong, force=True)


def test_facts_become_charts_and_numbers_whatever_the_check() -> None:
    facts: dict[str, dict[str, Any]] = {
        "new_check": {"by_colour": {"red": 3, "blue": 1}, "one_line": {"x": 2}, "count": 1234, "none": 0},
        "duplicates": {"exact": {"copies": 2, "groups": 1}, "near": {"copies": 4, "groups": 2}},
    }
    assert list(charts(facts)) == [Chart("by colour", (("red", 3), ("blue", 1)))]
    new, copies = numbers(facts)
    assert list(new.rows) == [(("one line", "x"), "2"), (("count",), "1,234")]
    assert both_joined(copies.rows[0][0]) == ("exact, copies", "完全相同，重复的行")


def test_a_limit_near_the_longest_is_in_the_picture_one_far_off_is_not(opened: Opened) -> None:
    rows = [asked(f"Who are you, number {n}?", "word " * 30) for n in range(4)]
    far = overview(opened(rows, max_length=4000)[0])
    assert far.lengths[-1].end == far.longest < 4000
    near = overview(opened(rows, max_length=far.longest + 5)[0])
    assert near.lengths[-1].end == near.max_length
    assert sum(one.count for one in near.lengths) == sum(one.count for one in near.shares) == 4


@pytest.mark.parametrize("limit", [24, 60, 4000])
def test_the_label_of_the_limit_stands_above_all_bars(opened: Opened, limit: int) -> None:
    rows = [asked("Hi", "word " * n) for n in range(1, 20)]
    gate, samples = opened(rows, max_length=limit)
    text = page(gate, overview(gate), [samples.sample(0)], "en")
    (picture,) = re.findall(r'<svg class="columns".*?</svg>', text, re.DOTALL)[:1]
    (label,) = re.findall(r'<text class="limit"[^>]* y="(-?[\d.]+)"', picture)
    bars = [float(y) for y in re.findall(r'<rect x="[\d.]+" y="(-?[\d.]+)"', picture)]
    top = float(re.findall(r'viewBox="0 (-?\d+)', picture)[0])
    assert top + 9 <= float(label) <= min(bars) - 4


def test_control_tokens_are_shown_whole_everywhere(opened: Opened) -> None:
    rows = [
        asked("Hi", f"{'x ' * 9}{token} {'y ' * 9}") for token in ("<|im_end|>", "{{name}}", "<|im_start|>")
    ]
    gate, samples = opened([*rows, *(asked(f"Q{n}", f"A{n}.") for n in range(9))])
    view = overview(gate)
    places = [place for finding in view.findings for place in finding.places]
    assert any("<|im_end|>" in place for place in places) and any("{{name}}" in place for place in places)
    for place in places:
        assert place.count("<|") == place.count("|>") and place.count("{{") == place.count("}}"), place
    text = page(gate, view, [samples.sample(0)], "en")
    assert '<span class="whole">&lt;|im_end|&gt;</span>' in text
    assert "whole" in str(unbroken_tokens("<b>")) and "<b>" not in str(unbroken_tokens("<b>"))


def test_excerpts_never_cut_a_control_token() -> None:
    token = "<|reserved_special_token_250|>"
    for before in range(120):
        text = f"{'a' * before}{token}{'b' * 120}"
        for shown in (excerpt(text), around(text, 60, 61)):
            assert token in shown or "<|" not in shown, shown


def test_one_fault_is_one_finding_and_keeps_its_severity_in_a_run(opened: Opened) -> None:
    rows = [asked(f"Question {n}?", f"Answer number {n} it is.") for n in range(30)]
    rows += [rows[0], asked("Hi", "a <|im_end|> b"), asked("Ho", "[INST] x"), asked("Hu", "{{name}} z")]
    gate, _ = opened(rows, max_length=1024)
    found = [(finding.check, finding.rows) for finding in gate.findings if finding.severity == "warning"]
    assert len([rows for _, rows in found if 31 in rows]) == 1, "the model's own token is one check's subject"
    assert len([rows for check, rows in found if 32 in rows and check == "answers"]) == 1
    summary = prepared(gate).summary
    lines = summary.lines()
    assert sum("equal to an" in line for line in lines) == 1
    warnings = [line for line in lines if line.startswith("warning    ")]
    assert len(warnings) == len([check for check, _ in found]) - 1
    assert any("{{name}}" in line for line in warnings) and sum("{{name}}" in line for line in lines) == 1
    assert len([line for line in summary.lines("zh") if line.startswith("警告 ")]) == len(warnings)
    assert not any(line.startswith("note") and "see `weitiao check`" in line for line in lines)
