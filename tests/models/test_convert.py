"""Converting pickled weights: the same numbers, nothing run, nothing half done."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

import tiny
from plain_python import run_plain
from weitiao.core.errors import ModelError, ResourceError, RunFolderError
from weitiao.models.load import load_model
from weitiao.models.settings import ModelSettings
from weitiao.models.weights import convert as convert_module
from weitiao.models.weights.convert import BIN_INDEX, BIN_SINGLE, Converted, convert


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Tensor]:
    """The tensors of a tiny model."""
    return load_file(tiny.save_tiny_model(tmp_path_factory.mktemp("w")) / "model.safetensors")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A tiny model's folder without its weights."""
    made = tiny.save_tiny_model(tmp_path / "pickled")
    (made / "model.safetensors").unlink()
    return made


def converted(folder: Path, out: Path | None = None) -> Converted:
    return convert(folder, out or folder.with_name("new"), lambda _: None)


def tensors_in(out: Path) -> dict[str, Tensor]:
    return {name: t for path in out.glob("*.safetensors") for name, t in load_file(path).items()}


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def refusal(folder: Path, error: type[Exception] = ModelError) -> str:
    with pytest.raises(error) as raised:
        converted(folder)
    assert [path.name for path in folder.parent.iterdir() if path != folder] == []
    return str(raised.value)


def with_a_shared_table(folder: Path, file: str, tie: bool) -> dict[str, Tensor]:
    """Make a folder's config tie the head or not, and pickle weights whose head shares the embedding's memory."""
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"tie_word_embeddings": tie}))
    own = dict(load_file(tiny.save_tiny_model(folder.with_name("own")) / "model.safetensors"))
    own["lm_head.weight"] = own["model.embed_tokens.weight"]
    torch.save(own, folder / file)
    return own


def test_one_file_and_weights_that_share_memory_and_are_not_tied_are_both_kept(folder: Path) -> None:
    weights = with_a_shared_table(folder, BIN_SINGLE, tie=False)
    (folder / "training_args.bin").write_bytes(b"no weights")
    done = converted(folder)
    assert same(tensors_in(done.out), weights)
    assert done.tensors == len(weights) and done.size_bytes == sum(t.nbytes for t in weights.values())
    names = {path.name for path in done.out.iterdir()}
    assert "tokenizer.json" in names and not any(name.endswith(".bin") for name in names)
    model = load_model(ModelSettings(name=str(done.out), device_map="cpu"))
    assert same({n: p.data for n, p in model.named_parameters()}, weights)


def test_a_file_of_another_name_and_tied_weights_are_written_once(folder: Path) -> None:
    own = with_a_shared_table(folder, "model.pt", tie=True)
    done = converted(folder)
    found = tensors_in(done.out)
    assert own.keys() - found.keys() == {"lm_head.weight"}
    assert same(found, {name: own[name] for name in found})
    assert any("lm_head.weight" in note for note in done.notes)
    model = load_model(ModelSettings(name=str(done.out), device_map="cpu"))
    assert model.lm_head.weight is model.model.embed_tokens.weight


WAYS_TO_SAVE: dict[str, Callable[[dict[str, Tensor], Path], None]] = {
    "the old form": lambda weights, path: torch.save(weights, path, _use_new_zipfile_serialization=False),
    "a training program's": lambda weights, path: torch.save({"state_dict": weights, "epoch": 3}, path),
    "wrapped twice": lambda weights, path: torch.save({"model": {"module": weights}}, path),
    "with gradients": lambda weights, path: torch.save(
        {n: t.clone().requires_grad_() for n, t in weights.items()}, path
    ),
    "views": lambda weights, path: torch.save({n: torch.stack([t, t])[1] for n, t in weights.items()}, path),
    "transposed": lambda weights, path: torch.save(
        {n: t.t().contiguous().t() for n, t in weights.items() if t.ndim == 2}, path
    ),
}


