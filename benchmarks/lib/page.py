"""The sections of RESULTS.md: one a scenario, written from what it measured."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from .environments import Measured
from .peak_names import BY, LIBRARIES
from .scenarios import AUTO, FIRST, FREEZE_EPOCHS, OFF, TINY
from .sides import FIRST_TOLERANCE, LATER_TOLERANCE, MIB
from .tasks import BATCH_SIZE, MAX_LENGTH, TRAINED_LAST

GIGA = 1e9


def section(name: str, report: Measured) -> str:
    """Write a scenario's section, its heading first."""
    versions = "; ".join(f"{tools}: {numbers}" for tools, numbers in report["environments"].items())
    heading, lines = SECTIONS[name]
    runs = f"median of {report['repeats']} runs" if report["repeats"] > 1 else "one run"
    return "\n".join(
        [
            f"## {heading}",
            "",
            f"{report['date']}; {report['machine']}, {report['threads']} thread"
            f"{'s' * (report['threads'] > 1)}; {runs}, each a process of its own. {versions}. `{report['command']}`",
            "",
            *lines(report),
            "",
        ]
    )


def _about(about: Measured) -> str:
    """Describe a scenario's rows."""
    tokens = about["tokens"]
    return (
        f"{about['rows']} rows of {about['shortest']} to {about['longest']} tokens ({tokens / about['rows']:.1f} on "
        f"average, {tokens} in all, {about['trained_tokens']} of them trained), {about['epochs']} "
        f"epoch{'s' * (about['epochs'] > 1)}, {about['steps']} steps of {BATCH_SIZE} rows, max_length {MAX_LENGTH}. "
        f"The first {about['begin_alike']} tokens of all rows are the same; weitiao computes what the rows of a step "
        f"share once, which leaves {100 * about['different_tokens'] / tokens:.0f} % of the tokens."
    )


def _beside_peers(report: Measured) -> Iterator[str]:
    yield (
        "SmolLM2-135M, LoRA r=8 on q_proj and v_proj, fp32, AdamW, constant rate, no dropout. "
        + _about(report["about"])
        + " All sides train on the same token ids, labels and order of rows from the same adapter; peers are handed "
        "the ids, weitiao reads the rows of text. The first step is not timed. A ratio stands only where the first "
        f"step's loss is that of weitiao to {FIRST_TOLERANCE:g} and every later one to {LATER_TOLERANCE:g}; the "
        "range of the repeats is in brackets."
    )
    yield ""
    yield (
        "| side | real tokens/s | weitiao is faster by | peak memory | weitiao needs | above the model | weitiao needs "
        "| first step after | losses differ by |"
    )
    yield "|---|---:|---:|---:|---:|---:|---:|---:|---:|"
    yield from (_line(side, own) for side, own in report["sides"].items())
    yield ""
    yield from (f"- {side}: {says}." for side, says in report["says"].items())
    yield ""
    for tool, name in report["fastest"].items():
        speed, memory = (_range(report["sides"][name]["ratios"][ratio]) for ratio in ("speed", "peak"))
        yield (
            f"- Beside {tool} at its fastest ({name}) weitiao is {speed} as fast and needs {memory} the memory."
        )


def _line(side: str, own: Measured) -> str:
    if "failed" in own:
        return f"| {side} | failed |" + 7 * " |"
    if own["unlike"]:
        speed = peak = growth = "not compared"
        differ = own["unlike"]
    else:
        speed, peak, growth = (_range(own["ratios"][name]) for name in ("speed", "peak", "growth"))
        differ = f"{own['first_difference']:.1e}, later {own['largest_difference']:.1e}"
    return (
        f"| {side} | {own['tokens_per_second']:.0f} | {speed} | {own['peak_bytes'] / MIB:.0f} MiB | {peak} "
        f"| {own['training_growth_bytes'] / MIB:.0f} MiB | {growth} | {own['first_step_seconds']:.1f} s | {differ} |"
    )


def _range(ratio: list[float]) -> str:
    """Write a median ratio and the smallest and largest of the repeats."""
    middle, low, high = ratio
    return f"{middle:.2f}x" if low == high else f"{middle:.2f}x ({low:.2f} to {high:.2f})"


def _freeze(report: Measured) -> Iterator[str]:
    yield (
        f"SmolLM2-135M, the last {TRAINED_LAST} of 30 blocks trained, fp32. "
        + _about(report["about"])
        + " Seconds are those of the whole training, filling the cache and the first step included."
    )
    yield ""
    if not report["known"]:
        yield "This version has no train.frozen_cache: both sides are the same."
        yield ""
    yield "| side | seconds | auto is faster by | peak memory | auto needs |"
    yield "|---|---:|---:|---:|---:|"
    for side in (AUTO, OFF):
        own = report["sides"][side]
        if own["unlike"]:
            yield f"| {side} | not compared: {own['unlike']} | | | |"
        else:
            yield (
                f"| {side} | {own['training_seconds']:.1f} | {_range(own['ratios']['seconds'])} "
                f"| {own['peak_bytes'] / MIB:.0f} MiB | {_range(own['ratios']['peak'])} |"
            )
    yield ""
    yield f"All {FREEZE_EPOCHS} epochs together."


