"""How many rows are held out: what leaves none or few to train on is refused or said, with a value that works."""

from __future__ import annotations

from pathlib import Path

import pytest

from weitiao.core.errors import DataError, SettingsError
from weitiao.core.locale import in_language
from weitiao.core.settings import parse_settings
from weitiao.data.dataset import check_data
from weitiao.data.gate.gate import Gate, open_data
from weitiao.data.settings import DataSettings

ROWS = [{"question": f"What is number {n}?", "answer": f"It is the number {n * n}."} for n in range(40)]


def gate(held_out: object, rows: list[dict[str, str]] = ROWS) -> Gate:
    """Look at rows with a setting of held_out."""
    return open_data(parse_settings(DataSettings, {"sources": [{"rows": rows}], "held_out": held_out}))


@pytest.mark.parametrize("held_out", [40, 500, 41.0])
@pytest.mark.parametrize("rows", [ROWS, ROWS[:2], ROWS[:1], ROWS[:1] * 30, ROWS[:1] * 30 + ROWS[:3]])
def test_holding_out_every_row_is_refused_with_a_value_that_works(
    held_out: float, rows: list[dict[str, str]]
) -> None:
    settings = DataSettings(sources=[{"rows": rows}], held_out=held_out)
    with pytest.raises(DataError) as refused:
        check_data(settings)
    (problem,) = refused.value.problems
    assert f"data.held_out={held_out:g} of {len(rows)} rows" in problem.got
    setting, _, value = problem.remedy.partition("=")
    assert setting == "data.held_out"
    assert not gate(value if value == "auto" else int(value), rows).problems


@pytest.mark.parametrize("held_out", [1.5, 20.25])
def test_part_of_a_row_is_refused_with_a_value_that_works(held_out: float) -> None:
    with pytest.raises(SettingsError) as refused:
        gate(held_out)
    (problem,) = refused.value.problems
    setting, _, value = problem.remedy.partition("=")
    assert setting == "data.held_out"
    assert not gate(int(value)).problems


@pytest.mark.parametrize(("held_out", "trained"), [(0.99, 1), (39, 1), (21, 19), (0.75, 10)])
def test_more_rows_held_out_than_trained_on_are_a_warning(held_out: float, trained: int) -> None:
    (found,) = [one for one in gate(held_out).findings if one.check == "held_out"]
    assert (found.severity, found.count) == ("warning", 40 - trained)
    assert f"{trained} of 40 are trained on" in found.what
    assert f"只训练 {trained} 条" in in_language(found.what, "zh")
    assert found.fix == "data.held_out=auto"


@pytest.mark.parametrize("held_out", ["auto", 0, 1, 20, 0.5])
def test_other_numbers_are_no_finding(held_out: float | str) -> None:
    assert not [one for one in gate(held_out).findings if one.check == "held_out"]


def test_a_large_file_of_its_own_is_no_finding(tmp_path: Path) -> None:
    path = tmp_path / "held.jsonl"
    path.write_text("\n".join(f'{{"question": "Q{n}?", "answer": "A{n}"}}' for n in range(90)))
    found = open_data(DataSettings(sources=[{"rows": ROWS}], held_out_path=path)).findings
    assert not [one for one in found if one.check == "held_out"]
