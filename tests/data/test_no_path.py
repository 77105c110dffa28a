"""An empty path is refused, and a source that says how to read but not what; neither reads the current folder."""

from __future__ import annotations

from typing import Any

import pytest

from weitiao.core.errors import SettingsError
from weitiao.core.settings import parse_settings
from weitiao.data.settings import DataSettings


@pytest.mark.parametrize("empty", ["", "  ", "\n"])
@pytest.mark.parametrize("make", [
    lambda empty: {"sources": empty},
    lambda empty: {"sources": ["a.json", empty]},
    lambda empty: {"sources": [{"path": empty, "format": "alpaca"}]},
    lambda empty: {"sources": "a.json", "held_out_path": empty},
    lambda empty: {"sources": "a.json", "replay": {"answers": empty}},
])  # fmt: skip
def test_an_empty_path_is_refused(make: Any, empty: str) -> None:  # noqa: ANN401  (whatever a run file holds)
    with pytest.raises(SettingsError) as refused:
        parse_settings(DataSettings, make(empty))
    (problem,) = refused.value.problems
    assert "the path is empty" in problem.what
    assert "a file, a folder" in problem.expected


@pytest.mark.parametrize("source", [{"take": 5}, {"format": "alpaca", "weight": 2}])
def test_settings_of_a_source_without_a_path_are_no_row(source: dict[str, object]) -> None:
    for sources in (source, [source], ["a.json", source]):
        with pytest.raises(SettingsError) as refused:
            parse_settings(DataSettings, {"sources": sources})
        assert any("a source needs either a path or rows" in one.what for one in refused.value.problems)


def test_rows_with_names_of_settings_among_others_stay_rows() -> None:
    rows = [{"task": "sums", "weight": 1.0, "question": "1 + 1?", "answer": "2"}]
    assert list(parse_settings(DataSettings, {"sources": rows}).sources[0].rows) == rows
