"""Detects the format of rows from their columns and values; if several formats fit, the user is asked to choose."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from difflib import SequenceMatcher
from functools import cache
from typing import NamedTuple

from ...core.errors import DataError, Problem, nearest
from ...core.lists import name_list
from ..conversation import Row
from . import FORMATS
from ._base import EVERY_FORMAT_READS, Format
from ._fields import is_empty
from ._known import MEANINGS, PROMPT_TEXT

LAST_RESORT = "data.columns.instruction=QUESTION data.columns.output=ANSWER"
SHOWN_PROPOSALS = 2
MOST_COLUMNS = 12
NOT_PLAIN = re.compile(r"[\s'$`&|;()<>*?!#\\]")
"""Characters that must be quoted in a shell."""
SURELY_MEANT, PERHAPS_MEANT = 0.8, 0.7
"""The least similarity (0 to 1) of two spellings for one to be a misspelling of the other: for a slip in the columns of
a known format, and to match a column at all."""
SURE, LEAST_DOUBT = 0.1, 0.11
"""The largest doubt of a sure match (the same name except for case, or a known synonym), and the least doubt of a match
by similar spelling."""
DOUBT_APART = 0.1
"""Proposals whose doubt exceeds that of the best one by more than this are not shown."""
Meant = Mapping[str, tuple[str, float]]
"""Our column -> (their column that may be meant, doubt from 0 to 1)."""

SYNONYMS: Mapping[str, Sequence[str]] = {
    "instruction": name_list(
        "指令 问题 提问 任务 题目 用户输入 问 q user human instruct task_description user_input"
    ),
    "input": name_list("输入 补充 上下文"),
    "output": name_list("输出 回答 答案 回复 答复 答 a bot gpt assistant target ai_output model_output"),
    "system": name_list("系统 系统提示 系统提示词 system_message sys"),
    "history": name_list("历史 对话历史"),
    "question": name_list("问题 提问 题目 问 q"),
    "answer": name_list("答案 回答 正确答案 答 a solution"),
    "prompt": name_list("提示 提示词"),
    "completion": name_list("续写 补全"),
    "response": name_list("回应 回复 assistant_response"),
    "context": name_list("上下文 背景 材料 文章"),
    "messages": name_list("消息 对话 dialog chat turns"),
    "conversations": name_list("会话"),
    "text": name_list("文本 正文 文字 sentence_text body"),
    "content": name_list("内容"),
    "label": name_list("标签 类别 分类 class category"),
    "labels": name_list("多标签 classes categories"),
    "chosen": name_list("优选 更好 较好 好回答 preferred better winner"),
    "rejected": name_list("拒绝 较差 更差 差回答 dispreferred worse loser"),
    "choices": name_list("选项 候选"),
    "options": name_list("选项"),
    "source": name_list("原文 源文 源语言"),
    "target": name_list("译文 目标 目标语言"),
    "article": name_list("文章 原文"),
    "summary": name_list("摘要 总结 概要"),
    "premise": name_list("前提"),
    "hypothesis": name_list("假设"),
    "tokens": name_list("词 分词 字"),
    "tags": name_list("标注 词性"),
    "entities": name_list("实体"),
    "reward": name_list("奖励 得分"),
    "rewards": name_list("奖励"),
    "task": name_list("任务类型"),
}
"""A column's name -> its synonyms in other data sets, in English and Chinese."""


@dataclass(frozen=True)
class Detected:
    """The format of some rows, and how it was found."""

    format: str
    """The format's name."""
    reason: str
    """Why it was chosen, in one sentence."""
    proposals: tuple[str, ...] = ()
    """Settings to type if an unknown column seems to be one that the format reads."""
    columns: Mapping[str, str] = field(default_factory=dict)
    """Our column -> theirs, for sure matches: the same word in another case or language, or a known synonym."""


@cache
def load_formats() -> Mapping[str, Format]:
    """Return every format, by name."""
    return {name: FORMATS.load(name)() for name in FORMATS.names()}


def known_columns() -> set[str]:
    """Return every column that any format reads."""
    return {column for one in load_formats().values() for column in one.columns} | set(EVERY_FORMAT_READS)


@cache
def known_names() -> frozenset[str]:
    """Return the columns that any format reads and their synonyms, in lower case."""
    words = {word for names in SYNONYMS.values() for word in names}
    return frozenset({name.lower() for name in known_columns()} | words)


