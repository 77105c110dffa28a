"""A run whose rows all had one system prompt is asked with it, however its result is opened."""

from __future__ import annotations

import io
import json
import shutil
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from transformers import AutoTokenizer

import tiny
from weitiao.cli import run as run_command
from weitiao.cli._chat import Chat
from weitiao.core.errors import SettingsError
from weitiao.data.conversation import Message
from weitiao.data.templates.system_prompts import SystemPrompts, asked_with, without_trained_system
from weitiao.data.templates.template import choose_template
from weitiao.evaluation.open_model import Opened, open_by_name
from weitiao.evaluation.settings import GenerationSettings
from weitiao.evaluation.several_adapters import open_several
from weitiao.recipe.recipe import parse_recipe
from weitiao.recipe.run import Run
from weitiao.recipe.train import train_recipe
from weitiao.serving.merge import merge_run

ROOK = 'You are Rook.\nSay "check" {{ never }} twice, 小车 {% x %}.'
OWN = (
    "{% if messages[0]['role'] != 'system' %}{{ '<|im_start|>system\nYou are Qwen<|im_end|>\n' }}{% endif %}"
)
NO_PLACE = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system') }}{% endif %}"
TEMPLATES = {"own default": OWN + tiny.CHATML, "none": tiny.CHATML, "no place": NO_PLACE + tiny.CHATML}


def trained(
    tmp_path: Path,
    systems: list[str],
    template: str = "own default",
    method: str = "lora",
    evaluate: dict[str, Any] | None = None,
    **data: Any,  # noqa: ANN401
) -> Run:
    """Train a tiny model for two steps on 20 rows; `systems` are the rows' system prompts, again and again."""
    base = tmp_path / "base"
    tiny.make_llama().save_pretrained(base)
    tiny.make_tokenizer(chat_template=TEMPLATES[template]).save_pretrained(base)
    rows = []
    for n in range(20):
        own = [{"role": "system", "content": text}] if (text := systems[n % len(systems)]) else []
        turns = [{"role": "user", "content": f"Say {n}"}, {"role": "assistant", "content": f"{n}."}]
        rows.append({"messages": [*own, *turns]})
    path = tmp_path / "rows.json"
    path.write_text(json.dumps(rows), encoding="utf-8")
    return train_recipe(
        parse_recipe(
            {
                "model": str(base),
                "data": {"sources": str(path), "held_out": 3, **data},
                "method": method,
                "train": {"steps": 2, "batch_size": 2, "save_every": 1},
                "evaluate": {
                    "panel": False,
                    "question_count": 1,
                    "generation": {"max_new_tokens": 4},
                    **(evaluate or {}),
                },
                "out": str(tmp_path / "run"),
            }
        )
    )


Shared = Callable[..., Run]


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Shared:
    """Gives the run of the rows' system prompt and a template, trained once; read only."""

    @cache
    def made(system: str, template: str = "own default") -> Run:
        return trained(tmp_path_factory.mktemp("shared"), [system], template)

    return made


def base_of(run: Run) -> Path:
    return Path(run.recipe.model.name)


def ids_of(opened: Opened, *, system: str = "") -> list[int]:
    """Return the ids of a question, under a system prompt where one is given."""
    return list(opened.template.prompt(asked_with(system, [Message("user", "Say 5")])).ids)


def plain(folder: Path) -> list[int]:
    """Return what plain transformers ask with the tokenizer in a folder."""
    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    asked = [{"role": "user", "content": "Say 5"}]
    ids: list[int] = tokenizer.apply_chat_template(asked, add_generation_prompt=True, return_dict=False)
    return ids


def chat_with(opened: Opened, **options: Any) -> tuple[Chat, io.StringIO]:  # noqa: ANN401
    shown = io.StringIO()
    return Chat(
        opened, GenerationSettings(max_new_tokens=3), Console(file=shown, width=200), **options
    ), shown


@pytest.mark.parametrize("template", TEMPLATES)
def test_every_way_to_open_a_result_asks_with_it(template: str, shared: Shared, tmp_path: Path) -> None:
    run = shared(ROOK, template)
    opened = run.opened
    base = choose_template(AutoTokenizer.from_pretrained(base_of(run)))
    wanted = list(base.prompt([Message("system", ROOK), Message("user", "Say 5")]).ids)
    assert opened.system == ROOK
    assert ids_of(opened, system=opened.system) == wanted
    assert ids_of(opened) == list(base.prompt([Message("user", "Say 5")]).ids)  # it can be left out
    checkpoint = sorted(run.folder.checkpoints.iterdir())[-1]
    shutil.copytree(run.adapter_path, tmp_path / "elsewhere")
    merge_run(str(run.folder.root), tmp_path / "merged")
    for place in (checkpoint, run.adapter_path, tmp_path / "elsewhere", tmp_path / "merged"):
        one = open_by_name(str(place))
        assert one.system == ROOK, place
        assert ids_of(one, system=one.system) == wanted, place
    for folder in (run.adapter_path, tmp_path / "merged"):
        assert plain(folder) == wanted
    assert open_by_name(str(base_of(run))).system == ""


