"""Formatting of numbers for people: bytes, counts, seconds, shares, losses, rates."""

from __future__ import annotations

import math


def readable_bytes(size_bytes: float) -> str:
    """Write a size in binary units: 1536 -> '1.5 KiB'."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(size_bytes) < 1024:
            return f"{size_bytes:.0f} B" if unit == "B" else f"{size_bytes:.1f} {unit}"
        size_bytes /= 1024
    return f"{size_bytes:.1f} TiB"


def readable_count(count: float) -> str:
    """Write a count short: 4194304 -> '4.19M'."""
    for limit, unit in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if abs(count) >= limit:
            return f"{count / limit:.3g}{unit}"
    return f"{count:.0f}"


def readable_seconds(seconds: float) -> str:
    """Write a duration: 75 -> '1:15', 4000 -> '1:06:40'."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


LONGER_SECONDS = 3
"""Least difference at which a total is shown beside the duration of its part."""


def is_longer(whole_seconds: float, seconds: float) -> bool:
    """Return whether a total is so much longer than its part that both should be shown."""
    return whole_seconds - seconds >= LONGER_SECONDS


def readable_share(part: float, whole: float) -> str:
    """Write a share in percent with three significant digits: (1, 8) -> '12.5%', (1, 300_000) -> '0.000333%'."""
    return f"{significant(100 * part / whole)}%" if whole else "0%"


def significant(number: float, digits: int = 3) -> str:
    """Write a number with `digits` significant digits, without an exponent unless it has many zeros: 20.0855 -> '20.1'.

    Non-finite numbers are written by name.
    """
    if not math.isfinite(number) or number == 0 or not 1e-6 <= abs(number) < 1e9:
        return f"{number:.{digits}g}"
    places = digits - 1 - math.floor(math.log10(abs(number)))
    written = f"{round(number, places):,.{max(0, places)}f}"
    return written.rstrip("0").rstrip(".") if "." in written else written


def readable_loss(loss: float) -> str:
    """Write a loss in nats with three decimals, or two significant digits where it is near 0."""
    return f"{loss:.3f}" if not abs(loss) < 0.01 or loss == 0 else significant(loss, 2)


def readable_change(old: float, new: float) -> str:
    """Write a change in percent with two significant digits: (4.0, 3.0) -> '-25%'.

    Returns an empty text if the old number is 0 or either number is not finite.
    """
    if not old or not math.isfinite(old) or not math.isfinite(new):
        return ""
    percent = 100 * (new - old) / old
    return f"{'+' if percent > 0 else ''}{significant(percent, 2)}%"


def readable_rate(rate: float) -> str:
    """Write a learning rate as a person types it: 0.0002 -> '2e-4', 0.5 -> '0.5'."""
    if rate == 0 or not 1e-12 < rate < 0.01:
        return f"{rate:g}"
    mantissa, _, exponent = f"{rate:.6e}".partition("e")
    return f"{float(mantissa):g}e{int(exponent)}"
