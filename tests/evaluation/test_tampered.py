"""Adapters, checkpoints and bases that were changed are refused in words, wherever they are opened."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

import tiny
from weitiao.core.errors import ModelError, RunFolderError, WeitiaoError
from weitiao.core.settings import read_yaml
from weitiao.engine.checkpoint import list_checkpoints
from weitiao.evaluation.open_model import open_by_name
from weitiao.models.fingerprint import FILE
from weitiao.recipe.preflight import preflight
from weitiao.recipe.recipe import parse_recipe
from weitiao.recipe.train import train_recipe
from weitiao.serving.merge import merge_run

Weights = dict[str, Tensor]
LORA = {"name": "lora", "r": 4}


def make(
    root: Path,
    base: Path,
    method: dict[str, Any] = LORA,
    *,
    steps: int = 1,
    **model: Any,  # noqa: ANN401
) -> Path:
    """Train a short run with a checkpoint of each step; return its folder."""
    rows = root.parent / "rows.json"
    rows.write_text(json.dumps([{"instruction": f"What is {n}?", "output": f"{n}."} for n in range(8)]))
    recipe = {
        "model": {"name": str(base), **model},
        "data": str(rows),
        "method": method,
        "train": {"steps": steps, "batch_size": 2, "lr": 1e-2, "save_every": 1, "keep_checkpoints": 3},
        "evaluate": {"question_count": 0},
        "out": str(root),
    }
    train_recipe(parse_recipe(recipe))
    return root


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a base and a run on it; read only, one a module."""
    folder = tmp_path_factory.mktemp("trained")
    make(folder / "run", tiny.save_tiny_model(folder / "base"), steps=3)
    return folder


@pytest.fixture
def adapter(trained: Path, tmp_path: Path) -> Path:
    return shutil.copytree(trained / "run" / "adapter", tmp_path / "adapter")


def logits(model: torch.nn.Module) -> Tensor:
    with torch.inference_mode():
        output: Tensor = model(torch.arange(2, 12)[None]).logits
    return output


def rewrite(file: Path, change: Callable[[Weights], object]) -> None:
    weights = load_file(file)
    change(weights)
    save_file({key: w.clone().contiguous() for key, w in weights.items()}, file, {"format": "pt"})


def of_weights(change: Callable[[Weights], object]) -> Callable[[Path], object]:
    return lambda folder: rewrite(folder / "adapter_model.safetensors", change)


def of_settings(**changes: Any) -> Callable[[Path], object]:  # noqa: ANN401
    def change(folder: Path) -> None:
        path = folder / "adapter_config.json"
        path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | changes))

    return change


def first(weights: Weights) -> str:
    return min(weights)


def as_text(name: str, content: bytes) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_bytes(content)


def cut(folder: Path) -> None:
    file = folder / "adapter_model.safetensors"
    file.write_bytes(file.read_bytes()[:-5])


def other_tokenizer(folder: Path) -> None:
    tiny.make_tokenizer(300).save_pretrained(folder)


ADAPTERS: dict[str, tuple[Callable[[Path], object], str]] = {
    "a NaN": (of_weights(lambda w: w[first(w)].view(-1)[3].fill_(torch.nan)), "NaN or inf"),
    "an inf": (of_weights(lambda w: w[first(w)].view(-1)[0].fill_(torch.inf)), "NaN or inf"),
    "a number too large": (
        of_weights(lambda w: w.update({first(w): w[first(w)].double() + 1e300})),
        "NaN or inf",
    ),
    "whole numbers": (of_weights(lambda w: w.update({first(w): w[first(w)].int()})), "another type: .*int32"),
    "complex numbers": (
        of_weights(lambda w: w.update({first(w): w[first(w)] * 1j})),
        "another type: .*complex",
    ),
    "a strength of NaN": (of_settings(lora_alpha=float("nan")), "settings hold NaN or inf"),
    "a strength of inf": (of_settings(alpha_pattern={"q_proj": float("inf")}), "settings hold NaN or inf"),
    "a pattern cut": (of_settings(target_modules="(["), "regular expression for modules cannot be read"),
    "a fingerprint of nothing": (
        as_text("base_fingerprint.json", b'{"format": 1, "config": {}, "tensors": {}}'),
        "it names no tensor",
    ),
    "a tensor missing": (of_weights(lambda w: w.pop(first(w))), "missing: "),
    "a tensor more": (of_weights(lambda w: w.update({"x.lora_A.weight": torch.ones(2)})), "unexpected: x"),
    "a tensor renamed": (of_weights(lambda w: w.update({"x": w.pop(first(w))})), "does not fit"),
    "no tensors": (of_weights(lambda w: w.clear()), "missing: "),
    "another shape": (of_weights(lambda w: w.update({first(w): torch.ones(3, 3)})), "does not fit"),
    "another rank": (of_settings(r=2), "does not fit"),
    "a file cut": (cut, "not a complete safetensors file"),
    "an empty file": (as_text("adapter_model.safetensors", b""), "not a complete safetensors file"),
    "a pointer for a file": (
        as_text("adapter_model.safetensors", b"version https://git-lfs"),
        "not a complete",
    ),
    "no file": (lambda f: (f / "adapter_model.safetensors").unlink(), "holds no adapter"),
    "settings cut": (as_text("adapter_config.json", b'{"peft_type": "LO'), "settings cannot be read"),
    "settings a list": (as_text("adapter_config.json", b"[]"), "settings cannot be read"),
    "settings deep": (as_text("adapter_config.json", b"[" * 99999), "settings cannot be read"),
    "an unknown kind": (of_settings(peft_type="MAGIC"), "settings cannot be used"),
    "no kind": (of_settings(peft_type=None), "settings cannot be used"),
    "a rank in words": (of_settings(r="many"), "cannot be applied to this model|does not fit"),
    "other modules": (of_settings(target_modules=["nothing"]), "does not fit|cannot be put"),
    "code to import": (of_settings(megatron_config={"a": 1}, megatron_core="os"), "Python code"),
    "no base named": (of_settings(base_model_name_or_path=None), "does not say which model"),
    "another tokenizer": (other_tokenizer, "another tokenizer"),
    "a fingerprint cut": (as_text("base_fingerprint.json", b"{"), "fingerprint(.|\n)*cannot be read"),
    "a fingerprint of lists": (as_text("base_fingerprint.json", b"[]"), "fingerprint(.|\n)*cannot be read"),
}


