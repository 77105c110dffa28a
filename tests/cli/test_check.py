"""`weitiao check`: what it shows in both languages, with colours and without, and how it ends."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from pathlib import Path

import pytest
import yaml
from rich.console import Console
from transformers import PreTrainedTokenizerFast

from weitiao.cli import run
from weitiao.cli._gate import GatePrinter, look_of, shown_text
from weitiao.cli.check import RowProgress, read_settings
from weitiao.core.errors import SettingsError
from weitiao.core.locale import Language
from weitiao.data.gate.gate import open_data
from weitiao.data.report.html import MARKER
from weitiao.data.report.overview import overview
from weitiao.data.report.token_view import Samples, Token
from weitiao.data.settings import DataSettings

Captured = pytest.CaptureFixture[str]


def write_rows(path: Path, rows: list[Mapping[str, object]]) -> Path:
    path.write_text("\n".join(json.dumps(row, ensure_ascii=False) for row in rows), encoding="utf-8")
    return path


@pytest.fixture
def good(tmp_path: Path) -> Path:
    rows = [
        {"instruction": f"What is {n} and {n * 7}?", "output": f"It is number {n}, 第{n}个。"}
        for n in range(30)
    ]
    return write_rows(tmp_path / "good.jsonl", list(rows))


@pytest.fixture
def bad(tmp_path: Path) -> Path:
    rows = [{"instruction": "What is one?", "output": "One."}, {"instruction": "What is two?", "output": ""}]
    return write_rows(tmp_path / "bad.jsonl", list(rows))


def test_good_data_ends_in_0_and_shows_a_sample(
    good: Path, tiny_model_folder: Path, capsys: Captured
) -> None:
    assert (
        run(["check", str(good), "--model", str(tiny_model_folder), "--lang", "en", "data.held_out=5"]) == 0
    )
    shown = capsys.readouterr().out
    assert "Ready to be trained on." in shown.splitlines()[0]
    assert "30 read, 30 kept" in shown and "alpaca: " in shown
    assert "data.max_length 1024" in shown and "█" in shown
    assert "⟪It is number" in shown and "⟪⟨<|im_end|>⟩⟫" in shown and "⟨<|im_start|>⟩user↵" in shown
    assert "\x1b" not in shown


def test_a_fault_ends_in_3_with_its_place_and_remedy(bad: Path, capsys: Captured) -> None:
    assert run(["check", str(bad), "--lang", "en"]) == 3
    shown = capsys.readouterr().out
    assert shown.startswith("✗ Errors")
    assert "rows cannot be used: an answer is empty" in shown and "at bad.jsonl:2" in shown
    assert "data.skip_bad_rows=true" in shown
    assert run(["check", str(bad), "--lang", "en", "--skip-bad-rows", "data.held_out=0"]) == 0
    assert capsys.readouterr().out.startswith("! Can be trained on")


def test_all_is_said_in_chinese(bad: Path, capsys: Captured) -> None:
    assert run(["check", str(bad), "--lang", "zh"]) == 3
    shown = capsys.readouterr().out
    assert shown.startswith("✗ 有错误") and "2 读入" in shown and "处理：修正这些行" in shown
    assert "fix:" not in shown and "rows cannot" not in shown


def test_json_is_one_object_and_nothing_else(bad: Path, tiny_model_folder: Path, capsys: Captured) -> None:
    words = [
        "check",
        str(bad),
        "--json",
        "--model",
        str(tiny_model_folder),
        "--sample",
        "0",
        "--row",
        "bad.jsonl:2",
    ]
    assert run(words) == 3
    plain = json.loads(capsys.readouterr().out)
    assert plain["verdict"] == "error" and plain["read"] == 2
    assert any(finding["check"] == "reading" and finding["rows"] == [1] for finding in plain["findings"])
    first, second = plain["samples"]
    assert {token["text"] for token in first["passages"][0]["tokens"]} > {"<|im_start|>", "<|im_end|>"}
    assert second["fate"] == "bad" and second["row"] == 1


def test_html_writes_a_page_over_pages_only(bad: Path, tmp_path: Path, capsys: Captured) -> None:
    path = tmp_path / "report.html"
    for _ in range(2):
        assert run(["check", str(bad), "--html", str(path)]) == 3
    assert MARKER in path.read_text(encoding="utf-8")
    before = bad.read_bytes()
    assert run(["check", str(bad), "--html", str(bad)]) == 2
    assert "not overwritten" in capsys.readouterr().err and bad.read_bytes() == before


def test_rows_that_are_not_there_are_told_at_once(good: Path, capsys: Captured) -> None:
    assert run(["check", str(good), "--sample", "99", "--row", "good.jsonl:77", "--row", "x.json:1"]) == 3
    shown = capsys.readouterr().err
    assert shown.startswith("3 problems:") and "a line from 1 to 30" in shown


def test_a_run_file_gives_data_model_and_seed(good: Path, bad: Path, tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    content = {
        "model": "tiny",
        "data": {"sources": [str(bad)], "max_length": 64},
        "train": {"seed": 7},
        "out": "o",
    }
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    data, model, seed = read_settings([str(path), "data.held_out=3"], None)
    assert (data.max_length, data.held_out, data.sources[0].path, seed) == (64, 3, str(bad), 7)
    assert model is not None and model.name == "tiny"
    data, model, _ = read_settings([str(path), str(good)], "other")
    assert data.sources[0].path == str(good) and model is not None and model.name == "other"


def test_a_file_with_an_equals_sign_is_a_file(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "a=b.jsonl", [{"instruction": "Who?", "output": "Me."}])
    assert read_settings([str(path)], None)[0].sources[0].path == str(path)


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        ([], "no data is named"),
        (["max_samples=5"], "no data is named"),
        (["data.sources.format=alpaca"], "no data is named"),
        ([""], "the path is empty"),
        (["x.json", 'eval_dataset=""'], "the path is empty"),
        (["x.json", "max_lenght=3"], "data.max_length=3"),
        (["x.json", "data.max_lenght=3"], "data.max_length"),
        (["no-such-run.yaml"], "the run file does not exist"),
    ],
)
def test_what_cannot_be_read_is_said(words: list[str], shown: str) -> None:
    with pytest.raises(SettingsError, match=shown):
        read_settings(words, None)


def drawn(
    tmp_path: Path, tokenizer: PreTrainedTokenizerFast, language: Language, colours: bool, columns: int = 80
) -> str:
    answer = "第一步，\x1b[31m红。" + " ".join(f"word{n}" for n in range(40))
    turns = [
        {"role": "user", "content": "问" * 60},
        {"role": "assistant", "content": "half", "weight": 0.5},
        {"role": "user", "content": "why?"},
        {"role": "assistant", "content": answer},
    ]
    path = write_rows(
        tmp_path / "a-file-with-a-long-name.jsonl", [{"messages": turns}, {"messages": turns[:2]}]
    )
    settings = DataSettings(sources=[str(path)], held_out=0, max_length=300, overlong="cut")  # type: ignore[arg-type]
    gate = open_data(settings, tokenizer)
    samples = Samples(gate, tokenizer)
    out = io.StringIO()
    console = Console(
        file=out, width=columns, force_terminal=colours, color_system="truecolor" if colours else None
    )
    printer = GatePrinter(console, language)
    printer.print(gate, overview(gate), [samples.sample(0), samples.sample(1)])
    return out.getvalue()


@pytest.mark.parametrize("language", ["en", "zh"])
def test_80_columns_are_enough_in_both_languages(
    language: Language, tmp_path: Path, chatml_tokenizer: PreTrainedTokenizerFast
) -> None:
    from rich.cells import cell_len

    shown = drawn(tmp_path, chatml_tokenizer, language, colours=False)
    assert max(map(cell_len, shown.splitlines())) <= 80
    assert str(tmp_path / "a-file-with-a-long-name.jsonl").replace(" ", "") in "".join(shown.split())


def test_marks_say_what_colours_say(tmp_path: Path, chatml_tokenizer: PreTrainedTokenizerFast) -> None:
    marked = drawn(tmp_path, chatml_tokenizer, "en", colours=False, columns=2000)
    assert "⟪0.5:half⟫" in marked and "⟪第一步" in marked and "⟦" in marked
    assert "⟦cut off⟧" in marked and "⟪trained with less weight⟫" in marked
    coloured = drawn(tmp_path, chatml_tokenizer, "en", colours=True, columns=2000)
    assert "⟪" not in coloured and "\x1b[32m" in coloured and "\x1b[2;32m" in coloured


def test_text_cannot_drive_the_terminal(tmp_path: Path, chatml_tokenizer: PreTrainedTokenizerFast) -> None:
    assert "\x1b" not in drawn(tmp_path, chatml_tokenizer, "en", colours=False)
    assert shown_text("a\r\nb\rc\td\x07") == "a↵\nb␍c→   d\\x07"


def test_every_kind_of_token_has_its_own_look() -> None:
    kinds = [
        Token((1,), "a"),
        Token((1,), "a", 1.0),
        Token((1,), "a", 0.3),
        Token((1,), "a", control=True),
        Token((1,), "a", 1.0, control=True),
        Token((1,), "a", cut=True),
    ]
    assert len({look_of(token).style for token in kinds}) == len(kinds)


def test_progress_is_told_on_long_data_only(capsys: Captured) -> None:
    seconds = iter([0.0, 1.9, 2.5, 2.6, 12.0])
    progress = RowProgress("en", terminal=True, clock=lambda: next(seconds))
    said = []
    for rows in (19_000, 25_000, 26_000, 120_000):
        progress(rows)
        said.append(capsys.readouterr().err)
    assert said[0] == said[2] == ""
    assert "25,000 rows checked, 10,000 rows/s" in said[1] and "120,000" in said[3]
    progress.end()
    assert capsys.readouterr().err == "\r\033[K"


def test_progress_in_a_log_is_a_line_now_and_then(capsys: Captured) -> None:
    seconds = iter([0.0, 5.0, 10.0, 15.0])
    progress = RowProgress("zh", terminal=False, clock=lambda: next(seconds))
    for rows in (50, 100, 150):
        progress(rows)
    progress.end()
    assert capsys.readouterr().err == "已检查 100 行，每秒 10 行\n"


def test_rows_that_the_objective_does_not_train_cannot_be_trained(tmp_path: Path, capsys: Captured) -> None:
    path = tmp_path / "pairs.json"
    path.write_text('[{"prompt": "q", "chosen": "a", "rejected": "b"}]', encoding="utf-8")
    assert run(["check", str(path), "--lang", "en", "data.held_out=0"]) == 3
    shown = " ".join(capsys.readouterr().out.split())
    assert shown.startswith("✗ Errors: this data cannot be trained on as it is.")
    assert "rows are of the form 'preference', which the objective sft does not train" in shown
    assert "pairs.json:1 not trained by the objective" in shown
    (loaded,) = [overview(open_data(settings_of(path)), {"sft": {"conversation"}})]
    assert (loaded.kept, loaded.trained_on) == (1, 0)
    assert run(["check", str(path), "--lang", "zh", "data.held_out=0"]) == 3
    assert "训练目标 sft 不训练它" in "".join(capsys.readouterr().out.split("\n"))
    run_file = tmp_path / "run.yaml"
    run_file.write_text(
        yaml.safe_dump({"data": str(path), "objective": "sft", "train": {"seed": 1}}), encoding="utf-8"
    )
    assert run(["check", str(run_file)]) == 3
    assert run(["check", str(path), "objective=stf"]) == 2
    assert "sft" in capsys.readouterr().err


def test_rows_of_a_form_that_is_not_trained_are_subtracted_once(tmp_path: Path) -> None:
    pairs = [{"prompt": f"p{n}", "chosen": "a", "rejected": "b"} for n in range(6)]
    asked = [{"instruction": f"q{n}", "output": "a"} for n in range(6)]
    for name, rows in (("pairs.json", pairs), ("asked.json", asked)):
        (tmp_path / name).write_text(json.dumps(rows), encoding="utf-8")
    settings = DataSettings.model_validate(
        {"sources": [str(tmp_path / "pairs.json"), str(tmp_path / "asked.json")], "held_out": 5}
    )
    gate = open_data(settings)
    # The first six rows are pairs.
    held_out = {"preference": int(gate.held_out[:6].sum()), "conversation": int(gate.held_out[6:].sum())}
    assert min(held_out.values()) > 0
    for kind, out in held_out.items():
        assert overview(gate, {"some": {kind}}).trained_on == 6 - out
    assert overview(gate).trained_on == 12 - 5


def settings_of(path: Path, **more: object) -> DataSettings:
    """Return the settings that read a file."""
    return DataSettings(sources=[str(path)], held_out=0, **more)  # type: ignore[arg-type]


def test_data_of_which_nothing_is_left_cannot_be_trained(
    tmp_path: Path, chatml_tokenizer: PreTrainedTokenizerFast
) -> None:
    path = write_rows(tmp_path / "a.jsonl", [{"instruction": "why " * 90, "output": "so"}])
    for overlong, fix in (
        ("cut", "raise data.max_length, or shorten the rows"),
        ("drop", "data.overlong=cut"),
    ):
        gate = open_data(settings_of(path, max_length=16, overlong=overlong), chatml_tokenizer)
        error, warning = overview(gate).findings[:2]
        assert (error.severity, error.what) == ("error", "no row is left to train on")
        assert fix in warning.fix


def test_columns_that_are_not_used_are_listed(tmp_path: Path, capsys: Captured) -> None:
    path = tmp_path / "rows.json"
    path.write_text('[{"instruction": "q", "output": "an answer", "id": 7}]', encoding="utf-8")
    assert run(["check", str(path), "--lang", "en", "data.held_out=0"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "columns and keys of turns that are not used: id" in shown and "id (1)" in shown


def test_a_setting_of_sources_reaches_each_path_that_is_typed(tmp_path: Path) -> None:
    for name, more in (("a.json", ', "score": 1'), ("b.json", "")):
        (tmp_path / name).write_text(
            f'[{{"instruction": "q", "output": "an answer"{more}}}]', encoding="utf-8"
        )
    words = [str(tmp_path / name) for name in ("a.json", "b.json")]
    assert run(["check", *words, "data.held_out=0"]) == 3
    assert run(["check", *words, "data.held_out=0", "data.sources.ignore_columns=score"]) == 0
    sources = read_settings([*words, "data.sources.ignore_columns=score,messages[].id"], None)[0].sources
    assert [one.ignore_columns for one in sources] == [["score", "messages[].id"]] * 2
