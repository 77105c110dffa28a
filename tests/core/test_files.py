"""Files appear whole or not at all; settings round-trip; events survive a torn line; a lock dies with its process."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

import pytest
from pydantic import Field
from transformers import PreTrainedTokenizerFast

from interrupting import ctrl_c_everywhere
from weitiao.core.errors import (
    EXIT_CODES,
    Interrupted,
    Problem,
    ResourceError,
    RunFolderError,
    SettingsError,
    Terminated,
    WeitiaoError,
    nearest,
    raise_all,
    unknown_name,
)
from weitiao.core.events import EventLog, read_events, steps_that_count
from weitiao.core.files import saving, staged_folder, write_atomic, write_json
from weitiao.core.registry import Registry
from weitiao.core.run_folder import RunFolder
from weitiao.core.settings import Settings, check_settings, merge, parse_overrides, parse_settings, to_yaml
from weitiao.core.units import (
    readable_bytes,
    readable_change,
    readable_count,
    readable_loss,
    readable_rate,
    readable_seconds,
    readable_share,
    significant,
)


def test_a_write_that_fails_leaves_the_old_content(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_json(path, {"a": 1})
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(path, {"a": float("nan")})
    assert json.loads(path.read_text()) == {"a": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]


def names_in(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def test_ctrl_c_at_any_moment_of_a_write_leaves_nothing_beside(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_json(path, {"a": 1})
    stops = 0
    for _ in ctrl_c_everywhere(tmp_path, lambda: write_json(path, {"a": 2})):
        stops += 1
        assert json.loads(path.read_text()) in ({"a": 1}, {"a": 2})
        assert names_in(tmp_path) == {"a.json"}
    assert stops >= 3
    assert json.loads(path.read_text()) == {"a": 2}


def test_ctrl_c_at_any_moment_of_a_staged_folder_leaves_all_of_it_or_nothing(tmp_path: Path) -> None:
    def fill() -> None:
        with staged_folder(tmp_path / "made") as staging:
            (staging / "inner").mkdir()
            write_atomic(staging / "inner" / "a.txt", "a")

    whole, stops = {"made", "made/inner", "made/inner/a.txt"}, 0
    for _ in ctrl_c_everywhere(tmp_path, fill):
        stops += 1
        assert names_in(tmp_path) in (set(), whole)
        shutil.rmtree(tmp_path / "made", ignore_errors=True)
    assert stops >= 5
    assert names_in(tmp_path) == whole


DYING = """
import os, sys
from pathlib import Path
from weitiao.core.files import write_atomic
left = [int(sys.argv[2])]
def hook(event, arguments):
    if event in ("open", "os.rename") and sys.argv[1] in str(arguments[0]):
        left[0] -= 1
        if left[0] == 0:
            os._exit(77)
sys.addaudithook(hook)
write_atomic(Path(sys.argv[1]) / "a.txt", "new")
"""


def test_dying_inside_a_write_leaves_the_old_or_the_new(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    seen = set()
    for operation in range(1, 10):
        path.write_text("old")
        done = subprocess.run([sys.executable, "-c", DYING, str(tmp_path), str(operation)], check=False)
        seen.add(path.read_text())
        if done.returncode == 0:
            break
        assert done.returncode == 77
    assert seen == {"old", "new"}


def test_a_staged_folder_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), staged_folder(tmp_path / "a") as staging:
        (staging / "half").write_text("x")
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []
    with staged_folder(tmp_path / "a") as staging:
        (staging / "whole").write_text("x")
        assert not (tmp_path / "a").exists()
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["whole"]


STAGING = """
import sys
from pathlib import Path
from weitiao.core.files import staged_folder
print("ready", flush=True)
sys.stdin.readline()
for turn in range(30):
    try:
        with staged_folder(Path(sys.argv[1]) / f"f{turn}") as staging:
            for part in range(5):
                (staging / str(part)).write_text("x")
    except FileExistsError:
        pass
    except OSError as error:
        if error.strerror != "Directory not empty":
            raise
