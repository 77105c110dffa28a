"""A run trained with a text or a system prompt of its own asks, chats, merges and exports with the same."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from transformers import AutoTokenizer

import tiny
from weitiao.cli._chat import Chat
from weitiao.data.conversation import Message
from weitiao.evaluation.open_model import open_by_name
from weitiao.evaluation.settings import GenerationSettings
from weitiao.recipe.recipe import parse_recipe
from weitiao.recipe.run import Run
from weitiao.recipe.train import train_recipe
from weitiao.serving.merge import merge_run

TEXT = "I: {instruction}\n{?input}X: {input}\n{/input}A: "
CHOICES: dict[str, dict[str, Any]] = {
    "text": {"template": TEXT},
    "tasks": {"template": TEXT, "task_templates": {"de": "German of {instruction}: "}},
    "system": {"system": "You are Ada.", "template": "chat"},
    "no system": {"system": "none"},
    "instruction": {"template": "instruction"},
}
ASKED: list[list[dict[str, str]]] = [
    [{"role": "user", "content": "Say 5"}],
    [{"role": "user", "content": "Say 5", "input": "loud"}],
    [{"role": "user", "content": "Say 5", "task": "de"}],
]
DEFAULT = (
    "{% if messages[0]['role'] != 'system' %}{{ '<|im_start|>system\nYou are Qwen<|im_end|>\n' }}{% endif %}"
)


def trained(tmp_path: Path, method: str = "lora", **data: Any) -> Run:  # noqa: ANN401
    """Train a tiny model, whose template has a system prompt of its own, for two steps."""
    base = tmp_path / "base"
    tiny.make_llama().save_pretrained(base)
    tiny.make_tokenizer(chat_template=DEFAULT + tiny.CHATML).save_pretrained(base)
    rows = [
        {
            "instruction": f"Say {n}",
            "input": "loud" * (n % 2),
            "task": "de" if n % 3 else "",
            "output": f"{n}.",
        }
        for n in range(16)
    ]
    path = tmp_path / "rows.json"
    path.write_text(json.dumps(rows), encoding="utf-8")
    return train_recipe(
        parse_recipe(
            {
                "model": str(base),
                "data": {"sources": str(path), "held_out": 3, **data},
                "method": method,
                "train": {"steps": 2, "batch_size": 2, "save_every": 1},
                "evaluate": {"question_count": 1, "generation": {"max_new_tokens": 4}},
                "out": str(tmp_path / "run"),
            }
        )
    )


Shared = Callable[[str], Run]


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Shared:
    """Gives the run of a choice, trained once; read only."""

    @cache
    def made(chosen: str) -> Run:
        return trained(tmp_path_factory.mktemp("shared"), **CHOICES[chosen])

    return made


def prompts(opened: Any) -> list[list[int]]:  # noqa: ANN401
    """Return the ids of every question as a model asks it."""
    return [
        list(
            opened.template.prompt(
                [Message("user", "Say 5", extra={k: v for k, v in one.items() if k[0] in "it"})]
            ).ids
        )
        for (one,) in ASKED
    ]


def plain(folder: Path) -> list[list[int]]:
    """Return what plain transformers give for them with the tokenizer that lies in a folder."""
    own: Any = AutoTokenizer.from_pretrained(folder)
    return [own.apply_chat_template(one, add_generation_prompt=True, return_dict=False) for one in ASKED]


@pytest.mark.parametrize("chosen", CHOICES)
def test_every_way_to_open_a_result_asks_as_it_was_trained(
    chosen: str, shared: Shared, tmp_path: Path
) -> None:
    run = shared(chosen)
    wanted = prompts(run.opened)
    example = run.recipe.data
    assert example.wording == run.opened.source.wording
    assert plain(run.adapter_path) == wanted
    checkpoint = sorted(run.folder.checkpoints.iterdir())[-1]
    assert prompts(open_by_name(str(checkpoint))) == wanted
    shutil.copytree(run.adapter_path, tmp_path / "elsewhere")
    assert prompts(open_by_name(str(tmp_path / "elsewhere"))) == wanted
    merge_run(str(run.folder.root), tmp_path / "merged")
    assert plain(tmp_path / "merged") == wanted
    assert prompts(open_by_name(str(tmp_path / "merged"))) == wanted
    base = prompts(open_by_name(run.recipe.model.name))
    assert all(one != other for one, other in zip(base, wanted, strict=True))


def test_a_whole_model_carries_it_too_and_its_base_is_asked_alike(tmp_path: Path) -> None:
    run = trained(tmp_path, "full", **CHOICES["tasks"])
    assert plain(run.adapter_path) == prompts(run.opened)
    assert prompts(open_by_name(str(run.adapter_path))) == prompts(run.opened)


def test_a_run_that_continues_an_adapter_keeps_its_prompt(shared: Shared, tmp_path: Path) -> None:
    first = shared("text")
    again = first.recipe.as_dict()
    again["model"]["adapter"] = str(first.adapter_path)
    again["data"]["template"] = "auto"
    second = train_recipe(parse_recipe({**again, "out": str(tmp_path / "second")}))
    assert prompts(second.opened) == prompts(first.opened)
    checkpoint = sorted(second.folder.checkpoints.iterdir())[-1]
    assert prompts(open_by_name(str(checkpoint))) == prompts(first.opened)


def test_a_person_gives_fields_and_tasks_beside_a_question(shared: Shared) -> None:
    run = shared("tasks")
    opened = run.opened
    chat = Chat(
        opened, GenerationSettings(max_new_tokens=3), Console(file=io.StringIO()), fields={"task": "de"}
    )
    assert opened.template.prompt(chat.messages(chat.voices[0], "Hi")).text == "German of Hi: "
    chat.take("/field task")
    chat.take("/field input very loud")
    assert opened.template.prompt(chat.messages(chat.voices[0], "Hi")).text == "I: Hi\nX: very loud\nA: "
    german = run.generate([{"role": "user", "content": "Hi", "task": "de"}], max_new_tokens=4)
    asked = opened.tokenizer("German of Hi: ", add_special_tokens=False, return_tensors="pt")
    ids = opened.model.generate(**asked, max_new_tokens=4, do_sample=False)[0, asked["input_ids"].shape[1] :]
    assert isinstance(german, str)
    assert german.strip() == opened.tokenizer.decode(ids, skip_special_tokens=True).strip()
    assert opened.source.wording.beside_a_question == "the task (de) and the fields input"
