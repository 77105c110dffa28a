"""Checkpoints: damage is never read, another run's is refused, nothing half written or not finite is left."""

from __future__ import annotations

import hashlib
import json
import random
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from interrupting import ctrl_c_everywhere
from tiny_training import Events, equal, last_state, make_examples, make_training, weights_of
from weitiao.core.errors import NotFiniteError, ResourceError, RunFolderError
from weitiao.core.files import need_disk
from weitiao.engine.checkpoint import (
    FILES,
    MANIFEST,
    Snapshot,
    damage_of,
    list_checkpoints,
    load_checkpoint,
    newest_whole,
    prune,
    save_checkpoint,
)
from weitiao.engine.state_files import put_tensors, take_tensors, unshared

EXAMPLES = make_examples(12)
FLIPS = 25


def snapshot(step: int, **changes: object) -> Snapshot:
    generator = torch.Generator().manual_seed(step)
    made = Snapshot(
        step=step,
        trainable={"w": torch.randn(6, 4, generator=generator)},
        optimizer={
            "state": {0: {"m": torch.randn(6, 4, generator=generator)}},
            "param_groups": [{"lr": 1e-3}],
        },
        schedule={"last_epoch": step, "best": float("inf")},
        progress={"step": step},
        extra={"initial": torch.full((2,), float(step))},
        identity={"settings": "a", "data": "b", "base model": "c"},
    )
    return replace(made, **changes)  # type: ignore[arg-type]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Checkpoints of the steps 1, 2 and 3."""
    for step in (1, 2, 3):
        save_checkpoint(tmp_path, snapshot(step))
    return tmp_path


def same(one: Snapshot, other: Snapshot) -> bool:
    plain: list[tuple[object, dict[str, torch.Tensor]]] = []
    for part in (one, other):
        tensors: dict[str, torch.Tensor] = {}
        content = {name: getattr(part, name) for name in Snapshot.__dataclass_fields__}
        plain.append((take_tensors(content, "snapshot", tensors), tensors))
    return plain[0][0] == plain[1][0] and equal(plain[0][1], plain[1][1])


def test_what_was_saved_comes_back(folder: Path) -> None:
    assert [path.name for path in list_checkpoints(folder)] == [
        "step-00000003",
        "step-00000002",
        "step-00000001",
    ]
    assert {path.name for path in list_checkpoints(folder)[0].iterdir()} == {*FILES, MANIFEST}
    for step in (1, 2, 3):
        path = folder / f"step-{step:08d}"
        assert damage_of(path) == ""
        assert same(load_checkpoint(path, {"settings": "a", "data": "b", "base model": "c"}), snapshot(step))


def flip(path: Path, position: int, bit: int) -> None:
    content = bytearray(path.read_bytes())
    content[position] ^= 1 << bit
    path.write_bytes(content)


@pytest.mark.parametrize("name", sorted(FILES | {MANIFEST}))
def test_a_flipped_bit_is_never_read(folder: Path, name: str) -> None:
    newest = folder / "step-00000003"
    dice = random.Random(name)
    kept = (newest / name).read_bytes()
    for _ in range(FLIPS):
        flip(newest / name, dice.randrange(len(kept)), dice.randrange(8))
        found, passed_over = newest_whole(folder)
        if found == newest:  # a blank of the manifest's became another blank
            assert name == MANIFEST
            assert same(load_checkpoint(newest, {}), snapshot(3))
        else:
            assert found == folder / "step-00000002"
            assert len(passed_over) == 1
            assert passed_over[0].startswith("step-00000003 is damaged: ")
            with pytest.raises(RunFolderError, match="damaged"):
                load_checkpoint(newest, {})
        (newest / name).write_bytes(kept)


@pytest.mark.parametrize("name", sorted(FILES | {MANIFEST}))
@pytest.mark.parametrize("harm", ["cut", "emptied", "grown", "removed", "a folder", "of another checkpoint"])
def test_a_harmed_file_is_never_read(folder: Path, name: str, harm: str) -> None:
    path = folder / "step-00000003" / name
    content = path.read_bytes()
    changed = {"cut": content[:-9], "emptied": b"", "grown": content + b"\0"}
    if harm in changed:
        path.write_bytes(changed[harm])
    elif harm == "of another checkpoint":
        shutil.copy(folder / "step-00000002" / name, path)
    else:
        path.unlink()
        if harm == "a folder":
            path.mkdir()
    found, passed_over = newest_whole(folder)
    assert found == folder / "step-00000002"
    assert "step-00000003 is damaged" in passed_over[0]


