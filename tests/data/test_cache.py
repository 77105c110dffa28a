"""The second run reads nothing, whatever changes makes it anew, and a damaged entry is never used."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from transformers import GenerationConfig, PreTrainedTokenizerBase, PreTrainedTokenizerFast

import tiny
from interrupting import ctrl_c_everywhere
from weitiao.data.dataset import load_data, prepared
from weitiao.data.gate import cache
from weitiao.data.gate.cache import (
    CONTENT_FILE,
    LEFT_SECONDS,
    MAKING,
    cached_or_made,
    code_version,
    entry_name,
)
from weitiao.data.gate.gate import Gate, open_data
from weitiao.data.settings import DataSettings


@pytest.fixture(autouse=True)
def home(tmp_path: Path) -> Any:  # noqa: ANN401
    """Give each test a cache of its own."""
    before = os.environ["WEITIAO_HOME"]
    os.environ["WEITIAO_HOME"] = str(tmp_path / "home")
    yield tmp_path / "home" / "data"
    os.environ["WEITIAO_HOME"] = before


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return write(tmp_path / "rows.jsonl", 40)


def write(path: Path, count: int, answer: str = "an answer") -> Path:
    rows = [{"instruction": f"question {n}", "output": f"{answer} {n}"} for n in range(count)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def look(path: Path, own: PreTrainedTokenizerBase | None = None, seed: int = 0, **settings: Any) -> Gate:  # noqa: ANN401
    """Bring a file through the gate."""
    return open_data(DataSettings(sources=[path], **settings), own or tiny.make_tokenizer(), seed)


class Counting(PreTrainedTokenizerFast):
    """Counts its calls, which come from the encoder's own probes and from rows."""

    calls = 0

    def __call__(self, *arguments: Any, **more: Any) -> Any:  # noqa: ANN401
        Counting.calls += 1
        return super().__call__(*arguments, **more)


def test_the_second_run_gives_the_same_and_works_on_no_row(file: Path) -> None:
    worked: list[int] = []
    settings = DataSettings(sources=[file])
    first, second = (open_data(settings, tiny.make_tokenizer(), 0, None, worked.append) for _ in range(2))
    assert (first.from_cache, second.from_cache) == (False, True)
    assert worked == [40]
    assert first.as_dict() == second.as_dict()
    assert prepared(first).fingerprint == prepared(second).fingerprint
    assert list(prepared(first).train) == list(prepared(second).train)
    assert prepared(first).held_out_conversations == prepared(second).held_out_conversations


def test_the_second_run_encodes_nothing(file: Path) -> None:
    def calls() -> int:
        own = tiny.make_tokenizer()
        made = Counting(
            tokenizer_object=own.backend_tokenizer, eos_token="<|im_end|>", pad_token="<|im_end|>"
        )
        # What others set on a tokenizer keeps the encoder from its backend, so that each batch is a call.
        made.backend_tokenizer.encode_special_tokens = True
        made.chat_template = own.chat_template
        before = Counting.calls
        load_data(DataSettings(sources=[file]), made)
        return Counting.calls - before

    first, second, third = calls(), calls(), calls()
    assert second == third < first


def test_another_process_finds_it(file: Path) -> None:
    look(file)
    code = "import sys, tiny; from weitiao.data.gate.gate import open_data; "
    code += "from weitiao.data.settings import DataSettings; "
    code += "print(open_data(DataSettings(sources=[sys.argv[1]]), tiny.make_tokenizer()).from_cache)"
    around = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "PYTHONHASHSEED": "7"}
    found = subprocess.run(
        [sys.executable, "-c", code, str(file)], env=around, capture_output=True, text=True
    )
    assert found.stdout.strip() == "True", found.stderr


def _other_token(own: PreTrainedTokenizerFast) -> PreTrainedTokenizerFast:
    own.add_tokens(["answer"])
    return own


def _other_template(own: PreTrainedTokenizerFast) -> PreTrainedTokenizerFast:
    own.chat_template = str(own.chat_template).replace("+ '\n' }}{% endfor %}", "}}{% endfor %}")
    return own


def _other_special(own: PreTrainedTokenizerFast) -> PreTrainedTokenizerFast:
    own.pad_token = "<|im_start|>"
    return own


