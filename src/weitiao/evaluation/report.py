"""The report of a run, in English and Chinese: what was trained, with what result, and what to do next."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from ..core.files import PRIVATE_FILE, write_atomic
from ..core.locale import Language, in_language
from ..core.run_folder import RunFolder
from ..core.units import (
    is_longer,
    readable_bytes,
    readable_change,
    readable_loss,
    readable_seconds,
    readable_share,
    significant,
)
from ..core.visible import visible
from ..data.gate.summary import LABEL_COLUMNS
from .answer_scores import score_answers
from .answers import CUT_MARK, Answer, earlier_text, marked
from .curve import curve_svg
from .loading_code import loading_code, next_commands
from .run_facts import ReportFacts, Scores
from .verdict import lines as verdict_lines

CURVE_FILES: Mapping[Language, str] = {"en": "loss.svg", "zh": "loss.zh.svg"}
MARKUP = re.compile(r"([\\|*_`\[\]~$#])")


Say = Callable[[str], str]
"""Returns an English text in the report's language."""

MEASURES = {"perplexity": "perplexity (lower is better)"}
"""Titles of the objective's measures besides the loss, by their names in events."""
CURVE_LABELS = ("training", "held-out", "step")
BEFORE_AND_AFTER = ("before", "after")
CHOSEN_BY_LOSS = "The weights were chosen by this same loss, so it is slightly optimistic."


def write_report(folder: Path, facts: ReportFacts) -> None:
    """Write the curve and the report into a run's folder, in each language, each file atomically; raises OSError."""
    run = RunFolder(folder)
    for language, file in CURVE_FILES.items():
        line, dots, axis = (in_language(label, language) for label in CURVE_LABELS)
        write_atomic(folder / file, curve_svg(facts.losses, facts.held_out_losses, (line, dots, axis)))
    write_atomic(run.report_zh, report(facts, "zh"), PRIVATE_FILE)
    write_atomic(run.report, report(facts), PRIVATE_FILE)  # last: it marks the run as finished


def report(facts: ReportFacts, language: Language = "en") -> str:
    """Return the report as Markdown."""
    say = partial(in_language, language=language)
    sections = [
        f"# {say(f'Fine-tuning report: {cell(facts.run)}')}",
        _verdict(facts, say),
        _trained(facts, say),
        _left_out(facts, say),
        _summary(facts, say),
        _failures(facts, say),
        _held_out(facts, say),
        _answers(facts, say),
        _curve(facts, say, CURVE_FILES[language]),
        _cost(facts, say),
        f"## {say('How to load it')}\n\n```python\n{loading_code(facts)}\n```",
        _next(facts, say),
    ]
    return "\n\n".join(section for section in sections if section) + "\n"


def cell(text: str) -> str:
    """Escape text so that Markdown shows it literally, also in a table: one line, no markup."""
    lines = text.strip().replace("\r\n", "\n").replace("\r", "\n")
    plain = visible(lines).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return MARKUP.sub(r"\\\1", plain).replace("\n", "<br>")


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table from cells that are already escaped."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def parameters_text(facts: ReportFacts) -> str:
    """Return `trainable / all / percent`."""
    return f"{facts.trainable:,} / {facts.total:,} / {readable_share(facts.trainable, facts.total)}"


def weights_text(facts: ReportFacts) -> str:
    """Return which step's weights are the result."""
    if facts.result_step is None or facts.result_step == facts.steps:
        return f"of step {facts.steps}, the last"
    return f"of step {facts.result_step} of the {facts.steps} made, the lowest held-out loss"


def settings_text(settings: Mapping[str, Any]) -> str:
    """Return settings as `name=value`, separated by commas."""
    return ", ".join(f"{name}={value}" for name, value in settings.items())


def scores_table(before: Scores, after: Scores, say: Say = str) -> str:
    """Return a table of the held-out loss and other measures, before and after, with the change in percent."""
    losses = before.loss, after.loss
    title = say("held-out loss (nats per token; lower is better)")
    rows = [[title, *map(readable_loss, losses), readable_change(*losses)]]
    for name, old in before.measures.items():
        if name in after.measures:
            new = after.measures[name]
            title = say(MEASURES.get(name, name))
            rows.append([title, significant(old), significant(new), readable_change(old, new)])
    return table(["", *map(say, BEFORE_AND_AFTER), say("change")], rows)


def _trained(facts: ReportFacts, say: Say) -> str:
    rows = [
        [say("Base model"), cell(facts.base)],
        [say("Data"), "<br>".join(map(cell, facts.data))],
        [say("Method"), cell(say(_method(facts)))],
        [say("Settings"), cell(settings_text(facts.method_settings))],
        [say("Trained parameters"), parameters_text(facts)],
        *_chosen(facts, say),
        [say("Weights"), say(weights_text(facts))],
    ]
    return f"## {say('What was trained')}\n\n{table(['', ''], rows)}"


def _verdict(facts: ReportFacts, say: Say) -> str:
    if facts.verdict is None:
        return ""
    lines = verdict_lines(facts.verdict.as_fields())
    return f"## {say(f'Verdict: {facts.verdict.kind}')}\n\n{_listed(map(say, lines))}"


def _listed(lines: Iterable[str]) -> str:
    """Return lines as a Markdown list."""
    return "\n".join(f"- {cell(line)}" for line in lines)