@pytest.mark.parametrize("label", ADAPTERS)
def test_an_adapter_that_was_changed_is_refused(adapter: Path, label: str) -> None:
    tamper, message = ADAPTERS[label]
    tamper(adapter)
    with pytest.raises(WeitiaoError, match=message):
        open_by_name(str(adapter))


@pytest.mark.parametrize(
    "label", ["a NaN", "a file cut", "a tensor missing", "an unknown kind", "no file", "another tokenizer"]
)
def test_an_adapter_that_was_changed_is_not_continued(adapter: Path, trained: Path, label: str) -> None:
    ADAPTERS[label][0](adapter)
    with pytest.raises(ModelError):
        make(adapter.parent / "next", trained / "base", adapter=str(adapter))
    assert not (adapter.parent / "next").exists()


def change_one(folder: Path) -> None:
    def change(weights: Weights) -> None:
        weights["model.layers.1.mlp.up_proj.weight"][0, 0] += 1e-5

    rewrite(folder / "model.safetensors", change)


BASES: dict[str, Callable[[Path], object]] = {
    "other weights": lambda f: shutil.rmtree(f) or tiny.save_tiny_model(f, seed=1),  # type: ignore[func-returns-value]
    "one number": change_one,
    "another setting": lambda f: (f / "config.json").write_text(
        json.dumps(json.loads((f / "config.json").read_text()) | {"rms_norm_eps": 1e-3})
    ),
}


@pytest.fixture
def moved(tmp_path: Path, trained: Path) -> tuple[Path, Path]:
    """A base of its own and a run on it: copies, of which the run names its base and itself where they lie now."""
    folder = shutil.copytree(trained, tmp_path / "moved")
    run = folder / "run"
    for file in (run / "run.yaml", run / "events.jsonl"):
        file.write_text(file.read_text(encoding="utf-8").replace(str(trained), str(folder)), encoding="utf-8")
    return folder / "base", run


@pytest.mark.parametrize("label", BASES)
def test_a_changed_base_is_refused_in_chat_merge_and_continuing(
    moved: tuple[Path, Path], tmp_path: Path, label: str
) -> None:
    base, run = moved
    BASES[label](base)
    for name in (run, run / "adapter", list_checkpoints(run / "checkpoints")[0]):
        with pytest.raises(ModelError, match=r"trained on another base(.|\n)*--force"):
            open_by_name(str(name))
    with pytest.raises(ModelError, match="trained on another base"):
        merge_run(str(run), tmp_path / "out")
    with pytest.raises(ModelError, match="trained on another base"):
        make(tmp_path / "next", base, adapter=str(run / "adapter"))
    assert open_by_name(str(run), allow_other_base=True).is_trained
    assert merge_run(str(run), tmp_path / "out", allow_other_base=True).comparison.holds
    if label == "one number":  # a run costs most, and what was changed means nothing to what is allowed
        make(tmp_path / "next", base, adapter=str(run / "adapter"), allow_other_base=True)


def test_a_fingerprint_that_was_taken_away_is_found_in_the_run_or_missed_aloud(
    moved: tuple[Path, Path],
) -> None:
    base, run = moved
    change_one(base)
    (run / "adapter" / FILE).unlink()
    with pytest.raises(ModelError, match="trained on another base"):
        open_by_name(str(run))
    (run / FILE).unlink()
    assert "it is unknown whether" in open_by_name(str(run)).notes[0]


