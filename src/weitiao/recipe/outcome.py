"""What a run leaves behind: the adapter or model with its card, the report, and the last event."""

from __future__ import annotations

import platform
import shutil
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from ..core.events import Event, EventLog, read_events, steps_that_count
from ..core.files import staged_folder
from ..core.run_folder import RunFolder
from ..core.version import VERSION
from ..engine.loop import Progress
from ..engine.monitor import peak_memory_bytes
from ..evaluation.card import write_card
from ..evaluation.facts import ReportFacts, Scores
from ..evaluation.held_out import HeldOut
from ..evaluation.report import write_report
from ..methods._base import Attached, count_parameters
from ..methods._bridge import needs_registering
from ..models.load import hub_id_of
from .before_after import Comparison
from .recipe import Recipe
from .run import Run

PACKAGES = ("torch", "transformers", "peft")


def finish(
    recipe: Recipe,
    folder: RunFolder,
    attached: Attached,
    comparison: Comparison,
    progress: Progress,
    log: EventLog,
) -> Run:
    """Save the result with its card, write the report, emit `finished`, and return the run."""
    events = list(read_events(folder.events))
    facts = _facts(recipe, folder, attached, comparison, progress, events)
    target = folder.model if attached.saves_whole_model else folder.adapter
    _save(attached, comparison, target, facts)
    log.emit(
        "finished",
        out=str(folder.root),
        adapter=str(target),
        held_out=_held_out_fields(comparison),
        seconds=progress.seconds,
        peak_memory_bytes=facts.peak_memory_bytes,
        tokens_per_second=facts.tokens_per_second,
    )
    write_report(folder.root, facts)
    return Run(folder, recipe)


def _save(attached: Attached, comparison: Comparison, target: Path, facts: ReportFacts) -> None:
    """Write the result and give it its name at once; one that a crash left without its report is replaced."""
    shutil.rmtree(target, ignore_errors=True)
    with staged_folder(target) as staging:
        attached.save(staging)
        if attached.saves_whole_model:
            comparison.tokenizer.save_pretrained(staging)
        write_card(staging, facts)


def _facts(
    recipe: Recipe,
    folder: RunFolder,
    attached: Attached,
    comparison: Comparison,
    progress: Progress,
    events: Sequence[Event],
) -> ReportFacts:
    trainable, total = count_parameters(attached.model)
    looks = [(event["step"], event["loss"]) for event in events if event["event"] == "evaluated"]
    return ReportFacts(
        run=str(folder.root),
        base=recipe.model.name,
        data=[source.path or "Python rows" for source in recipe.data.sources],
        data_lines=comparison.data.summary.lines(),
        data_lines_zh=comparison.data.summary.lines_zh(),
        method=recipe.method.name,
        method_title=recipe.method.title,
        method_settings=recipe.method.model_dump(mode="json"),
        trainable=trainable,
        total=total,
        steps=progress.step,
        seconds=progress.seconds,
        tokens_per_second=progress.tokens / progress.seconds if progress.seconds else 0.0,
        peak_memory_bytes=peak_memory_bytes(),
        result=(folder.model if attached.saves_whole_model else folder.adapter).name,
        is_adapter=not attached.saves_whole_model,
        needs_weitiao=needs_registering(attached),
        before=_scores(comparison.before.held_out if comparison.before else None),
        after=_scores(comparison.after.held_out if comparison.after else None),
        losses=[(event["step"], event["loss"]) for event in steps_that_count(iter(events))],
        held_out_losses=sorted(dict(looks).items()),
        answers=comparison.answers,
        versions={
            "python": platform.python_version(),
            "weitiao": VERSION,
            **{name: version(name) for name in PACKAGES},
        },
        base_hub_id=hub_id_of(recipe.model),
    )


def _scores(held_out: HeldOut | None) -> Scores | None:
    return Scores(held_out.loss, held_out.perplexity) if held_out else None


def _held_out_fields(comparison: Comparison) -> dict[str, dict[str, float]]:
    looks = {"before": comparison.before, "after": comparison.after}
    return {name: look.held_out.as_fields() for name, look in looks.items() if look and look.held_out}
