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
from typing import TYPE_CHECKING, Any, Literal

from ..core.said import Said

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

KINDS: dict[Kind, str] = {
    "learnt": "学到了",
    "learnt, but forgot": "学到了，但忘了别的",
    "hardly changed": "几乎没有变化",
    "got worse": "变差了",
    "not measured": "无法衡量",
}


FORGOT = Said(
    "the held-out loss fell, but most general questions that the base answers right are now answered wrong",
    "留出损失下降了，但基座答对的常识问题现在大多答错了",
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
    why: Said


@dataclass(frozen=True)
class Verdict:
    """What a run achieved."""

    kind: Kind
    because: Said
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
    cautions: tuple[Said, ...] = ()
    """What the numbers cannot show."""
    advice: tuple[Advice, ...] = ()

    def as_fields(self) -> dict[str, Any]:
        """Return the fields of the event that reports it; sentences are [English, Chinese]."""
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
        advice = _slower(
            training, DIVERGED_DIVISOR, Said("a rate at which the loss stays finite", "让损失保持有限")
        )
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


def _diverged(loss: float) -> tuple[Kind, Said]:
    """Return the verdict, with its reason, for a loss that is NaN or inf."""
    return "got worse", Said(
        f"the held-out loss after training is {loss}, which is not a finite number: training diverged",
        f"训练后的留出损失是 {loss}，不是有限的数：训练发散了",
    )


def _unmeasured(after: bool) -> tuple[Kind, Said]:
    """Return the verdict, with its reason, for a run that lacks one of its two evaluations."""
    when, when_zh = ("after", "训练后") if after else ("before", "训练前")
    return "not measured", Said(
        f"the held-out loss {when} training could not be measured", f"{when_zh}的留出损失没有测出来"
    )


def _kind(interval: Interval | None, rows: int, changed: int, asked: int) -> tuple[Kind, Said]:
    """Return the verdict, with its reason, from the interval and the answers."""
    same = asked > 0 and changed == 0
    if interval is None:
        if same:
            return "hardly changed", Said("every answer is what it was before", "每个回答都和训练前一样")
        return "not measured", Said(
            f"{rows} rows are held out, too few to compare losses", f"只留出了 {rows} 条数据，不足以比较损失"
        )
    if interval.low > 0:
        return "got worse", Said(
            "the held-out loss rose, by more than chance explains", "留出损失上升，超出了偶然的范围"
        )
    if interval.high >= 0:
        return "hardly changed", Said(
            "the held-out loss moved no more than chance explains", "留出损失的变化没有超出偶然的范围"
        )
    if same:
        return "hardly changed", Said(
            "the held-out loss fell, but every answer is what it was before",
            "留出损失下降了，但每个回答都和训练前一样",
        )
    return "learnt", Said(
        "the held-out loss fell, by more than chance explains", "留出损失下降，超出了偶然的范围"
    )


def _cautions(rows: int, interval: Interval | None) -> Iterator[Said]:
    """Yield what few held-out rows cannot show."""
    if interval is not None and rows < FEW_ROWS:
        half = (interval.high - interval.low) / 2
        yield Said(
            f"only {rows} rows are held out: differences below {half:.2g} mean nothing, and other rows may differ more",
            f"只留出了 {rows} 条数据：小于 {half:.2g} 的差别没有意义，换一批数据可能差得更多",
        )


def _advice(kind: Kind, training: TrainingSeen, rows: int) -> Iterator[Advice]:
    """Yield what to type next, the likeliest remedy first."""
    if kind == "not measured":
        yield _more_held_out(training)
    elif kind == "got worse":
        yield from _slower(training, RATE_FACTOR, Said("smaller steps", "用更小的步子"))
    elif kind == "hardly changed":
        yield from _learn_more(training)
    elif training.best_is_last and rows:
        yield _longer(training, Said("the loss was still falling at the end", "结束时损失还在下降"))


def _learn_more(training: TrainingSeen) -> Iterator[Advice]:
    """Yield what makes a run learn more that changed hardly anything."""
    fitted = training.last_loss < training.first_loss * (1 - SAME_FIT)
    if not fitted:
        yield from _other_rate(training)
        yield _longer(training, Said("more steps", "训练更久"))
    elif training.best_is_last:
        yield _longer(training, Said("the loss was still falling", "损失还在下降"))
        if not _is_too_high(training.lr * RATE_FACTOR, training):
            yield Advice(_rate(training.lr * RATE_FACTOR), Said("larger steps", "用更大的步子"))
    else:
        why = Said(
            "the rows trained on were learnt, and nothing that carries over to others: "
            "slower steps, or more and more varied rows",
            "学会了训练数据，却没有推广到其他数据：放慢步子，或者增加更多样的数据",
        )
        yield from _slower(training, RATE_FACTOR, why)
        if training.stopped_by:
            yield _longer(training, Said("more steps", "训练更久"))


def _longer(training: TrainingSeen, why: Said) -> Advice:
    """Return the setting for a longer run; the reason is the person's own early stopping if that ended this one."""
    own = training.stopped_by
    return Advice(
        training.longer, Said(f"{own} ended the run early", f"{own} 让训练提前结束") if own else why
    )


def _rate(lr: float) -> str:
    return f"train.lr={lr:.2g}"


def _is_too_high(lr: float, training: TrainingSeen) -> bool:
    """Return whether a rate is higher than the method needs on any data."""
    return lr > HIGHEST_RATE * training.suggested_lr


def _other_rate(training: TrainingSeen) -> Iterator[Advice]:
    """Yield a rate for rows that were not learnt: a higher one, or the method's suggestion if this one is far off."""
    too_low = training.lr * HIGHEST_RATE < training.suggested_lr
    if not too_low and not _is_too_high(training.lr * RATE_FACTOR, training):
        why = Said("the rows trained on were not learnt either", "训练用的数据本身也没有学到")
        yield Advice(_rate(training.lr * RATE_FACTOR), why)
    else:
        yield _suggested_rate(training)


def _suggested_rate(training: TrainingSeen) -> Advice:
    side, zh = ("above it", "远高于它") if training.lr > training.suggested_lr else ("below it", "远低于它")
    why = Said(
        f"the method's own rate for this model: yours is far {side}",
        f"该方法在此模型上的建议值，你的设置{zh}",
    )
    return Advice(_rate(training.suggested_lr), why)


def _slower(training: TrainingSeen, divisor: float, why: Said) -> Iterator[Advice]:
    """Yield a lower rate to try: the method's suggestion if this one is far above it."""
    if _is_too_high(training.lr, training):
        yield _suggested_rate(training)
    else:
        yield Advice(_rate(training.lr / divisor), why)


def _more_held_out(training: TrainingSeen) -> Advice:
    """Return how to hold out enough rows."""
    if training.more_held_out:
        return Advice(
            training.more_held_out, Said("holds out enough rows to compare", "留出足够的数据来比较")
        )
    if training.held_out_file:
        return Advice(
            "", Said("more rows in the held-out file: ten or more", "留出文件里要有更多数据：十条以上")
        )
    why = Said(
        "more rows of data: these are too few, or too many of them equal, to spare some for a comparison",
        "需要更多数据：现有的太少，或者相同的太多，分不出一部分来比较",
    )
    return Advice("", why)


def _forgot(panel: PanelScore | None, training: TrainingSeen) -> Iterator[Advice]:
    """Yield what reduces forgetting, if general questions are no longer answered right."""
    if panel is None or not panel.lost:
        return
    if training.more_replay:
        why = Said("general rows mixed in, so that less is forgotten", "混入（更多）通用数据，减少遗忘")
        yield Advice(training.more_replay, why)
    else:
        why = Said("smaller steps, so that less is forgotten", "用更小的步子，减少遗忘")
        yield from _slower(training, RATE_FACTOR, why)


def _each_once(advice: Sequence[Advice]) -> tuple[Advice, ...]:
    """Return the advice with only the first value for each setting."""
    by_setting: dict[str, Advice] = {}
    for one in advice:
        by_setting.setdefault(one.word.partition("=")[0], one)
    return tuple(by_setting.values())


def lines(fields: Mapping[str, Any], chinese: bool = False) -> list[str]:
    """Return the lines below the verdict, from `as_fields`: evidence, cautions and what to type."""
    language = 1 if chinese else 0
    change = fields["change"]
    made = [fields["because"][language]]
    if change:
        numbers = [f"{change[key]:+.3f}" for key in ("change", "low", "high")]
        made.append(
            f"留出损失变化 {numbers[0]}（95% 区间 {numbers[1]} 到 {numbers[2]}，{fields['rows']} 条）"
            if chinese
            else f"held-out loss {numbers[0]} (95% interval {numbers[1]} to {numbers[2]}, {fields['rows']} rows)"
        )
    if fields["answers"]:
        count, asked = fields["answers_changed"], fields["answers"]
        made.append(
            f"{asked} 个回答中有 {count} 个变了" if chinese else f"{count} of {asked} answers changed"
        )
    if fields["general"]:
        still, before = fields["general"]
        lost = ("；" if chinese else "; ").join(fields["lost"])
        text = (
            f"基座答对的 {before} 个常识问题，现在仍答对 {still} 个"
            if chinese
            else f"{still} of {before} general questions that the base answers right are still answered right"
        )
        made.append(
            text
            + (
                f"{'，不再答对' if chinese else '; no longer'}{'：' if chinese else ': '}{lost}"
                if lost
                else ""
            )
        )
    made += [caution[language] for caution in fields["cautions"]]
    next_, try_, colon = ("下次", "下次试试", "：") if chinese else ("next", "next, try", ": ")
    for advice in fields["advice"]:
        begun = f"{try_} {advice['word']}" if advice["word"] else next_
        made.append(f"{begun}{colon}{advice['why'][language]}")
    return made