def detect(
    columns: set[str], sample: Sequence[Row], wanted: str = "auto", mapping: Mapping[str, str] | None = None
) -> Detected:
    """Return the format of rows with `columns`, named as in their file; raises DataError if none or several fit.

    `sample` holds the first rows, as read; `wanted` is the format the user named, or auto; `mapping` is `data.columns`.
    """
    given, mapping = mapping or {}, dict(mapping or {})
    formats = load_formats()
    names, renamed = _renamed(columns, sample, mapping)
    if wanted == "auto" and not _claims(formats, names, renamed):
        mapping |= _surely_meant(formats, names)
    elif wanted != "auto" and not formats[wanted].claims(names):
        mapping |= _surely_meant({wanted: formats[wanted]}, names)
    names, renamed = _renamed(columns, sample, mapping)
    claims = _claims(formats, names, renamed)
    if wanted == "auto" and not claims and (empty := _would_claim(formats, columns, sample, mapping)):
        raise DataError(empty)
    name = wanted if wanted != "auto" else _one_standing(formats, claims, sample, names)
    mapping |= _sure_slips(formats[name], names)
    added = {ours: theirs for ours, theirs in mapping.items() if ours not in given}
    if wanted != "auto":
        reason = "data.sources names it"
    else:
        others = [other for other in claims if other != name]
        there = {ours: theirs for ours, theirs in mapping.items() if theirs in columns}
        reason = _because(formats[name], claims[name], others, there)
    names, _ = _renamed(columns, sample, mapping)
    proposals = (
        _slips(formats[name], names)
        if formats[name].claims(names)
        else _proposals({name: formats[name]}, names)
    )
    return Detected(name, f"{name}, because {reason}", proposals, added)


def _renamed(
    columns: set[str], sample: Sequence[Row], mapping: Mapping[str, str]
) -> tuple[set[str], list[Row]]:
    """Return columns and rows under weitiao's names; a column of a known meaning is left out if it is empty in every
    row."""
    rows = [rename(row, mapping) for row in sample]
    names = set(rename(Row(dict.fromkeys(columns), "", 1), mapping).fields)
    if not rows:
        return names, rows
    empty = {name for name in names & MEANINGS.keys() if all(is_empty(row.fields.get(name)) for row in rows)}
    return names - empty, rows


def _would_claim(
    formats: Mapping[str, Format], columns: set[str], sample: Sequence[Row], mapping: Mapping[str, str]
) -> Problem | None:
    """Return the problem of columns by which a format would claim the rows if they were not empty; None if there are
    none."""
    whole = set(rename(Row(dict.fromkeys(columns), "", 1), mapping).fields)
    names, renamed = _renamed(columns, sample, mapping)
    claims = {name: by - names for name, by in _claims(formats, whole, renamed).items() if by - names}
    if not claims:
        return None
    name = _standing(formats, _claims(formats, whole, renamed))[0]
    empty = ", ".join(sorted(claims.get(name) or next(iter(claims.values()))))
    remedy = (
        f"fill in {empty}; data.columns.completion=chosen trains only the better answers"
        if "chosen" in names
        else f"fill in {empty}"
    )
    return Problem(
        f"the column {empty} is empty in every row of {sample[0].source}",
        ", ".join(sorted(whole)),
        f"{name}: {', '.join(sorted(formats[name].claimed(whole)))}, each filled in at least one row",
        remedy,
    )


def _one_standing(
    formats: Mapping[str, Format],
    claims: Mapping[str, frozenset[str]],
    sample: Sequence[Row],
    names: set[str],
) -> str:
    """Return the only format left after `_standing`; raises DataError if none or several are left."""
    standing = _standing(formats, claims)
    if len(standing) != 1:
        raise DataError(_asking(sample, names, {name: claims[name] for name in standing}))
    return standing[0]


def _because(one: Format, claimed: frozenset[str], others: Sequence[str], mapping: Mapping[str, str]) -> str:
    """Return why a format was chosen, over which others and with which mapped columns."""
    used = ((ours, theirs) for ours, theirs in mapping.items() if ours in one.columns)
    reason = ", ".join([one.reason(claimed), *(f"{ours} being its {theirs!r}" for ours, theirs in used)])
    more = f"which says more than {' or '.join(others)}"
    return f"{reason} ({more})" if others else reason


