"""The data gate: every planted fault is found and named by its place, planted shares are recovered, nothing crashes."""

from __future__ import annotations

import copy
import gzip
import json
import random
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import openpyxl
import pyarrow
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerFast

from malformed import MALFORMED
from template_zoo import NAMES, tokenizer
from weitiao.cli import run
from weitiao.core.errors import DataError
from weitiao.core.locale import in_language
from weitiao.data.checks._base import Finding
from weitiao.data.conversation import Message
from weitiao.data.dataset import CONVERSATIONS, check_data, load_data, require_trainable
from weitiao.data.formats import FORMATS
from weitiao.data.gate.gate import Gate, open_data
from weitiao.data.report.overview import overview
from weitiao.data.settings import DataSettings

Captured = pytest.CaptureFixture[str]
Fields = dict[str, Any]
WORDS = [
    "river",
    "stone",
    "garden",
    "lantern",
    "winter",
    "market",
    "violin",
    "harbour",
    "copper",
    "meadow",
    "planet",
    "engine",
    "orchard",
    "bridge",
    "candle",
    "forest",
    "mirror",
    "island",
    "thunder",
    "basket",
    "marble",
    "pepper",
    "sailor",
    "tunnel",
    "velvet",
    "wagon",
    "yellow",
    "zephyr",
    "acorn",
    "bottle",
    "canyon",
    "dragon",
]


def sentence(seed: int, words: int) -> str:
    """Return a sentence nobody else gets."""
    draw = random.Random(seed)
    return " ".join(draw.choices(WORDS, k=words)).capitalize() + "."


def row(n: int, **more: Any) -> Fields:  # noqa: ANN401
    """Return a good row, different for each number."""
    return {"instruction": sentence(2 * n, 14), "output": sentence(2 * n + 1, 24), **more}


def written(path: Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    """Write rows as JSON lines: row n stands in line n + 1."""
    path.write_text("".join(json.dumps(one, ensure_ascii=False) + "\n" for one in rows), encoding="utf-8")
    return path


def look(path: Path, name: str = "chatml", **options: Any) -> Gate:  # noqa: ANN401
    """Bring a file through the gate with a tokenizer of the zoo."""
    return open_data(DataSettings(sources=[path], **options), tokenizer(name))


def found(gate: Gate, check: str, words: str = "") -> Finding:
    """Return the finding of a check that says some words."""
    named = [one for one in overview(gate).findings if one.check == check and words in one.what]
    assert len(named) == 1, [one.what for one in overview(gate).findings]
    return named[0]


@pytest.mark.parametrize("what", MALFORMED)
def test_a_malformed_file_is_named_by_file_and_line(
    what: str, tmp_path: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "500")  # a place that is broken over two lines would not be found below
    name, content, place, said = MALFORMED[what]
    path = tmp_path / name
    path.write_bytes(content)
    assert run(["check", str(path), "--lang", "en", "data.skip_bad_rows=false", "data.held_out=0"]) == 3
    shown = capsys.readouterr()
    assert "Traceback" not in shown.out + shown.err
    with pytest.raises(DataError) as refused:
        check_data(DataSettings(sources=[path]))
    told = str(refused.value)
    assert f"{path}{place}" in told
    assert said in told
    flat = " ".join(shown.out.split())
    assert f"{name}{place}" in flat and " ".join(said.split()) in flat
    assert path.read_bytes() == content


BAD_ROWS: dict[str, tuple[Any, str]] = {
    "an empty answer": ({"instruction": "q", "output": " "}, "an answer is empty"),
    "an empty question": ({"instruction": "", "output": "a"}, "a question is empty"),
    "no answer": ({"instruction": "q"}, "'output' is missing"),
    "null": ({"instruction": "q", "output": None}, "null"),
    "a list": ({"instruction": "q", "output": ["a"]}, "list"),
    "an object": ({"instruction": {"text": "q"}, "output": "a"}, "object"),
    "true": ({"instruction": True, "output": "a"}, "true or false"),
    "half a character": ({"instruction": "q", "output": "a\ud83d"}, "half a character"),
    "history of single texts": ({"instruction": "q", "output": "a", "history": ["x"]}, "'history'"),
    "a system that is a list": ({"instruction": "q", "output": "a", "system": []}, "'system'"),
    "a row that is a list": ([1, 2], "not an object"),
    "a row that is a text": ("text", "not an object"),
}


@pytest.mark.parametrize("what", BAD_ROWS)
def test_a_row_that_cannot_be_used_is_named_by_its_line(what: str, tmp_path: Path) -> None:
    bad, said = BAD_ROWS[what]
    path = tmp_path / "rows.jsonl"
    lines = [json.dumps(one) for one in (row(0), row(1), bad, row(3), bad)]
    path.write_text("\n".join(lines))
    gate = look(path)
    named = found(gate, "reading")
    assert said in named.what
    assert named.severity == "error"
    assert [place.removeprefix(str(path))[:2] for place in named.places] == [":3", ":5"]
    assert named.rows == (2, 4)
    skipped = look(path, skip_bad_rows=True, held_out=0)
    assert found(skipped, "reading").severity == "warning"
    require_trainable(skipped, CONVERSATIONS)
    with pytest.raises(DataError, match="2 of 5 rows"):
        require_trainable(gate, CONVERSATIONS)


TALK = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]
BAD_TALKS: dict[str, tuple[list[Any], str]] = {
    "ends with a question": ([*TALK, TALK[0]], "it ends with a question"),
    "two questions": ([TALK[0], *TALK], "two questions in a row"),
    "begins with an answer": ([TALK[1], *TALK], "it begins with an answer"),
    "a system message later": (
        [*TALK, {"role": "system", "content": "s"}, *TALK],
        "system message comes after",
    ),
    "an unknown role": ([{"role": "wizard", "content": "x"}, *TALK], "the role 'wizard' is unknown"),
    "an image": ([{"role": "user", "content": [{"type": "image_url"}]}, TALK[1]], "images"),
    "a result without a call": (
        [TALK[0], {"role": "tool", "content": "1"}, TALK[1]],
        "a tool's result without a call",
    ),
    "nothing": ([], "it has no answer"),
    "nothing that is trained": ([TALK[0], {**TALK[1], "weight": 0}], "none of its answers is trained"),
}