def test_other_ways_to_save(folder: Path, weights: dict[str, Tensor]) -> None:
    """Each in a file of its own, all read by one process; `way/name` is a tensor's name."""
    expected, weight_map = {}, {}
    for number, (way, write) in enumerate(WAYS_TO_SAVE.items()):
        own = {f"{way}/{name}": t for name, t in weights.items() if way != "transposed" or t.ndim == 2}
        write(own, folder / f"{number}.bin")
        expected |= own
        weight_map |= dict.fromkeys(own, f"{number}.bin")
    (folder / BIN_INDEX).write_text(json.dumps({"weight_map": weight_map}))
    assert same(tensors_in(converted(folder).out), expected)


def sharded(folder: Path, weights: dict[str, Tensor]) -> list[Path]:
    """Write weights as two files and their index."""
    names = [f"pytorch_model-0000{n}-of-00002.bin" for n in (1, 2)]
    parts = dict.fromkeys(names, None)
    weight_map = {name: names[n % 2] for n, name in enumerate(weights)}
    for part in parts:
        torch.save({n: t for n, t in weights.items() if weight_map[n] == part}, folder / part)
    (folder / BIN_INDEX).write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    return [folder / name for name in names]


def test_several_files(folder: Path, weights: dict[str, Tensor]) -> None:
    sharded(folder, weights)
    out = converted(folder).out
    assert same(tensors_in(out), weights)
    index = json.loads((out / "model.safetensors.index.json").read_text())
    assert index["metadata"]["total_size"] == sum(t.nbytes for t in weights.values())
    assert not (out / BIN_INDEX).exists()
    load_model(ModelSettings(name=str(out), device_map="cpu"))


def test_an_encoder_and_decoder_keeps_its_shared_table_once(tmp_path: Path) -> None:
    from transformers import T5Config, T5ForConditionalGeneration

    config = T5Config(vocab_size=50, d_model=16, d_kv=4, d_ff=32, num_layers=1, num_heads=4)
    model, folder = T5ForConditionalGeneration(config), tmp_path / "t5"
    model.config.save_pretrained(folder)
    torch.save(model.state_dict(), folder / BIN_SINGLE)
    found = tensors_in(converted(folder).out)
    assert "shared.weight" in found and "encoder.embed_tokens.weight" not in found
    again = T5ForConditionalGeneration.from_pretrained(folder.with_name("new"))
    assert same(dict(again.state_dict()), dict(model.state_dict()))


class _Runs:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.path}",)


READING = "import runpy; runpy.run_module('weitiao.models.weights.unpickle', run_name='__main__')"


def refused(file: Path) -> str:
    """Return what is said when the process that reads a file refuses it, which writes nothing then."""
    out = file.with_name("out.safetensors")
    ended = run_plain(READING, typed=json.dumps({"files": [[str(file), str(out)]], "tied": {}}))
    assert ended.returncode != 0 and not out.exists()
    error = convert_module.reading_failure(file, ended.returncode, ended.stderr)
    assert isinstance(error, ModelError)
    return str(error)


def test_a_pickle_that_runs_code_is_refused_and_runs_nothing(
    folder: Path, weights: dict[str, Tensor]
) -> None:
    trap = folder / "ran"
    torch.save({**weights, "x": _Runs(trap)}, folder / BIN_SINGLE)
    whole = refusal(folder)
    old = folder.with_name("old.bin")
    torch.save({**weights, "x": _Runs(trap)}, old, _use_new_zipfile_serialization=False)
    for text in (whole, refused(old)):
        assert "asks Python to run more" in text and "system" in text
    assert not trap.exists()


def test_a_program_is_refused(tmp_path: Path) -> None:
    torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), str(tmp_path / BIN_SINGLE))
    assert "asks for TorchScript" in refused(tmp_path / BIN_SINGLE)


@pytest.mark.parametrize("kept", [0, 0.99])
def test_a_file_cut_short(kept: float, tmp_path: Path, weights: dict[str, Tensor]) -> None:
    path = tmp_path / BIN_SINGLE
    torch.save(weights, path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(kept * len(whole))])
    assert "cannot be read" in refused(path)


