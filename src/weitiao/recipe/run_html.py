"""A finished run as HTML for notebooks: facts, held-out loss, curve and answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from ..core.events import Event, steps_that_count
from ..core.locale import shown
from ..core.units import readable_change
from ..core.visible import visible
from ..evaluation.answer_scores import scores_of
from ..evaluation.answers import CUT_MARK, earlier_text, marked
from ..evaluation.curve import curve_svg, held_out_points
from ..evaluation.report import BEFORE_AND_AFTER, CURVE_LABELS
from ..evaluation.verdict import lines as verdict_lines
from .told import chosen_of, cost_text, written_measures

CELL = 'style="text-align: left; vertical-align: top; white-space: pre-wrap; overflow-wrap: break-word"'


def run_html(title: str, events: Sequence[Event]) -> str:
    """Return a run as HTML, from its events; `title` is its first line."""
    last = {event["event"]: event for event in events}  # resumed runs repeat events: the last counts
    parts = [f"<p><code>{_text(title)}</code></p>", _verdict(last), _facts(last), _scores(last)]
    losses = [(step["step"], step["loss"]) for step in steps_that_count(iter(events))]
    numbers = [(step, loss) for step, loss in losses if isinstance(loss, float | int)]
    if numbers:
        line, dots, axis = map(shown, CURVE_LABELS)
        curve = curve_svg(numbers, held_out_points(events), (line, dots, axis))
        parts.append(f'<div style="max-width: 640px">{_fluid(curve)}</div>')
    if "answers" in last:
        parts.append(_answers(last["answers"]["rows"]))
        parts.append(_answer_scores(last["answers"]))
    return "\n".join(part for part in parts if part)


def _verdict(last: Mapping[str, Event]) -> str:
    if "verdict" not in last:
        return ""
    said = "".join(f"<li>{_text(shown(line))}</li>" for line in verdict_lines(last["verdict"]))
    return f"<p><b>{_text(shown(last['verdict']['kind']))}</b></p><ul>{said}</ul>"


def _facts(last: Mapping[str, Event]) -> str:
    rows = list(chosen_of(last["chosen"]).rows()) if "chosen" in last else []
    if "finished" in last:
        rows.append(("finished", cost_text(last["finished"])))
    return _table([], [[shown(label), shown(text)] for label, text in rows]) if rows else ""


def _scores(last: Mapping[str, Event]) -> str:
    held_out = last["finished"]["held_out"] if "finished" in last else {}
    if not held_out.get("before") or not held_out.get("after"):
        return ""
    rows = []
    written = {when: written_measures(held_out[when]) for when in BEFORE_AND_AFTER}
    for name in written["before"]:
        old, new = (held_out[when].get(name) for when in BEFORE_AND_AFTER)
        are_numbers = isinstance(old, float | int) and isinstance(new, float | int)
        change = readable_change(old, new) if are_numbers else ""
        title = shown(f"held-out {name}")
        rows.append([title, written["before"][name], written["after"].get(name, ""), change])
    return _table(["", *map(shown, (*BEFORE_AND_AFTER, "change"))], rows)


def _answers(rows: Sequence[Mapping[str, Any]]) -> str:
    header = [shown(title) for title in ("question", *BEFORE_AND_AFTER, "the data's answer")]
    cells = [
        [
            "\n".join(filter(None, (shown(earlier_text(row)), row["question"]))),
            marked(row["before"], bool(row.get("before_cut"))),
            marked(row["after"], bool(row.get("after_cut"))),
            marked(row["reference"], bool(row.get("reference_cut"))),
        ]
        for row in rows
    ]
    cut = any(row.get(f"{which}_cut") for row in rows for which in ("before", "after", "reference"))
    note = shown(f"{CUT_MARK} cut off: evaluate.generation.max_new_tokens") if cut else ""
    return _table(header, cells) + (f"<p>{note}</p>" if note else "")


def _answer_scores(event: Event) -> str:
    rows = [[shown(part) for part in score.row()] for score in scores_of(event.get("scores", []))]
    return _table(["", *map(shown, BEFORE_AND_AFTER)], rows) if rows else ""


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    head = "".join(f"<th {CELL}>{_text(name)}</th>" for name in header)
    body = "".join(f"<tr>{''.join(f'<td {CELL}>{_text(cell)}</td>' for cell in row)}</tr>" for row in rows)
    head = f"<thead><tr>{head}</tr></thead>" if header else ""
    return f'<div style="overflow-x: auto"><table>{head}<tbody>{body}</tbody></table></div>'


def _text(text: str) -> str:
    return escape(visible(text))


def _fluid(svg: str) -> str:
    """Let the image shrink on a narrow page."""
    return svg.replace("<svg ", '<svg style="max-width: 100%; height: auto" ', 1)