@pytest.mark.parametrize("what", BAD_TALKS)
def test_turns_that_are_out_of_order_are_named(what: str, tmp_path: Path) -> None:
    turns, said = BAD_TALKS[what]
    path = written(tmp_path / "talks.jsonl", [{"messages": TALK}, {"messages": turns}])
    named = found(look(path), "reading")
    assert said in named.what
    assert named.places[0].startswith(f"{path}:2")


CHINESE = "中医理论认为，人体的健康取决于阴阳平衡。望、闻、问、切合称四诊。"
CODECS = (
    "utf-8",
    "utf-8-sig",
    "utf-16",
    "utf-16-le",
    "utf-16-be",
    "utf-32",
    "gb18030",
    "gbk",
    "big5",
    "cp932",
)


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("kind", ["jsonl", "csv"])
def test_ten_encodings_are_read_or_named(codec: str, kind: str, tmp_path: Path) -> None:
    path = tmp_path / f"rows.{kind}"
    text = (
        CHINESE
        if codec not in ("big5", "cp932")
        else "中醫理論、人體、健康。"
        if codec == "big5"
        else "これは日本語の文章です。"
    )
    ask = [f"{text}{n}" for n in range(20)]
    lines = {
        "jsonl": [json.dumps({"instruction": one, "output": one[::-1]}, ensure_ascii=False) for one in ask],
        "csv": ["instruction,output", *(f"{one},{one[::-1]}" for one in ask)],
    }[kind]
    path.write_bytes(("\n".join(lines) + "\n").encode(codec))
    gate = look(path)
    if not codec.startswith("utf"):
        (problem,) = gate.problems
        line = 1 if kind == "jsonl" else 2
        assert f"{path}:{line}, byte" in problem.got
        named = problem.remedy.partition("encoding=")[2].partition("\n")[0].partition(",")[0].strip()
        gate = open_data(DataSettings(sources=[{"path": str(path), "encoding": named}]), tokenizer("chatml"))
    assert not gate.problems
    assert gate.tally.read == 20
    first = gate.store.form(0)
    assert first is not None and first.messages[0].content == ask[0]  # type: ignore[union-attr]


