"""The loss curve as a small SVG file, written without a plotting library."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ..core.events import Event
from ..core.units import significant

Point = tuple[int, float]
"""(step, loss)"""

WIDTH, HEIGHT = 640, 260
LEFT, RIGHT, TOP, BOTTOM = 56, 16, 16, 36
TRAIN_COLOUR, HELD_OUT_COLOUR = "#2563eb", "#ea580c"
LOSS_MARKS, STEP_MARKS = 5, 8
"""Approximate number of marks on each axis."""
ROUND = (1, 2, 2.5, 5, 10)
ROUND_STEPS = (1, 2, 5, 10)
"""Allowed distances between two marks, times a power of ten."""


def held_out_points(events: Iterable[Event]) -> list[Point]:
    """Return the held-out loss by step, from the events of a run: step 0 is the model before training.

    Non-finite losses become NaN.
    """
    points: dict[int, float] = {}
    for event in events:
        if event["event"] == "before" and event["held_out"]:
            points[0] = _number(event["held_out"]["loss"])
        elif event["event"] == "evaluated":
            points[event["step"]] = _number(event["loss"])
    return sorted(points.items())


def _number(value: object) -> float:
    """Return a number from an event; NaN for non-finite ones, which events store as text."""
    return float(value) if isinstance(value, float | int) else math.nan


@dataclass(frozen=True)
class Axis:
    """Maps a range of numbers to pixels, with marks at round numbers."""

    low: float
    high: float
    start: float
    """Pixel of the lowest number."""
    end: float
    """Pixel of the highest number."""
    marks: tuple[float, ...]

    def __call__(self, value: float) -> float:
        """Return the pixel of a number."""
        return self.start + (self.end - self.start) * (value - self.low) / (self.high - self.low)


def loss_axis(losses: Sequence[float]) -> Axis:
    """Return the vertical axis: from zero (or a negative loss) to the first mark at or above all losses."""
    marks = round_marks(min(0.0, *losses), max(losses), LOSS_MARKS)
    return Axis(marks[0], marks[-1], HEIGHT - BOTTOM, TOP, marks)


def step_axis(steps: Sequence[int]) -> Axis:
    """Return the horizontal axis: from step 0 to the last step, with marks between."""
    last = max(1, *steps)
    marks = tuple(mark for mark in round_marks(0, last, STEP_MARKS, ROUND_STEPS) if mark <= last)
    return Axis(0, last, LEFT, WIDTH - RIGHT, marks)


def round_marks(low: float, high: float, count: int, rounds: Sequence[float] = ROUND) -> tuple[float, ...]:
    """Return about `count` (at least two) equally spaced round numbers that enclose low to high."""
    span = (high - low) or abs(high) or 1.0
    power = 10.0 ** math.floor(math.log10(span / count))
    distance = next(power * factor for factor in rounds if power * factor * count >= span * (1 - 1e-9))
    if rounds is ROUND_STEPS:
        distance = max(1.0, distance)
    first, last = math.floor(low / distance + 1e-9), math.ceil(high / distance - 1e-9)
    return tuple(n * distance for n in range(first, max(last, first + 1) + 1))


def curve_svg(losses: Sequence[Point], held_out: Sequence[Point], labels: tuple[str, str, str]) -> str:
    """Return an SVG: training loss as a line, held-out loss as dots; non-finite values are left out.

    `labels` name the line, the dots and the horizontal axis.
    """
    losses, held_out = _finite(losses), _finite(held_out)
    points = [*losses, *held_out]
    if not points:
        return _document([])
    steps, values = [step for step, _ in points], [loss for _, loss in points]
    x, y = step_axis(steps), loss_axis(values)
    line = " ".join(f"{x(step):.1f},{y(loss):.1f}" for step, loss in losses)
    parts = [*_loss_marks(y), *_step_marks(x, labels[2]), _legend(labels)]
    parts.append(f'<polyline points="{line}" fill="none" stroke="{TRAIN_COLOUR}" stroke-width="1.5"/>')
    parts += [
        _dot(x(step), y(loss), f"{labels[2]} {step}: {significant(loss, 4)}") for step, loss in held_out
    ]
    return _document(parts)


def _finite(points: Sequence[Point]) -> list[Point]:
    return [(step, loss) for step, loss in points if math.isfinite(loss)]


def _dot(x: float, y: float, title: str) -> str:
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{HELD_OUT_COLOUR}"><title>{title}</title></circle>'


def _loss_marks(y: Axis) -> list[str]:
    """Return a grid line at each mark, with its loss."""
    parts = []
    for loss in y.marks:
        at = y(loss)
        parts.append(f'<line x1="{LEFT}" y1="{at:.1f}" x2="{WIDTH - RIGHT}" y2="{at:.1f}" stroke="#d4d4d8"/>')
        parts.append(_text(LEFT - 8, at + 4, significant(loss), "end"))
    return parts


def _step_marks(x: Axis, label: str) -> list[str]:
    """Return the steps at the marks; the last one includes the label."""
    texts = [f"{round(step):,}" for step in x.marks]
    texts[-1] = f"{label} {texts[-1]}"
    return [
        _text(x(mark), HEIGHT - BOTTOM + 18, text, "end" if mark == x.high else "middle")
        for mark, text in zip(x.marks, texts, strict=True)
    ]


def _legend(labels: tuple[str, str, str]) -> str:
    train = f'<tspan fill="{TRAIN_COLOUR}">— {labels[0]}</tspan>'
    held_out = f'<tspan fill="{HELD_OUT_COLOUR}" dx="14">● {labels[1]}</tspan>'
    return f'<text x="{WIDTH - RIGHT}" y="{TOP + 14}" text-anchor="end">{train}{held_out}</text>'


def _text(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="#52525b">{text}</text>'


def _document(parts: Sequence[str]) -> str:
    size = f'width="{WIDTH}" height="{HEIGHT}" viewBox="0 0 {WIDTH} {HEIGHT}"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif" font-size="12">'
    return "\n".join([head, f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>', *parts, "</svg>", ""])
