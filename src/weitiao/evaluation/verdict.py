"""The verdict on a run: one phrase with its evidence, and what to change next.

The change of the held-out loss is a ratio of sums over rows, sum (after_i - before_i) / sum w_i. Rows are the sampling
units, and each row's two losses are paired. The variance in the 95 % interval uses leave-one-out residuals (HC3;
MacKinnon and White, 1985, https://doi.org/10.1016/0304-4076(85)90158-7), because a long row among few pulls the ratio
towards itself; Student's t accounts for few rows.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING, Any, Literal, get_args

from ..core.events import sentence_of

if TYPE_CHECKING:
    from .answers import Answer
    from .held_out import HeldOut
    from .panel import PanelScore

Kind = Literal["learnt", "learnt, but forgot", "hardly changed", "got worse", "not measured"]

LEAST_ROWS = 3
"""With fewer rows, an interval says nothing."""
FEW_ROWS = 10
"""With fewer rows the interval is wide, and the verdict says what it cannot show."""
LEAST_KNOWN = 4
"""General questions the base must answer right before forgetting them can change the verdict."""
SAME_FIT = 0.05
"""Least relative drop of the training loss at which the training rows count as fitted."""
RATE_FACTOR = 3
"""Factor by which a learning rate is raised or lowered."""
HIGHEST_RATE = 10
"""Largest advised learning rate, as a multiple of the method's suggested rate."""
DIVERGED_DIVISOR = 10
"""Divisor of the learning rate after a run whose loss became NaN or inf."""

KINDS: tuple[Kind, ...] = get_args(Kind)


FORGOT = (
    "the held-out loss fell, but most general questions that the base answers right are now answered wrong"
)


@dataclass(frozen=True)
class Interval:
    """A change with its 95 % interval."""

    change: float
    low: float
    high: float


@dataclass(frozen=True)
class TrainingSeen:
    """What training showed, and the settings that the advice can name."""

    lr: float
    suggested_lr: float
    """The method's suggested rate for a model of this width."""
    first_loss: float
    last_loss: float
    """Training loss of the first and of the last steps, in nats per token."""
    best_is_last: bool
    """Whether the held-out loss was lowest at the last evaluation: more steps may help."""
    longer: str
    """What to type for a longer run: the setting that limited this one, with a larger value."""
    stopped_by: str = ""
    """The early-stopping setting that ended the run, if the person had set it."""
    more_held_out: str = ""
    """What to type for enough held-out rows; empty if no setting gives them."""
    held_out_file: bool = False
    """Whether the held-out rows come from a file of their own."""
    more_replay: str = "data.replay=on"
    """What to type for more general rows; empty if there are no more."""


@dataclass(frozen=True)
class Advice:
    """What to type for the next run, and why."""

    word: str
    """Empty if no setting helps; `why` then says what does."""
    why: str


@dataclass(frozen=True)
class Verdict:
    """What a run achieved."""

    kind: Kind
    because: str
    change: Interval | None
    """Change of the held-out loss, in nats per token; None if too few rows are held out."""
    rows: int
    """Held-out rows."""
    answers_changed: int
    answers: int
    general: tuple[int, int] | None
    """(still right, right before) on the panel of general questions; only those the base answers right count."""
    lost: tuple[str, ...]
    """General questions that are no longer answered right."""
    cautions: tuple[str, ...] = ()
    """What the numbers cannot show."""
    advice: tuple[Advice, ...] = ()

    def as_fields(self) -> dict[str, Any]:
        """Return the fields of the event that reports it; its sentences are English."""
        return asdict(self)


def paired_interval(before: HeldOut, after: HeldOut) -> Interval | None:
    """Return the change of the held-out loss with its 95 % interval over rows; None with fewer than three rows, if the
    rows of an evaluation are unknown, or if a loss is not finite."""
    if len(before.rows) != len(after.rows):
        return None
    pairs = [(b, a, weight) for (b, weight), (a, _) in zip(before.rows, after.rows, strict=True) if weight]
    if len(pairs) < LEAST_ROWS or not all(math.isfinite(b) and math.isfinite(a) for b, a, _ in pairs):
        return None
    total = math.fsum(weight for *_, weight in pairs)
    change = math.fsum(a - b for b, a, _ in pairs) / total
    squares = math.fsum(((a - b - change * weight) / (1 - weight / total)) ** 2 for b, a, weight in pairs)
    half = t_quantile(0.975, len(pairs) - 1) * math.sqrt(squares) / total
    return Interval(change, change - half, change + half)


