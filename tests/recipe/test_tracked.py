"""What trackers are given: settings, and no row or question of the user's, as trackers may send them elsewhere."""

from __future__ import annotations

from weitiao.recipe.recipe import parse_recipe
from weitiao.recipe.train import settings_for_trackers


def test_rows_and_questions_are_counted_and_not_given() -> None:
    rows = [{"instruction": "my secret", "output": "told to nobody"}] * 3
    recipe = parse_recipe(
        {
            "model": "tiny",
            "data": {"sources": [{"rows": rows}, "my.json"]},
            "evaluate": {"questions": ["is it secret?"]},
            "out": "o",
        }
    )
    given = settings_for_trackers(recipe)
    assert "secret" not in str(given) and "nobody" not in str(given)
    assert "3 rows given from Python" in str(given["data.sources"])
    assert "my.json" in str(given["data.sources"])
    assert given["evaluate.questions"] == "1 question"
    assert given["train.batch_size"] == recipe.train.batch_size
