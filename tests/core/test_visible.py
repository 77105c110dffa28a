"""Nothing that a terminal would obey, or that turns the order of a text round, reaches a person unseen."""

from __future__ import annotations

import io
import sys
import unicodedata

import pytest
from rich.console import Console
from rich.text import Text

from weitiao.cli._console import run_console
from weitiao.cli._harmless import Harmless
from weitiao.cli._print_problems import print_problems
from weitiao.core.errors import DataError, Problem
from weitiao.core.visible import visible
from weitiao.evaluation.report import cell

HOSTILE = "safe\x1b[2J\x1b]0;title\x07\u202etxt.exe\u2066\x9b31m\udc80\U000e0041"
SHOWN = r"safe\x1b[2J\x1b]0;title\x07\u202etxt.exe\u2066\x9b31m\udc80\U000e0041"


def test_each_character_is_shown_as_its_escape() -> None:
    assert visible(HOSTILE) == SHOWN


def test_what_people_write_stays() -> None:
    text = "你好，世界！\tcafé 👩\u200d👩\u200d👧 नमस्ते مرحبا \u200b\n"
    assert visible(text) == text


def test_no_control_and_no_bidirectional_character_is_left() -> None:
    for code in range(sys.maxunicode + 1):
        character = chr(code)
        is_control = unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp")
        turns = unicodedata.bidirectional(character) in (
            "LRE",
            "RLE",
            "LRO",
            "RLO",
            "PDF",
            "LRI",
            "RLI",
            "FSI",
            "PDI",
        )
        if (is_control or turns) and character not in "\t\n":
            assert visible(character) != character, hex(code)


def test_an_error_names_a_hostile_file_harmlessly(capsys: pytest.CaptureFixture[str]) -> None:
    error = DataError(Problem("the file is not there", HOSTILE, "a file", f"rm {HOSTILE}"))
    print_problems(error.problems)
    assert capsys.readouterr().err.count(SHOWN) == 2
    assert SHOWN in str(error)


def test_a_cell_of_the_report_is_harmless() -> None:
    assert cell("a\x1b[2Jb\u202e") == r"a\\x1b\[2Jb\\u202e"


@pytest.mark.parametrize("terminal", [True, False])
def test_what_a_run_shows_is_harmless(terminal: bool) -> None:
    file = io.StringIO()
    console = Console(file=file, width=200, force_terminal=terminal, _environ={})
    console.push_render_hook(Harmless())
    with run_console(console) as listen:
        listen({"event": "stage", "text": f"loading {HOSTILE}"})
        listen({"event": "note", "text": HOSTILE})
        listen({"event": "started", "steps": 2, "step": 0, "out": HOSTILE})
    assert SHOWN.replace(r"\x07", "") in file.getvalue(), "rich drops the bell by itself"
    assert "\x1b[2J" not in file.getvalue()
    assert "\u202e" not in file.getvalue()


def test_styles_and_movements_stay() -> None:
    file = io.StringIO()
    console = Console(file=file, force_terminal=True, color_system="standard", _environ={})
    console.push_render_hook(Harmless())
    console.print(Text("bold \x1b[2J", style="bold"))
    console.clear()
    assert file.getvalue() == "\x1b[1mbold \\x1b[2J\x1b[0m\n\x1b[2J\x1b[H"
