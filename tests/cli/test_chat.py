"""Chatting: who answers, what is remembered, what the commands do, and that nothing ends it but its end."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from rich.cells import cell_len
from rich.console import Console

from forked_python import python_server
from tiny_run import make_base, make_run
from weitiao.cli import run
from weitiao.cli._chat import Chat, Voice
from weitiao.cli._wrap_stream import NOT_FIRST, StreamWrapper
from weitiao.core.visible import visible
from weitiao.data.conversation import Message
from weitiao.evaluation.generate import generate
from weitiao.evaluation.locate import locate
from weitiao.evaluation.open_model import Opened, open_by_name
from weitiao.evaluation.settings import GenerationSettings
from weitiao.evaluation.several_adapters import open_several

SETTINGS = GenerationSettings(max_new_tokens=8)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, tiny_model_folder: Path) -> Path:
    return make_run(tmp_path_factory.mktemp("chat") / "run", tiny_model_folder)


@pytest.fixture(scope="module")
def opened(trained: Path) -> Opened:
    return open_by_name(str(trained))


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
        ("/bse", "one of /adapter"),
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
    chat = Chat(open_by_name(str(tiny_model_folder)), SETTINGS, Console(file=io.StringIO(), width=80))
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
    words = ["-m", "weitiao", "chat", str(trained), "--max-new-tokens", "8", "--both"]
    done = python_server().run(words, typed="Hi\n\n/reset\n你是谁？\n")
    assert done.returncode == 0, done.stderr
    assert "\x1b" not in done.stdout
    assert "> Hi\n" in done.stdout and "> 你是谁？\n" in done.stdout
    for question in ("Hi", "你是谁？"):
        for base in (True, False):
            assert visible(truth(opened, question, base=base)) in done.stdout


def test_the_command_checks_settings_before_it_loads_anything(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["chat", "./nowhere", "--num-return-sequences", "3"]) == 2
    assert "num_return_sequences" in capsys.readouterr().err


@pytest.mark.parametrize("word", ["exit", "quit", "/quit", "/exit", " EXIT ", "Quit"])
def test_what_people_type_to_leave_leaves(chat: Chat, word: str) -> None:
    chat.take(word)
    assert chat.ended and not any(chat.turns.values())


def test_system_shows_sets_and_removes(chat: Chat) -> None:
    chat.take("/system Be [brief].")
    assert chat.system_prompt == "Be [brief]."
    assert "system prompt: 'Be [brief].'; /system changes it\n(the conversation starts over)" in said(chat)
    chat.take("/system")
    assert "system prompt: 'Be [brief].'" in said(chat) and chat.system_prompt == "Be [brief]."
    chat.take("/system none")
    assert said(chat).startswith("no system prompt; /system TEXT sets one; the template writes before")
    assert chat.system_prompt == ""
    chat.take("/system training")
    assert "do not all begin with one system prompt" in said(chat) and chat.system_prompt == ""


def test_an_answer_that_was_cut_says_so_on_a_terminal_and_what_to_type(opened: Opened) -> None:
    console = Console(file=io.StringIO(), width=80, force_terminal=True, highlight=False, _environ={})
    chat = Chat(opened, GenerationSettings(max_new_tokens=3, min_new_tokens=3), console)
    chat.take("Hi")
    assert "cut off after 3 tokens: /set max_new_tokens 6" in said(chat)
    chat.settings = GenerationSettings(max_new_tokens=3, min_new_tokens=3, num_beams=2)
    chat.take("Hi")
    assert "cut off" in said(chat)
    chat.take("/reset")
    chat.settings = GenerationSettings(max_new_tokens=20, stop=[truth(opened, "Hi")[1:3]])
    chat.take("Hi")
    assert "cut off" not in said(chat)
    chat.console = Console(file=io.StringIO(), width=80)
    chat.settings = GenerationSettings(max_new_tokens=3, min_new_tokens=3)
    chat.take("Hi")
    assert "cut off" not in said(chat), "a pipe gets answers alone"


@pytest.fixture(scope="module")
def two_runs(
    tmp_path_factory: pytest.TempPathFactory, trained: Path, tiny_model_folder: Path
) -> dict[str, str]:
    second = make_run(tmp_path_factory.mktemp("second") / "run", tiny_model_folder, "ia3")
    return {"a": str(trained), "b": str(second)}


def test_adapters_are_switched_each_in_its_own_conversation(two_runs: dict[str, str]) -> None:
    opened = open_several({name: locate(path) for name, path in two_runs.items()})
    tensors = [
        {p.data_ptr() for p in one.model.parameters() if not p.requires_grad and p.ndim == 2}
        for one in opened.values()
    ]
    assert len(tensors[0] & tensors[1]) > 10, "the base is there once"
    console = Console(file=io.StringIO(), width=80, highlight=False)
    chat = Chat(opened["a"], SETTINGS, console, adapters=opened)
    for name, turns in (("a", ("Hi",)), ("b", ("Hi",)), ("a", ("Hi", "And?"))):
        chat.take(f"/adapter {name}")
        said(chat)
        chat.take(turns[-1])
        alone = open_by_name(two_runs[name])
        asked = turns if len(turns) == 1 else ("Hi", truth(alone, "Hi").strip(), "And?")
        assert said(chat) == visible(truth(alone, *asked)) + "\n", name
    chat.take("/adapter")
    listed = said(chat)
    assert f"* a           {two_runs['a']}" in listed and "  b  " in listed
    chat.take("/base")
    said(chat)
    chat.take("/reset")
    chat.take("Hi")
    assert visible(truth(open_by_name(two_runs["b"]), "Hi", base=True)) in said(chat)
    chat.take("/adapter bb")
    assert "there is no adapter called 'bb'" in said(chat)


def test_a_chat_with_one_model_says_how_to_open_several(chat: Chat) -> None:
    chat.take("/adapter b")
    assert "weitiao chat --adapter a=RUN --adapter b=RUN" in said(chat)


def test_adapters_that_cannot_share_a_chat_are_refused_in_words(
    two_runs: dict[str, str], tmp_path: Path, tiny_model_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other_base = make_base(tmp_path / "other")
    other = make_run(tmp_path / "run", other_base)
    whole = make_run(tmp_path / "whole", tiny_model_folder, "full")
    for words, expected in (
        ([f"a={two_runs['a']}", f"b={other}"], "b was trained on another base than a"),
        ([f"a={two_runs['a']}", f"b={whole}"], "b is not an adapter that can be switched"),
        ([f"a={two_runs['a']}", f"a={two_runs['b']}"], "two adapters are called a"),
    ):
        assert run(["chat", *(part for word in words for part in ("--adapter", word))]) == 2
        assert expected in capsys.readouterr().err
    assert run(["chat", two_runs["a"], "--adapter", f"b={two_runs['b']}"]) == 2
    assert "weitiao chat --adapter run=" in capsys.readouterr().err
    assert run(["chat"]) == 2
    assert "try       weitiao chat RUN" in capsys.readouterr().err


def test_several_adapters_come_through_the_command(
    two_runs: dict[str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    named = [f"--adapter={name}={path}" for name, path in two_runs.items()]
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"Hi\n/adapter b\nHi\nexit\nHi\n")))
    assert run(["chat", *named, "--max-new-tokens", "8"]) == 0
    first, _, second = capsys.readouterr().out.partition("/adapter b")
    assert visible(truth(open_by_name(two_runs["a"]), "Hi")) in first
    assert visible(truth(open_by_name(two_runs["b"]), "Hi")) in second
    assert second.count("> Hi") == 1, "exit ends it"


TEXTS = (
    "The quick brown fox jumps over the lazy dog, and then (as foxes do) it sleeps; well.",
    "微调是让一个已经训练好的语言模型，在你自己的数据上继续学习；它不需要很多数据。“引号”也不断开！",
    "mixed 中文和 English words，混排 in one line：yes，是的。(ok)",
    "  indented\n\n- a list\n\tand a tab, " + "x" * 50 + " end",
)


@pytest.mark.parametrize("text", TEXTS, ids=range(len(TEXTS)))
@pytest.mark.parametrize("columns", [1, 7, 20, 80])
@pytest.mark.parametrize("piece", [1, 3, 1000])
def test_no_word_is_broken_at_the_edge(text: str, columns: int, piece: int) -> None:
    written: list[str] = []
    wrapped = StreamWrapper(columns, written.append)
    for at in range(0, len(text), piece):
        wrapped.push(text[at : at + piece])
    wrapped.rest()
    lines = "".join(written).split("\n")
    kept = "".join(text.replace("\t", "    ").split())
    assert "".join("".join(lines).split()) == kept, "nothing is lost"
    if columns > 7:
        assert max(cell_len(line) for line in lines) <= columns
        words = {word for word in text.split() if word.isascii() and len(word) <= columns}
        shown = {word for line in lines for word in line.split()}
        assert {word for word in words if word.isalpha()} <= {w.strip("中文和混排，。：是的") for w in shown}
        assert not any(line[:1] in NOT_FIRST and line[:1] != "-" for line in lines)


def test_on_a_terminal_answers_are_wrapped_and_kept_as_they_were(opened: Opened) -> None:
    console = Console(file=io.StringIO(), width=24, force_terminal=True, highlight=False, _environ={})
    long = Chat(opened, GenerationSettings(max_new_tokens=60, min_new_tokens=60), console)
    long.take("Hi")
    shown = said(long).partition("\x1b")[0]
    assert max(cell_len(line) for line in shown.splitlines()) <= 24
    answer = long.turns[Voice.TRAINED][-1].content
    assert "".join(visible(answer).split()) in "".join(shown.split())
