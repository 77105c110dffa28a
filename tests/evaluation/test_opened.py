"""Opening runs, adapters and models, and the way back to the base."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import tiny
from tiny_run import make_run
from weitiao.core.errors import ModelError, Problem, RunFolderError, SettingsError
from weitiao.evaluation.locate import locate
from weitiao.evaluation.open_model import open_by_name


def logits(model: nn.Module) -> Tensor:
    with torch.inference_mode():
        output: Tensor = model(torch.arange(2, 12)[None]).logits
    return output


@pytest.mark.parametrize("method", ["lora", "full"])
def test_the_base_is_one_context_away(tmp_path: Path, tiny_model_folder: Path, method: str) -> None:
    opened = open_by_name(str(make_run(tmp_path / "run", tiny_model_folder, method)))
    base = open_by_name(str(tiny_model_folder))
    trained = logits(opened.model)
    assert opened.is_trained and not base.is_trained
    assert not torch.allclose(trained, logits(base.model), atol=1e-3)
    with opened.as_base() as before:
        assert torch.equal(logits(before), logits(base.model))
    assert torch.equal(logits(opened.model), trained)


def test_an_adapters_folder_opens_as_its_run_does(tmp_path: Path, tiny_model_folder: Path) -> None:
    run = make_run(tmp_path / "run", tiny_model_folder)
    of_run, of_adapter = open_by_name(str(run)), open_by_name(str(run / "adapter"))
    assert of_adapter.source.adapter is not None
    assert torch.equal(logits(of_run.model), logits(of_adapter.model))


def test_an_adapter_away_from_its_run_names_its_own_base(tmp_path: Path, tiny_model_folder: Path) -> None:
    run = make_run(tmp_path / "run", tiny_model_folder)
    alone = (run / "adapter").rename(tmp_path / "alone")
    assert torch.equal(
        logits(open_by_name(str(alone)).model), logits(open_by_name(_put_back(alone, run)).model)
    )


def _put_back(alone: Path, run: Path) -> str:
    alone.rename(run / "adapter")
    return str(run)


def test_an_adapter_that_names_no_base_is_refused(tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": None}))
    with pytest.raises(RunFolderError, match="does not say which model"):
        locate(str(tmp_path))


def test_a_run_without_a_result_says_how_to_go_on(tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text("model: some-model\n")
    with pytest.raises(RunFolderError, match="--resume"):
        locate(str(tmp_path))


def test_a_folder_without_run_or_model_says_what_to_name(tmp_path: Path, tiny_model_folder: Path) -> None:
    empty = tmp_path / "deep" / "empty"
    empty.mkdir(parents=True)
    with pytest.raises(RunFolderError) as caught:
        locate(str(empty))
    (problem,) = caught.value.problems
    assert "weitiao train --out RUN" in problem.remedy and "hub id" in problem.remedy
    (empty.parent / "made" / "adapter").mkdir(parents=True)
    (empty.parent / "made" / "run.yaml").write_text("model: m\n")
    with pytest.raises(RunFolderError, match=f"try +{empty.parent / 'made'}$"):
        locate(str(empty))
    (empty / "inner").symlink_to(tiny_model_folder)
    with pytest.raises(ModelError, match=f"try +{empty / 'inner'}$"):
        open_by_name(str(empty))


def test_a_template_that_is_none_is_refused(tmp_path: Path, tiny_model_folder: Path) -> None:
    run = make_run(tmp_path / "run", tiny_model_folder)
    text = (run / "run.yaml").read_text(encoding="utf-8")
    (run / "run.yaml").write_text(text.replace("template: auto", "template: weird"), encoding="utf-8")
    with pytest.raises(SettingsError, match=r"'weird' in (.|\n)*auto, chat, instruction"):
        locate(str(run))


def test_a_name_that_is_nothing_is_refused() -> None:
    with pytest.raises(ModelError, match="smollm2-135m"):
        open_by_name("./smolm2-135m")


def problem_at(place: Path) -> Problem:
    with pytest.raises((RunFolderError, ModelError)) as caught:
        open_by_name(str(place))
    (problem,) = caught.value.problems
    return problem


@pytest.mark.parametrize(
    ("place", "remedy"),
    [
        ("mine/report.md", "mine"),
        ("mine/checkpoints", "mine"),
        ("mime", "mine"),
        ("nothing/like/it", ""),
        ("qwxz", "mine"),
        (".", "mine"),
        ("notes.txt", ""),
        ("unfinished/events.jsonl", "unfinished"),
    ],
)
def test_what_is_no_run_is_answered_with_the_run_that_is_near(
    place: str, remedy: str, tmp_path: Path, tiny_model_folder: Path
) -> None:
    run = make_run(tmp_path / "mine", tiny_model_folder)
    (run / "checkpoints").mkdir()
    (tmp_path / "unfinished").mkdir()
    (tmp_path / "unfinished" / "run.yaml").write_text("model: m\n")
    for file in (run / "report.md", tmp_path / "notes.txt", tmp_path / "unfinished" / "events.jsonl"):
        file.write_text("")
    problem = problem_at(tmp_path / place)
    assert problem.remedy == (str(tmp_path / remedy) if remedy else "")
    if remedy == "mine":
        open_by_name(problem.remedy)


def test_a_folder_of_unfinished_runs_names_them_and_a_model_beside_runs_is_a_model(
    tmp_path: Path, tiny_model_folder: Path
) -> None:
    (tmp_path / "runs" / "one").mkdir(parents=True)
    (tmp_path / "runs" / "one" / "run.yaml").write_text("model: m\n")
    assert problem_at(tmp_path / "runs").remedy == str(tmp_path / "runs" / "one")
    assert "--resume" in problem_at(tmp_path / "runs" / "one").remedy
    base = tiny.save_tiny_model(tmp_path / "runs" / "base")
    assert not open_by_name(str(base)).is_trained


def test_a_data_file_is_not_answered_with_its_folder(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text("{}")
    assert problem_at(tmp_path / "rows.jsonl").remedy == ""
    base = tiny.save_tiny_model(tmp_path / "base")
    assert problem_at(base / "config.json").remedy == str(base)