@pytest.mark.parametrize("share", [0.0, 0.01, 0.1, 0.8])
@pytest.mark.parametrize("kind", ["exact", "normalised"])
def test_planted_duplicates_are_recovered_and_stay_on_one_side(
    share: float, kind: str, tmp_path: Path
) -> None:
    count = 400
    copies = round(share * count)
    rows = [row(n) for n in range(count - copies)]
    draw = random.Random(7)
    for _ in range(copies):
        one = dict(rows[draw.randrange(count - int(0.8 * count))])
        if kind == "normalised":
            one["output"] = one["output"].upper().replace(" ", "  ").rstrip(".") + "!"
        rows.append(one)
    draw.shuffle(rows)
    gate = look(written(tmp_path / "rows.jsonl", rows), held_out=0.1)
    told = [one.share for one in gate.findings if one.check == "duplicates" and one.severity == "warning"]
    assert sum(told) == pytest.approx(share, abs=0.005)
    away = gate.held_out
    assert 0 < away.sum() < count
    sides: dict[str, set[bool]] = {}
    for number, one in enumerate(rows):
        sides.setdefault("".join(filter(str.isalnum, one["output"].lower())), set()).add(bool(away[number]))
    assert all(len(own) == 1 for own in sides.values())
    assert not [one for one in gate.findings if one.check == "overlap" and "few words" not in one.what]


@pytest.mark.parametrize("share", [0.0, 0.01, 0.1, 0.8])
def test_planted_leaks_are_recovered_with_their_places(share: float, tmp_path: Path) -> None:
    train = written(tmp_path / "train.jsonl", [row(n) for n in range(400)])
    leaks = round(share * 200)
    held = [row(n) if n < leaks else row(5000 + n) for n in range(200)]
    path = written(tmp_path / "held.jsonl", held)
    gate = look(train, held_out_path=path)
    told = [one for one in gate.findings if one.check == "overlap"]
    assert sum(one.share for one in told) == pytest.approx(share, abs=0.005)
    if leaks:
        assert told[0].places[0] == f"{path}:1: {train}:1"
        assert told[0].rows == tuple(range(400, 400 + leaks))


POSITIONS = {"begin": "{} then words", "middle": "words {} words", "end": "words then {}", "alone": "{}"}


def _with(role: str, text: str) -> Fields:
    """Return a row with a text in one place."""
    function = {"type": "function", "function": {"name": "f", "description": "d", "parameters": {}}}
    call = {"type": "function", "function": {"name": "f", "arguments": {"x": "1"}}}
    answer = {"role": "assistant", "content": "done"}
    turns: list[Fields] = [{"role": "user", "content": "ask"}]
    if role == "system":
        turns = [{"role": "system", "content": text}, *turns, answer]
    elif role == "user":
        turns = [{"role": "user", "content": text}, answer]
    elif role == "assistant":
        turns += [{"role": "assistant", "content": text}]
    elif role == "reasoning":
        turns += [{**answer, "reasoning_content": text}]
    elif role == "argument":
        call = {"type": "function", "function": {"name": "f", "arguments": {"x": text}}}
        turns += [{"role": "assistant", "content": "", "tool_calls": [call]}]
    elif role == "tool":
        called = {"role": "assistant", "content": "", "tool_calls": [call]}
        turns += [called, {"role": "tool", "content": text}, answer]
    else:
        function["function"]["description"] = text  # type: ignore[index]
        turns += [answer]
    return {"messages": turns, "tools": [function] if role in ("tool", "argument", "description") else []}


@pytest.mark.parametrize(
    "role", ["system", "user", "assistant", "tool", "reasoning", "argument", "description"]
)
@pytest.mark.parametrize("position", POSITIONS)
def test_control_tokens_in_content_are_text_and_are_named(role: str, position: str, tmp_path: Path) -> None:
    own = tokenizer("qwen3")
    control = ("<|im_start|>", "<|im_end|>")
    rows = [_with(role, POSITIONS[position].format("plain"))]
    rows += [_with(role, POSITIONS[position].format(token)) for token in control]
    path = written(tmp_path / "rows.jsonl", rows)
    gate = look(path, "qwen3", held_out=0)
    named = found(gate, "control_tokens")
    assert named.rows == (1, 2)
    assert named.places[0].startswith(f"{path}:2") and control[0] in named.places[0]
    # A row whose template changes earlier turns gives several sequences; its last one holds all of it.
    ids = [gate.store.example(n).sequences[-1].ids for n in range(3)]
    plain, *planted = ([one.count(number) for number in own.convert_tokens_to_ids([*control])] for one in ids)
    assert planted == [plain, plain]
    assert all(token in own.decode(ids[n]) for n, token in enumerate(control, 1))