def displaced_by(mapping: Mapping[str, str], fields: Mapping[str, object]) -> list[str]:
    """Return the columns that are not empty but not read, because a mapping gives their name to another column."""
    theirs = set(mapping.values())
    return [
        ours
        for ours, their in mapping.items()
        if ours not in theirs and their in fields and not is_empty(fields.get(ours))
    ]


def rename(row: Row, mapping: Mapping[str, str]) -> Row:
    """Return a row with its columns renamed to weitiao's names; a column that is missing stays missing."""
    if not mapping:
        return row
    theirs = {their: our for our, their in mapping.items()}
    # A column that already has the name another column is mapped to is dropped.
    taken = {our for our, their in mapping.items() if their in row.fields}
    kept = {name: value for name, value in row.fields.items() if name in theirs or name not in taken}
    return replace(row, fields={theirs.get(name, name): value for name, value in kept.items()})


def _claims(
    formats: Mapping[str, Format], columns: set[str], sample: Sequence[Row]
) -> dict[str, frozenset[str]]:
    claimed = {name: one.claimed(columns) for name, one in formats.items()}
    return {name: by for name, by in claimed.items() if by and formats[name].claims_rows(sample)}


def _standing(formats: Mapping[str, Format], claims: Mapping[str, frozenset[str]]) -> list[str]:
    """Return the formats of highest rank whose claimed columns are no proper subset of another's."""
    highest = max((formats[name].rank for name in claims), default=0)
    best = {name: by for name, by in claims.items() if formats[name].rank == highest}
    return [name for name, by in best.items() if not any(by < other for other in best.values())]


def _asking(sample: Sequence[Row], columns: set[str], claims: Mapping[str, frozenset[str]]) -> Problem:
    """Return the problem of columns that fit no format or several, with the expected columns and a remedy."""
    formats = load_formats()
    got = _listed(sorted(set().union(*(row.fields for row in sample)) or columns))
    name = sample[0].source if sample else "the data"
    if claims:
        expected = "\n".join(f"{n}: {_example(formats[n])}" for n in claims)
        reasons = "; ".join(f"{n}: {formats[n].reason(by)}" for n, by in claims.items())
        remedy = " or ".join(f"format: {n}" for n in claims) + ", under the source in data.sources"
        what = f"the rows of {name} fit more than one format ({reasons})"
        return Problem(what, got, expected, remedy)
    proposals = _proposals(formats, columns)[:SHOWN_PROPOSALS]
    remedy = " or ".join(proposals) if proposals else f"name your columns, such as {LAST_RESORT}"
    nearest_one, missing = _nearest_format(formats, columns)
    what = (
        f"the columns of {name} fit no format; the nearest is {nearest_one}, and {missing} is missing"
        if missing
        else f"the columns of {name} fit no format"
    )
    return Problem(what, got, _example(formats[nearest_one]), remedy)


def _example(one: Format) -> str:
    """Return a format's columns and its example row, for a message."""
    return f"{', '.join(sorted(one.claimed(set(json.loads(one.example)))))}, as in {one.example}"


def _listed(columns: Sequence[str]) -> str:
    """Return columns as text; if there are many, only the first ones and how many more."""
    more = len(columns) - MOST_COLUMNS
    shown = ", ".join(columns[:MOST_COLUMNS])
    return f"{shown} and {more} more" if more > 0 else shown


def _nearest_format(formats: Mapping[str, Format], columns: set[str]) -> tuple[str, str]:
    """Return the format with the smallest share of missing columns, and these columns; likely matches count as present.

    If no column belongs to any format, returns the format that `LAST_RESORT` names, and "".
    """
    completed = _ways_completed(formats, columns)
    if completed:
        return completed[0].name, ", ".join(completed[0].matched)
    begun = [
        (len(way - columns) / len(way), -one.rank, len(way), name, sorted(way - columns))
        for name, one in formats.items()
        for way in one.ways
        if way & columns and way - columns
    ]
    if not begun:
        named = set(re.findall(r"columns\.(\w+)=", LAST_RESORT))
        return next(name for name, one in formats.items() if any(way <= named for way in one.ways)), ""
    *_, name, missing = min(begun)
    return name, ", ".join(missing)


class Completed(NamedTuple):
    """A format whose columns a mapping would complete."""

    name: str
    matched: Meant
    doubt: float