def forge(path: Path, name: str, content: bytes) -> None:
    """Give a checkpoint's file another content, and its manifest the size and hash of that."""
    (path / name).write_bytes(content)
    manifest = json.loads((path / MANIFEST).read_text())
    manifest["files"][name] = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    (path / MANIFEST).write_text(json.dumps(manifest))


STATES = {
    "no JSON": b"{",
    "deep": b"[" * 100_000 + b"]" * 100_000,
    "no object": b"[1]",
    "no keys": b"{}",
    "a text for a step": b'{"step": "3", "optimizer": {}, "schedule": {}, "progress": {}, "identity": {}}',
    "a list for an identity": b'{"step": 3, "optimizer": {}, "schedule": {}, "progress": {}, "identity": []}',
}


@pytest.mark.parametrize("what", STATES)
def test_a_state_of_another_form_is_passed_over_though_its_hash_is_right(folder: Path, what: str) -> None:
    forge(folder / "step-00000003", "state.json", STATES[what])
    found, passed_over = newest_whole(folder)
    assert found == folder / "step-00000002"
    assert "step-00000003 is damaged" in passed_over[0]


@pytest.mark.parametrize("content", [b"", b"\xff" * 64, b"\x10" + b"\0" * 7 + b"{" * 16])
@pytest.mark.parametrize("name", sorted(FILES - {"state.json"}))
def test_tensors_that_are_none_are_passed_over_though_their_hash_is_right(
    folder: Path, name: str, content: bytes
) -> None:
    forge(folder / "step-00000003", name, content)
    found, _ = newest_whole(folder)
    assert found == folder / "step-00000002"


@pytest.mark.parametrize(
    "manifest",
    ["[]", "{}", '{"format": [], "step": {}, "files": {}}', "[" * 100_000, '{"files": {"a": 1}}', "\0"],
)
def test_a_manifest_of_another_form_is_passed_over(folder: Path, manifest: str) -> None:
    (folder / "step-00000003" / MANIFEST).write_text(manifest)
    found, passed_over = newest_whole(folder)
    assert found == folder / "step-00000002"
    assert "step-00000003 is damaged" in passed_over[0]


def test_an_optimizer_of_another_form_is_refused_in_words(folder: Path) -> None:
    path = folder / "step-00000003"
    state = json.loads((path / "state.json").read_text())
    for broken in ({"$tensor": "missing"}, {"a": 1, "b": 2}, {"$items": 5}):
        forge(path, "state.json", json.dumps({**state, "optimizer": broken}).encode())
        with pytest.raises(RunFolderError, match="optimizer state cannot be read"):
            load_checkpoint(path, {})


def test_a_whole_checkpoint_under_another_steps_name_is_not_taken(folder: Path) -> None:
    shutil.rmtree(folder / "step-00000003")
    shutil.copytree(folder / "step-00000001", folder / "step-00000003")
    found, passed_over = newest_whole(folder)
    assert found == folder / "step-00000002"
    assert "step 1" in passed_over[0]


def test_where_none_is_whole_all_are_named(folder: Path) -> None:
    for path in list_checkpoints(folder):
        (path / "state.json").unlink()
    found, passed_over = newest_whole(folder)
    assert found is None
    assert [text.split()[0] for text in passed_over] == ["step-00000003", "step-00000002", "step-00000001"]


@pytest.mark.parametrize("changed", ["settings", "data", "base model"])
def test_another_runs_is_refused_naming_what_differs(folder: Path, changed: str) -> None:
    mine = {"settings": "a", "data": "b", "base model": "c"}
    with pytest.raises(RunFolderError) as caught:
        load_checkpoint(folder / "step-00000003", {**mine, changed: "other"})
    assert f"its {changed} differ" in caught.value.problems[0].what