def _peak(report: Measured) -> Iterator[str]:
    speeds = report["flops_per_second"]
    best = max(speeds, key=lambda name: float(speeds[name]))
    counts = list(report["about"]["needed_flops"])
    yield (
        f"The fastest fp32 matrix product of this machine is {speeds[best] / GIGA:.1f} GFLOP/s ({best}). Of it the "
        "needed operations of the alpaca scenario reach the shares below. They are counted from the shapes of the "
        "model and the rows (benchmarks/lib/flops.py): no padding, attention within a row and backwards only, the head "
        "at trained positions only, no gradient that nothing needs. Sharing is counted once or not at all, as said. "
        "weitiao multiplies by MKL, as torch and so the peers do, on Intel's processors and by oneDNN on others."
    )
    yield ""
    yield "| side |" + "".join(f" GFLOP/s, {count} | share |" for count in counts)
    yield "|---|" + "---:|---:|" * len(counts)
    for side, reached in report["reached"].items():
        cells = "".join(f" {flops / GIGA:.1f} | {100 * flops / speeds[best]:.0f} % |" for flops in reached)
        yield f"| {side} |" + (cells or " not compared | |" + " | |" * (len(counts) - 1))
    yield ""
    yield "| matrix product, GFLOP/s | by MKL | by oneDNN |"
    yield "|---|---:|---:|"
    for product in dict.fromkeys(name.rpartition(BY)[0] for name in speeds):
        mkl, onednn = (speeds[f"{product}{BY}{library}"] / GIGA for library in LIBRARIES)
        yield f"| {product} | {mkl:.1f} | {onednn:.1f} |"


def _linear(report: Measured) -> Iterator[str]:
    yield (
        f"A Llama of {TINY['num_hidden_layers']} blocks, {TINY['hidden_size']} wide, with the vocabulary of "
        "SmolLM2, LoRA, one epoch over rows that all differ. Training is timed from the attached method to the last "
        "step; the whole process adds imports, loading, and reading and checking the data for the first time."
    )
    yield ""
    yield "| rows | training, ms a row | to the first | whole process, ms a row | peak memory | to the first |"
    yield "|---:|---:|---:|---:|---:|---:|"
    first: Measured = next(iter(report["sizes"].values()))
    least = int(next(iter(report["sizes"])))
    for count, own in report["sizes"].items():
        rows = int(count)
        ratio = (own["training_seconds"] / rows) / (first["training_seconds"] / least)
        yield (
            f"| {rows:,} | {1e3 * own['training_seconds'] / rows:.2f} | {ratio:.2f}x "
            f"| {1e3 * own['process_seconds'] / rows:.2f} | {own['peak_bytes'] / MIB:.0f} MiB "
            f"| {own['peak_bytes'] / first['peak_bytes']:.2f}x |"
        )


def _start(report: Measured) -> Iterator[str]:
    begun, ended = (f"{report[f'{event}_seconds']:.1f} s" for event in FIRST)
    yield (
        f"`weitiao --help` answers after {report['help_seconds']:.2f} s. With `weitiao train --model smollm2-135m "
        f"--data examples/identity_en.json` the first step begins {begun} after the command and ends after {ended} "
        "(8 rows; the model and the rows are in the cache, imports are not)."
    )


SECTIONS: dict[str, tuple[str, Callable[[Measured], Iterator[str]]]] = {
    "alpaca": ("Throughput: LoRA on Alpaca rows", _beside_peers),
    "identity": ("Throughput: LoRA on short rows under one system prompt", _beside_peers),
    "freeze": ("Throughput: the last blocks, with and without the frozen cache", _freeze),
    "peak": ("Throughput: share of the machine's peak", _peak),
    "linear": ("Throughput: rows and time", _linear),
    "start": ("Throughput: start", _start),
}
"""The heading of each scenario, and what writes the lines below it."""


def put_section(path: Path, text: str) -> None:
    """Put a section into a page in place of the one with the same heading, or at its end."""
    old = path.read_text(encoding="utf-8") if path.is_file() else "# Benchmark results\n\n"
    heading = text.partition("\n")[0]
    before, found, rest = old.partition(heading + "\n")
    after = rest[at:] if found and (at := rest.find("\n## ") + 1) else ""
    parts = [part.strip("\n") for part in (before, text, after)]
    path.write_text("\n\n".join(filter(None, parts)) + "\n", encoding="utf-8")
