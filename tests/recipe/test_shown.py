"""What a run says of itself: what it was set to, why it ended, and how far what takes long is."""

from __future__ import annotations

import json
from html import unescape
from pathlib import Path
from typing import Any

import pytest

from tiny_training import Events
from weitiao.core.events import Progress
from weitiao.evaluation.metrics import METRICS
from weitiao.evaluation.report import CHOSEN_BY_LOSS
from weitiao.recipe.recipe import parse_recipe
from weitiao.recipe.run import Run
from weitiao.recipe.train import train_recipe


def trained(recipe: dict[str, Any], **changes: Any) -> tuple[Run, Events]:  # noqa: ANN401
    heard = Events()
    settings = {**recipe["train"], **changes}
    return train_recipe(parse_recipe({**recipe, "train": settings}), [heard]), heard


def test_what_the_run_was_set_to_is_told_before_the_first_step(recipe: dict[str, Any]) -> None:
    warm = {"steps": None, "epochs": 1.5, "scheduler": "cosine", "warmup_ratio": 0.2}
    run, heard = trained(recipe, **warm)
    (chosen,) = heard.of("chosen")
    kinds = [event["event"] for event in run.events]
    assert kinds.index("parameters") < kinds.index("chosen") < kinds.index("step")
    assert chosen["method"] == "LoRA" and "q_proj" in chosen["targets"][0]
    facts = {key: chosen[key] for key in ("lr", "scheduler", "steps", "batch_size", "examples", "held_out")}
    assert facts == {
        "lr": 1e-3, "scheduler": "cosine", "steps": 6, "batch_size": 3, "examples": 12, "held_out": 2
    }  # fmt: skip
    assert chosen["warmup_steps"] == 1 and chosen["epochs"] == 1.5
    for line in ("| Learning rate | 1e-3, cosine, warm-up over 1 step |", "| Held out | 2 examples |"):
        assert line in run.folder.report.read_text(encoding="utf-8")


def test_the_learning_rate_of_a_run_is_the_one_that_was_used(recipe: dict[str, Any]) -> None:
    run, heard = trained({**recipe, "train": {"steps": 2, "batch_size": 3}})
    assert run.recipe.train.lr == heard.of("chosen")[0]["lr"] == run.recipe.method.suggested_lr
    assert "lr=None" not in repr(run.recipe.train)


@pytest.mark.parametrize("patience", [2, None])
def test_why_it_ended_and_whose_weights_were_kept_is_in_note_event_report_and_card(
    recipe: dict[str, Any], patience: int | None
) -> None:
    early = patience is not None
    waits = {"early_stopping_patience": patience, "early_stopping_min_delta": 10.0, "eval_every": 1}
    run, heard = trained(recipe, **waits, keep_best=early)
    (finished,) = heard.of("finished")
    assert (finished["step"], finished["steps"]) == (3 if early else 5, 5)
    assert finished["result_step"] == (1 if early else 5)
    assert finished["whole_seconds"] >= finished["seconds"]
    said = [note["text"] for note in heard.of("note") if "stopped early, after 3 of 5 steps" in note["text"]]
    assert len(said) == early
    assert ("stopped early" in run.folder.report.read_text(encoding="utf-8")) == early
    kept = "of step 1 of the 3 made" if early else "of step 5, the last"
    assert kept in run.report and (CHOSEN_BY_LOSS in run.report) == early
    assert kept in (run.adapter_path / "README.md").read_text(encoding="utf-8")


def test_a_conversation_shows_its_earlier_turns_and_a_long_answer_is_cut(
    recipe: dict[str, Any], tmp_path: Path
) -> None:
    talks = [
        {"messages": [
            {"role": "user", "content": f"What is {n}?"},
            {"role": "assistant", "content": f"It is {n}."},
            {"role": "user", "content": "And then?"},
            {"role": "assistant", "content": f"Then {n + 1}. " * 20},
        ]}
        for n in range(14)
    ]  # fmt: skip
    (tmp_path / "talks.json").write_text(json.dumps(talks), encoding="utf-8")
    asked = {"question_count": 1, "generation": {"max_new_tokens": 8}}
    data = {**recipe["data"], "sources": str(tmp_path / "talks.json")}
    run, _ = trained({**recipe, "data": data, "evaluate": asked})
    (answer,) = run.answers
    assert answer["earlier_turns"] == 2 and answer["reference_cut"]
    assert "*after 2 turns: “What is" in run.report
    html = run._repr_html_()
    assert "after 2 turns: “What is" in html and html.index("after 2 turns") < html.index("And then?")
    assert f"{answer['reference']} […]" in html


def test_the_curve_and_the_answers_know_where_they_begin_and_end(recipe: dict[str, Any]) -> None:
    asked = {"question_count": 1, "generation": {"max_new_tokens": 2}}
    run, _ = trained({**recipe, "evaluate": asked})
    (answer,) = run.answers
    assert answer["reference"] and answer["before_cut"] and answer["after_cut"]
    html = unescape(run._repr_html_())
    for title in (METRICS.load(name).title for name in METRICS.names()):
        assert title in html and title in run.report
    assert "step 0:" in (run.folder.root / "loss.svg").read_text(encoding="utf-8")
    assert "cut off after 2 tokens" in run.folder.report.read_text(encoding="utf-8")


def test_progress_is_told_once_it_takes_long_and_ends() -> None:
    now = [0.0]
    told: list[dict[str, Any]] = []
    progress = Progress(lambda kind, **fields: told.append({"kind": kind, **fields}), "rows", lambda: now[0])
    for done, seconds in ((1, 0.5), (2, 1.0), (3, 1.5), (4, 2.5), (9, 2.6), (9, 2.7)):
        now[0] = seconds
        progress(done, 9)
    assert [event["done"] for event in told] == [2, 4, 9]
    assert told[0] == {"kind": "progress", "done": 2, "total": 9, "seconds_left": 3.5, "what": "rows"}
    told.clear()
    Progress(lambda kind, **fields: told.append(fields), "", lambda: 0.0)(9, 9)
    assert not told, "what took a moment is not told"