@pytest.mark.parametrize("overlong", ["drop", "cut"])
def test_prompts_that_are_too_long_are_named_and_their_lengths_shown(overlong: str, tmp_path: Path) -> None:
    rows = [row(0), row(1, instruction="word " * 900), row(2)]
    path = written(tmp_path / "rows.jsonl", rows)
    gate = look(path, max_length=300, overlong=overlong, held_out=0)
    named = found(gate, "lengths")
    assert named.rows == (1,)
    assert named.places == (f"{path}:2",)
    said = in_language(named.what, "zh")
    assert not said.isascii() and "longer" not in said and "question" not in said
    assert len(gate.store.lengths_E) == 2
    (tokens,) = gate.tally.left_out_tokens
    assert tokens > 900
    assert sum(gate.facts["lengths"]["histogram_left_out"]) == 1
    assert overview(gate).longest == tokens


def test_a_pad_token_that_ends_answers_is_harmless_and_a_fact(tmp_path: Path) -> None:
    own = tokenizer("chatml")
    assert own.pad_token_id == own.eos_token_id
    gate = look(written(tmp_path / "rows.jsonl", [row(n) for n in range(30)]), held_out=0)
    assert gate.facts["pad_is_eos"] == {"pad_token": own.pad_token, "eos_token": own.eos_token}
    assert "pad_is_eos" not in {finding.check for finding in gate.findings}, "no note on every check"
    for n in range(30):
        (one,) = gate.store.example(n).sequences
        assert (one.ids[-1], one.weights[-1]) == (own.eos_token_id, 1.0)
    assert gate.facts["trained_stop"]["answers_with_trained_stop"] == 30


@pytest.mark.parametrize("name", NAMES)
def test_a_system_text_reaches_the_model_with_every_template(name: str, tmp_path: Path) -> None:
    gate = look(
        written(tmp_path / "rows.jsonl", [row(n, system="Speak kindly.") for n in range(9)]), name, held_out=0
    )
    assert gate.template is not None
    assert gate.verdict != "error", [one.what for one in gate.findings]
    ids = gate.store.sequence(0).ids
    assert "Speak kindly." in tokenizer(name).decode(ids)
    unplaced = [one for one in gate.findings if "no place for a system prompt" in one.what]
    assert bool(unplaced) is not gate.template.takes_system


def _llama(change: Callable[[str], str]) -> PreTrainedTokenizerFast:
    own = copy.deepcopy(tokenizer("llama3"))
    own.chat_template = change(str(own.chat_template))
    return own


def test_begin_tokens_that_are_double_or_inside_are_errors(tmp_path: Path) -> None:
    path = written(tmp_path / "rows.jsonl", [row(0), row(1, system="Be brief."), row(2)])
    fine = look(path, "llama3", held_out=0)
    assert not [one for one in fine.findings if one.check == "begin_token"]
    double = _llama(lambda text: text.replace("{{ bos_token }}", "{{ bos_token }}{{ bos_token }}"))
    gate = open_data(DataSettings(sources=[path], held_out=0), double)
    named = found(gate, "begin_token", "two begin tokens")
    assert (named.severity, named.rows) == ("error", (0, 1, 2))
    again = _llama(
        lambda text: text + "{% if messages[0].role == 'system' and not add_generation_prompt %}{% endif %}"
    )
    header = "{{ '<|start_header_id|>'"
    again.chat_template = str(again.chat_template).replace(
        header,
        "{% if loop.index == 2 and messages[0].role == 'system' %}{{ bos_token }}{% endif %}" + header,
        1,
    )
    gate = open_data(DataSettings(sources=[path], held_out=0), again)
    named = found(gate, "begin_token", "second begin token")
    assert (named.severity, named.rows) == ("error", (1,))
    with pytest.raises(DataError, match="second begin token"):
        require_trainable(gate, CONVERSATIONS)


