"""What is typed after `weitiao train`: run files, data, settings, and flags that are settings under any name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from weitiao.cli import run
from weitiao.cli._words import flags_as_words, join_assignments, sort_words
from weitiao.core.errors import SettingsError

OPTIONS = {"--model": True, "--dry-run": False}


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        ("--learning_rate 1e-4", ["learning_rate=1e-4"]),
        ("--learning-rate 1e-4", ["learning-rate=1e-4"]),
        ("--learning_rate=1e-4", ["learning_rate=1e-4"]),
        ("--train.lr 1e-4", ["train.lr=1e-4"]),
        ("--max_steps -1", ["max_steps=-1"]),
        ("--bf16 --model m", ["bf16=true", "--model", "m"]),
        ("--bf16 False my.json", ["bf16=False", "my.json"]),
        ("--bf16 my.json", ["bf16=true", "my.json"]),
        ("--lora_target q_proj v_proj --lr=1", ["lora_target=q_proj,v_proj", "lr=1"]),
        ("--target_modules all-linear", ["target_modules=all-linear"]),
        ("--output_dir saves/x", ["output_dir=saves/x"]),
        ("--last_n 3", ["last_n=3"]),
        ("--lora_r 3 --lora-rank 4", ["lora_r=3", "lora-rank=4"]),
        ("--model bf16 --dry-run x", ["--model", "bf16", "--dry-run", "x"]),
        ("--modle m", ["--modle", "m"]),
        ("--learning_rate", ["learning_rate="]),
    ],
)
def test_a_flag_that_is_a_setting_is_a_word(typed: str, words: list[str]) -> None:
    assert flags_as_words(typed.split(" "), OPTIONS) == words


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        ("train.lr = 1e-4", ["train.lr=1e-4"]),
        ("train.lr =1e-4 x.json", ["train.lr=1e-4", "x.json"]),
        ("train.lr= 1e-4 method.r=2", ["train.lr=1e-4", "method.r=2"]),
        ("train.lr= method.r=2", ["train.lr=", "method.r=2"]),
        ("run.yaml train.lr= other.yaml", ["run.yaml", "train.lr=", "other.yaml"]),
    ],
)
def test_blanks_around_the_sign_do_not_tear_a_word_apart(typed: str, words: list[str]) -> None:
    assert list(join_assignments(typed.split(" "))) == words


def test_words_are_sorted_out(tmp_path: Path) -> None:
    odd = tmp_path / "a=b.json"
    odd.write_text("[]")
    found = sort_words(["train.lr=1", str(odd), "run.yaml", "rows.jsonl.gz", "owner/name", str(tmp_path)])
    assert found.run_file == Path("run.yaml")
    assert found.data == (str(odd), "rows.jsonl.gz", "owner/name", str(tmp_path))
    assert found.settings == ("train.lr=1",)


@pytest.mark.parametrize(
    ("words", "remedy"),
    [
        (["LoRA"], "--method lora"),
        (["smollm2-135m"], "--model smollm2-135m"),
        (["a.yaml", "b.yml"], "weitiao train a.yaml"),
    ],
    ids=str,
)
def test_a_word_that_is_nothing_is_answered_with_what_was_meant(words: list[str], remedy: str) -> None:
    with pytest.raises(SettingsError) as caught:
        sort_words(words)
    assert caught.value.problems[0].remedy == remedy


def test_a_misspelt_file_is_answered_with_its_neighbour(tmp_path: Path) -> None:
    (tmp_path / "my.json").write_text("[]")
    with pytest.raises(SettingsError) as caught:
        sort_words([str(tmp_path / "my.jsn")])
    assert caught.value.problems[0].remedy == str(tmp_path / "my.json")


@pytest.fixture
def rows(tmp_path: Path) -> str:
    path = tmp_path / "my.json"
    told = [{"instruction": f"What is {n}?", "output": f"It is {n}."} for n in range(12)]
    path.write_text(json.dumps(told), encoding="utf-8")
    return str(path)


def recipe_shown(capsys: pytest.CaptureFixture[str]) -> tuple[dict[str, Any], str]:
    shown = capsys.readouterr()
    return yaml.safe_load(shown.out), shown.err


def test_flags_words_and_their_names_mean_the_same(
    rows: str, tiny_model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    start = ["train", rows, "--model", str(tiny_model_folder), "--out", str(tmp_path / "o"), "--dry-run"]
    ways = [
        ["--lr", "1e-3", "--epochs", "2", "--batch-size", "4"],
        ["train.lr=1e-3", "train.epochs=2", "train.batch_size=4"],
        ["--learning_rate", "1e-3", "--num-train-epochs=2", "--per_device_train_batch_size", "4"],
        ["lr", "=", "1e-3", "num_train_epochs=2", "--gradient_accumulation_steps", "2", "micro_batch_size=2"],
    ]
    recipes = []
    for words in ways:
        assert run([*start, *words]) == 0, words
        recipe, said = recipe_shown(capsys)
        recipes.append(recipe)
    assert all(recipe == recipes[0] for recipe in recipes)
    assert recipes[0]["data"]["sources"][0]["path"] == rows
    assert "micro_batch_size 2 x gradient_accumulation_steps 2, read as train.batch_size=4" in said


def test_a_run_file_of_llama_factory_trains_as_it_is(
    rows: str, tiny_model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lists = tmp_path / "lists"
    lists.mkdir()
    (lists / "rows.json").write_text(Path(rows).read_text(encoding="utf-8"), encoding="utf-8")
    (lists / "dataset_info.json").write_text(
        json.dumps({"mine": {"file_name": "rows.json"}}), encoding="utf-8"
    )
    theirs = {
        "model_name_or_path": str(tiny_model_folder),
        "stage": "sft",
        "do_train": True,
        "finetuning_type": "lora",
        "lora_rank": 2,
        "lora_target": "all",
        "dataset": "mine",
        "dataset_dir": str(lists),
        "template": "qwen",
        "cutoff_len": 128,
        "output_dir": str(tmp_path / "saves"),
        "logging_steps": 1,
        "plot_loss": True,
        "per_device_train_batch_size": 2,
        "gradient_accumulation_steps": 2,
        "learning_rate": 1e-3,
        "max_steps": 2,
        "lr_scheduler_type": "cosine",
        "bf16": False,
        "ddp_timeout": 180000000,
    }
    path = tmp_path / "theirs.yaml"
    path.write_text(yaml.safe_dump(theirs, sort_keys=False), encoding="utf-8")
    assert run(["train", str(path), "evaluate.question_count=0"]) == 0
    shown = capsys.readouterr().out
    assert shown.count("learning_rate, read as train.lr") == 1
    assert "plot_loss means nothing here: " in shown
    own = yaml.safe_load((tmp_path / "saves" / "run.yaml").read_text(encoding="utf-8"))
    assert (own["method"]["r"], own["train"]["batch_size"], own["train"]["steps"]) == (2, 4, 2)
    assert run(["check", str(path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["verdict"] != "error"


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("lora", "method.r"),
        ("LoRA", "method.r"),
        ("Train", "train.lr"),
        ("train.lr", "train.lr"),
        ("learning_rate", "train.lr"),
        ("logging_dir", "events.jsonl"),
        ("max_new_tokens", "evaluate.generation.max_new_tokens"),
    ],
)
def test_settings_are_listed_by_any_name(name: str, shown: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["settings", name]) == 0
    assert shown in capsys.readouterr().out


def test_a_misspelt_run_is_answered_with_its_neighbour(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    near = tmp_path / "my-run"
    near.mkdir()
    (near / "run.yaml").write_text("")
    for words in (["train", "--resume", str(tmp_path / "my-rum")], ["merge", str(tmp_path / "my-rum"), "x"]):
        assert run(words) != 0
        assert f"try       {near}\n" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("typed", "reached"),
    [
        (["chat", "no-such-folder/x", "--max_new_tokens", "0"], "max_new_tokens"),
        (["chat", "no-such-folder/x", "--max-tokens", "0"], "max_new_tokens"),
        (["chat", "no-such-folder/x", "--Max_Length=0"], "max_new_tokens"),
        (["check", "--Model"], "--model cannot be used like this"),
        (["chat", "x", "--odd_flag"], "there is no option --odd"),
    ],
    ids=str,
)
def test_flags_of_every_command_may_be_spelt_as_elsewhere(
    typed: list[str], reached: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(typed) == 2
    assert reached in capsys.readouterr().err
