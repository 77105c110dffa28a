"""Settings of generation: what contradicts itself is refused in words, all at once."""

from __future__ import annotations

from typing import Any

import pytest

from weitiao.core.errors import SettingsError
from weitiao.core.settings import parse_settings
from weitiao.evaluation.settings import GenerationSettings


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        ({"min_new_tokens": 300}, "min_new_tokens 300 is more than max_new_tokens 256"),
        ({"num_return_sequences": 2}, "num_return_sequences 2 needs temperature above 0"),
        ({"num_beams": 2, "num_return_sequences": 3}, "num_beams 2 is less than num_return_sequences 3"),
        ({"top_p": 0.9}, "need temperature above 0"),
        ({"top_k": 5}, "need temperature above 0"),
        ({"stop": ["a", ""]}, "an empty stop text"),
        ({"temperature": -1}, "temperature"),
        ({"temprature": 1}, "temperature"),
        ({"max_tokens": 5}, "max_new_tokens"),
    ],
)
def test_what_contradicts_itself_is_refused(raw: dict[str, Any], words: str) -> None:
    with pytest.raises(SettingsError) as caught:
        parse_settings(GenerationSettings, raw)
    assert words in str(caught.value)


def test_all_contradictions_are_told_at_once() -> None:
    with pytest.raises(SettingsError) as caught:
        parse_settings(GenerationSettings, {"min_new_tokens": 300, "top_p": 0.5, "num_return_sequences": 2})
    for words in ("min_new_tokens", "top_p", "num_return_sequences"):
        assert words in str(caught.value)


@pytest.mark.parametrize(
    ("raw", "streams"),
    [
        ({}, True),
        ({"temperature": 0.7, "top_p": 0.9, "top_k": 20}, True),
        ({"num_beams": 3}, False),
        ({"num_beams": 3, "num_return_sequences": 3}, False),
        ({"temperature": 1, "num_return_sequences": 3}, False),
    ],
)
def test_what_fits_is_taken_and_says_whether_it_streams(raw: dict[str, Any], streams: bool) -> None:
    assert parse_settings(GenerationSettings, raw).streams is streams


def test_one_stop_text_needs_no_list() -> None:
    assert parse_settings(GenerationSettings, {"stop": "END"}).stop == ["END"]