def t_quantile(p: float, freedom: int) -> float:
    """Return Student's t quantile for two or more degrees of freedom: exact for two, within 0.2 % for three and
    closer for more (Abramowitz and Stegun, 26.7.5)."""
    if freedom == 2:
        a = 2 * p - 1
        return a * math.sqrt(2 / (1 - a * a))
    z, v = NormalDist().inv_cdf(p), freedom
    terms = (
        z,
        (z**3 + z) / (4 * v),
        (5 * z**5 + 16 * z**3 + 3 * z) / (96 * v**2),
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * v**3),
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / (92160 * v**4),
    )
    return math.fsum(terms)


def judge(
    before: HeldOut | None,
    after: HeldOut | None,
    answers: Sequence[Answer],
    training: TrainingSeen,
    panel: PanelScore | None = None,
) -> Verdict:
    """Return the verdict from the losses of the held-out rows and the answers, before and after training."""
    changed = sum(answer.before != answer.after for answer in answers)
    rows = len(after.rows) if after else 0
    interval = paired_interval(before, after) if before and after else None
    advice: Iterator[Advice] = iter(())
    if after is not None and not math.isfinite(after.loss):
        kind, because = _diverged(after.loss)
        advice = _slower(training, DIVERGED_DIVISOR, "a rate at which the loss stays finite")
    elif (before is None) != (after is None):
        kind, because = _unmeasured(after is None)
    else:
        kind, because = _kind(interval, rows, changed, len(answers))
        advice = _advice(kind, training, rows)
        if kind == "learnt" and panel and _forgot_most(panel):
            kind, because = "learnt, but forgot", FORGOT
    return Verdict(
        kind=kind,
        because=because,
        change=interval,
        rows=rows,
        answers_changed=changed,
        answers=len(answers),
        general=(panel.still_right, panel.right_before) if panel and panel.right_before else None,
        lost=tuple(change.question for change in panel.lost) if panel else (),
        cautions=tuple(_cautions(rows, interval)),
        advice=_each_once([*advice, *_forgot(panel, training)]),
    )


def _forgot_most(panel: PanelScore) -> bool:
    """Return whether most general questions that the base answers right are no longer answered right."""
    return panel.right_before >= LEAST_KNOWN and 2 * panel.still_right < panel.right_before


def _diverged(loss: float) -> tuple[Kind, str]:
    """Return the verdict, with its reason, for a loss that is NaN or inf."""
    return (
        "got worse",
        f"the held-out loss after training is {loss}, which is not a finite number: training diverged",
    )


def _unmeasured(after: bool) -> tuple[Kind, str]:
    """Return the verdict, with its reason, for a run that lacks one of its two evaluations."""
    when = "after" if after else "before"
    return "not measured", f"the held-out loss {when} training could not be measured"


def _kind(interval: Interval | None, rows: int, changed: int, asked: int) -> tuple[Kind, str]:
    """Return the verdict, with its reason, from the interval and the answers."""
    same = asked > 0 and changed == 0
    if interval is None:
        if same:
            return "hardly changed", "every answer is what it was before"
        return "not measured", f"{rows} rows are held out, too few to compare losses"
    if interval.low > 0:
        return "got worse", "the held-out loss rose, by more than chance explains"
    if interval.high >= 0:
        return "hardly changed", "the held-out loss moved no more than chance explains"
    if same:
        return "hardly changed", "the held-out loss fell, but every answer is what it was before"
    return "learnt", "the held-out loss fell, by more than chance explains"


def _cautions(rows: int, interval: Interval | None) -> Iterator[str]:
    """Yield what few held-out rows cannot show."""
    if interval is not None and rows < FEW_ROWS:
        half = (interval.high - interval.low) / 2
        yield (
            f"only {rows} rows are held out: differences below {half:.2g} mean nothing, "
            "and other rows may differ more"
        )


def _advice(kind: Kind, training: TrainingSeen, rows: int) -> Iterator[Advice]:
    """Yield what to type next, the likeliest remedy first."""
    if kind == "not measured":
        yield _more_held_out(training)
    elif kind == "got worse":
        yield from _slower(training, RATE_FACTOR, "smaller steps")
    elif kind == "hardly changed":
        yield from _learn_more(training)
    elif training.best_is_last and rows:
        yield _longer(training, "the loss was still falling at the end")


