"""Numbers in a list are typed as people write them; what a validator refuses says what would have been right."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import model_validator

from weitiao.core.errors import SettingsError
from weitiao.core.lists import LONGEST, Numbers
from weitiao.core.settings import Settings, Unfit, parse_settings


class Blocks(Settings):
    numbers: Numbers | None = None
    """Which."""

    @model_validator(mode="after")
    def _check(self) -> Blocks:
        if self.numbers == [13]:
            raise Unfit("thirteen is unlucky", "another number", "numbers=12")
        return self


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        (3, [3]),
        ("3", [3]),
        ("0,1", [0, 1]),
        ("0, -1", [0, -1]),
        ("0-3", [0, 1, 2, 3]),
        ("-3--1", [-3, -2, -1]),
        ("0,4-6,9", [0, 4, 5, 6, 9]),
        ([1, "3-4"], [1, 3, 4]),
        ([], []),
        (None, None),
    ],
)
def test_a_list_of_numbers_is_read_as_it_is_typed(typed: Any, meant: list[int] | None) -> None:  # noqa: ANN401
    assert parse_settings(Blocks, {"numbers": typed}).numbers == meant


@pytest.mark.parametrize("typed", ["5-2", f"0-{LONGEST}", "one", "1,,2", "0-3-5", True, {"a": 1}])
def test_what_means_no_numbers_is_refused(typed: Any) -> None:  # noqa: ANN401
    with pytest.raises(SettingsError, match="numbers"):
        parse_settings(Blocks, {"numbers": typed})


def test_a_validator_says_what_would_have_been_right_and_what_to_type() -> None:
    with pytest.raises(SettingsError) as refused:
        parse_settings(Blocks, {"numbers": "13"}, "method")
    (problem,) = refused.value.problems
    assert problem.what == "method cannot be used: thirteen is unlucky"
    assert (problem.expected, problem.remedy) == ("another number", "numbers=12")
