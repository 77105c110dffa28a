"""The loss curve as a small SVG file, written by hand: no plotting library is needed to look at a run."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

Point = tuple[int, float]
"""(step, loss)"""

WIDTH, HEIGHT = 640, 260
LEFT, RIGHT, TOP, BOTTOM = 56, 16, 16, 36
TRAIN_COLOUR, HELD_OUT_COLOUR = "#2563eb", "#ea580c"


def curve_svg(losses: Sequence[Point], held_out: Sequence[Point], labels: tuple[str, str, str]) -> str:
    """Return an SVG: the training loss as a line, the held-out loss as dots, what is not finite left out.

    `labels` name the line, the dots and the horizontal axis.
    """
    losses, held_out = _finite(losses), _finite(held_out)
    points = [*losses, *held_out]
    if not points:
        return _document([])
    x, y = _scale_x(points), _scale_y(points)
    line = " ".join(f"{x(step):.1f},{y(loss):.1f}" for step, loss in losses)
    parts = [*_axes(points, y, labels[2]), _legend(labels)]
    parts.append(f'<polyline points="{line}" fill="none" stroke="{TRAIN_COLOUR}" stroke-width="1.5"/>')
    parts += [
        f'<circle cx="{x(step):.1f}" cy="{y(loss):.1f}" r="4" fill="{HELD_OUT_COLOUR}"/>'
        for step, loss in held_out
    ]
    return _document(parts)


def _finite(points: Sequence[Point]) -> list[Point]:
    return [(step, loss) for step, loss in points if math.isfinite(loss)]


def _scale_x(points: Sequence[Point]) -> Callable[[float], float]:
    first, last = min(step for step, _ in points), max(step for step, _ in points)
    return lambda step: LEFT + (WIDTH - LEFT - RIGHT) * (step - first) / ((last - first) or 1)


def _scale_y(points: Sequence[Point]) -> Callable[[float], float]:
    highest = max(loss for _, loss in points) or 1.0
    return lambda loss: HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * loss / highest


def _axes(points: Sequence[Point], y: Callable[[float], float], axis_label: str) -> list[str]:
    """Return grid lines at zero, half and all of the highest loss, and the first and last step."""
    highest = max(loss for _, loss in points) or 1.0
    first, last = min(step for step, _ in points), max(step for step, _ in points)
    parts = []
    for loss in (0.0, highest / 2, highest):
        at = y(loss)
        parts.append(f'<line x1="{LEFT}" y1="{at:.1f}" x2="{WIDTH - RIGHT}" y2="{at:.1f}" stroke="#d4d4d8"/>')
        parts.append(_text(LEFT - 8, at + 4, f"{loss:.3g}", "end"))
    bottom = HEIGHT - BOTTOM + 18
    parts.append(_text(LEFT, bottom, str(first), "start"))
    parts.append(_text((LEFT + WIDTH - RIGHT) / 2, bottom, axis_label, "middle"))
    parts.append(_text(WIDTH - RIGHT, bottom, str(last), "end"))
    return parts


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