def test_a_training_refuses_a_checkpoint_of_other_data_settings_or_base(tmp_path: Path) -> None:
    first = make_training(tmp_path, EXAMPLES, steps=1)
    first.run()
    path = list_checkpoints(tmp_path / "checkpoints")[0]
    make_training(tmp_path, EXAMPLES, steps=1).resume(path)
    for what, other in (
        ("settings", make_training(tmp_path, EXAMPLES, steps=2)),
        ("data", make_training(tmp_path, EXAMPLES[:-1], steps=1)),
    ):
        before = weights_of(other)
        with pytest.raises(RunFolderError, match=f"its {what} differ"):
            other.resume(path)
        assert equal(weights_of(other), before)


def test_too_little_disk_is_found_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(ResourceError, match="too little disk for a checkpoint"):
        need_disk(tmp_path / "not" / "there", 1 << 60, "a checkpoint")
    huge = torch.zeros(1, dtype=torch.float32).expand(1 << 50)
    with pytest.raises((ResourceError, RuntimeError)):
        save_checkpoint(tmp_path, snapshot(9, trainable={"w": huge}))
    assert list(tmp_path.iterdir()) == []


def test_what_a_dead_process_left_goes_with_the_next_save(folder: Path) -> None:
    (folder / ".staging-1-step-00000004").mkdir()
    (folder / ".staging-1-step-00000004" / "trainable.safetensors").write_bytes(b"half")
    assert newest_whole(folder) == (folder / "step-00000003", [])
    save_checkpoint(folder, snapshot(4))
    assert list(folder.glob(".staging-*")) == []


def test_ctrl_c_at_any_moment_of_a_save_leaves_the_checkpoint_or_nothing(folder: Path) -> None:
    before, stops = {path.name for path in folder.iterdir()}, 0
    for _ in ctrl_c_everywhere(folder, lambda: save_checkpoint(folder, snapshot(4))):
        stops += 1
        found = {path.name for path in folder.iterdir()}
        assert found - before in (set(), {"step-00000004"})
        assert not any(map(damage_of, list_checkpoints(folder)))
        shutil.rmtree(folder / "step-00000004", ignore_errors=True)
    assert stops >= 10
    assert not damage_of(folder / "step-00000004")


def test_a_damaged_one_of_the_same_step_is_replaced_and_a_whole_one_kept(folder: Path) -> None:
    path = folder / "step-00000003"
    inode = path.stat().st_ino
    save_checkpoint(folder, snapshot(3))
    assert path.stat().st_ino == inode
    (path / "trainable.safetensors").write_bytes(b"")
    save_checkpoint(folder, snapshot(3))
    assert damage_of(path) == ""


def test_rotation_spares_the_best_and_what_was_just_saved(folder: Path) -> None:
    prune(folder, keep=1, step=3, protected=frozenset([1]))
    assert [path.name for path in list_checkpoints(folder)] == ["step-00000003", "step-00000001"]


def test_a_damaged_later_one_does_not_push_out_what_was_just_saved(folder: Path) -> None:
    """Resumed from step 1 because 2 and 3 are damaged, a run saves step 2 again and keeps one."""
    for step in (2, 3):
        (folder / f"step-{step:08d}" / "state.json").unlink()
    save_checkpoint(folder, snapshot(2))
    prune(folder, keep=1, step=2, protected=frozenset())
    assert [path.name for path in list_checkpoints(folder)] == ["step-00000002"]


def test_other_folders_are_left_alone(folder: Path) -> None:
    (folder / "step-by-hand").mkdir()
    prune(folder, keep=1, step=3, protected=frozenset())
    assert (folder / "step-by-hand").is_dir()


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("part", ["trainable", "extra", "optimizer"])
def test_what_is_not_finite_is_never_written(tmp_path: Path, part: str, value: float) -> None:
    bad = torch.tensor([1.0, value])
    changes = {"optimizer": {"state": {0: {"bad": bad}}}}.get(part, {"bad": bad})
    with pytest.raises(NotFiniteError, match="not written"):
        save_checkpoint(tmp_path, snapshot(1, **{part: changes}))
    assert list(tmp_path.iterdir()) == []