def _learn_more(training: TrainingSeen) -> Iterator[Advice]:
    """Yield what makes a run learn more that changed hardly anything."""
    fitted = training.last_loss < training.first_loss * (1 - SAME_FIT)
    if not fitted:
        yield from _other_rate(training)
        yield _longer(training, "more steps")
    elif training.best_is_last:
        yield _longer(training, "the loss was still falling")
        if not _is_too_high(training.lr * RATE_FACTOR, training):
            yield Advice(_rate(training.lr * RATE_FACTOR), "larger steps")
    else:
        why = (
            "the rows trained on were learnt, but little that carries over to other rows: "
            "smaller steps, or more and more varied rows"
        )
        yield from _slower(training, RATE_FACTOR, why)
        if training.stopped_by:
            yield _longer(training, "more steps")


def _longer(training: TrainingSeen, why: str) -> Advice:
    """Return the setting for a longer run; the reason is the person's own early stopping if that ended this one."""
    own = training.stopped_by
    return Advice(training.longer, f"{own} ended the run early" if own else why)


def _rate(lr: float) -> str:
    return f"train.lr={lr:.2g}"


def _is_too_high(lr: float, training: TrainingSeen) -> bool:
    """Return whether a rate is higher than the method needs on any data."""
    return lr > HIGHEST_RATE * training.suggested_lr


def _other_rate(training: TrainingSeen) -> Iterator[Advice]:
    """Yield a rate for rows that were not learnt: a higher one, or the method's suggestion if this one is far off."""
    too_low = training.lr * HIGHEST_RATE < training.suggested_lr
    if not too_low and not _is_too_high(training.lr * RATE_FACTOR, training):
        why = "the rows trained on were not learnt either"
        yield Advice(_rate(training.lr * RATE_FACTOR), why)
    else:
        yield _suggested_rate(training)


def _suggested_rate(training: TrainingSeen) -> Advice:
    side = "above it" if training.lr > training.suggested_lr else "below it"
    why = f"the method's suggested rate for this model; yours is far {side}"
    return Advice(_rate(training.suggested_lr), why)


def _slower(training: TrainingSeen, divisor: float, why: str) -> Iterator[Advice]:
    """Yield a lower rate to try: the method's suggestion if this one is far above it."""
    if _is_too_high(training.lr, training):
        yield _suggested_rate(training)
    else:
        yield Advice(_rate(training.lr / divisor), why)


def _more_held_out(training: TrainingSeen) -> Advice:
    """Return how to hold out enough rows."""
    if training.more_held_out:
        return Advice(training.more_held_out, "holds out enough rows to compare")
    if training.held_out_file:
        return Advice("", "more rows in the held-out file: ten or more")
    why = "more rows of data: these are too few, or too many of them equal, to spare some for a comparison"
    return Advice("", why)


def _forgot(panel: PanelScore | None, training: TrainingSeen) -> Iterator[Advice]:
    """Yield what reduces forgetting, if general questions are no longer answered right."""
    if panel is None or not panel.lost:
        return
    if training.more_replay:
        why = "general rows mixed in, so that less is forgotten"
        yield Advice(training.more_replay, why)
    else:
        why = "smaller steps, so that less is forgotten"
        yield from _slower(training, RATE_FACTOR, why)


def _each_once(advice: Sequence[Advice]) -> tuple[Advice, ...]:
    """Return the advice with only the first value for each setting."""
    by_setting: dict[str, Advice] = {}
    for one in advice:
        by_setting.setdefault(one.word.partition("=")[0], one)
    return tuple(by_setting.values())


def lines(fields: Mapping[str, Any]) -> list[str]:
    """Return the lines below the verdict, from `as_fields`: evidence, cautions and what to type."""
    change, made = fields["change"], [sentence_of(fields["because"])]
    if change:
        moved, low, high = (f"{change[key]:+.3f}" for key in ("change", "low", "high"))
        made.append(f"held-out loss {moved} (95% interval {low} to {high}, {fields['rows']} rows)")
    if fields["answers"]:
        made.append(f"{fields['answers_changed']} of {fields['answers']} answers changed")
    if fields["general"]:
        still, before = fields["general"]
        made.append(_general(still, before, fields["lost"]))
    made += map(sentence_of, fields["cautions"])
    for advice in fields["advice"]:
        why = sentence_of(advice["why"])
        made.append(f"next, try {advice['word']}: {why}" if advice["word"] else f"next: {why}")
    return made


def _general(still: int, before: int, lost: Sequence[str]) -> str:
    """Return how many general questions are still answered right, and which are not."""
    kept = f"{still} of {before} general questions that the base answers right are still answered right"
    return f"{kept}; no longer: {'; '.join(lost)}" if lost else kept
