"""Replay: general rows beside a person's own, answered by the model itself or given as a file."""

from __future__ import annotations

import json
import math
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import LlamaForCausalLM

import weitiao
from tiny_training import Events
from weitiao.core.errors import (
    DataError,
    Interrupted,
    ModelError,
    NotFiniteError,
    SettingsError,
    Stopped,
    WeitiaoError,
)
from weitiao.core.events import Event
from weitiao.core.run_folder import RunFolder
from weitiao.data.example import TokenSequence
from weitiao.data.gate.store import JoinedExamples, draws_of
from weitiao.data.general_questions import general_questions
from weitiao.recipe.demo import demo_recipe
from weitiao.recipe.general_answers import mean_log_probability
from weitiao.recipe.preflight import preflight
from weitiao.recipe.recipe import Recipe, lay_over, parse_recipe, read_recipe
from weitiao.recipe.replay import GeneralRow, planned, read_rows
from weitiao.recipe.run import Run
from weitiao.recipe.train import resume_run, train_recipe

OWN_ROWS, HELD_OUT, BATCH = 14, 2, 3
ANSWER = "It is fine."
ALL = len(general_questions(["en"]))
ONE_STEP = {"epochs": None, "steps": 1}

Make = Callable[..., Recipe]


@pytest.fixture(scope="module")
def answering(tmp_path_factory: pytest.TempPathFactory, tiny_model_folder: Path) -> Path:
    """The folder of a tiny model that gives one answer to whatever it is asked."""
    root = tmp_path_factory.mktemp("answering")
    rows = [{"instruction": one.text, "output": ANSWER} for one in general_questions()[:60]]
    return weitiao.train(
        model=str(tiny_model_folder),
        data={"sources": [{"rows": rows}], "held_out": 0},
        method="full",
        train={"steps": 60, "batch_size": 8, "lr": 1e-2},
        evaluate={"question_count": 0},
        out=root / "run",
    ).adapter_path


def maker(recipe: dict[str, Any], answering: Path, folder: Path) -> Make:
    """Return a function that gives a recipe of two epochs on the answering model, with replay as it is given."""
    plain = {
        **recipe,
        "model": str(answering),
        "data": {**recipe["data"], "held_out": HELD_OUT},
        "train": {"epochs": 2, "batch_size": BATCH, "lr": 1e-3, "pack_tokens": 256},
    }

    def made(replay: object, out: str = "run", **over: Any) -> Recipe:  # noqa: ANN401
        whole = lay_over(plain, {"data": {"replay": replay}, "out": str(folder / out), **over})
        return parse_recipe(whole)

    return made


@pytest.fixture
def make(recipe: dict[str, Any], answering: Path, tmp_path: Path) -> Make:
    return maker(recipe, answering, tmp_path)


@pytest.fixture(scope="module")
def make_shared(
    recipe_in: Callable[[Path], dict[str, Any]], answering: Path, tmp_path_factory: pytest.TempPathFactory
) -> Make:
    """Makes the recipes of runs that several tests read."""
    folder = tmp_path_factory.mktemp("shared")
    return maker(recipe_in(folder), answering, folder)


@pytest.fixture(scope="module")
def six(make_shared: Make) -> tuple[Run, Events]:
    """A run with six general rows, and what was told of it; read only."""
    heard = Events()
    return train_recipe(make_shared(6, "six"), [heard]), heard


@pytest.fixture(scope="module")
def stopped_once(make_shared: Make) -> Path:
    """The folder of the same run, stopped at its third step; read only."""
    recipe = make_shared(6, "stopped")
    with pytest.raises(Stopped):
        train_recipe(recipe, [stop_at("step", 3, signal.SIGTERM)])
    return recipe.out


@pytest.fixture
def stopped(stopped_once: Path, tmp_path: Path) -> Path:
    return shutil.copytree(stopped_once, tmp_path / "stopped")


def answers_file(tmp_path: Path, count: int) -> Path:
    path = tmp_path / "general.jsonl"
    rows = [{"question": f"Say {n}.", "answer": f"{n}!"} for n in range(count)]
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return path


def bytes_of(root: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((root / "adapter").glob("*.safetensors"))}


def stop_at(kind: str, number: int, sent: signal.Signals) -> Callable[[Event], None]:
    """Return a listener that sends this process a signal at the n-th event of a kind."""
    seen = 0

    def listen(event: Event) -> None:
        nonlocal seen
        seen += event["event"] == kind
        if event["event"] == kind and seen == number:
            os.kill(os.getpid(), sent)

    return listen