def test_a_second_file_cut_short_leaves_nothing(folder: Path, weights: dict[str, Tensor]) -> None:
    _, second = sharded(folder, weights)
    second.write_bytes(second.read_bytes()[:-500])
    assert second.name in refusal(folder)


def broken_indexes() -> Iterator[tuple[str, str]]:
    yield "not JSON", "{"
    yield "no map", "{}"
    yield "itself", json.dumps({"weight_map": {"a": BIN_INDEX}})
    yield "another folder's", json.dumps({"weight_map": {"a": "../x.bin"}})
    yield "nested too deep", "[" * 100_000
    yield "no names", json.dumps({"weight_map": {"a": 3}})


@pytest.mark.parametrize("text", [t for _, t in broken_indexes()], ids=[n for n, _ in broken_indexes()])
def test_an_index_that_cannot_be_used(text: str, folder: Path) -> None:
    (folder / BIN_INDEX).write_text(text)
    assert "index of the model's weight files cannot be read" in refusal(folder)


def test_a_missing_file_is_named(folder: Path, weights: dict[str, Tensor]) -> None:
    _, second = sharded(folder, weights)
    second.unlink()
    assert f"got       {second.name}" in refusal(folder)


def test_files_that_are_links_to_each_other(folder: Path) -> None:
    (folder / BIN_SINGLE).symlink_to("other.bin")
    (folder / "other.bin").symlink_to(BIN_SINGLE)
    with pytest.raises(OSError, match="symbolic links"):
        converted(folder)


@pytest.mark.parametrize("value", [{"a": 1}, torch.zeros(3)], ids=["names", "a tensor"])
def test_a_pickle_without_tensors(value: object, tmp_path: Path) -> None:
    torch.save(value, tmp_path / BIN_SINGLE)
    assert "no tensors by name" in refused(tmp_path / BIN_SINGLE)


def test_folders_that_cannot_be_converted(folder: Path, tiny_model_folder: Path, tmp_path: Path) -> None:
    assert "holds no weights" in refusal(folder)
    (folder / "a.bin").write_bytes(b"")
    (folder / "b.bin").write_bytes(b"")
    assert "not clear which file" in refusal(folder)
    (folder / "config.json").unlink()
    assert "no config.json" in refusal(folder)
    with pytest.raises(ModelError, match="already safetensors"):
        converted(tiny_model_folder, tmp_path / "new")
    with pytest.raises(ModelError, match="no such folder"):
        converted(tmp_path / "nothing", tmp_path / "new")


def test_an_output_that_is_there_is_not_touched(folder: Path, weights: dict[str, Tensor]) -> None:
    torch.save(weights, folder / BIN_SINGLE)
    out = folder.with_name("new")
    out.mkdir()
    with pytest.raises(RunFolderError, match="already exists"):
        converted(folder)
    assert list(out.iterdir()) == []


def test_a_full_disk_is_known_first(
    folder: Path, weights: dict[str, Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.save(weights, folder / BIN_SINGLE)
    monkeypatch.setattr("shutil.disk_usage", lambda _: os.statvfs_result([0] * 10) and _Usage())
    assert "too little disk" in refusal(folder, ResourceError)


class _Usage:
    free = 10


@pytest.mark.parametrize(
    ("said", "code", "error", "text"),
    [
        (
            "SafetensorError: I/O error: No space left on device (os error 28)",
            1,
            ResourceError,
            "disk is full",
        ),
        ("", -9, ModelError, "ended by signal 9"),
        ("Traceback\nMemoryError: x", 1, ModelError, "cannot be read"),
    ],
)
def test_what_ended_the_reading_process_is_said(
    said: str, code: int, error: type[Exception], text: str
) -> None:
    found = convert_module.reading_failure(Path("x.bin"), code, said)
    assert isinstance(found, error) and text in str(found)
