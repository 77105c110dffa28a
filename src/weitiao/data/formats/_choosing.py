"""Columns that select or grade rows: rows marked as not to be trained on are refused, grades are only reported."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

from ...core.lists import name_list
from ..sources.split_names import SPLITS

GOOD = frozenset(
    name_list(
        "is_good good is_correct correct is_valid valid usable is_usable accepted is_accepted approved "
        "is_approved passed keep selected include included is_train 是否正确 正确 是否合格 合格 是否有效 "
        "有效 是否通过 是否可用 可用 是否保留"
    )
)
"""Columns whose value is true for rows to use."""
BAD = frozenset(
    name_list(
        "is_bad bad is_wrong wrong is_incorrect incorrect is_invalid invalid is_deleted deleted discard "
        "discarded drop exclude excluded skip ignore ignored is_duplicate is_test is_eval is_validation "
        "是否删除 删除 跳过 忽略 作废"
    )
)
"""Columns whose value is false for rows to use."""
SPLIT = frozenset(("split", "data_split", "partition", "subset", "划分", "数据划分", "数据集划分"))
GRADES = frozenset(
    name_list(
        "rating ratings quality quality_score quality_label verified is_verified human_verified toxic "
        "is_toxic toxicity confidence helpfulness correctness grade reviewed flagged duplicate 质量 质量分 "
        "评级 等级 置信度 是否审核"
    )
)
"""Columns that grade rows, or whose meaning differs between data sets."""
TRUTHS: Mapping[object, bool] = {
    **dict.fromkeys(
        (True, "true", "yes", "y", "是", "正确", "对", "合格", "有效", "通过", "good", "correct"), True
    ),
    **dict.fromkeys(
        (False, "false", "no", "n", "否", "不是", "错误", "错", "不合格", "无效", "不通过"), False
    ),
    **dict.fromkeys(("bad", "incorrect", "wrong"), False),
}
DIGITS: Mapping[object, bool] = {0: False, 1: True, "0": False, "1": True}
"""Read as booleans only in columns named is_... (是否...): `correct: 0` may be the index of the right choice."""


def chooses(name: str, value: object) -> bool | None:
    """Return whether a column marks its row as one to use; None if its name or value does not say."""
    known = known_as(name)
    if known in SPLIT:
        split = SPLITS.get(str(value).strip().lower())
        return None if split is None else split == "train"
    if known not in GOOD and known not in BAD:
        return None
    truth = _truth(value, asks=known.startswith(("is_", "是否")))
    return None if truth is None else truth is (known in GOOD)


def is_good(name: str) -> bool:
    """Return whether a column is one of those that are true for good rows."""
    return known_as(name) in GOOD


def grades(name: str) -> bool:
    """Return whether a column's name says that it grades or selects rows."""
    known = known_as(name)
    return known in GRADES or known in GOOD or known in BAD or known in SPLIT


@lru_cache(maxsize=4096)
def known_as(name: str) -> str:
    """Return a column's name in lower case with underscores, so that `isCorrect` and `Is Correct` are the same."""
    plain = name.strip().lower().replace("-", "_").replace(" ", "_")
    return f"is_{plain[2:]}" if plain[:2] == "is" and f"is_{plain[2:]}" in GOOD | BAD | GRADES else plain


def _truth(value: object, asks: bool) -> bool | None:
    plain = value.strip().lower() if isinstance(value, str) else value
    if not isinstance(plain, bool | int | float | str):
        return None
    if isinstance(plain, bool | str) and plain in TRUTHS:
        return TRUTHS[plain]
    return DIGITS.get(plain) if asks else None