"""


def test_many_processes_may_fill_one_folder_and_none_takes_anothers_away(tmp_path: Path) -> None:
    command = [sys.executable, "-c", STAGING, str(tmp_path)]
    pipe = subprocess.PIPE
    started = [subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True) for _ in range(6)]
    for one in started:
        assert one.stdout is not None
        assert one.stdout.readline() == "ready\n"
    for one in started:
        assert one.stdin is not None
        one.stdin.write("go\n")
        one.stdin.flush()
    assert [one.communicate(timeout=240)[1] for one in started] == [""] * len(started)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(f"f{turn}" for turn in range(30))
    assert all(len(list(folder.iterdir())) == 5 for folder in tmp_path.iterdir())


def test_what_a_killed_process_left_goes_and_what_a_living_one_fills_stays(tmp_path: Path) -> None:
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    left, living = tmp_path / f".a.{dead.pid}-x.part", tmp_path / f".a.{os.getpid()}-y.part"
    left.mkdir()
    living.mkdir()
    with staged_folder(tmp_path / "a"):
        assert not left.exists()
        assert living.exists()
    left, living = tmp_path / f".b.{dead.pid}.part", tmp_path / f".b.{os.getppid()}.part"
    left.write_text("half")
    living.write_text("half")
    write_atomic(tmp_path / "b", "whole")
    assert not left.exists()
    assert living.exists()


def test_events_are_read_back_and_numbers_that_are_not_finite_by_name(tmp_path: Path) -> None:
    heard: list[dict[str, object]] = []
    log = EventLog(tmp_path / "events.jsonl", (heard.append,))
    log.emit("step", step=1, loss=float("nan"), nested={"a": [float("inf"), 1.5]}, text="微调")
    log.close()
    (event,) = read_events(tmp_path / "events.jsonl")
    assert (event["loss"], event["nested"], event["text"]) == ("nan", {"a": ["inf", 1.5]}, "微调")
    assert heard[0]["step"] == 1


@pytest.mark.parametrize("cut", [1, 2, 20, 30])
def test_a_torn_last_line_is_ended_and_passed_over(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "events.jsonl"
    for number in (1, 2):
        log = EventLog(path)
        log.emit("step", step=number, text="微调")
        log.close()
    path.write_bytes(path.read_bytes()[:-cut])
    log = EventLog(path)
    log.emit("step", step=3)
    log.close()
    assert [event["step"] for event in read_events(path)] == ([1, 2, 3] if cut == 1 else [1, 3])
    assert list(read_events(tmp_path / "none.jsonl")) == []


def test_steps_after_a_resume_replace_those_they_repeat() -> None:
    told = [
        ("step", 1, "a"),
        ("step", 2, "a"),
        ("step", 3, "a"),
        ("resumed", 1, ""),
        ("step", 2, "b"),
        ("note", 0, ""),
    ]
    events = [{"event": kind, "step": step, "from": source} for kind, step, source in told]
    assert [(e["step"], e["from"]) for e in steps_that_count(iter(events))] == [(1, "a"), (2, "b")]


class Inner(Settings):
    """Inner settings."""

    known_elsewhere: ClassVar[Mapping[str, str]] = {"lora_r": "rank"}

    rank: int = Field(default=8, ge=1)
    """The rank."""


class Outer(Settings):
    """Outer settings."""

    name: str
    """The name."""
    inner: Inner = Inner()
    """What lies inside."""
    share: float = 0.5
    """A share."""


def test_all_problems_at_once_with_the_place_the_value_and_what_to_try() -> None:
    settings, problems = check_settings(
        Outer, {"inner": {"lora_r": 4, "rank": 0, "rnk": 1}, "share": "x"}, "block"
    )
    assert settings is None
    by_what = {problem.what.split(" cannot")[0]: problem for problem in problems}
    assert set(by_what) == {
        "block.name is missing",
        "there is no setting block.inner.lora_r",
        "there is no setting block.inner.rnk",
        "block.inner.rank",
        "block.share",
    }
    assert by_what["there is no setting block.inner.lora_r"].remedy == "block.inner.rank=4"
    assert by_what["there is no setting block.inner.rnk"].remedy == "block.inner.rank=1"
    assert by_what["block.inner.rank"].expected == "The rank."
    assert by_what["block.share"].got == "block.share: 'x'"


def test_settings_are_frozen_and_written_as_yaml() -> None:
    settings = parse_settings(Outer, {"name": "微调", "share": 1e-5})
    with pytest.raises(ValueError, match="frozen"):
        settings.share = 1.0  # type: ignore[misc]
    assert "name: 微调" in to_yaml(settings)
    with pytest.raises(SettingsError):
        parse_settings(Outer, {})


def test_overrides_and_merging() -> None:
    assert parse_overrides(["a.b=1e-5", "a.c=[1,2]", "d=text", "e=null", "f=x=y"]) == {
        "a": {"b": 1e-5, "c": [1, 2]},
        "d": "text",
        "e": None,
        "f": "x=y",
    }
    assert merge({"a": {"b": 1, "c": 2}, "d": 3}, {"a": {"b": 9}, "d": {"e": 1}}) == {
        "a": {"b": 9, "c": 2},
        "d": {"e": 1},
    }
    with pytest.raises(SettingsError) as caught:
        parse_overrides(["--train.lr=1", "noequals"])
    assert [problem.remedy for problem in caught.value.problems] == ["train.lr=1", "noequals=VALUE"]


def test_errors_carry_all_problems_and_a_documented_exit_code() -> None:
    raise_all(WeitiaoError, [])
    with pytest.raises(RunFolderError) as caught:
        raise_all(RunFolderError, [Problem("a", "b", "c", "d"), Problem("second")])
    assert str(caught.value) == "a\n  got       b\n  expected  c\n  try       d\n\nsecond"
    codes = {cls.exit_code for cls in WeitiaoError.__subclasses__()}
    assert codes | {0, 1, 130, 143} == set(EXIT_CODES)
    assert len(codes) == len(WeitiaoError.__subclasses__())
    assert [cls.exit_code for cls in (Interrupted, Terminated)] == [130, 143]
    assert nearest("Lroa", ["lora", "full"]) == ["lora"]
    assert unknown_name("method", "xyz", ["b", "a"], "weitiao methods").remedy == "weitiao methods"


def test_a_registry_lists_files_and_loads_the_one_class(tmp_path: Path) -> None:
    objectives: Registry[object] = Registry(
        "weitiao.objectives", "weitiao.objectives._base:Objective", "objective"
    )
    assert "sft" in objectives.names()
    assert not any(name.startswith("_") for name in objectives.names())
    assert objectives.load("sft").__name__ == "SupervisedFineTuning"
    with pytest.raises(SettingsError, match="no objective called 'stf'"):
        objectives.load("stf")
    with pytest.raises(SettingsError):
        objectives.load("_base")


def test_a_run_folder_and_its_states(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    folder.require_new()
    assert not folder.root.exists(), "asking writes nothing"
    for require in (folder.require_run, folder.require_result):
        with pytest.raises(RunFolderError, match="holds no run"):
            require()
    with folder.locked():
        folder.require_new()
        write_atomic(folder.run_yaml, "model: a\n")
    with pytest.raises(RunFolderError, match="--resume"):
        folder.require_new()
    with pytest.raises(RunFolderError, match="no result yet"):
        folder.require_result()
    folder.adapter.mkdir()
    folder.require_result()
    (tmp_path / "file").write_text("x")
    with pytest.raises(RunFolderError, match="is a file"):
        RunFolder(tmp_path / "file").require_new()


@pytest.mark.parametrize("before", ["nothing", "a folder", "a file"])
def test_a_folder_that_was_only_locked_is_left_as_it_was(before: str, tmp_path: Path) -> None:
    root = tmp_path / "runs" / "deep" / "run"
    if before != "nothing":
        root.mkdir(parents=True)
    if before == "a file":
        (root / "mine.txt").write_text("mine")
    was = sorted(tmp_path.rglob("*"))
    with pytest.raises(ValueError, match="refused"), RunFolder(root).locked():
        assert (root / ".lock").exists()
        raise ValueError("refused")
    assert sorted(path for path in tmp_path.rglob("*") if before != "a file" or path.name != ".lock") == was


def test_what_was_begun_under_a_lock_stays(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "runs" / "run")
    with pytest.raises(ValueError, match="stopped"), folder.locked():
        write_atomic(folder.run_yaml, "model: a\n")
        raise ValueError("stopped")
    assert folder.run_yaml.is_file()


HOLD = """
import sys, time
from pathlib import Path
from weitiao.core.errors import RunFolderError
from weitiao.core.run_folder import RunFolder