@pytest.mark.parametrize(
    ("replay", "general"),
    [
        ("off", 0), (False, 0), (None, 0), (0, 0), ({"share": 0}, 0),
        ("on", 4), (True, 4), ({}, 4), (0.25, 4), (0.5, 12), ({"share": 0.01}, 1), ({"language": "en"}, 4),
        (1, 1), (24, 24), (5000, ALL), (0.99, ALL), ({"share": 5000, "language": "both"}, 2 * ALL),
    ],
    ids=str,
)  # fmt: skip
def test_the_rows_and_steps_are_known_before_any_model_is_loaded(
    make: Make, replay: object, general: int
) -> None:
    own = OWN_ROWS - HELD_OUT
    recipe = make(replay)
    ready = preflight(recipe)
    assert sum(draws_of(planned(ready.data, ready.awaited))) == own + general
    assert len(ready.data.train) == own and len(ready.data.held_out) == HELD_OUT
    lines = [line for line in ready.data.summary.lines() if line.startswith("replay")]
    assert len(lines) == bool(general)
    if general:
        more, all_steps = (2 * -(-(own + n) // BATCH) for n in (0, general))
        assert f"{general} general row" in lines[0] and f" beside {own} an epoch (" in lines[0]
        assert f" {all_steps - more} step" in lines[0] and f" more, {all_steps} in all" in lines[0]
        assert ("there are no more" in lines[0]) == (general >= ALL)
        assert str(general) in ready.data.summary.lines("zh")[-1]


@pytest.mark.parametrize(
    ("replay", "said"),
    [
        ("yes please", "data.replay"),
        (-1, "data.replay.share"),
        (1.5, "whole"),
        (float("nan"), "data.replay.share"),
        (float("inf"), "data.replay.share"),
        ({"share": 0.2, "lang": "en"}, "language"),
        ({"language": "fr"}, "en"),
        ({"max_new_tokens": 0}, "max_new_tokens"),
    ],
    ids=str,
)
def test_what_is_no_amount_is_refused_with_what_to_type(make: Make, replay: object, said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        make(replay)


def test_a_file_typed_as_the_amount_is_told_where_it_belongs(make: Make) -> None:
    with pytest.raises(SettingsError, match=r"data\.replay\.answers=general\.jsonl"):
        make("general.jsonl")


@pytest.mark.parametrize(
    ("in_file", "words", "share"),
    [
        ("0.5", ["data.replay=off"], None),
        ("off", ["data.replay=on"], 0.25),
        ("{share: 0.5, language: zh}", ["data.replay=8"], 8),
        ("{share: 0.5}", ["data.replay.language=zh"], 0.5),
        ("{share: 0.5, language: zh}", ["data.replay=on"], 0.5),
        ("off", ["data.replay.language=zh"], 0.25),
    ],
)  # fmt: skip
def test_words_lay_over_the_run_file(
    recipe: dict[str, Any], tmp_path: Path, in_file: str, words: list[str], share: float | None
) -> None:
    data = recipe["data"]["sources"]
    path = tmp_path / "run.yaml"
    path.write_text(f"model: m\ndata: {{sources: {data}, replay: {in_file}}}\nout: r\n", encoding="utf-8")
    settings = read_recipe(path, {}, words).data.replay
    assert (settings.share if settings else None) == share
    if settings and "zh" in in_file + words[0]:
        assert settings.language == "zh"


def test_the_model_answers_before_it_is_trained_and_the_held_out_rows_stay(
    make: Make, six: tuple[Run, Events]
) -> None:
    with_replay, heard = six
    rows = read_rows(with_replay.folder.replay)
    assert rows == [GeneralRow(one.text, ANSWER) for one in general_questions(["en"])[:6]]
    kinds = [event["event"] for event in heard]
    assert kinds.index("progress") < kinds.index("parameters")
    assert heard.of("started")[0]["steps"] == 2 * (OWN_ROWS - HELD_OUT + 6) // BATCH
    assert "asked 6, used 6" in (with_replay.folder.root / "report.md").read_text("utf-8")
    without = train_recipe(make("off", "without"))
    assert not without.folder.replay.exists()
    assert with_replay.held_out["before"] == without.held_out["before"]


def test_general_rows_change_the_result_and_the_data_s_fingerprint(
    make: Make, six: tuple[Run, Events]
) -> None:
    runs = [six[0], train_recipe(make(7, "seven"))]
    assert len({tuple(bytes_of(run.folder.root).values()) for run in runs}) == 2
    prints = {preflight(run.recipe, new_folder=False).data.fingerprint for run in runs}
    assert len(prints | {preflight(make("off", "none")).data.fingerprint}) == 3


def test_a_run_that_was_stopped_goes_on_with_the_same_rows_to_the_same_bytes(
    six: tuple[Run, Events], stopped: Path
) -> None:
    heard = Events()
    resume_run(stopped, listeners=[heard])
    assert heard.of("resumed") and not heard.of("progress")
    assert bytes_of(stopped) == bytes_of(six[0].folder.root) != {}


def test_answers_that_were_deleted_are_asked_again_and_others_are_refused(
    six: tuple[Run, Events], stopped: Path
) -> None:
    rows = RunFolder(stopped).replay
    kept = rows.read_text("utf-8")
    rows.write_text(kept.replace(ANSWER, "It is not."), encoding="utf-8")
    with pytest.raises(WeitiaoError, match="data"):
        resume_run(stopped)
    rows.write_text(kept[:-9], encoding="utf-8")
    with pytest.raises(WeitiaoError, match="general rows of this run cannot be read"):
        resume_run(stopped)
    rows.unlink()
    resume_run(stopped)
    assert bytes_of(stopped) == bytes_of(six[0].folder.root)


def test_ctrl_c_while_asking_leaves_nothing_and_a_killed_run_can_be_resumed(make: Make) -> None:
    recipe = make(20)
    with pytest.raises((Interrupted, KeyboardInterrupt)):
        train_recipe(recipe, [stop_at("progress", 2, signal.SIGINT)])
    assert not recipe.out.exists() or not any(recipe.out.iterdir())
    recipe.out.mkdir(exist_ok=True)
    RunFolder(recipe.out).run_yaml.write_text(recipe.as_yaml(), encoding="utf-8")  # what a kill -9 leaves
    resume_run(recipe.out)
    assert len(read_rows(RunFolder(recipe.out).replay)) == 20


def test_the_second_run_does_not_ask_again(
    make: Make, weitiao_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.rmtree(weitiao_home / "data", ignore_errors=True)
    asked: list[int] = []
    from weitiao.recipe import general_answers

    generate = general_answers.generate_answers

    def counting(*given: Any) -> Any:  # noqa: ANN401
        asked.append(len(given[3]))
        return generate(*given)

    monkeypatch.setattr(general_answers, "generate_answers", counting)
    train_recipe(make(10, "one", train=ONE_STEP))
    first = sum(asked)
    train_recipe(make(10, "two", train=ONE_STEP))
    assert first >= 10 and sum(asked) == first
    in_bf16 = {"name": make(1).model.name, "dtype": "bf16"}
    train_recipe(make(10, "three", model=in_bf16, train=ONE_STEP))
    assert sum(asked) == 2 * first


def test_too_few_usable_answers_end_in_words_before_training(make: Make, tiny_model_folder: Path) -> None:
    recipe = make({"share": 6, "max_new_tokens": 8}, model={"name": str(tiny_model_folder)})
    with pytest.raises(ModelError, match="too few usable answers") as refused:
        train_recipe(recipe)
    (problem,) = refused.value.problems
    assert f"asked {ALL}, used" in problem.got and "data.replay=off" in problem.remedy
    assert not recipe.out.exists() or not any(recipe.out.iterdir())


def test_missing_answers_are_made_up_for_by_seeing_others_more_often(make: Make) -> None:
    recipe = make(10)
    ready = preflight(recipe)
    assert ready.awaited is not None
    rows = [GeneralRow(one.text, ANSWER) for one in ready.awaited.questions[:4]]
    filled = ready.awaited.filled(ready.data, rows)
    assert isinstance(filled.train, JoinedExamples)
    assert [one.draws for one in filled.train.parts[1]] == [3, 3, 2, 2]
    assert filled.held_out == ready.data.held_out


def test_a_question_that_the_data_answers_is_not_asked(make: Make, tmp_path: Path) -> None:
    first = general_questions(["en"])[0].text
    rows = [{"instruction": text, "output": "Mine."} for text in (first.upper(), *"abcdefgh")]
    (tmp_path / "own.json").write_text(json.dumps(rows), encoding="utf-8")
    ready = preflight(make(4, data={"sources": str(tmp_path / "own.json"), "held_out": 1, "replay": 4}))
    assert ready.awaited is not None
    texts = [one.text for one in ready.awaited.questions]
    assert first not in texts and texts[0] == general_questions(["en"])[1].text


def test_rows_of_ones_own_are_mixed_in_without_asking(make: Make, tmp_path: Path) -> None:
    file, heard = answers_file(tmp_path, 9), Events()
    recipe = make({"answers": str(file), "share": 4}, train=ONE_STEP)
    ready = preflight(recipe)
    assert ready.awaited is None and len(ready.data.train) == OWN_ROWS - HELD_OUT + 4
    general = [ready.data.train[number].place for number in range(OWN_ROWS - HELD_OUT, len(ready.data.train))]
    assert len(set(general)) == 4 and all(file.name in place for place in general)
    train_recipe(recipe, [heard])
    assert not heard.of("progress") and not RunFolder(recipe.out).replay.exists()


def test_a_share_above_the_file_s_rows_takes_all_and_says_so(make: Make, tmp_path: Path) -> None:
    ready = preflight(make({"answers": str(answers_file(tmp_path, 5)), "share": 40}))
    assert len(ready.data.train) == OWN_ROWS - HELD_OUT + 5
    assert "40 were asked for but there are no more" in ready.data.summary.lines()[-1]


def test_bad_rows_of_ones_own_are_refused_together_with_those_of_the_data(make: Make, tmp_path: Path) -> None:
    bad = tmp_path / "general.jsonl"
    bad.write_text('{"question": "a", "answer": "b"}\n{"question": "a"}\n', encoding="utf-8")
    (tmp_path / "rows.json").write_text(
        '[{"instruction": "a", "output": "b"}, {"instruction": 3}]', encoding="utf-8"
    )
    with pytest.raises(DataError) as refused:
        preflight(make({"answers": str(bad)}))
    said = str(refused.value)
    assert "general.jsonl:2" in said and "rows.json" in said
    with pytest.raises(DataError, match=r"gone\.jsonl"):
        preflight(make({"answers": "gone.jsonl"}))


def test_a_run_file_names_the_file_of_answers_by_its_whole_path(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(answers_file(tmp_path, 5).parent)
    replay = make({"answers": "general.jsonl"}).with_absolute_paths().data.replay
    assert replay is not None and Path(replay.answers) == tmp_path / "general.jsonl"
    asked = make("on").with_absolute_paths().data.replay
    assert asked is not None and asked.asks_the_model


def test_a_base_without_a_chat_template_is_asked_in_the_words_it_is_trained_in(make: Make) -> None:
    run = train_recipe(
        make(
            3, data={"template": "instruction", "replay": {"share": 3, "max_new_tokens": 32}}, train=ONE_STEP
        )
    )
    assert read_rows(run.folder.replay)


def test_how_sure_a_model_is_of_an_answer(tiny_llama: Callable[..., LlamaForCausalLM]) -> None:
    model = tiny_llama()
    sequence = TokenSequence((5, 6, 7, 8), (0.0, 0.0, 1.0, 1.0))
    with torch.no_grad():
        log_p_TV = model(torch.tensor([sequence.ids])).logits[0].log_softmax(-1)
        known = float(log_p_TV[1, 7] + log_p_TV[2, 8]) / 2
        assert mean_log_probability(model, sequence) == pytest.approx(known)
        model.lm_head.weight.zero_()
    assert mean_log_probability(model, sequence) == pytest.approx(-math.log(model.config.vocab_size))


def test_answers_that_the_model_is_not_sure_of_are_left_out_and_counted(make: Make, answering: Path) -> None:
    from transformers import AutoModelForCausalLM

    wavering = answering.parent / "wavering"
    shutil.copytree(answering, wavering, dirs_exist_ok=True)
    model = AutoModelForCausalLM.from_pretrained(answering)
    with torch.no_grad():
        model.lm_head.weight *= 0.05  # as likely an order of tokens, with far less between them
    model.save_pretrained(wavering)
    with pytest.raises(ModelError, match="unsure"):
        train_recipe(make(6, model={"name": str(wavering)}))


def test_the_demo_keeps_general_rows_beside_its_own(tmp_path: Path) -> None:
    replay = demo_recipe(tmp_path / "demo").data.replay
    assert replay is not None and replay.asks_the_model and replay.share > 0


def test_data_that_answers_every_general_question_is_left_as_it_is(make: Make, tmp_path: Path) -> None:
    rows = [{"instruction": one.text, "output": "Mine."} for one in general_questions(["en"])]
    (tmp_path / "rows.json").write_text(json.dumps(rows), encoding="utf-8")
    ready = preflight(make(4))
    assert ready.awaited is None
    assert "0 general rows" in ready.data.summary.lines()[-1]


def test_the_gate_counts_the_languages_that_the_questions_follow(make: Make, tmp_path: Path) -> None:
    rows = [
        {
            "instruction": f"这家茶馆的第{n}个问题是什么呢？请你慢慢告诉我。",
            "output": "这家茶馆每天早上九点开门，欢迎大家来这里喝茶。",
        }
        for n in range(14)
    ]
    (tmp_path / "rows.json").write_text(json.dumps(rows), encoding="utf-8")
    gate = preflight(make(4)).data.gate
    assert gate is not None and set(gate.facts["languages"]["rows_by_language"]) <= {"zh", "zh-Hans"}


def test_a_model_that_gives_nan_is_told_as_such(make: Make, answering: Path, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    broken = tmp_path / "broken"
    shutil.copytree(answering, broken)
    model = AutoModelForCausalLM.from_pretrained(answering)
    with torch.no_grad():
        model.lm_head.weight *= 1e30
        model.model.norm.weight *= 1e30
    model.save_pretrained(broken)
    with pytest.raises(NotFiniteError):
        train_recipe(make(6, model={"name": str(broken)}))
