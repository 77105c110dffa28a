"""Whole runs on a tiny model: reproducing, resuming, signals, refusals, trackers."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from filelock import FileLock
from safetensors.torch import load_file, save_file

import weitiao
from tiny_training import Events, last_state
from weitiao.cli import run as run_command
from weitiao.core.errors import (
    DataError,
    MissingExtraError,
    ModelError,
    NotFiniteError,
    RunFolderError,
    SettingsError,
    Stopped,
    WeitiaoError,
)
from weitiao.core.events import Event, Listener
from weitiao.core.run_folder import RunFolder
from weitiao.data.gate import gate
from weitiao.engine.checkpoint import list_checkpoints
from weitiao.engine.runtime.signals import watch_signals
from weitiao.engine.settings import TrainSettings
from weitiao.evaluation.held_out import measure_held_out
from weitiao.evaluation.locate import locate
from weitiao.evaluation.metrics import METRICS
from weitiao.methods import METHODS
from weitiao.recipe import baseline, build
from weitiao.recipe.preflight import preflight
from weitiao.recipe.recipe import parse_recipe, read_recipe
from weitiao.recipe.run import Run, open_run
from weitiao.recipe.train import resume_run, train_recipe

Straight = tuple[dict[str, Any], Run]


def with_looks(recipe: dict[str, Any]) -> dict[str, Any]:
    """Return a run file with looks, checkpoints and a question."""
    return {
        **recipe,
        "train": {**recipe["train"], "save_every": 2, "eval_every": 2},
        "evaluate": {"question_count": 1, "generation": {"max_new_tokens": 2}},
    }


@pytest.fixture
def recipe(recipe: dict[str, Any]) -> dict[str, Any]:
    return with_looks(recipe)


@pytest.fixture(scope="module")
def straight(
    recipe_in: Callable[[Path], dict[str, Any]], tmp_path_factory: pytest.TempPathFactory
) -> Straight:
    """A run file, and the run it gives when nothing comes between; read only."""
    recipe = with_looks(recipe_in(tmp_path_factory.mktemp("straight")))
    return recipe, train_recipe(parse_recipe(recipe))


def begun(heard: list[Event]) -> list[Event]:
    """Return what was told after the checks, which tell only how far they are."""
    return [event for event in heard if event["event"] not in ("stage", "progress")]


def adapter_of(root: Path) -> bytes:
    return (root / "adapter" / "adapter_model.safetensors").read_bytes()


def at_event(kind: str, number: int, act: Any) -> Listener:  # noqa: ANN401
    """Return a listener that acts at the `number`-th event of a kind."""
    seen = [0]

    def listen(event: Event) -> None:
        seen[0] += event["event"] == kind
        if event["event"] == kind and seen[0] == number:
            act()

    return listen


def send(number: signal.Signals) -> Any:  # noqa: ANN401
    return lambda: os.kill(os.getpid(), number)


def test_run_yaml_reproduces_the_run(straight: Straight, recipe: dict[str, Any], tmp_path: Path) -> None:
    _, first = straight
    again = train_recipe(read_recipe(first.folder.run_yaml, {"out": str(tmp_path / "again")}))
    assert adapter_of(tmp_path / "again") == adapter_of(first.folder.root)
    assert again.losses == first.losses
    assert len(first.losses) == 5
    assert set(first.held_out) == {"before", "after"}
    other = train_recipe(
        parse_recipe({**recipe, "out": tmp_path / "seed", "train": {**recipe["train"], "seed": 1}})
    )
    assert adapter_of(other.folder.root) != adapter_of(first.folder.root)


def test_only_its_owner_may_read_what_quotes_rows(straight: Straight) -> None:
    run = straight[1].folder.root
    private = {run, run / "checkpoints", *(run / "checkpoints").iterdir()}
    quoting = {run / name for name in ("run.yaml", "events.jsonl", "report.md", "report.zh.md")}
    quoting |= {path for path in (run / "checkpoints").rglob("*") if path.is_file()}
    assert {path.stat().st_mode & 0o777 for path in private} == {0o700}
    assert {path.stat().st_mode & 0o777 for path in quoting} == {0o600}
    assert (run / "adapter" / "README.md").stat().st_mode & 0o044 == 0o044, "an adapter is given away"


def test_the_base_is_measured_at_the_first_look_and_no_weights_twice(
    recipe: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Steps come first; the base's loss is that of the untrained model, and the last look's that of the result."""
    measured = []

    def counting(*arguments: Any, **named: Any) -> Any:  # noqa: ANN401
        if len(arguments[2]) > 1:
            measured.append(len(arguments[2]))
        return measure_held_out(*arguments, **named)

    for module in (baseline, build):
        monkeypatch.setattr(module, "measure_held_out", counting)
    heard = Events()
    run = train_recipe(parse_recipe(recipe), [heard])
    kinds = [event["event"] for event in heard]
    looks = [kind for kind in kinds if kind in ("before", "evaluated")]
    assert looks[:2] == ["before", "evaluated"]
    assert kinds.index("step") < kinds.index("before")
    assert len(measured) == len(looks)
    assert run.held_out["after"]["loss"] == heard.of("evaluated")[-1]["loss"]
    # Full training has nothing to switch off, so it measures before its first step: the same model, the same loss.
    full = Events()
    one_step = {**recipe["train"], "steps": 1}
    changed = {"method": {"name": "full"}, "train": one_step, "out": tmp_path / "full"}
    train_recipe(parse_recipe({**recipe, **changed}), [full])
    kinds = [event["event"] for event in full]
    assert kinds.index("before") < kinds.index("step")
    loss = heard.of("before")[0]["held_out"]["loss"]
    assert full.of("before")[0]["held_out"]["loss"] == pytest.approx(loss, rel=1e-6)