def test_begin_tokens_in_the_data_are_text_and_named(tmp_path: Path) -> None:
    path = written(tmp_path / "rows.jsonl", [row(0), row(1, instruction="<|begin_of_text|>Hello there")])
    gate = look(path, "llama3", held_out=0)
    assert found(gate, "begin_token", "characters of the begin token").rows == (1,)
    begin = tokenizer("llama3").bos_token_id
    assert [gate.store.sequence(n).ids.count(begin) for n in range(2)] == [1, 1]


def test_a_long_text_that_is_cut_begins_once(tmp_path: Path) -> None:
    path = written(tmp_path / "rows.jsonl", [{"text": "word " * 400}])
    gate = look(path, "llama3", max_length=100, held_out=0)
    assert len(gate.store.lengths_E) > 4
    assert gate.verdict != "error", [one.what for one in gate.findings]


NOTED: dict[str, tuple[str, str, Fields]] = {
    "a refusal": (
        "answers",
        "refusals",
        {"output": "I'm sorry, but as an AI language model I cannot do that."},
    ),
    "one word": ("answers", "one word", {"output": "Copper"}),
    "another format's headings": ("answers", "prompt format", {"output": "Yes.\n### Instruction: go on"}),
    "a loop": ("answers", "over and over", {"output": "and on and then " * 20}),
    "the question": ("answers", "equal to their question", {"output": sentence(4, 14)}),
    "what a web page left": ("encoding", "web page", {"output": "One&nbsp;two</p><br>three"}),
    "lost characters": ("encoding", "lost characters", {"output": "One \ufffd two"}),
    "a wrong encoding": ("encoding", "wrong encoding", {"output": "It is cafÃ© time"}),
    "a control character": ("encoding", "control characters", {"output": "One \x08 two"}),
    "a placeholder": ("placeholders", "placeholders", {"output": "Dear [Your name], hello"}),
    "a key": ("placeholders", "secret", {"output": "Use sk-abcdefghijklmnopqrstuvwx now"}),
    "an empty thought": ("reasoning", "reasoning is empty", {"output": "<think>\n\n</think>\n\nfour"}),
    "an open thought": ("reasoning", "never closed", {"output": "<think>hm and four"}),
}


@pytest.mark.parametrize("what", NOTED)
def test_what_is_wrong_with_a_text_is_found_at_its_line(what: str, tmp_path: Path) -> None:
    check, words, more = NOTED[what]
    rows = [row(n) for n in range(40)]
    rows[2] = row(2, **more)
    path = written(tmp_path / "rows.jsonl", rows)
    named = found(look(path), check, words)
    assert named.rows == (2,)
    assert named.places[0].startswith(f"{path}:3")


def test_the_same_answer_to_many_questions_is_found(tmp_path: Path) -> None:
    rows = [row(n) for n in range(60)]
    for n in range(10, 20):
        rows[n]["output"] = "That depends on many things, so ask somebody."
    named = found(look(written(tmp_path / "rows.jsonl", rows)), "answers", "many different questions")
    assert named.rows == tuple(range(10, 20))


def test_the_position_of_the_right_choice_and_longer_answers_are_found(tmp_path: Path) -> None:
    choices = [
        {"question": sentence(n, 9), "choices": [sentence(9 * n + k, 4) for k in range(4)], "answer": 1}
        for n in range(250)
    ]
    named = found(look(written(tmp_path / "choices.jsonl", choices)), "balance", "same position")
    assert named.share == 1.0
    pairs = [
        {"prompt": sentence(n, 9), "chosen": sentence(n + 999, 20), "rejected": sentence(n + 5555, 5)}
        for n in range(250)
    ]
    assert found(look(written(tmp_path / "pairs.jsonl", pairs)), "balance", "longer").share == 1.0


def test_rows_of_which_nothing_is_trained_are_found(tmp_path: Path) -> None:
    silent = {"messages": [*TALK, TALK[0], {**TALK[1], "weight": 0}]}
    path = written(tmp_path / "rows.jsonl", [{"messages": TALK}, silent])
    named = found(look(path, train_on="last", held_out=0), "lengths", "none of its tokens is trained")
    assert named.places == (f"{path}:2",)