CHANGES: dict[str, Callable[[Path], Gate]] = {
    "a row": lambda path: look(write(path, 40, "another")),
    "a row more": lambda path: look(write(path, 41)),
    "a setting": lambda path: look(path, max_length=99),
    "the share held out": lambda path: look(path, held_out=3),
    "the masks": lambda path: look(path, train_on="all"),
    "a column": lambda path: look(path, columns={"instruction": "output", "output": "instruction"}),
    "the seed": lambda path: look(path, seed=1),
    "the template": lambda path: look(path, template="instruction"),
    "the chat template": lambda path: look(path, _other_template(tiny.make_tokenizer())),
    "the tokenizer": lambda path: look(path, tiny.make_tokenizer(380)),
    "a token": lambda path: look(path, _other_token(tiny.make_tokenizer())),
    "a special token": lambda path: look(path, _other_special(tiny.make_tokenizer())),
    "no tokenizer": lambda path: open_data(DataSettings(sources=[path])),
    "the stop tokens": lambda path: open_data(
        DataSettings(sources=[path]), tiny.make_tokenizer(), 0, GenerationConfig(eos_token_id=[0, 1])
    ),
    "the held-out file": lambda path: look(path, held_out_path=write(path.with_name("held.jsonl"), 3)),
    "the source's weight": lambda path: open_data(
        DataSettings(sources=[{"path": str(path), "weight": 2}]), tiny.make_tokenizer()
    ),
    "the file's name": lambda path: look(path.rename(path.with_name("other.jsonl"))),
}


@pytest.mark.parametrize("what", CHANGES)
def test_whatever_changes_makes_it_anew(what: str, file: Path) -> None:
    assert not look(file).from_cache
    assert look(file).from_cache
    assert not CHANGES[what](file).from_cache


def test_another_held_out_content_makes_it_anew(file: Path, tmp_path: Path) -> None:
    held = write(tmp_path / "held.jsonl", 3)
    look(file, held_out_path=held)
    assert look(file, held_out_path=held).from_cache
    assert not look(file, held_out_path=write(held, 4)).from_cache


DATED = "{{ strftime_now('%d %b %Y') }}\n" + tiny.CHATML


@pytest.mark.parametrize("chat_template", [DATED, tiny.CHATML])
def test_a_date_that_the_template_writes_decides_and_no_other_does(file: Path, chat_template: str) -> None:
    def on(day: date) -> Gate:
        own = tiny.make_tokenizer(chat_template=chat_template)
        return open_data(DataSettings(sources=[file]), own, day=day)

    first, later = date(2026, 1, 2), date(2026, 3, 4)
    assert not on(first).from_cache
    assert on(first).from_cache
    writes_date = chat_template == DATED
    assert on(later).from_cache != writes_date
    text = tiny.make_tokenizer().decode(on(later).store.sequence(0).ids)
    assert ("04 Mar 2026" in text) == writes_date


def test_what_changes_no_finding_does_not(file: Path) -> None:
    look(file)
    assert look(file, accept="answers", skip_bad_rows=True).from_cache


@pytest.mark.parametrize("changed", ["data/checks/roles.py", "core/settings.py", "core/units.py"])
def test_a_change_of_the_code_makes_it_anew(changed: str, tmp_path: Path) -> None:
    package = tmp_path / "src" / "weitiao"
    shutil.copytree(Path(cache.__file__).parents[2], package, ignore=shutil.ignore_patterns("__pycache__"))

    def version() -> str:
        code = "from weitiao.data.gate.cache import code_version; print(code_version())"
        around = {**os.environ, "PYTHONPATH": str(package.parent)}
        done = subprocess.run(
            [sys.executable, "-c", code], env=around, capture_output=True, text=True, check=True
        )
        return done.stdout.strip()

    before = version()
    assert before == code_version()
    with (package / changed).open("a") as source:
        source.write("\n")
    assert version() != before


def test_rows_of_python_are_not_kept(home: Path) -> None:
    for _ in range(2):
        gate = open_data(
            DataSettings(sources=[{"instruction": "q", "output": "a"}] * 3), tiny.make_tokenizer()
        )
        assert not gate.from_cache
    del gate
    assert not any(home.iterdir())