def _ways_completed(formats: Mapping[str, Format], columns: set[str]) -> list[Completed]:
    """Return, for each format, the mapping that would complete it, sorted by doubt, then by rank times columns."""
    found: list[tuple[float, int, str, Meant]] = []
    for name, one in formats.items():
        ways = [(matched, len(way)) for way in one.ways if (matched := _completed(way, columns))]
        if ways:
            matched, size = min(ways, key=lambda way: (_doubt(way[0]), -way[1]))
            found.append((_doubt(matched), -one.rank * size, name, matched))
    found.sort(key=lambda proposal: proposal[:3])
    return [Completed(name, matched, doubt) for doubt, _, name, matched in found]


def _proposals(formats: Mapping[str, Format], columns: set[str]) -> tuple[str, ...]:
    """Return mappings that would complete a format, the surest first, as settings to type.

    A mapping whose columns all appear in an earlier one is left out.
    """
    found = _ways_completed(formats, columns)
    typed: list[str] = []
    spoken_for: list[set[str]] = []
    for name, matched, doubt in found:
        theirs = {column for column, _ in matched.values()}
        if doubt <= found[0].doubt + DOUBT_APART and not any(theirs <= others for others in spoken_for):
            order = formats[name].columns.index
            typed.append(" ".join(_typed(ours, matched[ours][0]) for ours in sorted(matched, key=order)))
            spoken_for.append(theirs)
    return tuple(typed)


def _surely_meant(formats: Mapping[str, Format], columns: set[str]) -> dict[str, str]:
    """Return the mapping that completes a format with sure matches only; empty if there is none."""
    found = _ways_completed(formats, columns)
    sure = [one for one in found if one.doubt <= SURE]
    return {ours: theirs for ours, (theirs, _) in sure[0].matched.items()} if sure else {}


def _sure_slips(one: Format, columns: set[str]) -> dict[str, str]:
    """Return a mapping of sure matches for prompt columns (and `task`) that the format reads and the data lacks."""
    free = columns - known_columns()
    found: dict[str, str] = {}
    for ours in (*one.columns, *EVERY_FORMAT_READS):
        if ours not in columns and (ours in PROMPT_TEXT or ours in EVERY_FORMAT_READS):
            theirs, doubt = _meant(ours, free)
            if theirs and doubt <= SURE:
                found[ours] = theirs
                free = free - {theirs}
    return found


def _doubt(matched: Meant) -> float:
    return max(doubt for _, doubt in matched.values())


def _typed(ours: str, theirs: str) -> str:
    """Return a mapping as it is typed into a shell."""
    setting = f"data.columns.{ours}={theirs}"
    return f'"{setting}"' if NOT_PLAIN.search(setting) else setting


def _completed(way: frozenset[str], columns: set[str]) -> Meant:
    """Return the likely match and its doubt for each column of `way` that is missing; empty if one has no match."""
    matched: dict[str, tuple[str, float]] = {}
    free = columns - way
    for ours in sorted(way - columns):
        theirs, doubt = _meant(ours, free)
        if not theirs:
            return {}
        matched[ours] = (theirs, doubt)
        free = free - {theirs}
    return matched


def _meant(ours: str, columns: set[str]) -> tuple[str, float]:
    """Return the column that may be meant by `ours`, and the doubt from 0 to 1; ("", 1.0) if none is similar."""
    plain = {_plain(theirs): theirs for theirs in sorted(columns)}
    if ours.lower() in plain:
        return plain[ours.lower()], 0.0
    for synonym in SYNONYMS.get(ours, ()):
        if synonym in plain:
            return plain[synonym], 0.1
    for near in nearest(ours, plain, count=1):
        alike = SequenceMatcher(None, ours, near).ratio()
        if alike >= PERHAPS_MEANT and plain[near] not in known_columns():
            return plain[near], max(1 - alike, LEAST_DOUBT)
    return "", 1.0


def _plain(name: str) -> str:
    """Return a column's name normalised: lower case, underscores, no quotes, colons, asterisks or byte order mark."""
    return name.strip().strip("\ufeff\"'：:*").strip().lower().replace(" ", "_").replace("-", "_")


def _slips(one: Format, columns: set[str]) -> tuple[str, ...]:
    """Return mappings, as settings to type, for columns the format reads and the data seems to have misspelt."""
    free = columns - known_columns()
    meant = {ours: _meant(ours, free) for ours in (*one.columns, *EVERY_FORMAT_READS) if ours not in columns}
    return tuple(
        _typed(ours, theirs)
        for ours, (theirs, doubt) in meant.items()
        if theirs and doubt <= 1 - SURELY_MEANT
    )