def test_findings_do_not_depend_on_what_is_accepted(tmp_path: Path) -> None:
    path = written(
        tmp_path / "rows.jsonl", [row(0), row(1, output="<think>hm and four"), {"instruction": "q"}, row(3)]
    )
    strict, lenient = look(path), look(path, accept="reasoning", skip_bad_rows=True)
    assert strict.as_dict() == lenient.as_dict()
    with pytest.raises(DataError, match="never closed"):
        require_trainable(look(path, skip_bad_rows=True), CONVERSATIONS)
    require_trainable(lenient, CONVERSATIONS)


@pytest.mark.parametrize("name", FORMATS.names())
def test_every_format_is_shown_by_check_and_trained_or_refused_in_words(
    name: str, tmp_path: Path, tiny_model_folder: Path, capsys: Captured
) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join([FORMATS.load(name).example] * 3))
    options = ["data.held_out=0", f"data.sources=[{{path: {path}, format: {name}}}]"]
    trained = FORMATS.load(name).form in CONVERSATIONS
    assert run(["check", "--model", str(tiny_model_folder), "--json", *options]) == (0 if trained else 3)
    plain = json.loads(capsys.readouterr().out)
    assert plain["formats"] == {name: 3}
    said = [one["what"] for one in plain["findings"] if one["severity"] == "error"]
    assert said == (
        []
        if trained
        else [f"rows are of the form {FORMATS.load(name).form!r}, which the objective sft does not train"]
    )
    words = ["train", "--model", str(tiny_model_folder), "--out", str(tmp_path / "run"), "--dry-run"]
    code = run([*words, "--method", "lora", *options])
    shown = capsys.readouterr().err
    if trained:
        assert code == 0, shown
    else:
        assert code == 3
        assert "which this objective does not train" in shown and "Traceback" not in shown


def test_llama_factorys_list_goes_through_a_dry_run(
    tmp_path: Path, tiny_model_folder: Path, capsys: Captured
) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    talks = [
        {"chat": [{"who": "u", "said": f"q{n}"}, {"who": "a", "said": f"answer {n}"}]} for n in range(20)
    ]
    (folder / "talks.json").write_text(json.dumps(talks))
    tags = {"role_tag": "who", "content_tag": "said", "user_tag": "u", "assistant_tag": "a"}
    entry = {
        "file_name": "talks.json",
        "formatting": "sharegpt",
        "columns": {"messages": "chat"},
        "tags": tags,
    }
    alpaca = {"file_name": "plain.json", "columns": {"prompt": "ask", "response": "told"}}
    (folder / "plain.json").write_text(json.dumps([{"ask": f"x{n}", "told": f"y{n}"} for n in range(20)]))
    (folder / "dataset_info.json").write_text(json.dumps({"talks": entry, "plain": alpaca}))
    for name, format_name in (("talks", "messages"), ("plain", "alpaca")):
        source = f"{folder / 'dataset_info.json'}:{name}"
        words = ["train", "--model", str(tiny_model_folder), "--data", source, "--method", "lora"]
        assert run([*words, "--out", str(tmp_path / "run"), "--dry-run"]) == 0, capsys.readouterr().err
        assert run(["check", source, "--json", "--model", str(tiny_model_folder)]) == 0
        out = capsys.readouterr().out
        assert json.loads(out[out.index('{\n  "verdict"') :])["formats"] == {format_name: 20}


def test_tasks_weights_and_numbers_of_rows_reach_the_examples(tmp_path: Path) -> None:
    first = written(tmp_path / "a.jsonl", [row(n, task="sums" if n % 2 else "") for n in range(10)])
    second = written(tmp_path / "b.jsonl", [row(100 + n, task="poems") for n in range(50)])
    sources = [{"path": str(first), "weight": 2.5}, {"path": str(second), "take": 20}]
    gate = open_data(DataSettings(sources=sources, held_out=0), tokenizer("chatml"), 3)
    examples = [gate.store.example(n) for n in range(30)]
    assert [one.task for one in examples[:10]] == ["", "sums"] * 5
    assert {one.task for one in examples[10:]} == {"poems"}
    assert [one.draws for one in examples] == [2.5] * 10 + [1.0] * 20
    lines = [int(one.place.rpartition(":")[2]) for one in examples[10:]]
    assert lines == sorted(set(lines)) and max(lines) > 20
    assert gate.facts["tasks"]["rows"] == {"poems": 20, "sums": 5}