def test_stopped_while_the_base_is_measured_a_run_goes_on_and_measures_it(
    straight: Straight, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = {**straight[0], "out": str(tmp_path / "run")}

    def stopped(*arguments: Any, **more: Any) -> Any:  # noqa: ANN401
        if len(arguments[2]) > 1:  # not the look at one row, before the steps
            os.kill(os.getpid(), signal.SIGTERM)
        return measure_held_out(*arguments, **more)

    with monkeypatch.context() as patch, pytest.raises(Stopped):
        patch.setattr(baseline, "measure_held_out", stopped)
        train_recipe(parse_recipe(recipe))
    heard = Events()
    resume_run(tmp_path / "run", (), [heard])
    assert len(heard.of("before")) == 1
    assert adapter_of(tmp_path / "run") == adapter_of(straight[1].folder.root)


def test_a_base_that_gives_no_finite_loss_is_refused_before_the_first_step(
    recipe: dict[str, Any], tmp_path: Path, tiny_model_folder: Path
) -> None:
    own = shutil.copytree(tiny_model_folder, tmp_path / "base")
    weights = load_file(own / "model.safetensors")
    weights["model.norm.weight"][:] = 3e38  # a number, and more than the logits can be
    save_file(weights, own / "model.safetensors", {"format": "pt"})
    heard = Events()
    with pytest.raises(NotFiniteError, match="before any training"):
        train_recipe(parse_recipe({**recipe, "model": str(own)}), [heard])
    assert heard.of("started") == []


def test_keywords_objects_and_a_run_file_give_the_same_run(
    straight: Straight, recipe: dict[str, Any], tmp_path: Path
) -> None:
    blocks = {key: recipe[key] for key in ("model", "evaluate")}
    keywords = weitiao.train(
        **blocks,
        data=recipe["data"]["sources"],
        held_out=2,
        r=4,
        dropout=0.1,
        out=tmp_path / "b",
        **recipe["train"],
    )
    assert keywords.adapter_path == tmp_path / "b" / "adapter"
    objects = weitiao.train(
        **blocks,
        data=recipe["data"],
        method=METHODS.load("lora")(r=4, dropout=0.1),
        train=TrainSettings(**recipe["train"]),
        out=tmp_path / "c",
    )
    path = tmp_path / "file.yaml"
    path.write_text(yaml.safe_dump({**recipe, "method": {"name": "lora", "r": 9}}), encoding="utf-8")
    from_file = weitiao.train(path, out=tmp_path / "d", r=4, dropout=0.1)
    for run in (keywords, objects, from_file):
        assert adapter_of(run.folder.root) == adapter_of(straight[1].folder.root), run.folder.root


def test_keywords_that_fit_nowhere_or_twice_are_all_named(recipe: dict[str, Any]) -> None:
    with pytest.raises(SettingsError) as caught:
        weitiao.train(model="m", data="d", out="o", stepz=3, revision="a", nonsense=1)
    whats = [problem.what for problem in caught.value.problems]
    assert any("stepz" in what for what in whats)
    assert any("nonsense" in what for what in whats)
    assert next(p for p in caught.value.problems if "stepz" in p.what).remedy.startswith("steps")


@pytest.mark.parametrize(
    ("number", "code", "kind", "count"),
    [
        (signal.SIGTERM, 143, "step", 1),
        (signal.SIGINT, 130, "step", 3),
        (signal.SIGTERM, 143, "step", 5),
        (signal.SIGINT, 130, "evaluated", 1),
    ],
)
def test_a_signal_saves_within_one_step_and_the_run_goes_on_exactly(
    straight: Straight, tmp_path: Path, number: signal.Signals, code: int, kind: str, count: int
) -> None:
    recipe = {**straight[0], "out": str(tmp_path / "run")}
    heard = Events()
    with pytest.raises(Stopped) as caught:
        train_recipe(parse_recipe(recipe), [heard, at_event(kind, count, send(number))])
    assert caught.value.exit_code == code
    root = tmp_path / "run"
    assert f"--resume {root}" in caught.value.problems[0].remedy
    stopped_at = heard.of("step")[-1]["step"]
    assert stopped_at == (count if kind == "step" else 2)
    assert list_checkpoints(root / "checkpoints")[0].name == f"step-{stopped_at:08d}"
    assert not (root / "adapter").exists()
    resumed = resume_run(root)
    assert adapter_of(root) == adapter_of(straight[1].folder.root)
    if stopped_at < 5:  # the last checkpoint of the other run knows the last look as well
        assert last_state(root) == last_state(straight[1].folder.root)
    assert resumed.losses == straight[1].losses


def test_a_loop_over_runs_that_passes_over_errors_ends_when_it_is_told_to(
    recipe: dict[str, Any], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    for number, kind in ((signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, SystemExit)):
        begun = []
        with pytest.raises(kind):
            for name in ("a", "b"):
                begun.append(name)
                with suppress(Exception):
                    out = tmp_path / f"{name}{number}"
                    train_recipe(parse_recipe({**recipe, "out": out}), [at_event("step", 2, send(number))])
        assert begun == ["a"]
        assert "finishing this step, then saving" in capfd.readouterr().err


@pytest.mark.parametrize(
    "error", [MemoryError(), RuntimeError("no kernel"), IndexError("position 9"), ValueError("x")]
)
def test_what_fails_after_training_costs_neither_result_nor_report(
    straight: Straight, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fails(*_: object, **__: object) -> list[str]:
        raise error

    recipe = {**straight[0], "out": str(tmp_path / "run")}
    monkeypatch.setattr(baseline, "answer_questions", fails)
    heard = Events()
    run = train_recipe(parse_recipe(recipe), [heard])
    assert adapter_of(tmp_path / "run") == adapter_of(straight[1].folder.root)
    assert run.held_out == straight[1].held_out
    assert run.answers == []
    assert any("answering the questions" in note["text"] for note in heard.of("note"))
    report = (tmp_path / "run" / "report.md").read_text()
    assert f"answering the questions: {type(error).__name__}" in report
    assert "held-out loss" in report


def test_the_result_is_there_before_the_model_is_asked(
    recipe: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C in the closing answers leaves the adapter; resuming asks again and writes the report."""

    def interrupted(*_: object, **__: object) -> list[str]:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(baseline, "answer_questions", interrupted)
        train_recipe(parse_recipe(recipe))
    root = tmp_path / "run"
    kept = adapter_of(root)
    assert (root / "adapter" / "README.md").is_file()
    assert not (root / "report.md").exists()
    assert resume_run(root).answers
    assert adapter_of(root) == kept
    assert (root / "report.md").is_file()


TEXTS = ["${oc.env:HOME} $${x} {{name}} ${a.b}", "???", "off"]
"""What a reader of settings could take for something else than text."""


def test_text_of_a_person_comes_through_a_run_as_it_is(recipe: dict[str, Any], tmp_path: Path) -> None:
    """In questions and names, through run.yaml, resuming and opening."""
    root = tmp_path.joinpath(*TEXTS)
    recipe = {**recipe, "out": str(root)}
    recipe["evaluate"] = {**recipe["evaluate"], "questions": TEXTS}
    with pytest.raises(Stopped):
        train_recipe(parse_recipe(recipe), [at_event("step", 2, send(signal.SIGTERM))])
    run = resume_run(root)
    assert [answer["question"] for answer in run.answers] == TEXTS
    assert open_run(root).recipe.evaluate.questions == TEXTS
    assert locate(str(root)).adapter == root / "adapter"


@contextmanager
def files_end_at(size: int) -> Iterator[None]:
    """Refuse every byte that this process writes beyond a file's first `size`."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_ends_in_6_with_path_and_step(
    recipe: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The size a file may have stands in for the disk: the adapter of rank 64 passes it, all before does not."""
    recipe["method"] = {"name": "lora", "r": 64}
    recipe["train"] = {**recipe["train"], "steps": 1}
    (tmp_path / "given.yaml").write_text(yaml.safe_dump(recipe), encoding="utf-8")
    with files_end_at(20_000):
        assert run_command(["train", str(tmp_path / "given.yaml")]) == 6
    said = capsys.readouterr().err
    assert "the disk is full" in said
    assert "step 1" in said
    assert str(tmp_path / "run") in said
    assert "Traceback" not in said


def test_a_second_signal_ends_at_once() -> None:
    with pytest.raises(KeyboardInterrupt), watch_signals() as stop:
        os.kill(os.getpid(), signal.SIGINT)
        assert stop.requested()
        os.kill(os.getpid(), signal.SIGINT)
        raise AssertionError("the second Ctrl-C was swallowed")
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_resuming_with_other_settings_names_each_and_the_free_ones_pass(
    recipe: dict[str, Any], tmp_path: Path
) -> None:
    root = tmp_path / "run"
    with pytest.raises(Stopped):
        train_recipe(parse_recipe(recipe), [at_event("step", 2, send(signal.SIGTERM))])
    with pytest.raises(SettingsError) as caught:
        resume_run(root, ["train.lr=5e-4", "method.r=8", "data.max_length=99", "train.save_every=1"])
    keys = {problem.what.split()[0] for problem in caught.value.problems}
    assert keys == {"train.lr", "method.r", "data.max_length"}
    assert all("--out" in problem.remedy for problem in caught.value.problems)
    with pytest.raises(SettingsError, match=r"method\.name cannot change"):
        resume_run(root, ["method=freeze"])
    resume_run(root, ["train.save_every=1", "train.pack_tokens=4096", "evaluate.question_count=0"])
    assert (root / "report.md").is_file()
    with pytest.raises(RunFolderError, match="finished"):
        resume_run(root)


def test_resuming_on_changed_data_or_a_changed_base_is_refused(
    recipe: dict[str, Any], tmp_path: Path, tiny_model_folder: Path, rows: list[dict[str, str]]
) -> None:
    own = shutil.copytree(tiny_model_folder, tmp_path / "base")
    recipe["model"] = str(own)
    with pytest.raises(Stopped):
        train_recipe(parse_recipe(recipe), [at_event("step", 2, send(signal.SIGTERM))])
    (tmp_path / "rows.json").write_text(json.dumps(rows[:-1]), encoding="utf-8")
    with pytest.raises(RunFolderError, match="its data differ"):
        resume_run(tmp_path / "run")
    (tmp_path / "rows.json").write_text(json.dumps(rows), encoding="utf-8")
    import tiny

    shutil.rmtree(own)
    tiny.save_tiny_model(own, seed=1)
    with pytest.raises(ModelError, match=r"trained on another base: \d+ of its parts differ(.|\n)*--force"):
        resume_run(tmp_path / "run")
    resume_run(tmp_path / "run", ["model.allow_other_base=true"])


def test_a_run_goes_on_another_day_though_its_template_writes_the_date(
    recipe: dict[str, Any], tmp_path: Path, tiny_model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import tiny

    own = shutil.copytree(tiny_model_folder, tmp_path / "dated")
    dated = "{{ strftime_now('%Y-%m-%d') }}\n" + tiny.CHATML
    tiny.make_tokenizer(chat_template=dated).save_pretrained(own)
    recipe = {**recipe, "model": str(own)}
    train_recipe(parse_recipe({**recipe, "out": tmp_path / "straight"}))
    with pytest.raises(Stopped):
        train_recipe(parse_recipe(recipe), [at_event("step", 2, send(signal.SIGTERM))])

    class Tomorrow(date):
        @classmethod
        def today(cls) -> date:
            return date.today() + timedelta(days=1)

    monkeypatch.setattr(gate, "date", Tomorrow)
    resume_run(tmp_path / "run")
    assert adapter_of(tmp_path / "run") == adapter_of(tmp_path / "straight")


def test_a_damaged_checkpoint_is_passed_over_and_said(
    straight: Straight, recipe: dict[str, Any], tmp_path: Path
) -> None:
    root = tmp_path / "run"
    with pytest.raises(Stopped):
        train_recipe(parse_recipe(recipe), [at_event("step", 3, send(signal.SIGTERM))])
    newest = list_checkpoints(root / "checkpoints")[0] / "trainable.safetensors"
    newest.write_bytes(newest.read_bytes()[:-1])
    heard = Events()
    resume_run(root, (), [heard])
    notes = " ".join(note["text"] for note in heard.of("note"))
    assert "step-00000003 is damaged: trainable.safetensors has" in notes
    assert heard.of("resumed")[0]["step"] == 2
    assert adapter_of(root) == adapter_of(straight[1].folder.root)


def test_a_crash_before_the_first_checkpoint_begins_again(
    straight: Straight, recipe: dict[str, Any], tmp_path: Path
) -> None:
    class Crash(Exception):
        pass

    def crash() -> None:
        raise Crash

    with pytest.raises(Crash):
        train_recipe(parse_recipe(recipe), [at_event("step", 1, crash)])
    assert list_checkpoints(tmp_path / "run" / "checkpoints") == []
    resume_run(tmp_path / "run")
    assert adapter_of(tmp_path / "run") == adapter_of(straight[1].folder.root)


def test_a_folder_in_use_is_refused_and_left_as_it_is(recipe: dict[str, Any], tmp_path: Path) -> None:
    root = tmp_path / "run"
    root.mkdir()
    (root / "mine.txt").write_text("mine")
    with pytest.raises(RunFolderError, match=r"in use"):
        train_recipe(parse_recipe(recipe))
    assert [path.name for path in root.iterdir()] == ["mine.txt"]
    with pytest.raises(RunFolderError, match="holds no run"):
        resume_run(root)
    (root / "mine.txt").unlink()
    (root / ".run.yaml.123.part").write_text("torn by a crash")
    preflight(parse_recipe(recipe))


def test_two_processes_on_one_folder(recipe: dict[str, Any], tmp_path: Path) -> None:
    root = tmp_path / "run"
    root.mkdir()
    script = f"""
import sys
from filelock import FileLock
with FileLock({str(root / ".lock")!r}):
    print("held", flush=True)
    sys.stdin.read()
"""
    other = subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert other.stdout is not None
    assert other.stdout.readline() == "held\n"
    with pytest.raises(RunFolderError, match="another process"):
        train_recipe(parse_recipe(recipe))
    assert not (root / "run.yaml").exists()
    other.kill()
    other.wait()
    with FileLock(root / ".lock", timeout=5):  # the lock died with its process
        pass


def test_preflight_finds_what_is_wrong_with_folder_data_model_and_training_together(
    recipe: dict[str, Any], tmp_path: Path
) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "mine.txt").write_text("mine")
    recipe["data"]["sources"] = str(tmp_path / "rowz.json")
    recipe["method"]["target_modules"] = ["no_such_proj"]
    recipe["train"]["scheduler"] = "polynomial"
    recipe["train"]["scheduler_args"] = {"nonsense": 1}
    heard = Events()
    with pytest.raises(WeitiaoError) as caught:
        train_recipe(parse_recipe(recipe), [heard])
    text = str(caught.value)
    for part in ("in use", "rowz.json", "no_such_proj", "polynomial"):
        assert part in text, part
    assert isinstance(caught.value, RunFolderError)
    assert begun(heard) == [], "nothing was begun"


def test_loraplus_on_a_method_without_b_matrices_is_refused_before_loading(recipe: dict[str, Any]) -> None:
    recipe["method"] = "full"
    recipe["train"]["loraplus_lr_ratio"] = 16
    with pytest.raises(SettingsError, match="no B matrices"):
        preflight(parse_recipe(recipe))


@pytest.mark.parametrize("setting", [{"early_stopping_patience": 2}, {"scheduler": "reduce_lr_on_plateau"}])
def test_what_follows_the_held_out_loss_needs_held_out_rows(
    recipe: dict[str, Any], setting: dict[str, Any]
) -> None:
    recipe["train"] |= setting
    recipe["data"]["held_out"] = 0.05  # of 14 rows: none
    heard = Events()
    with pytest.raises(SettingsError, match="no row is held out") as caught:
        train_recipe(parse_recipe(recipe), [heard])
    assert next(iter(setting)) in caught.value.problems[0].got
    assert begun(heard) == [], "before the model is loaded"


def test_tensorboard_has_the_curves(recipe: dict[str, Any], tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run = train_recipe(parse_recipe({**recipe, "track": {"to": ["tensorboard"]}}))
    written = EventAccumulator(str(tmp_path / "run" / "track" / "tensorboard" / "run"))
    written.Reload()
    losses = [(scalar.step, scalar.value) for scalar in written.Scalars("train/loss")]
    assert [step for step, _ in losses] == [1, 2, 3, 4, 5]
    assert [value for _, value in losses] == pytest.approx(run.losses)
    assert {"train/lr", "train/grad_norm", "train/cpu_percent", "train/memory_bytes"} <= set(
        written.Tags()["scalars"]
    )
    assert [scalar.step for scalar in written.Scalars("held_out/loss")] == [2, 4, 5]
    for name in METRICS.names():
        assert [scalar.step for scalar in written.Scalars(f"answers/{name}")] == [5]
        assert [scalar.step for scalar in written.Scalars(f"answers_before/{name}")] == [5]


def test_missing_tracker_packages_are_all_named_before_training(recipe: dict[str, Any]) -> None:
    from importlib.util import find_spec

    missing = [name for name in ("swanlab", "mlflow", "trackio", "wandb") if find_spec(name) is None]
    assert len(missing) > 1, "the test environment has hardly any tracker"
    heard = Events()
    with pytest.raises(MissingExtraError) as caught:
        train_recipe(parse_recipe({**recipe, "track": {"to": ["tensorboard", *missing]}}), [heard])
    assert [p.remedy for p in caught.value.problems] == [f"pip install 'weitiao[{name}]'" for name in missing]
    assert caught.value.exit_code == 7
    assert begun(heard) == []


def test_an_early_failure_leaves_the_folder_free(recipe: dict[str, Any], tmp_path: Path) -> None:
    def fail() -> None:
        raise ConnectionError

    with pytest.raises(ConnectionError):
        train_recipe(parse_recipe(recipe), [at_event("parameters", 1, fail)])
    assert not (tmp_path / "run").exists()
    one_step = {**recipe, "train": {**recipe["train"], "steps": 1}}
    assert train_recipe(parse_recipe(one_step)).adapter_path.is_dir()


def test_a_run_is_opened_and_resumed_from_any_folder(
    recipe: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Path(recipe["model"])
    monkeypatch.chdir(folder.parent)
    name = folder.name
    one_step = {**recipe["train"], "steps": 1}
    train_recipe(parse_recipe({**recipe, "model": name, "train": one_step}))
    monkeypatch.chdir("/")
    assert open_run(tmp_path / "run").generate("question 1", max_new_tokens=2) is not None


def test_an_adapter_to_continue_from_is_checked_before_the_model_is_loaded(recipe: dict[str, Any]) -> None:
    heard: list[Event] = []
    with pytest.raises(ModelError, match="no adapter"):
        train_recipe(
            parse_recipe({**recipe, "model": {"name": recipe["model"], "adapter": "/nowhere"}}),
            [heard.append],
        )
    assert begun(heard) == []


@pytest.mark.parametrize(("method", "beside"), [("lora", 0), ("prompt_tuning", 460), ("prefix_tuning", 460)])
def test_rows_longer_than_the_context_leaves_are_refused_before_loading(
    recipe: dict[str, Any], method: str, beside: int
) -> None:
    """A soft prompt or a prefix stands in the context too; the tiny model has 512 positions."""
    text = "It is warm. " * 12
    recipe["data"] = {"sources": [{"instruction": "How?", "output": text}] * 3, "held_out": 0}
    recipe["method"] = {"name": method, "num_virtual_tokens": beside} if beside else method
    if beside:
        with pytest.raises(DataError, match="does not fit the model's context") as caught:
            preflight(parse_recipe(recipe))
        problem = caught.value.problems[0]
        assert "460 of its 512 positions are taken by virtual tokens" in problem.what
        longest = int(problem.got.partition(" ")[0])
        assert problem.remedy == f"method.num_virtual_tokens={512 - longest} or data.max_length=52"
    else:
        preflight(parse_recipe(recipe))


@pytest.mark.parametrize(
    ("method", "steps", "what"),
    [
        ({"name": "adalora", "tinit": 3, "tfinal": 2}, 5, "none is left"),
        ("diff_pruning", 1, "steps with gates"),
    ],
)
def test_steps_that_do_not_fit_are_refused_before_loading(
    recipe: dict[str, Any], method: str | dict[str, Any], steps: int, what: str
) -> None:
    heard: list[Event] = []
    changed = {**recipe, "method": method, "train": {**recipe["train"], "steps": steps}}
    with pytest.raises(SettingsError, match=what):
        train_recipe(parse_recipe(changed), [heard.append])
    assert begun(heard) == []
    assert not any("loading" in event.get("text", "") for event in heard)
    assert not Path(recipe["out"]).exists()


def test_a_classifier_is_refused_before_loading(recipe: dict[str, Any], tmp_path: Path) -> None:
    folder = tmp_path / "classifier"
    shutil.copytree(recipe["model"], folder)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    config["architectures"] = ["LlamaForSequenceClassification"]
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    with pytest.raises(ModelError, match=r"does not generate text(.|\n)*LlamaForSequenceClassification"):
        train_recipe(parse_recipe({**recipe, "model": str(folder)}))
    assert not Path(recipe["out"]).exists()


@pytest.mark.parametrize(("report", "remedies"), [(False, 2), (True, 1)], ids=["interrupted", "finished"])
def test_only_an_interrupted_run_is_offered_to_go_on(report: bool, remedies: int, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "run.yaml").touch()
    (tmp_path / "run-2").mkdir()
    if report:
        (tmp_path / "run" / "report.md").touch()
    with pytest.raises(RunFolderError) as caught:
        RunFolder(tmp_path / "run").require_new()
    tried = caught.value.problems[0].remedy.split(" or ")
    assert len(tried) == remedies
    assert tried[-1] == f"--out {tmp_path / 'run'}-3"