def _flip_a_bit(path: Path) -> None:
    """Change one bit in the middle of a file, which keeps its size and, as a fault of a disk does, its time."""
    content, times = bytearray(path.read_bytes()), path.stat()
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


DAMAGE: dict[str, Callable[[Path], object]] = {
    "a flipped bit in the tokens": lambda entry: _flip_a_bit(entry / "ids.bin"),
    "a flipped bit in the findings": lambda entry: _flip_a_bit(entry / "gate.json"),
    "cut short": lambda entry: os.truncate(entry / "ids.bin", 8),
    "missing": lambda entry: (entry / "forms.jsonl").unlink(),
    "emptied": lambda entry: (entry / "gate.json").write_bytes(b""),
    "no list of hashes": lambda entry: (entry / CONTENT_FILE).unlink(),
    "half a list of hashes": lambda entry: os.truncate(entry / CONTENT_FILE, 9),
    "an empty list of hashes": lambda entry: (entry / CONTENT_FILE).write_text("{}"),
    "another list of hashes": lambda entry: (entry / CONTENT_FILE).write_text("[1]"),
    "a file": lambda entry: (shutil.rmtree(entry), entry.write_text("x")),
}


@pytest.mark.parametrize("what", DAMAGE)
def test_a_damaged_entry_is_made_anew(what: str, file: Path, home: Path) -> None:
    whole = look(file).as_dict()
    (entry,) = home.iterdir()
    DAMAGE[what](entry)
    again = look(file)
    assert not again.from_cache
    assert again.as_dict() == whole
    assert what == "a file" or look(file).from_cache


def test_a_file_that_changes_while_it_is_read_is_not_kept(file: Path, home: Path) -> None:
    def change(_: int) -> None:
        with file.open("a") as rows:
            rows.write('{"instruction": "later", "output": "x"}\n')

    open_data(DataSettings(sources=[file]), tiny.make_tokenizer(), on_rows=change)
    assert not any((entry / CONTENT_FILE).is_file() for entry in home.iterdir())
    assert look(file).tally.read == 41


def test_two_at_once_both_have_it(home: Path) -> None:
    barrier = threading.Barrier(2, timeout=240)

    def make(folder: Path) -> bool:
        (folder / "data.bin").write_bytes(b"x" * 99)
        barrier.wait()
        return True

    found: list[bytes] = []
    name = entry_name(["one"])
    both = [
        threading.Thread(
            target=lambda: found.append((cached_or_made(name, make)[0].path / "data.bin").read_bytes())
        )
        for _ in range(2)
    ]
    for one in both:
        one.start()
    for one in both:
        one.join(240)
    assert found == [b"x" * 99] * 2
    assert [entry.name for entry in home.iterdir()] == [name]


MANY_AT_ONCE = """if True:
    import sys
    from weitiao.data.gate.cache import cached_or_made

    def make(folder):
        (folder / "data.bin").write_bytes(b"x" * 99)
        return True

    print("ready", flush=True)
    sys.stdin.readline()
    for turn in range(60):
        kept, _ = cached_or_made(f"entry{turn}", make)
        if (kept.path / "data.bin").read_bytes() != b"x" * 99:
            sys.exit(f"{kept} is not what was made")
"""


def test_many_processes_that_fill_and_mend_the_same_entries_never_lose_one(home: Path) -> None:
    for turn in range(0, 60, 2):  # each second entry is there already, and damaged
        damaged = home / f"entry{turn}"
        damaged.mkdir(parents=True)
        (damaged / "data.bin").write_bytes(b"damaged")
        (damaged / CONTENT_FILE).write_text('{"data.bin": "another hash"}')
    around = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    started = [
        subprocess.Popen(
            [sys.executable, "-c", MANY_AT_ONCE],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=around,
            text=True,
        )
        for _ in range(4)
    ]
    for one in started:
        assert one.stdout is not None
        assert one.stdout.readline() == "ready\n"
    ended = []
    for one in started:  # all of them together
        assert one.stdin is not None
        one.stdin.write("go\n")
        one.stdin.flush()
    for one in started:
        _, problems = one.communicate(timeout=240)
        ended.append((one.returncode, problems))
    assert ended == [(0, "")] * len(started)
    assert sorted(entry.name for entry in home.iterdir()) == sorted(f"entry{turn}" for turn in range(60))