def _as_xlsx(path: Path, rows: Sequence[Fields]) -> None:
    book = openpyxl.Workbook()
    sheet = book.active
    assert sheet is not None
    for cells in (list(rows[0]), *(list(one.values()) for one in rows)):
        sheet.append(cells)
    book.save(path)


def test_compressed_files_and_tables_come_through_alike(tmp_path: Path) -> None:
    rows = [row(n) for n in range(30)]
    plain = written(tmp_path / "rows.jsonl", rows).read_bytes()
    (tmp_path / "rows.jsonl.gz").write_bytes(gzip.compress(plain))
    (tmp_path / "rows.jsonl.zst").write_bytes(pyarrow.Codec("zstd").compress(plain, asbytes=True))
    _as_xlsx(tmp_path / "rows.xlsx", rows)
    ids = []
    for name in ("rows.jsonl", "rows.jsonl.gz", "rows.jsonl.zst", "rows.xlsx"):
        gate = look(tmp_path / name, held_out=0)
        assert gate.verdict != "error", gate.problems
        ids.append(gate.store.arrays["ids"].tolist())
    assert ids[0] == ids[1] == ids[2] == ids[3]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
COLUMN = st.sampled_from(
    [
        "instruction",
        "output",
        "input",
        "system",
        "history",
        "messages",
        "conversations",
        "tools",
        "text",
        "prompt",
        "chosen",
        "rejected",
        "label",
        "completion",
        "completions",
        "rewards",
        "question",
        "choices",
        "answer",
        "tokens",
        "tags",
        "spans",
        "source",
        "target",
        "task",
        "weight",
        "translation",
    ]
)
BROKEN = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@BROKEN
@given(rows=st.lists(JSON | st.dictionaries(COLUMN, JSON, max_size=5), max_size=4), good=st.booleans())
def test_rows_of_any_kind_end_in_words(rows: list[Any], good: bool, tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    lines = [json.dumps(one) for one in ([row(0)] if good else []) + rows]
    path.write_text("\n".join(lines))
    gate = look(path)
    json.dumps(gate.as_dict())
    assert gate.problems or gate.tally.read or not rows


PARTS = st.sampled_from(
    [
        b'{"instruction": "q", "output": "a"}',
        b"\n",
        b",",
        b"[",
        b"]",
        b"{",
        b'"',
        b"\\",
        b"\0",
        b"\xff\xfe",
        b"\xef\xbb\xbf",
        b"null",
    ]
)


@BROKEN
@given(
    parts=st.lists(PARTS | st.binary(max_size=6), max_size=12),
    suffix=st.sampled_from(
        ["json", "jsonl", "csv", "tsv", "txt", "md", "parquet", "arrow", "xlsx", "json.gz", "csv.zst"]
    ),
)
def test_files_of_any_content_end_in_words(parts: list[bytes], suffix: str, tmp_path: Path) -> None:
    content = b"".join(parts)
    path = tmp_path / f"rows.{suffix}"
    path.write_bytes(gzip.compress(content) if suffix.endswith("gz") else content)
    gate = look(path, accept=[])
    json.dumps(gate.as_dict())
    assert gate.problems or gate.tally.read


def test_a_row_a_template_refuses_is_named(tmp_path: Path) -> None:
    own = copy.deepcopy(tokenizer("chatml"))
    refusal = "{% if 'copper' in messages[0].content %}{{ raise_exception('no copper') }}{% endif %}"
    own.chat_template = refusal + str(own.chat_template)
    path = written(tmp_path / "rows.jsonl", [row(0, instruction="a"), row(1, instruction="copper")])
    gate = open_data(DataSettings(sources=[path], held_out=0), own)
    named = found(gate, "reading", "the chat template refuses it")
    assert named.places == (f"{path}:2: no copper",)
    assert Message("user", "a") == gate.store.form(0).messages[0]  # type: ignore[union-attr]
    with pytest.raises(DataError, match="no copper"):
        load_data(DataSettings(sources=[path], held_out=0), own)
