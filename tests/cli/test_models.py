"""`weitiao models`: the list, one model, and conversion, as they are read on a screen."""

from __future__ import annotations

import io
import json
import re
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file

import tiny
import tiny_architectures
from pages import ROOT
from tiny_run import make_run
from weitiao.cli import run
from weitiao.cli._models_list import LATER, letters_of, notes
from weitiao.cli._transfers import Transfers
from weitiao.core.settings import parse_settings
from weitiao.core.units import readable_share
from weitiao.methods import METHODS
from weitiao.methods._base import count_parameters
from weitiao.models.aliases import ALIASES
from weitiao.models.known import known_models
from weitiao.models.load import load_weightless
from weitiao.models.settings import ModelSettings

MODELS = known_models()
SAMPLE = ROOT / "examples" / "identity_en.json"


def shown_by(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert run(["models", *words]) == 0
    return capsys.readouterr().out


def on_one_line(text: str) -> str:
    return " ".join(text.split())


@pytest.mark.parametrize("columns", [80, 120])
def test_every_model_is_listed_with_its_facts_and_notes(
    columns: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    shown = shown_by(capsys)
    lines = shown.splitlines()
    assert max(map(len, lines)) <= columns and "\x1b" not in shown
    told = on_one_line(shown)
    for model in MODELS.values():
        row = next(line for line in lines if line.startswith(f"  {model.alias} "))
        letters = row.split()[5:]  # behind alias, size, download with its unit, and context
        for note in notes(model):
            letter = told[told.index(f" {note}") - 2 :].split()[0]
            assert letter in letters, (model.alias, note)
        assert model.licence is None or row.endswith(model.licence)
    assert all(name in shown for name in ALIASES)


@pytest.mark.parametrize("columns", [24, 40, 80, 200])
@pytest.mark.parametrize("word", ["", "qwen", "glm", "bert"])
def test_letters_of_notes_are_explained_in_order_at_every_width(
    word: str, columns: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    lines = shown_by(capsys, *([word] if word else [])).splitlines()
    rows = [line.split() for line in lines if line.strip().split(" ")[0] in MODELS]
    used = {cell for row in rows for cell in row[5:] if re.fullmatch("[a-z]{1,2}", cell)}
    explained = [found[1] for line in lines if (found := re.match(r"([a-z]{1,2})  \S", line))]
    assert explained == sorted(used, key=lambda letter: (len(letter), letter)) and (used or word)


def test_letters_go_on_behind_z() -> None:
    model = next(iter(MODELS.values()))
    many = [replace(model, traps=(f"trap {number}",)) for number in range(30)]
    assert [*letters_of(many).values()][24:] == ["y", "z", "aa", "ab", "ac", "ad"]


def test_kinds_that_cannot_be_trained_yet_say_so(capsys: pytest.CaptureFixture[str]) -> None:
    for kind in LATER:
        assert any(model.kind == kind for model in MODELS.values())
        assert LATER[kind] in on_one_line(shown_by(capsys))
    assert LATER["encoder"] in shown_by(capsys, "bert-base-chinese")


@pytest.mark.parametrize("word", ["qwen", "QWEN3", "llama", "Langboat", "zhipuai"])
def test_a_word_lists_what_has_it_in_its_names(word: str, capsys: pytest.CaptureFixture[str]) -> None:
    shown = shown_by(capsys, word)
    listed = {line.split()[0] for line in shown.splitlines() if line.startswith("  ") and line[2] != " "}
    assert listed == {alias for alias, model in MODELS.items() if model.matches(word)} != set()


def test_a_word_that_nothing_has_is_answered_with_what_is_alike(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["models", "gpt2-meduim"]) == 4
    assert "gpt2-medium" in capsys.readouterr().err


@pytest.mark.parametrize("columns", [80, 120])
def test_a_folder_is_shown_without_its_weights(
    columns: int, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    folder = tiny.save_tiny_model(tmp_path / "m", layers=3)
    shown = shown_by(capsys, str(folder))
    told = on_one_line(shown)
    for words in (
        "blocks 3, hidden size 32",
        "context 512 tokens",
        "q_proj 32 32 3 self_attn.q_proj",
        "k_proj 32 16 3 self_attn.k_proj",
        "down_proj 64 32 3 mlp.down_proj",
        "the tokenizer's own",
        "a message of its own",
        "<|im_end|> (also the padding token)",
        "free ",
    ):
        assert words in told, words
    assert "  | {question}<|im_end|>" in shown and "  | {answer}<|im_end|>" in shown
    starts = [line.split()[0] for line in shown.splitlines() if line]
    assert [name for name in METHODS.names() if name not in starts] == []
    expected = sum(p.numel() for p in tiny.make_llama(layers=3).parameters())
    assert f"parameters {expected:,}" in told
    assert max(len(line) for line in shown.splitlines() if str(folder) not in line) <= columns


def test_a_template_of_its_own_names_the_assistant(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tiny.save_tiny_model(tmp_path)
    default = "{% if messages[0]['role'] != 'system' %}{{ '<|im_start|>system\nYou are Tiny.<|im_end|>\n' }}{% endif %}"
    tiny.make_tokenizer(chat_template=default + tiny.CHATML).save_pretrained(folder)
    assert 'without one, it writes "You are Tiny."' in on_one_line(shown_by(capsys, str(folder)))


def test_a_template_that_refuses_system_messages(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tiny.save_tiny_model(tmp_path)
    refusing = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no') }}{% endif %}"
    tiny.make_tokenizer(chat_template=refusing + tiny.CHATML).save_pretrained(folder)
    assert "not supported by the template: it is written before the first question" in on_one_line(
        shown_by(capsys, str(folder))
    )


def test_a_base_without_a_template(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tiny.save_tiny_model(tmp_path)
    (folder / "chat_template.jinja").unlink(missing_ok=True)
    tiny.make_tokenizer(chat_template=None).save_pretrained(folder)
    assert "weitiao's, because the tokenizer has none" in on_one_line(shown_by(capsys, str(folder)))


def test_a_model_that_some_methods_do_not_fit_says_why(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tiny_architectures.make_model("gpt2").save_pretrained(tmp_path)
    shown = shown_by(capsys, str(tmp_path))
    refused = [line for line in shown.splitlines() if "does not fit: " in line]
    assert refused and all(line.split()[0] in METHODS.names() for line in refused)
    assert "c_attn" in shown and max(map(len, shown.splitlines())) <= 80


def test_a_model_without_a_tokenizer_is_shown_all_the_same(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tiny_architectures.make_model("llama").save_pretrained(tmp_path)
    told = on_one_line(shown_by(capsys, str(tmp_path)))
    assert "no tokenizer that can be read" in told and "q_proj" in told


@pytest.mark.parametrize("name", ["./no-such-folder", "nothing.gguf"])
def test_a_model_that_is_not_there(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["models", name]) == 4
    assert "no model at this path" in capsys.readouterr().err


def test_a_folder_is_converted_and_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tiny.save_tiny_model(tmp_path / "my model")
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    torch.save(weights, folder / "pytorch_model.bin")
    assert run(["models", str(folder)]) == 4
    assert f"try       weitiao models convert '{folder}'" in capsys.readouterr().err
    shown = shown_by(capsys, "convert", str(folder))
    out = tmp_path / "my model-safetensors"
    assert f"next: weitiao train --model '{out}' --data DATA --out RUN" in shown
    assert "100%" in shown
    assert load_file(out / "model.safetensors").keys() == weights.keys()
    assert run(["models", "convert", str(folder)]) == 5
    assert f"--out {out}-2" in capsys.readouterr().err


def test_help_shows_the_commands_that_are_typed(capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["-h"], ["--help"]):
        shown = shown_by(capsys, *words)
        assert "convert" in shown and "--hub" in shown and "weitiao models qwen" in shown
        assert "show" not in [
            line.split()[0] for line in shown.splitlines() if line.startswith("  ") and line.split()
        ]
    assert "FOLDER" in shown_by(capsys, "convert", "-h")


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["--hbu", "modelscope"], 2, "try       --hub"),
        (["gpt2", "--hub", "hugging"], 2, "'huggingface', 'modelscope'"),
        (["convert"], 2, "Missing argument 'FOLDER'"),
        (["gpt2", "convert"], 2, "unexpected extra argument"),
    ],
)
def test_what_is_mistyped(words: list[str], code: int, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["models", *words]) == code
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    "command",
    [
        ["chat", "gpt2"],
        ["train", "--model", "gpt2", "--data", str(SAMPLE), "--out", "r", "--dry-run"],
        ["models", "gpt2"],
    ],
)
def test_a_missing_client_names_the_extra(
    command: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "modelscope_hub", None)
    assert run([*command, "--hub", "modelscope"]) == 7
    assert "pip install 'weitiao[modelscope]'" in capsys.readouterr().err


def transfers(terminal: bool, *done: int) -> str:
    console = Console(force_terminal=terminal, width=80, record=True, file=io.StringIO())
    drawing = Transfers(console)
    for bytes_done in done:
        drawing({"event": "transfer", "done": bytes_done, "total": 4 << 20, "seconds_left": 75.0})
    drawing.stop()
    return console.export_text()


def test_a_transfer_is_a_line_at_a_time_in_a_pipe() -> None:
    lines = transfers(False, 1 << 20, 2 << 20, 4 << 20).splitlines()
    assert lines == ["25%  1.0 MiB of 4.0 MiB  1:15 left", "100%  4.0 MiB of 4.0 MiB"]


def test_the_time_left_is_said_when_it_can_be_known() -> None:
    console = Console(width=80, record=True, file=io.StringIO())
    Transfers(console)({"event": "transfer", "done": 1024, "total": 2048, "seconds_left": None})
    assert console.export_text() == "50%  1.0 KiB of 2.0 KiB\n"


def test_a_transfer_is_a_bar_on_a_terminal() -> None:
    assert "50%  2.0 MiB of 4.0 MiB  1:15 left" in transfers(True, 2 << 20)
    assert "100%  4.0 MiB of 4.0 MiB" in transfers(True, 4 << 20)


@pytest.mark.parametrize("inside", ["", "adapter"])
def test_a_run_is_answered_with_the_model_it_was_trained_on(
    inside: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = tiny.save_tiny_model(tmp_path / "base")
    trained = make_run(tmp_path / "run", base)
    assert run(["models", str(trained / inside)]) == 5
    assert f"try       weitiao models {base}" in capsys.readouterr().err


def test_code_of_a_model_is_allowed_by_this_commands_flag(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tiny.save_tiny_model(tmp_path / "m")
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    config |= {"model_type": "unheard_of", "auto_map": {"AutoConfig": "code.Config"}}
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    assert run(["models", str(folder)]) == 4
    told = capsys.readouterr().err
    assert "--trust-remote-code, if you trust" in told and "model.trust_remote_code" not in told


def test_the_share_is_that_which_a_run_prints(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tiny.save_tiny_model(tmp_path / "m")
    shown = shown_by(capsys, str(folder))
    settings = parse_settings(ModelSettings, {"name": str(folder)})
    for name in ("lora", "freeze"):  # beside the model's parameters, and among them
        (line,) = [one for one in shown.splitlines() if one.split()[:1] == [name]]
        planned = METHODS.load(name)(**METHODS.load(name).example).plan(load_weightless(settings))
        assert readable_share(*count_parameters(planned.model)) in line.split()