def must_not_be_made(folder: Path) -> bool:
    pytest.fail("what is there is not whole")


def test_ctrl_c_at_any_moment_leaves_a_whole_entry_or_nothing(home: Path) -> None:
    def make(folder: Path) -> bool:
        (folder / "a.bin").write_bytes(b"a")
        return True

    home.mkdir(parents=True)
    stops = 0
    for _ in ctrl_c_everywhere(home, lambda: cached_or_made("entry", make)):
        stops += 1
        found = [path.name for path in home.iterdir()]
        assert found in ([], ["entry"])
        assert not found or cached_or_made("entry", must_not_be_made)[1]
        shutil.rmtree(home / "entry", ignore_errors=True)
    assert stops >= 6


def test_what_killed_processes_left_goes_and_never_counts(file: Path, home: Path) -> None:
    home.mkdir(parents=True)
    old, new = home / f"{MAKING}old", home / f"{MAKING}new"
    for left in (old, new):
        left.mkdir()
        (left / "ids.bin").write_bytes(b"1")
    long_ago = time.time() - 2 * LEFT_SECONDS
    os.utime(old, (long_ago, long_ago))
    look(file)
    assert not old.exists()
    assert new.exists()


def test_a_home_that_cannot_be_written_is_done_without(file: Path, tmp_path: Path) -> None:
    (tmp_path / "home").write_text("no folder")
    for _ in range(2):
        gate = look(file)
        assert (gate.from_cache, gate.tally.read) == (False, 40)


def test_an_entry_in_a_home_that_may_only_be_read_is_used(home: Path) -> None:
    code = """if True:
        import os, sys
        from weitiao.data.gate.cache import cached_or_made
        if os.geteuid() == 0:
            os.setuid(65534)
        kept, was_there = cached_or_made("entry", lambda folder: True)
        other, _ = cached_or_made("other", lambda folder: True)
        print(was_there, (kept.path / "data.bin").read_text(), other.path.parent == kept.path.parent)
    """

    def make(folder: Path) -> bool:
        (folder / "data.bin").write_text("kept")
        return True

    cached_or_made("entry", make)
    above = [one for one in home.parents if not one.stat().st_mode & 0o001]
    modes = {one: one.stat().st_mode for one in (home, *above)}
    for one in above:
        one.chmod(modes[one] | 0o055)
    if os.geteuid() == 0:
        for one in (home / "entry", *(home / "entry").iterdir()):
            os.chown(one, 65534, -1)
    home.chmod(0o555)
    (home / "entry").chmod(0o555)
    try:
        around = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        done = subprocess.run([sys.executable, "-c", code], env=around, capture_output=True, text=True)
    finally:
        for one, mode in modes.items():
            one.chmod(mode)
    assert done.stdout.split() == ["True", "kept", "False"], done.stderr


def _half(folder: Path) -> bool:
    (folder / "data.bin").write_bytes(b"x" * 100_000)
    return True


def test_the_entry_used_longest_ago_goes_first(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "MOST_BYTES", 250_000)
    for seconds, name in ((0, "a"), (10, "b")):
        cached_or_made(name, _half)
        os.utime(home / name, (seconds, seconds + 10))
    cached_or_made("a", _half)  # now used later than b
    cached_or_made("c", _half)
    assert sorted(entry.name for entry in home.iterdir()) == ["a", "c"]


def test_what_was_just_used_stays_however_large(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "MOST_BYTES", 250_000)
    for name in ("a", "b", "c"):
        cached_or_made(name, _half)
    assert sorted(entry.name for entry in home.iterdir()) == ["a", "b", "c"]


def test_only_its_owner_may_read_an_entry(file: Path, home: Path) -> None:
    look(file)
    (entry,) = home.iterdir()
    assert {one.stat().st_mode & 0o777 for one in (home, entry)} == {0o700}
    assert {one.stat().st_mode & 0o777 for one in entry.iterdir()} == {0o600}
