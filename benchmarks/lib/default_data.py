"""The five data sets that `defaults.py` measures on: short English rows of five kinds."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

from .environments import HERE

EXAMPLES = HERE.parent / "examples"

Rows = list[dict[str, Any]]

TASKS = ("identity", "medicine", "alpaca", "style", "routing")
"""Their names, in the table's order."""

ALPACA_ROWS = 100
LONGEST_ALPACA = 400
"""Characters of a row."""
MEDICINE_ROWS, ROUTED_ROWS = 60, 96
"""As few, so that a run takes a minute or two."""

MESSAGES = {
    "billing": (
        "I was charged twice for {thing}",
        "the invoice for {thing} shows the wrong amount",
        "my card was declined when I paid for {thing}",
        "where do I find the receipt for {thing}",
        "the discount on {thing} is missing from my bill",
    ),
    "delivery": (
        "{thing} has not arrived yet",
        "the parcel with {thing} went to my old address",
        "the tracking page says nothing about {thing}",
        "can {thing} be brought on {day} instead",
        "the driver left {thing} in the rain",
    ),
    "returns": (
        "{thing} is not what I ordered",
        "I want my money back for {thing}",
        "{thing} does not fit and I would like to exchange it",
        "how do I send {thing} back",
        "I changed my mind about {thing}",
    ),
    "technical": (
        "{thing} does not switch on",
        "{thing} stopped working on {day}",
        "the app cannot find {thing}",
        "{thing} makes a strange noise",
        "the update broke {thing}",
    ),
}
"""What customers write, by the team that answers it."""
THINGS = (
    "the lamp",
    "the blue kettle",
    "my headphones",
    "the garden chair",
    "order 4471",
    "the coffee machine",
    "the keyboard",
    "a winter coat",
    "the second speaker",
    "the toy train",
    "my new router",
    "the watch",
)
DAYS = ("Monday", "Tuesday", "Thursday", "Friday", "Saturday")
OPENINGS = ("Hello, ", "Hi there, ", "Good morning, ", "", "", "Listen, ")
CLOSINGS = (".", ". Please help.", ". Thank you.", ". This is urgent!", ". Who can help me?")
MISROUTED = 0.08
"""The share of messages that went to another team than their text says, as in real mail: no model can know these, so
that the held-out loss does not fall towards 0, where ratios mean nothing."""


def rows_of(task: str, alpaca: Path | None) -> Rows:
    """Return the rows of one task; those of Alpaca come from a file of the caller's."""
    if task == "identity":
        return _filled(_read(EXAMPLES / "identity_en.json"))
    if task == "medicine":
        return _read(EXAMPLES / "tcm_en.json")[:MEDICINE_ROWS]
    if task == "style":
        return _read(HERE / "sailor_en.json")
    if task == "routing":
        return routed()
    if alpaca is None:
        raise SystemExit("the task alpaca needs --alpaca FILE: rows with instruction, input and output")
    return [row for row in _read(alpaca) if len("".join(row.values())) <= LONGEST_ALPACA][:ALPACA_ROWS]


def routed() -> Rows:
    """Return messages to a shop, each with the team that answers it; the same ones at every call."""
    draw = random.Random(7)
    rows = []
    while len(rows) < ROUTED_ROWS:
        team = draw.choice(list(MESSAGES))
        text = draw.choice(MESSAGES[team]).format(thing=draw.choice(THINGS), day=draw.choice(DAYS))
        opening = draw.choice(OPENINGS)
        message = opening + (text if opening else text[0].upper() + text[1:]) + draw.choice(CLOSINGS)
        answered_by = draw.choice(list(MESSAGES)) if draw.random() < MISROUTED else team
        row = {"instruction": "Which team answers this message?", "input": message, "output": answered_by}
        if message not in {known["input"] for known in rows}:
            rows.append(row)
    return rows


def _filled(rows: Rows) -> Rows:
    """Return rows with the names that the sample of identities leaves open."""
    text = json.dumps(rows).replace("{{name}}", "Xiaowei").replace("{{author}}", "the weitiao team")
    return list(json.loads(text))


def _read(path: Path) -> Rows:
    return list(json.loads(path.read_text(encoding="utf-8")))
