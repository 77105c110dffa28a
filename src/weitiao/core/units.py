"""Numbers as people read them: bytes, counts, seconds, shares."""

from __future__ import annotations


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


def readable_share(part: float, whole: float) -> str:
    """Write a share in percent with four digits after the point: (1, 8) -> '12.5000%'."""
    return f"{100 * part / whole:.4f}%" if whole else "0.0000%"