def test_rotation_and_the_best_in_a_run(tmp_path: Path) -> None:
    """The best look is kept however old; the result are its weights."""
    losses = iter([3.0, 1.0, 2.0, 2.5, 2.5, 2.5])
    heard = Events()
    training = make_training(
        tmp_path,
        EXAMPLES,
        held_out=EXAMPLES[:1],
        listeners=(heard,),
        steps=6,
        eval_every=1,
        save_every=1,
        lr=1e-2,
    )
    training.held_out_loss = lambda _: {"loss": next(losses)}
    best: dict[str, torch.Tensor] = {}
    heard.append({"event": "none"})
    progress = training.run()
    names = [path.name for path in list_checkpoints(tmp_path / "checkpoints")]
    assert names == ["step-00000006", "step-00000005", "step-00000002"]
    assert (progress.best_step, progress.best_loss) == (2, 1.0)
    best = load_file(tmp_path / "checkpoints" / "step-00000002" / "trainable.safetensors")
    assert equal(weights_of(training), best)
    assert "step 2" in heard.of("note")[-1]["text"]


def test_a_damaged_best_is_said_and_the_last_step_stays(tmp_path: Path) -> None:
    losses = iter([1.0, 2.0])
    heard = Events()

    def spoil(event: dict[str, object]) -> None:
        if event["event"] == "checkpoint" and event["step"] == 1:
            (tmp_path / "checkpoints" / "step-00000001" / "state.json").write_text("{}")

    training = make_training(
        tmp_path,
        EXAMPLES,
        held_out=EXAMPLES[:1],
        listeners=(heard, spoil),
        steps=2,
        eval_every=1,
        save_every=1,
    )
    training.held_out_loss = lambda _: {"loss": next(losses)}
    training.run()
    assert "the best checkpoint, step-00000001, is damaged" in heard.of("note")[-1]["text"]
    newest = list_checkpoints(tmp_path / "checkpoints")[0]
    assert equal(weights_of(training), load_file(newest / "trainable.safetensors"))


@pytest.mark.parametrize("loss", [float("nan"), float("inf")])
def test_a_held_out_loss_that_is_not_finite_is_no_gain_and_stops_nothing(tmp_path: Path, loss: float) -> None:
    training = make_training(
        tmp_path,
        EXAMPLES,
        held_out=EXAMPLES[:1],
        steps=3,
        eval_every=1,
        save_every=1,
        early_stopping_patience=2,
    )
    training.held_out_loss = lambda _: {"loss": loss}
    progress = training.run()
    assert (progress.step, progress.best_step, progress.looks_without_gain) == (2, None, 2)
    last_state(tmp_path)


NESTED = {
    "numbers": [1, 2.5, True, None, "text", float("inf"), -float("inf")],
    "tuple": (0.9, 0.999),
    "deep": {0: {"step": torch.tensor(3.0), "m": torch.ones(2, 3, dtype=torch.bfloat16)}, "x": []},
}


def test_nested_state_round_trip() -> None:
    tensors: dict[str, torch.Tensor] = {}
    plain = take_tensors(NESTED, "s", tensors)
    back = put_tensors(plain, tensors)
    assert back["numbers"] == NESTED["numbers"]
    assert isinstance(back["tuple"], tuple)
    assert list(back["deep"]) == [0, "x"]
    assert torch.equal(back["deep"][0]["m"], torch.ones(2, 3, dtype=torch.bfloat16))


@pytest.mark.parametrize("value", [lambda: 0, {1, 2}, object()])
def test_what_a_checkpoint_cannot_keep_is_refused(value: Callable[[], int]) -> None:
    with pytest.raises(TypeError, match="cannot keep"):
        take_tensors({"a": [value]}, "s", {})


def test_shared_memory_is_taken_apart(tmp_path: Path) -> None:
    table = torch.arange(8.0)
    own = unshared({"a": table, "b": table, "c": table[2:4], "d": torch.ones(2)})
    save_file(own, tmp_path / "x.safetensors")
    back = load_file(tmp_path / "x.safetensors")
    assert torch.equal(back["b"], table)
    assert torch.equal(back["c"], table[2:4])
    assert own["d"].data_ptr() != own["a"].data_ptr()