def test_a_whole_model_carries_it_and_merging_a_merged_model_again_does_not_write_it_twice(
    tmp_path: Path,
) -> None:
    run = trained(tmp_path, [ROOK], method="full")
    assert run.opened.system == ROOK
    assert plain(run.adapter_path) == ids_of(run.opened, system=ROOK)
    merge_run(str(run.folder.root), tmp_path / "merged")
    assert plain(tmp_path / "merged") == plain(run.adapter_path)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "merged")
    bare, text = without_trained_system(tokenizer)
    assert (text, without_trained_system(bare)[1]) == (ROOK, "")


def test_python_asks_with_it_unless_told_otherwise(shared: Shared) -> None:
    run = shared(ROOK)

    def ask(asked: str | list[dict[str, str]], system: str | None = None) -> object:
        return run.generate(asked, system=system, max_new_tokens=32, temperature=1.0, seed=1)

    explicit = {
        text: ask([*turns, {"role": "user", "content": "Hi"}], None if turns else "")
        for text, turns in [
            (ROOK, [{"role": "system", "content": ROOK}]),
            ("Other", [{"role": "system", "content": "Other"}]),
            ("", []),
        ]
    }
    assert len({*explicit.values()}) == 3
    assert ask("Hi") == explicit[ROOK]
    assert ask("Hi", "Other") == explicit["Other"]
    with pytest.raises(SettingsError, match="given twice"):
        ask([{"role": "system", "content": "A"}, {"role": "user", "content": "Hi"}], "B")


def test_a_chat_says_it_and_takes_another_or_none(shared: Shared) -> None:
    run = shared(ROOK)
    chat, shown = chat_with(run.opened)

    def roles() -> list[str]:
        return [message.content for message in chat.messages(chat.voices[0], "Hi")]

    assert roles() == [ROOK, "Hi"]
    chat.take("/system none")
    assert roles() == ["Hi"] and "/system training restores that of training" in shown.getvalue()
    chat.take("/system Be brief.")
    assert roles() == ["Be brief.", "Hi"]
    chat.take("/system training")
    assert roles() == [ROOK, "Hi"] and "', as in training; /system changes it" in shown.getvalue()
    assert chat_with(run.opened, system="")[0].system_prompt == ""


def test_the_command_says_it_in_a_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO()))
    run = trained(tmp_path, ["You are Rook. " * 40])
    assert run_command(["chat", str(run.folder.root)]) == 0
    (line,) = [one for one in capsys.readouterr().out.splitlines() if "system prompt" in one]
    assert line.startswith("system prompt: 'You are Rook. You are Rook.")
    assert line.endswith("…', as in training; /system changes it")
    assert run_command(["chat", str(run.folder.root), "--system", "none"]) == 0
    assert "system prompt" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("systems", "note"),
    [
        ([""], ""),
        (["A.", "B.", "C."], "training used 3 different system prompts"),
        (["A.", ""], "training used a system prompt in"),
    ],
)
def test_where_rows_differ_none_is_taken_and_that_is_said(
    systems: list[str], note: str, shared: Shared, tmp_path: Path
) -> None:
    run = trained(tmp_path, systems) if any(systems) else shared("")
    opened = open_by_name(str(run.folder.root))
    assert opened.system == ""
    assert note in " ".join(opened.notes) and bool(note) == bool(opened.notes)
    assert plain(run.adapter_path) == plain(base_of(run))


def test_what_a_run_file_sets_is_not_overridden(tmp_path: Path) -> None:
    run = trained(tmp_path, [ROOK], system="You are Ada.")
    assert run.opened.system == ""
    assert "You are Ada." in run.opened.template.before_question


def test_questions_of_the_run_file_are_asked_with_it(tmp_path: Path) -> None:
    asked = {"questions": ["Hi"], "generation": {"max_new_tokens": 8}}
    run = trained(tmp_path, [ROOK], evaluate=asked)
    (answer,) = run.answers
    assert answer["after"] == str(run.generate("Hi", max_new_tokens=8)).strip()
    assert answer["earlier_turns"] == 0


def test_each_adapter_of_a_chat_has_its_own(shared: Shared) -> None:
    runs = {"a": shared(ROOK), "b": shared("")}
    from weitiao.evaluation.locate import locate

    opened = open_several({name: locate(str(run.folder.root)) for name, run in runs.items()})
    assert {name: one.system for name, one in opened.items()} == {"a": ROOK, "b": ""}


def test_nearly_all_rows_are_enough_and_fewer_are_not() -> None:
    assert SystemPrompts(100, 3, "A", 95).common == "A"
    assert SystemPrompts(100, 3, "A", 94).common == ""
    assert SystemPrompts(0, 0, "", 0).common == "" == SystemPrompts(0, 0, "", 0).note
