"""Settings in their short forms, and the check that needs no tokenizer: all problems at once."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from weitiao.core.errors import DataError
from weitiao.core.settings import check_settings, to_yaml
from weitiao.data.conversation import Conversation
from weitiao.data.dataset import check_data
from weitiao.data.settings import DataSettings

GOOD = {"instruction": "q", "output": "a"}


@dataclass
class Checked:
    """What checking gave, in plain lists."""

    conversations: list[Conversation]
    read: int
    bad: list[str]
    formats: dict[str, int]
    notes: list[str]


def check(data: Any, **settings: Any) -> Checked:  # noqa: ANN401  (whatever a person may write)
    """Check data given in any form."""
    gate = check_data(DataSettings(sources=data, **settings))
    forms = [gate.store.form(row) for row in range(gate.store.rows)]
    talks = [form for form in forms if isinstance(form, Conversation)]
    bad = [one["reason"] for one in gate.tally.bad]
    notes = [*gate.tally.notes, *(f"data.fill.{name}=" for name in gate.tally.unfilled)]
    return Checked(talks, gate.tally.read, bad, dict(gate.tally.formats), notes)


def problems(data: Any, **settings: Any) -> list[str]:  # noqa: ANN401
    """Return the problems that checking ends in, as a person reads them."""
    with pytest.raises(DataError) as caught:
        check(data, **settings)
    return [str(problem) for problem in caught.value.problems]


def test_short_forms_mean_the_long_one() -> None:
    long = DataSettings.model_validate({"sources": [{"path": "a.json"}]})
    for short in ("a.json", Path("a.json"), ["a.json"], [{"path": "a.json"}], {"sources": "a.json"}):
        assert DataSettings.model_validate(short) == long
    assert [s.path for s in DataSettings.model_validate(["a.json", Path("b.csv")]).sources] == [
        "a.json",
        "b.csv",
    ]
    assert DataSettings.model_validate([GOOD, GOOD]).sources[0].rows == [GOOD, GOOD]


def test_settings_read_back_from_yaml_and_are_few() -> None:
    import yaml

    made = DataSettings.model_validate(
        {"sources": ["a.json", {"path": "b.json", "weight": 2}], "fill": {"name": "小微"}}
    )
    assert DataSettings.model_validate(yaml.safe_load(to_yaml(made))) == made
    assert len(DataSettings.model_fields) <= 15
    assert all(field.description for field in DataSettings.model_fields.values())


def test_unknown_setting_and_format_name_the_right_one() -> None:
    _, found = check_settings(DataSettings, {"sources": "a.json", "max_lenght": 512}, "data")
    assert found[0].remedy == "data.max_length=512"
    with pytest.raises(ValidationError, match="did you mean alpaca"):
        DataSettings.model_validate([{"path": "a.json", "format": "alpacca"}])
    for bad in ([], [{"path": "a", "rows": []}], [{"path": "a", "weight": 0}]):
        with pytest.raises(ValidationError):
            DataSettings.model_validate({"sources": bad})
    with pytest.raises(ValidationError, match="whole"):
        DataSettings(sources="a.json", held_out=1.5)


def test_settings_import_nothing_heavy() -> None:
    heavy = "('torch', 'transformers', 'pyarrow', 'datasets')"
    code = f"import sys, weitiao.data.settings; print([m for m in {heavy} if m in sys.modules])"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"


def test_all_problems_of_all_sources_come_at_once(tmp_path: Path) -> None:
    (tmp_path / "gbk.json").write_bytes('[{"instruction": "中医理论的基础是什么"}]'.encode("gbk"))
    (tmp_path / "bad.json").write_text(
        json.dumps([GOOD, {"instruction": "q"}, {"instruction": "q"}, {**GOOD, "output": True}])
    )
    (tmp_path / "odd.json").write_text(json.dumps([{"ask": "q", "tell": "a"}]))
    names = ("gbk.json", "bad.json", "odd.json", "none.json")
    found = problems([str(tmp_path / name) for name in names], held_out_path=str(tmp_path / "none.csv"))
    assert len(found) == 6
    assert found[0].startswith("2 of 4 rows cannot be used: 'output' is missing")
    assert "bad.json, row 2" in found[0]
    assert found[1].startswith("1 of 4 rows cannot be used: 'output' must be text, not true or false")
    assert "GBK" in found[2]
    assert "ask, tell" in found[3]
    assert "instruction, output, as in " in found[3]
    assert "data.columns.instruction=" in found[3]
    assert "none.json" in found[4]
    assert "none.csv" in found[5]


def test_only_the_first_places_of_many_bad_rows_are_shown() -> None:
    (found,) = problems([{**GOOD, "output": ""}] * 9)
    assert "<python>:5" in found
    assert "<python>:6" not in found
    assert "and 4 more" in found


def test_skip_bad_rows_counts_them(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps(GOOD) + "\n{broken\n" + json.dumps({"instruction": "q"}))
    checked = check(str(path), skip_bad_rows=True)
    assert (checked.read, len(checked.conversations), len(checked.bad)) == (3, 1, 2)
    assert "no row of the data can be used" in problems([{**GOOD, "output": ""}], skip_bad_rows=True)[0]


def test_columns_that_fit_two_formats_ask_which() -> None:
    row = {**GOOD, "messages": [{"role": "user", "content": "x"}, {"role": "assistant", "content": "y"}]}
    (found,) = problems([row])
    assert "fit more than one format" in found
    assert "format: alpaca or format: messages" in found
    assert check([{"rows": [row], "format": "messages"}]).conversations[0].messages[0].content == "x"


def test_columns_are_renamed_where_they_are_met() -> None:
    theirs = [{"q": "1", "a": "2", "output": "no"}]
    checked = check([{"rows": theirs}, {"rows": [GOOD]}], columns={"instruction": "q", "output": "a"})
    assert [[m.content for m in c.messages] for c in checked.conversations] == [["1", "2"], ["q", "a"]]


def test_wrong_column_names_are_refused_with_the_nearest() -> None:
    found = problems([GOOD], columns={"instructon": "instruction", "system": "sytem"})
    assert any("data.columns.instruction=instruction" in one for one in found)
    assert any("no source has a column 'sytem'" in one for one in found)


def test_placeholders_are_filled_and_the_rest_noted() -> None:
    row = {"instruction": "who made {{ author }}?", "output": "{{name}} {{x}}"}
    checked = check([row], fill={"name": "小微", "author": "{{name}}"})
    assert [m.content for m in checked.conversations[0].messages] == ["who made {{name}}?", "小微 {{x}}"]
    assert any("data.fill.x=" in note for note in checked.notes)
    (found,) = problems([row], fill={"name": "a", "author": "b", "nmae": "c", "x": "d"})
    assert "no placeholder {{nmae}}" in found


def test_weight_of_the_source_goes_to_its_rows() -> None:
    checked = check([{"rows": [GOOD], "weight": 0.5}, {"rows": [GOOD]}])
    assert [one.draws for one in checked.conversations] == [0.5, 1.0]
    assert checked.formats == {"alpaca": 2}
