"""`weitiao train`: how flags, file and overrides lie over each other, and a whole run on a tiny model."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from weitiao.cli import run
from weitiao.objectives import OBJECTIVES


@pytest.fixture
def data(tmp_path: Path) -> Path:
    path = tmp_path / "my.json"
    rows = [{"instruction": f"What is {n}?", "output": f"It is {n}."} for n in range(20)]
    path.write_text(json.dumps(rows), encoding="utf-8")
    return path


@pytest.fixture
def run_file(tmp_path: Path, data: Path, tiny_model_folder: Path) -> Path:
    path = tmp_path / "run.yaml"
    recipe = {
        "model": str(tiny_model_folder),
        "data": str(data),
        "method": {"name": "lora", "r": 4, "alpha": 8},
        "train": {"steps": 3, "lr": 1e-3},
        "evaluate": {"generation": {"max_new_tokens": 4}, "question_count": 1},
        "out": str(tmp_path / "out-of-the-file"),
    }
    path.write_text(yaml.safe_dump(recipe), encoding="utf-8")
    return path


def test_a_dry_run_prints_the_whole_run_file_and_writes_nothing(
    run_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [
        "train",
        str(run_file),
        "--dry-run",
        "--method",
        "lora",
        "--out",
        str(tmp_path / "flag"),
        "method.r=16",
    ]
    assert run([*words, "train.lr=5e-4"]) == 0
    recipe = yaml.safe_load(capsys.readouterr().out)
    assert recipe["out"] == str(tmp_path / "flag"), "a flag lies over the file"
    assert (recipe["method"]["r"], recipe["method"]["alpha"]) == (16, 8), (
        "an override changes one setting only"
    )
    assert (recipe["train"]["lr"], recipe["train"]["steps"]) == (5e-4, 3)
    assert not (tmp_path / "flag").exists()


def test_frozen_cache_off_is_taken_from_the_command_line(
    run_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["train", str(run_file), "--dry-run", "train.frozen_cache=off"]) == 0
    assert yaml.safe_load(capsys.readouterr().out)["train"]["frozen_cache"] == "off"
    assert run(["train", str(run_file), "--dry-run", "train.frozen_cache=on"]) == 2
    assert "train.frozen_cache=auto" in capsys.readouterr().err


def test_data_may_be_given_several_times(
    tiny_model_folder: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    second = tmp_path / "second.json"
    second.write_bytes(data.read_bytes())
    words = [
        "--model",
        str(tiny_model_folder),
        "--data",
        str(data),
        "--data",
        str(second),
        "--out",
        str(tmp_path / "o"),
    ]
    assert run(["train", *words, "--dry-run"]) == 0
    sources = yaml.safe_load(capsys.readouterr().out)["data"]["sources"]
    assert [source["path"] for source in sources] == [str(data), str(second)]


def test_a_dry_run_finds_what_a_run_would(
    run_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["train", str(run_file), "--dry-run", "--data", str(tmp_path / "my.jsn")]) == 3
    assert "my.json" in capsys.readouterr().err


def test_a_run_from_the_command_line_to_its_merge(
    run_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out-of-the-file"
    assert run(["train", str(run_file)]) == 0
    shown = capsys.readouterr().out
    assert "\x1b" not in shown
    for words in (
        "trainable parameters",
        "step 3/3",
        "on held-out data",
        f"weitiao chat {out}",
        "before",
        "after",
    ):
        assert words in shown, words
    assert (out / "report.md").is_file() and (out / "adapter" / "README.md").is_file()
    assert run(["train", str(run_file)]) == 5
    assert run(["train", "--resume", str(out)]) == 5
    assert run(["merge", str(out), str(tmp_path / "merged")]) == 0
    assert "same next token at 100.0%" in capsys.readouterr().out
    assert run(["merge", str(out), str(tmp_path / "merged")]) == 5


def test_the_objective_is_a_flag_that_lies_over_the_file(
    run_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    written = run_file.read_text(encoding="utf-8") + "objective: nothing\n"
    run_file.write_text(written, encoding="utf-8")
    assert run(["train", str(run_file), "--objective", "SFT", "--dry-run"]) == 0
    assert yaml.safe_load(capsys.readouterr().out)["objective"] == {"name": "sft"}


MISSING = [(name, meaning) for name, (meaning, _) in OBJECTIVES.known_elsewhere.items()][:1]
"""An objective that other tools have and that has no file here, with what is said of it."""


@pytest.mark.parametrize(("typed", "said"), [("stf", "try       sft"), *MISSING])
def test_an_unknown_objective_is_refused_with_what_is_nearest(
    typed: str, said: str, run_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["train", str(run_file), "--objective", typed]) == 2
    shown = capsys.readouterr().err
    assert f"there is no objective called '{typed}'" in shown and said in shown
    assert run(["train", str(run_file), f"objective={typed}"]) == 2
    assert capsys.readouterr().err == shown


def test_no_other_objective_beside_resume(
    run_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["train", "--resume", str(tmp_path), "--objective", "sft"]) == 2
    assert "--objective beside --resume" in capsys.readouterr().err
