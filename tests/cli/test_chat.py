"""Chatting: who answers, what is remembered, what the commands do, and that nothing ends it but its end."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from tiny_run import make_run
from weitiao.cli import run
from weitiao.cli._chat import Chat, Voice
from weitiao.core.visible import visible
from weitiao.data.conversation import Message
from weitiao.evaluation.generate import generate
from weitiao.evaluation.opened import Opened, open_model
from weitiao.evaluation.settings import GenerationSettings

SETTINGS = GenerationSettings(max_new_tokens=8)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, tiny_model_folder: Path) -> Path:
    return make_run(tmp_path_factory.mktemp("chat") / "run", tiny_model_folder)


@pytest.fixture(scope="module")
def opened(trained: Path) -> Opened:
    return open_model(str(trained))


@pytest.fixture
def chat(opened: Opened) -> Iterator[Chat]:
    yield Chat(opened, SETTINGS, Console(file=io.StringIO(), width=80, highlight=False))


def said(chat: Chat) -> str:
    """Return what was shown since the last call."""
    file = chat.console.file
    assert isinstance(file, io.StringIO)
    text = file.getvalue()
    file.seek(0)
    file.truncate()
    return text


def truth(opened: Opened, *turns: str, base: bool = False) -> str:
    """Return what the model answers to turns, asked without a chat."""
    roles = ("user", "assistant")
    messages = [Message(roles[n % 2], text) for n, text in enumerate(turns)]  # type: ignore[arg-type]
    if base:
        with opened.as_base() as model:
            return generate(model, opened.tokenizer, opened.template, [messages], SETTINGS)[0][0]
    return generate(opened.model, opened.tokenizer, opened.template, [messages], SETTINGS)[0][0]


def test_the_conversation_is_remembered_until_it_is_reset(chat: Chat, opened: Opened) -> None:
    chat.take("Hi")
    first = truth(opened, "Hi")
    assert said(chat) == visible(first) + "\n"
    chat.take("And?")
    assert said(chat) == visible(truth(opened, "Hi", first.strip(), "And?")) + "\n"
    chat.take("/reset")
    chat.take("And?")
    assert said(chat).endswith(visible(truth(opened, "And?")) + "\n")
    assert len(chat.turns[Voice.TRAINED]) == 2


def test_base_switches_the_adapter_off_and_on(chat: Chat, opened: Opened) -> None:
    assert truth(opened, "Hi") != truth(opened, "Hi", base=True)
    for base in (True, False):
        chat.take("/base")
        said(chat)
        chat.take("/reset")
        said(chat)
        chat.take("Hi")
        assert said(chat) == visible(truth(opened, "Hi", base=base)) + "\n"


def test_both_answers_stand_under_each_other_or_side_by_side(opened: Opened) -> None:
    narrow = Chat(opened, SETTINGS, Console(file=io.StringIO(), width=80, highlight=False))
    narrow.take("/both")
    said(narrow)
    narrow.take("Hi")
    text = said(narrow)
    assert text.index("[before training]") < text.index("[after training]")
    for voice in Voice:  # each goes on from what it said itself
        own = truth(opened, "Hi", base=voice is Voice.BASE).strip()
        assert [turn.content for turn in narrow.turns[voice]] == ["Hi", own]
    wide = Chat(opened, SETTINGS, Console(file=io.StringIO(), width=120, force_terminal=True, _environ={}))
    wide.take("/both")
    said(wide)
    wide.take("Hi")
    assert any("before training" in line and "after training" in line for line in said(wide).splitlines())
    wide.take("/both")
    assert wide.voices == (Voice.TRAINED,)


def test_settings_change_and_what_does_not_fit_is_refused(chat: Chat) -> None:
    chat.take("/set temperature 0.7")
    chat.take("/set top_p=0.9")
    chat.take("/set max-new-tokens 3")
    chat.take("/set stop END of it")
    assert chat.settings == GenerationSettings(
        temperature=0.7, top_p=0.9, max_new_tokens=3, stop=["END of it"]
    )
    said(chat)
    for line, words in [
        ("/set temprature 1", "try       temperature"),
        ("/set temperature hot", "temperature cannot be used"),
        ("/rest", "/reset"),
        ("/quit", "one of /base"),
    ]:
        before = chat.settings
        chat.take(line)
        assert words in said(chat), line
        assert chat.settings == before


def test_system_message_help_and_exit(chat: Chat, opened: Opened) -> None:
    chat.take("Hi")
    chat.take("/system Be brief.")
    assert not any(chat.turns.values())
    said(chat)
    chat.take("Hi")
    messages = [Message("system", "Be brief."), Message("user", "Hi")]
    answer = generate(opened.model, opened.tokenizer, opened.template, [messages], SETTINGS)[0][0]
    assert said(chat) == visible(answer) + "\n"
    chat.take("/help")
    text = said(chat)
    assert all(
        name in text for name in ("/reset", "/base", "/both", "/system", "/set", "/exit", "temperature = 0.0")
    )
    assert not chat.ended
    chat.take("/exit")
    assert chat.ended


def test_several_answers_come_at_once_numbered(chat: Chat) -> None:
    chat.settings = GenerationSettings(max_new_tokens=4, num_beams=2, num_return_sequences=2)
    chat.take("Hi")
    text = said(chat)
    assert text.startswith("1. ") and "\n2. " in text


class InterruptedConsole(Console):
    """Gets Ctrl-C while it prints the third piece of an answer."""

    pieces = 0

    def out(self, *objects: Any, **options: Any) -> None:  # noqa: ANN401
        self.pieces += 1
        if self.pieces == 3:
            raise KeyboardInterrupt
        super().out(*objects, **options)


def test_ctrl_c_stops_the_answer_and_not_the_chat(opened: Opened) -> None:
    console = InterruptedConsole(file=io.StringIO(), width=80)
    chat = Chat(opened, GenerationSettings(max_new_tokens=400, min_new_tokens=400), console)
    chat.take("Hi")
    assert "(stopped)" in said(chat)
    assert not chat.ended
    chat.settings = SETTINGS
    chat.take("/reset")
    said(chat)
    chat.take("Hi")
    assert said(chat) == visible(truth(opened, "Hi")) + "\n"


def test_a_plain_model_has_no_before(tiny_model_folder: Path) -> None:
    chat = Chat(open_model(str(tiny_model_folder)), SETTINGS, Console(file=io.StringIO(), width=80))
    for line in ("/base", "/both"):
        chat.take(line)
        assert "no before and after" in said(chat)
    assert chat.voices == (Voice.TRAINED,)


def test_an_answer_cannot_drive_the_terminal() -> None:
    assert visible("a\x1b[2J\x07b\r\n\tc\x9b") == r"a\x1b[2J\x07b" + "\n\tc" + r"\x9b"


def test_too_long_a_question_is_said_and_forgotten(chat: Chat) -> None:
    chat.take("x" * 3000)
    assert "longer than the model's context" in said(chat)
    assert not any(chat.turns.values())


def test_questions_come_through_a_pipe(trained: Path, opened: Opened) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "weitiao", "chat", str(trained), "--max-new-tokens", "8", "--both"],
        input="Hi\n\n/reset\n你是谁？\n",
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
        timeout=240,
        env={**os.environ, "PYTHONIOENCODING": "utf-8"},
    )
    assert done.returncode == 0, done.stderr
    assert "\x1b" not in done.stdout
    assert "> Hi\n" in done.stdout and "> 你是谁？\n" in done.stdout
    for question in ("Hi", "你是谁？"):
        for base in (True, False):
            assert visible(truth(opened, question, base=base)) in done.stdout


def test_the_command_checks_settings_before_it_loads_anything(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["chat", "./nowhere", "--num-return-sequences", "3"]) == 2
    assert "would be the same" in capsys.readouterr().err