def _method(facts: ReportFacts) -> str:
    """Return the method's title and name, with the modules it trains if known."""
    named = f"{facts.method_title} ({facts.method})"
    return facts.chosen.on_modules(named) if facts.chosen else named


def _chosen(facts: ReportFacts, say: Say) -> list[list[str]]:
    """Return the run's other settings, as rows of the table."""
    rows = facts.chosen.rows()[1:] if facts.chosen else []
    return [[cell(say(label).capitalize()), cell(say(text))] for label, text in rows]


def _left_out(facts: ReportFacts, say: Say) -> str:
    title = say("What the method does not reach")
    return f"## {title}\n\n{_listed(map(say, facts.left_out))}" if facts.left_out else ""


def _summary(facts: ReportFacts, say: Say) -> str:
    lines = _listed(data_line(line, say) for line in facts.data_lines)
    return f"## {say('The data')}\n\n{lines}" if lines else ""


def data_line(line: str, say: Say) -> str:
    """Return a line of the data summary in the report's language: its label and its text."""
    label, text = line[:LABEL_COLUMNS], line[LABEL_COLUMNS:]
    if not label.endswith(" "):
        return say(line)
    said = say(label.rstrip()), say(text)
    return line if said == (label.rstrip(), text) else "：".join(said)


def _failures(facts: ReportFacts, say: Say) -> str:
    title = say("What failed after the result was saved")
    return f"## {title}\n\n{_listed(map(say, facts.failures))}" if facts.failures else ""


def _held_out(facts: ReportFacts, say: Say) -> str:
    text = say("No rows were held out, so nothing was measured: set `data.held_out`.")
    if facts.before is not None and facts.after is not None:
        text = scores_table(facts.before, facts.after, say)
        text += f"\n\n{say(CHOSEN_BY_LOSS)}" if facts.chosen_by_loss else ""
    return f"## {say('On data it was not trained on')}\n\n{text}"


def _answers(facts: ReportFacts, say: Say) -> str:
    if not facts.answers:
        return ""
    header = [say(title) for title in ("question", *BEFORE_AND_AFTER, "the data's answer")]
    rows = [
        [
            "<br>".join(filter(None, (_earlier(a, say), cell(a.question)))),
            cell(marked(a.before, a.before_cut)),
            cell(marked(a.after, a.after_cut)),
            cell(marked(a.reference, a.reference_cut)),
        ]
        for a in facts.answers
    ]
    cut = any(a.before_cut or a.after_cut or a.reference_cut for a in facts.answers)
    note = say(cut_note(facts.most_new_tokens)) if cut else ""
    title = say("The same questions, before and after")
    return "\n\n".join(filter(None, (f"## {title}", table(header, rows), note, _answer_scores(facts, say))))


def _answer_scores(facts: ReportFacts, say: Say) -> str:
    """Return a table of what every metric says of the answers; empty if the data has no answers to compare with."""
    rows = [[cell(say(part)) for part in score.row()] for score in score_answers(facts.answers)]
    return table(["", *map(say, BEFORE_AND_AFTER)], rows) if rows else ""


def cut_note(tokens: int) -> str:
    """Return what the mark of an answer that was cut off means, as Markdown."""
    where = "`evaluate.generation.max_new_tokens`"
    return f"{cell(CUT_MARK)}: the answer was cut off after {tokens} tokens ({where})."


def _earlier(answer: Answer, say: Say) -> str:
    """Return the turns before a question, in italics; empty if there are none."""
    text = say(earlier_text(answer.as_fields()))
    return f"*{cell(text)}*" if text else ""


def _curve(facts: ReportFacts, say: Say, file: str) -> str:
    title = say("The loss while training")
    return f"## {title}\n\n![{title}]({file})" if facts.losses else ""


def _cost(facts: ReportFacts, say: Say) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in facts.versions.items())
    rows = [
        [say("Time"), say(_time(facts))],
        [say("Speed"), say(f"{facts.tokens_per_second:,.0f} tokens/s")],
        [say("Peak memory"), readable_bytes(facts.peak_memory_bytes)],
        [say("Versions"), cell(versions)],
    ]
    return f"## {say('What it took')}\n\n{table(['', ''], rows)}"


def _time(facts: ReportFacts) -> str:
    """Return the total time of the run, the time in steps if that is clearly less, and the steps made."""
    time = readable_seconds(max(facts.whole_seconds, facts.seconds))
    if is_longer(facts.whole_seconds, facts.seconds):
        time = f"{time}, of which training {readable_seconds(facts.seconds)}"
    steps, planned = facts.steps, facts.chosen.steps if facts.chosen else facts.steps
    if steps < planned:
        return f"{time} ({steps} of {planned} steps: stopped early, as the held-out loss no longer fell)"
    return f"{time} ({steps} step{'' if steps == 1 else 's'})"


def _next(facts: ReportFacts, say: Say) -> str:
    commands = next_commands(facts.run)
    titles = {
        "chat": "Chat with it; `/base` switches to the model before training",
        "compare": "Compare its answers with those before training",
        "merge": "Merge it into one plain model",
    }
    lines = "\n".join(f"- {say(title)}: `{commands[name]}`" for name, title in titles.items())
    return f"## {say('What next')}\n\n{lines}"