root, held = Path(sys.argv[1]), Path(sys.argv[2])
for turn in range(150):
    try:
        with RunFolder(root).locked():
            held.open("x").close()  # two at once: FileExistsError
            held.unlink()
    except RunFolderError as error:
        assert "another process" in str(error), error
"""


def test_a_lock_that_is_taken_away_is_never_held_twice(tmp_path: Path) -> None:
    command = [sys.executable, "-c", HOLD, str(tmp_path / "runs" / "run"), str(tmp_path / "held")]
    several = [subprocess.Popen(command, stderr=subprocess.PIPE, env={**os.environ}) for _ in range(4)]
    assert [process.communicate()[1].decode()[-300:] for process in several] == [""] * 4
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_a_full_disk_is_said_whichever_library_finds_it(
    chatml_tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    """tokenizers raises a bare `Exception`, safetensors an error of its own, Python an OSError without a file."""
    with pytest.raises(Exception, match=r"os error 28") as bare:
        chatml_tokenizer.backend_tokenizer.save("/dev/full")
    assert type(bare.value) is Exception
    for error in (bare.value, OSError(errno.ENOSPC, "No space left on device")):
        with (
            pytest.raises(ResourceError, match=rf"disk is full(.|\n)*{tmp_path}, step 3"),
            saving(tmp_path, 3),
        ):
            raise error
    with pytest.raises(ResourceError, match=r"disk is full(.|\n)*/dev/full"):
        EventLog(Path("/dev/full")).emit("note", text="a")


def test_what_no_file_system_said_passes_through_as_it_is(tmp_path: Path) -> None:
    for error in (Exception("no number"), ValueError("x (os error 28)"), KeyboardInterrupt()):
        with pytest.raises(type(error)) as raised, saving(tmp_path):
            raise error
        assert raised.value is error


def test_core_imports_no_torch() -> None:
    modules = sorted(path.stem for path in Path(str(sys.modules["weitiao.core"].__path__[0])).glob("*.py"))
    script = f"import sys\nfor m in {modules!r}: __import__('weitiao.core.' + m)\nassert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", script], check=True, env={**os.environ})


def test_numbers_as_people_read_them() -> None:
    assert [readable_bytes(n) for n in (512, 1536, 3 << 30, 5 << 40)] == [
        "512 B",
        "1.5 KiB",
        "3.0 GiB",
        "5.0 TiB",
    ]
    assert [readable_count(n) for n in (999, 4_194_304, 6_742_609_920)] == ["999", "4.19M", "6.74B"]
    assert [readable_seconds(n) for n in (0, 75, 4000)] == ["0:00", "1:15", "1:06:40"]
    assert readable_share(1, 8) == "12.5%"
    assert readable_share(1, 0) == "0%"
    assert [readable_share(n, 1_000_000) for n in (3, 999_600, 3414)] == ["0.0003%", "100%", "0.341%"]


def test_numbers_have_the_digits_they_deserve() -> None:
    numbers = [significant(n) for n in (20.0855, 0.000333, 9.996, 1_234_567, -1.4, 0, 1e-9, float("nan"))]
    assert numbers == ["20.1", "0.000333", "10", "1,230,000", "-1.4", "0", "1e-09", "nan"]
    losses = [readable_loss(n) for n in (4.24767, 0.0004321, 0.0, float("inf"))]
    assert losses == ["4.248", "0.00043", "0.000", "inf"]
    rates = [readable_rate(n) for n in (2e-4, 1.5e-5, 0.03, 1.0, 0.0)]
    assert rates == ["2e-4", "1.5e-5", "0.03", "1", "0"]
    changes = [readable_change(4, n) for n in (3, 4.0002, 6, 4, float("nan"))]
    assert changes == ["-25%", "+0.005%", "+50%", "0%", ""]
    assert readable_change(0, 1) == ""


def test_what_is_no_event_is_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    lines = [
        "[]",
        "1",
        "null",
        '{"event": 5}',
        "{}",
        "[" * 100_000,
        '{"event": "step", "step": 1}',
        "\0",
        "{",
    ]
    path.write_text("\n".join(lines))
    assert list(read_events(path)) == [{"event": "step", "step": 1}]


@pytest.mark.parametrize("what", ["a folder", "a link to a file of somebody else's", "a link to nothing"])
def test_a_lock_that_is_no_file_is_refused_in_words(what: str, tmp_path: Path) -> None:
    root, elsewhere = tmp_path / "run", tmp_path / "elsewhere"
    root.mkdir()
    if what == "a folder":
        (root / ".lock").mkdir()
    else:
        (root / ".lock").symlink_to(elsewhere)
    if what.endswith("else's"):
        elsewhere.write_text("theirs")
    with pytest.raises(RunFolderError, match="lock cannot be taken"), RunFolder(root).locked():
        pass
    assert not elsewhere.exists() or elsewhere.read_text() == "theirs"
