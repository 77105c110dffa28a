"""Caches layouts by a conversation's shape: the template runs once per shape, then contents are filled in.

The shape is the sequence of roles, weights and extra keys. A plan is a layout with stand-ins for the contents, and the
conditions under which it holds.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from ..conversation import Message
from ..formats._base import RowError
from .spans import Renderer, WeightedText, first_difference
from .template_trace import MARK, Trace, Traced, TraceStep, Untraceable, filled, parsed, untraced

if TYPE_CHECKING:
    from .spans import Masks

MOST_SHAPES = 500
MOST_PLANS = 8
"""Plans of one shape: one per combination of answers to the template's conditions (see template_trace.py)."""
STANDS = MARK.pattern.strip("()")


@dataclass(frozen=True)
class Plan:
    """The layouts of rows of one shape, valid while its conditions hold."""

    trace: Trace
    layouts: tuple[tuple[tuple[tuple[str | int, ...], ...], tuple[float, ...]], ...]
    """For each layout its pieces' texts, with stand-ins for contents, and their weights."""

    def of(self, texts: Sequence[str]) -> list[WeightedText] | None:
        """Return a row's layouts, or None if a condition fails."""
        values = self.trace.holds_for(texts)
        return None if values is None else [_filled(*one, values) for one in self.layouts]


class Plans:
    """The plans of one template with one choice of masks."""

    def __init__(self, renderer: Renderer, stops: Iterable[str]) -> None:
        """Take a renderer, and the tokens that end an answer."""
        self._plain = renderer
        self._tracing = replace(renderer, begins=_surely_begins)
        stops = list(stops)
        self._stop = renderer.stop
        self._unsafe = _across_borders(stops)
        self._plans: dict[Any, list[Plan]] = {}

    def layouts(self, messages: Sequence[Message]) -> list[WeightedText]:
        """Return a conversation's layouts; raises RowError if the template refuses it."""
        shape = _shape(messages, self._plain.masks)
        if shape is None:
            return self._plain.layouts(messages)
        texts = _texts(messages)
        known = self._plans.get(shape)
        if known is None:
            # The first time a shape occurs, render it directly: a plan pays off only when the shape occurs again.
            if len(self._plans) < MOST_SHAPES:
                self._plans[shape] = []
            return self._plain.layouts(messages)
        for plan in known:
            made = plan.of(texts)
            if made is not None:
                return made
        if len(known) < MOST_PLANS:
            known.append(self._plan(messages, texts))
            made = known[-1].of(texts)
        return self._plain.layouts(messages) if made is None else made

    def _plan(self, messages: Sequence[Message], texts: Sequence[str]) -> Plan:
        """Trace the template and return a plan; if tracing fails, one with a condition that never holds."""
        trace = Trace(list(texts))
        try:
            layouts = self._tracing.layouts(_with_stand_ins(messages, trace.stand_ins()))
            written = [untraced("".join(map(untraced, layout.texts))) for layout in layouts]
            made = ["".join(_shown(step.text)) for step in trace.steps if step.makes]
            if any(self._unsafe.search(text) for text in written) or any(map(self._stop.search, made)):
                raise Untraceable("an end token could come about at the border of a content")
        except (Untraceable, RowError):
            return Plan(Trace([], [_NEVER]), ())
        pieces = [tuple(parsed(untraced(text)) for text in layout.texts) for layout in layouts]
        plan = Plan(trace, tuple((own, layout.weights) for own, layout in zip(pieces, layouts, strict=True)))
        # A template may itself contain characters used as stand-ins, so the plan is checked on this row.
        return plan if plan.of(texts) == self._plain.layouts(messages) else Plan(Trace([], [_NEVER]), ())


_NEVER = TraceStep((), bool, (), True)  # bool("") is never True


def _surely_begins(text: str, prefix: str) -> bool:
    """Return whether a text begins with another, for any contents; raises Untraceable if it depends on them."""
    text, prefix = untraced(text), untraced(prefix)
    if text.startswith(prefix):
        return True
    at = first_difference(text, prefix)
    if MARK.match(text, at) or MARK.match(prefix, at):
        raise Untraceable("whether earlier turns stay depends on the contents")
    return False


def _across_borders(stops: Sequence[str]) -> re.Pattern[str]:
    """Return a pattern that finds where a content and the text next to it could together spell a stop token."""
    ends = "|".join(re.escape(stop[k:]) for stop in stops for k in range(1, len(stop)))
    begins = "|".join(re.escape(stop[:k]) for stop in stops for k in range(1, len(stop)))
    return re.compile(f"{STANDS}(?:{ends or '(?!)'})|(?:{begins or '(?!)'}){STANDS}|{STANDS}{{2}}")


def _shape(messages: Sequence[Message], masks: Masks) -> Any:  # noqa: ANN401  (a key; None for what has no plan)
    if masks.reasoning == "mask":
        return None
    shape: list[Any] = []
    for message in messages:
        if message.extra:
            if not all(isinstance(value, str) for value in message.extra.values()):
                return None
            shape.append(tuple(message.extra))
        if message.weight is not None and message.role != "assistant":
            return None
        shape.append((message.role, message.weight))
    return tuple(shape)


def _texts(messages: Sequence[Message]) -> list[str]:
    texts: list[str] = []
    for message in messages:
        texts.append(message.content)
        if message.extra:
            texts += message.extra.values()
    return texts


def _with_stand_ins(messages: Sequence[Message], stand_ins: Sequence[Traced]) -> list[Message]:
    given = iter(stand_ins)
    return [replace(m, content=next(given), extra={name: next(given) for name in m.extra}) for m in messages]


def _shown(text: tuple[str | int, ...]) -> Iterable[str]:
    return ("\ufffc" if isinstance(one, int) else one for one in text)


def _filled(
    texts: tuple[tuple[str | int, ...], ...], weights: tuple[float, ...], values: Sequence[str]
) -> WeightedText:
    made = tuple([filled(text, values) for text in texts])
    if all(made):
        return WeightedText(made, weights)
    kept = [(text, weight) for text, weight in zip(made, weights, strict=True) if text]
    return WeightedText(tuple(text for text, _ in kept), tuple(weight for _, weight in kept))