def test_a_changed_base_is_refused_before_its_weights_are_loaded(
    moved: tuple[Path, Path], tmp_path: Path
) -> None:
    base, run = moved
    own = read_yaml(run / "run.yaml")
    continued = {
        **own,
        "model": {**own["model"], "adapter": str(run / "adapter")},
        "out": str(tmp_path / "n"),
    }
    preflight(parse_recipe(continued))
    preflight(parse_recipe(own), new_folder=False)
    change_one(base)
    with pytest.raises(ModelError, match=r"the adapter .* was trained on another base: 1 of"):
        preflight(parse_recipe(continued))
    with pytest.raises(ModelError, match=r"the run .* was trained on another base: 1 of"):
        preflight(parse_recipe(own), new_folder=False)
    preflight(parse_recipe({**continued, "model": {**continued["model"], "allow_other_base": True}}))
    assert not (tmp_path / "n").exists()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_a_base_in_another_precision_is_the_same_base(
    tmp_path: Path, trained: Path, dtype: torch.dtype
) -> None:
    from transformers import AutoModelForCausalLM

    half = tmp_path / "half"
    AutoModelForCausalLM.from_pretrained(trained / "base", dtype=dtype).save_pretrained(half)
    tiny.make_tokenizer().save_pretrained(half)
    adapter = trained / "run" / "adapter"
    said = f"{half} is a converted copy of the base of the adapter {adapter}: float32 then, {dtype} now"
    said = said.replace("torch.", "")
    assert open_by_name(str(trained / "run")).notes == []
    assert open_by_name(str(trained / "run"), base=str(half)).notes == [said]
    assert merge_run(str(adapter), tmp_path / "out", base=str(half)).notes == [said]
    make(tmp_path / "next", half, adapter=str(adapter))
    events = (tmp_path / "next" / "events.jsonl").read_text(encoding="utf-8")
    assert said in events


def test_a_packed_base_is_the_same_base(tmp_path: Path, trained: Path) -> None:
    run = make(tmp_path / "run", trained / "base", quantization="nf4")
    assert merge_run(str(run), tmp_path / "out").comparison.holds


def test_an_adapter_finds_its_base_where_it_lay_or_is_told(
    adapter: Path, trained: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    wanted = logits(open_by_name(str(trained / "run")).model)
    assert torch.equal(logits(open_by_name(str(adapter)).model), wanted)
    monkeypatch.setenv("WEITIAO_HOME", str(tmp_path / "another machine"))
    with pytest.raises(RunFolderError, match="--base MODEL"):
        open_by_name(str(adapter))
    assert torch.equal(logits(open_by_name(str(adapter), base=str(trained / "base")).model), wanted)


@pytest.mark.parametrize(
    "method", [LORA, {"name": "full"}, {"name": "vera"}, {"name": "bitfit", "add_bias": True}], ids=str
)
def test_a_checkpoint_opens_and_merges_as_its_run_does(
    tmp_path: Path, trained: Path, method: dict[str, Any]
) -> None:
    run = trained / "run" if method == LORA else make(tmp_path / "run", trained / "base", method, steps=2)
    newest, earlier, *_ = list_checkpoints(run / "checkpoints")
    opened, of_run = open_by_name(str(newest)), open_by_name(str(run))
    assert opened.is_trained
    assert torch.equal(logits(opened.model), logits(of_run.model))
    with opened.as_base() as before:
        assert torch.equal(logits(before), logits(open_by_name(str(trained / "base")).model))
    assert not torch.equal(logits(open_by_name(str(earlier)).model), logits(opened.model))
    assert merge_run(str(earlier), tmp_path / "out").comparison.holds


CHECKPOINTS: dict[str, Callable[[Path], object]] = {
    "a file cut": lambda f: (f / "trainable.safetensors").write_bytes(b"5"),
    "a file missing": lambda f: (f / "extra.safetensors").unlink(),
    "no state": lambda f: (f / "state.json").unlink(),
    "another state": lambda f: (f / "state.json").write_text("{}"),
    "a manifest cut": lambda f: (f / "MANIFEST.json").write_text('{"format'),
    "a manifest of lists": lambda f: (f / "MANIFEST.json").write_text("[]"),
    "renamed": lambda f: f.rename(f.with_name("step-00000009")),
}


@pytest.mark.parametrize("label", CHECKPOINTS)
def test_a_damaged_checkpoint_is_not_opened(trained: Path, tmp_path: Path, label: str) -> None:
    run = shutil.copytree(trained / "run", tmp_path / "run")
    path = list_checkpoints(run / "checkpoints")[0]
    CHECKPOINTS[label](path)
    place = path if path.exists() else path.with_name("step-00000009")
    with pytest.raises(RunFolderError, match="damaged"):
        open_by_name(str(place))


def test_a_checkpoint_without_its_run_and_of_another_method_are_refused(
    trained: Path, tmp_path: Path
) -> None:
    run = shutil.copytree(trained / "run", tmp_path / "run")
    path = list_checkpoints(run / "checkpoints")[0]
    text = (run / "run.yaml").read_text(encoding="utf-8")
    (run / "run.yaml").write_text(text.replace("r: 4", "r: 2"), encoding="utf-8")
    with pytest.raises(RunFolderError, match="other weights than this run trains"):
        open_by_name(str(path))
    (run / "run.yaml").unlink()
    with pytest.raises(RunFolderError, match=r"run\.yaml"):
        open_by_name(str(path))
