"""Frozen blocks computed once: losses, gradients and weights are those of computing them in every step."""

from __future__ import annotations

import json
import shutil
from collections import namedtuple
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import pytest
import torch

import tiny_architectures as tiny
from tiny_packs import gradients, make, plain_loss_sum
from tiny_training import (
    Events,
    equal,
    largest_difference,
    last_state,
    make_examples,
    make_ids,
    make_training,
    sequence_of,
    weights_of,
)
from weitiao.core.events import EventLog
from weitiao.core.run_folder import RunFolder
from weitiao.data.dataset import Prepared
from weitiao.data.example import Example
from weitiao.engine.checkpoint import newest_whole
from weitiao.engine.loop import Training
from weitiao.engine.memory.frozen_cache import FrozenBlocks, Replay, find_frozen_blocks
from weitiao.evaluation.held_out import measure_held_out
from weitiao.recipe.build import frozen_once
from weitiao.recipe.recipe import parse_recipe
from weitiao.recipe.train import train_recipe

FREEZE = {"name": "freeze", "last_n": 1}
LORA_ON_TOP = {"name": "lora", "r": 4, "layers_to_transform": [2]}
TOP = {
    "freeze": (FREEZE, 2),
    "freeze two": ({"name": "freeze", "last_n": 2}, 1),
    "lora on top": (LORA_ON_TOP, 2),
    "norms only": ({"name": "freeze", "last_n": 0, "norms": "final"}, 3),
}
"""Methods that train only the top of three blocks, or what lies behind them, and how many blocks they leave frozen."""
HEAD = {"name": "freeze", "last_n": 0, "head": True}
MODELS = ["llama", "qwen2", "gpt2", "opt", "gemma", "phi3", "mistral, window shorter than a sample", "bloom"]
HELD_OUT = make_examples(3, seed=6)


def begin_alike() -> list[Example]:
    """Return examples of which some share a beginning, one is another's beginning, and one stands there twice."""
    trunk = make_ids(14, seed=3)
    tails = [(5, 6, 7), (9, 8), (9, 8, 30, 31), ()]
    rows = [(*trunk[: 14 - n % 2], *tail) for n, tail in enumerate(tails)]
    weights = [tuple(float(t >= 4) for t in range(len(row))) for row in rows]
    shared = [
        Example.of(row, w, f"alike.json:{n}") for n, (row, w) in enumerate(zip(rows, weights, strict=True))
    ]
    return [*shared, shared[1], *make_examples(5, seed=5)]


ROWS = begin_alike()
NOTHING_TRAINED = Example.of((4, 5, 6, 7), (0.0,) * 4, "rows.json:99")


def three_blocks(folder: Path, rows: Sequence[Example], **changes: Any) -> Training:  # noqa: ANN401
    """Return a training of a tiny Llama of three blocks, or of the model that is given."""
    return make_training(folder, rows, **{"layers": 3, **changes})


@contextmanager
def kept(
    folder: Path,
    training: Training,
    rows: Sequence[Example],
    held_out: Sequence[Example] = (),
    log: Events | None = None,
) -> Iterator[None]:
    folder.mkdir(exist_ok=True)
    data = Prepared(list(rows), list(held_out), [], cast("Any", None), cast("Any", None), "")
    with frozen_once(RunFolder(folder), training, data, EventLog(None, () if log is None else (log,))):
        yield


def found(training: Training, rows: Sequence[Example]) -> tuple[float, dict[str, torch.Tensor]]:
    """Return loss and gradients as a step has them."""
    training.attached.model.train()
    with training.stepper.forward.attention():
        return training.stepper.gradients(rows, 0).loss, gradients(training.stepper.parameters)


def moved(training: Training) -> Training:
    with torch.no_grad():  # so that LoRA's B is not zero, and the gradient of A neither
        for parameter in training.stepper.parameters.values():
            parameter += 0.05 * torch.ones_like(parameter)
    return training


@contextmanager
def counting(training: Training) -> Iterator[list[int]]:
    """Count how often each block of the model runs."""
    log = EventLog(None)
    blocks = cast("FrozenBlocks", find_frozen_blocks(training.stepper.forward, log)).stack
    calls = [0] * len(blocks)

    def count(number: int) -> Any:  # noqa: ANN401
        def hook(*_: object) -> None:
            calls[number] += 1

        return hook

    handles = [block.register_forward_hook(count(n)) for n, block in enumerate(blocks)]
    yield calls
    for handle in handles:
        handle.remove()


@pytest.mark.parametrize(
    ("label", "what"),
    # BLOOM has a norm on its embeddings, which trains with the others outside the blocks: nothing is frozen.
    [
        *(("llama", what) for what in TOP),
        *((label, [*TOP][number % 4]) for number, label in enumerate(MODELS[1:])),
    ],
)
def test_loss_and_gradients_are_those_of_the_whole_model(label: str, what: str, tmp_path: Path) -> None:
    method, frozen = TOP[what]
    if what.startswith("lora") and label == "bloom":
        method = {**LORA_ON_TOP, "target_modules": ["query_key_value"]}
    training = moved(three_blocks(tmp_path, ROWS, method=method, model=make(label, layers=3), pack_tokens=40))
    loss, expected = found(training, ROWS)
    plain = sum(float(plain_loss_sum(training.attached.model, row).detach()) for row in ROWS)
    assert loss == pytest.approx(plain / sum(row.loss_weight for row in ROWS), abs=1e-5)
    with counting(training) as calls, kept(tmp_path, training, [*ROWS, NOTHING_TRAINED]):
        assert isinstance(training.stepper.forward.state.replay, Replay)
        calls[:] = [0] * 3
        again, gradients_again = found(training, ROWS)
        forward = training.stepper.forward
        packs = len(forward.cut(ROWS, 40)) if forward.options.packs else len(ROWS)
        assert calls == [0] * frozen + [packs] * (3 - frozen)
    assert again == pytest.approx(loss, abs=1e-6)
    assert gradients_again.keys() == expected.keys()
    for name, gradient in gradients_again.items():
        torch.testing.assert_close(gradient, expected[name], atol=1e-6, rtol=1e-5, msg=name)


def test_the_head_alone(tmp_path: Path) -> None:
    training = three_blocks(tmp_path, ROWS, method=HEAD, pack_tokens=40)
    loss, expected = found(training, ROWS)
    with kept(tmp_path, training, ROWS):
        assert cast("Replay", training.stepper.forward.state.replay).frozen.count == 3
        again, gradients_again = found(training, ROWS)
    assert again == pytest.approx(loss, abs=1e-6)
    assert largest_difference(gradients_again, expected) < 1e-6


@pytest.mark.parametrize(
    "changes",
    [
        {"gradient_checkpointing": True},
        {"method": {**LORA_ON_TOP, "dropout": 0.3}},
        {"pack_tokens": 1},
    ],
    ids=str,
)
def test_with_other_settings(changes: dict[str, Any], tmp_path: Path) -> None:
    """Dropout above the frozen blocks draws what it drew."""
    training = moved(three_blocks(tmp_path, ROWS, **{"method": FREEZE, "pack_tokens": 40, **changes}))
    loss, expected = found(training, ROWS)
    with kept(tmp_path, training, ROWS):
        assert isinstance(training.stepper.forward.state.replay, Replay)
        again, gradients_again = found(training, ROWS)
    assert again == pytest.approx(loss, abs=1e-6)
    assert largest_difference(gradients_again, expected) < 1e-6


def test_half_precision_is_kept_bit_by_bit(tmp_path: Path) -> None:
    model = make("llama", layers=3).to(torch.bfloat16)
    training = three_blocks(tmp_path, ROWS[-5:], method=FREEZE, model=model, pack_tokens=1)
    loss, expected = found(training, ROWS[-5:])
    with kept(tmp_path, training, ROWS[-5:]):
        states = cast("Replay", training.stepper.forward.state.replay).states
        assert states.rows_ND.itemsize == 2
        again, gradients_again = found(training, ROWS[-5:])
    # No pack holds more than one example, in training as in storing, so not even rounding differs.
    assert again == loss
    assert equal(gradients_again, expected)


def test_what_is_not_stored_is_computed(tmp_path: Path) -> None:
    training = three_blocks(tmp_path, ROWS, method=FREEZE)
    others = make_examples(2, seed=77)
    loss, _ = found(training, [*ROWS, *others])
    with kept(tmp_path, training, ROWS):
        assert found(training, [*ROWS, *others])[0] == pytest.approx(loss, abs=1e-6)


@pytest.mark.parametrize(
    "changes",
    [
        {"method": "full"},
        {"method": "lora"},
        {"method": {"name": "prompt_tuning", "num_virtual_tokens": 4}},
        {"method": {"name": "prefix_tuning", "num_virtual_tokens": 4}},
        {"method": {"name": "freeze", "first_n": 1}},
        {"method": {"name": "freeze", "last_n": 1, "embeddings": True}},
        {"method": FREEZE, "frozen_cache": "off"},
    ],
    ids=str,
)
def test_nothing_is_stored(changes: dict[str, Any], tmp_path: Path) -> None:
    """Where something below all others trains, where it is switched off: no file, and not a word."""
    log = Events()
    training = three_blocks(tmp_path, ROWS, **changes)
    with kept(tmp_path, training, ROWS, log=log):
        assert not isinstance(training.stepper.forward.state.replay, Replay)
        assert not RunFolder(tmp_path).frozen_states.exists()
    assert not log


def test_where_no_example_is_seen_twice(tmp_path: Path) -> None:
    log = Events()
    for settings, stored in (
        ({"epochs": 1.0}, 0),
        ({"epochs": 2.0}, 1),
        ({"steps": 1}, 0),
        ({"steps": 3}, 1),
    ):
        training = three_blocks(tmp_path, ROWS, method=FREEZE, **settings)
        with kept(tmp_path, training, ROWS, log=log):
            assert isinstance(training.stepper.forward.state.replay, Replay) == bool(stored)
    training = three_blocks(tmp_path, ROWS, method=FREEZE, epochs=1.0)
    with kept(tmp_path, training, ROWS, HELD_OUT, log):
        states = cast("Replay", training.stepper.forward.state.replay).states
        assert len(states.rows_ND) == sum(row.tokens for row in HELD_OUT)


def dropping(where: str, amount: float) -> Any:  # noqa: ANN401
    model = make("gpt2", layers=3)
    for name, module in model.named_modules():
        if name.endswith(where):
            cast("torch.nn.Dropout", module).p = amount
    return model


@pytest.mark.parametrize("amount", [0.1, 1e-5])
def test_dropout_below_is_refused_with_a_note(amount: float, tmp_path: Path) -> None:
    log = Events()
    training = three_blocks(tmp_path, ROWS, method=FREEZE, model=dropping("transformer.drop", amount))
    with kept(tmp_path, training, ROWS, log=log):
        assert not isinstance(training.stepper.forward.state.replay, Replay)
    (note,) = log.of("note")
    assert "dropout" in note["text"]
    training = three_blocks(tmp_path, ROWS, method=FREEZE, model=dropping("h.1.mlp.dropout", amount))
    with kept(tmp_path, training, ROWS, log=log):
        assert cast("Replay", training.stepper.forward.state.replay).frozen.count == 1
    assert "block 2" in log.of("note")[1]["text"]


def test_noise_on_embeddings_is_refused(tmp_path: Path) -> None:
    training = three_blocks(tmp_path, ROWS, method=FREEZE, neftune_alpha=5.0)
    with kept(tmp_path, training, ROWS):
        assert not isinstance(training.stepper.forward.state.replay, Replay)


def test_a_block_that_reads_more_than_hidden_states_is_refused_with_a_note(tmp_path: Path) -> None:
    log = Events()
    model = make("llama", layers=3)
    left: dict[str, torch.Tensor] = {}
    model.model.layers[0].register_forward_hook(lambda *args: left.update(mean=args[2].mean()))
    model.model.layers[2].register_forward_pre_hook(lambda _, args: (args[0] + left["mean"],))
    training = three_blocks(tmp_path, ROWS, method=FREEZE, model=model)
    with kept(tmp_path, training, ROWS, log=log):
        assert not isinstance(training.stepper.forward.state.replay, Replay)
    assert [event["event"] for event in log] == ["note"]


class Stop(Exception):
    """Ends a training between two steps, as a crash would."""


def stop_after(step: int) -> Any:  # noqa: ANN401
    def listen(event: dict[str, Any]) -> None:
        if event["event"] == "checkpoint" and event["step"] == step:
            raise Stop

    return listen


def make_run(folder: Path, *listeners: Any, **changes: Any) -> Training:  # noqa: ANN401
    settings = {"lr": 1e-2, "eps": 1e-3, "epochs": 3.0, "batch_size": 4, "save_every": 1, "eval_every": 2}
    settings |= {"method": {**LORA_ON_TOP, "dropout": 0.1}, "pack_tokens": 40, "keep_best": False} | changes
    return three_blocks(folder, ROWS, held_out=HELD_OUT, listeners=listeners, **settings)


def run(folder: Path, *listeners: Any, **changes: Any) -> Training:  # noqa: ANN401
    training = make_run(folder, *listeners, **changes)
    with kept(folder, training, ROWS, HELD_OUT):
        replays = isinstance(training.stepper.forward.state.replay, Replay)
        assert replays == (training.settings.frozen_cache == "auto")
        training.run()
    return training


@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
def test_three_epochs_end_in_the_same_weights(architecture: str, tmp_path: Path) -> None:
    heard = Events(), Events()
    method = {"method": FREEZE} if architecture == "gpt2" else {}
    one, other = (
        run(tmp_path / cache, log, frozen_cache=cache, model=tiny.make_model(architecture), **method)
        for cache, log in zip(("auto", "off"), heard, strict=True)
    )
    for kind in ("step", "evaluated"):
        losses, wanted = ([event["loss"] for event in log.of(kind)] for log in heard)
        assert losses == pytest.approx(wanted, abs=1e-6)
        assert len(losses) > 3
    assert largest_difference(weights_of(one), weights_of(other)) < 1e-6


def test_a_resumed_run_is_the_uninterrupted_one_bit_by_bit(tmp_path: Path) -> None:
    straight = run(tmp_path / "straight")
    with pytest.raises(Stop):
        run(tmp_path / "resumed", stop_after(4))
    path, _ = newest_whole(tmp_path / "resumed" / "checkpoints")
    resumed = make_run(tmp_path / "resumed")
    with kept(tmp_path / "resumed", resumed, ROWS, HELD_OUT):
        assert isinstance(resumed.stepper.forward.state.replay, Replay)
        resumed.resume(cast("Path", path))
        assert resumed.progress.step == 4
        resumed.run()
    assert equal(weights_of(resumed), weights_of(straight))
    assert last_state(tmp_path / "resumed") == last_state(tmp_path / "straight")


def test_the_held_out_loss_is_the_same(tmp_path: Path) -> None:
    training = make_run(tmp_path)
    stepper = training.stepper
    with stepper.forward.attention():
        plain = measure_held_out(stepper.forward, stepper.objective, HELD_OUT, 40)
        with counting(training) as calls, kept(tmp_path, training, ROWS, HELD_OUT):
            calls[:] = [0] * 3
            replayed = measure_held_out(stepper.forward, stepper.objective, HELD_OUT, 40)
            assert calls[:2] == [0, 0]
    assert plain is not None
    assert replayed is not None
    assert replayed.loss == pytest.approx(plain.loss, abs=1e-6)


def test_others_see_the_model_as_it_is(tmp_path: Path) -> None:
    """Generation, saving and whoever else looks at the model while packs are replayed."""
    training = make_run(tmp_path)
    model = training.attached.model
    names, modules, wanted = list(model.state_dict()), list(model.modules()), model(tiny.ids()).logits
    with kept(tmp_path, training, ROWS, HELD_OUT):
        found(training, ROWS)
        model.eval()
        assert torch.equal(model(tiny.ids()).logits, wanted)
        assert list(model.state_dict()) == names
        assert list(model.modules()) == modules
    assert list(model.modules()) == modules
    assert not model.training


def test_the_file_is_gone_afterwards(tmp_path: Path) -> None:
    training, file = make_run(tmp_path), RunFolder(tmp_path).frozen_states
    with kept(tmp_path, training, ROWS, HELD_OUT):
        distinct = {sequence_of(row).ids for row in (*ROWS, *HELD_OUT)}
        assert file.stat().st_size == 4 * 32 * sum(map(len, distinct))
    assert not file.exists()
    with pytest.raises(Stop), kept(tmp_path, training, ROWS, HELD_OUT):
        raise Stop
    assert not file.exists()
    assert not isinstance(training.stepper.forward.state.replay, Replay)


def test_too_little_disk_is_a_note_and_the_training_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage, log = namedtuple("usage", "total used free"), Events()
    training = make_run(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(1 << 30, 1 << 30, 1 << 20))
    with kept(tmp_path, training, ROWS, HELD_OUT, log):
        assert not isinstance(training.stepper.forward.state.replay, Replay)
        monkeypatch.undo()
        training.run()
    (note,) = log.of("note")
    assert "1.0 MiB free" in note["text"]
    size_bytes = 4 * 32 * sum(row.tokens for row in (*ROWS, *HELD_OUT))
    assert f"{size_bytes / 1024:.1f} KiB" in note["text"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device here that is always full")
def test_a_disk_that_fills_up_meanwhile_is_a_note(tmp_path: Path) -> None:
    log, file = Events(), RunFolder(tmp_path).frozen_states
    training = make_run(tmp_path)
    file.symlink_to("/dev/full")
    with kept(tmp_path, training, ROWS, HELD_OUT, log):
        assert not isinstance(training.stepper.forward.state.replay, Replay)
        assert not file.is_symlink()
        training.run()
    (note,) = log.of("note")
    assert "No space left" in note["text"]


def test_a_cpu_out_of_memory_is_a_note_and_another_error_is_not(tmp_path: Path) -> None:
    log, training = Events(), make_run(tmp_path)
    blocks = cast("FrozenBlocks", find_frozen_blocks(training.stepper.forward, EventLog(None))).stack
    wrong: list[RuntimeError] = []

    def fails(_block: object, inputs: tuple[torch.Tensor, ...]) -> None:
        if inputs[0].shape[1] > 30:  # more than a probe
            for error in wrong:
                raise error
            torch.empty(1 << 62, dtype=torch.uint8)

    hook = blocks[0].register_forward_pre_hook(fails)
    with kept(tmp_path, training, ROWS, HELD_OUT, log):
        assert not isinstance(training.stepper.forward.state.replay, Replay)
        assert not RunFolder(tmp_path).frozen_states.exists()
        hook.remove()
        training.run()
    (note,) = log.of("note")
    assert "too little memory" in note["text"]
    blocks[0].register_forward_pre_hook(fails)
    wrong.append(RuntimeError("shapes differ"))
    with pytest.raises(RuntimeError, match="shapes differ"), kept(tmp_path, training, ROWS, HELD_OUT, log):
        pass


def test_a_whole_run_and_one_that_ends_in_an_error(tiny_model_folder: Path, tmp_path: Path) -> None:
    data = tmp_path / "rows.json"
    rows = [{"instruction": f"What is {n}?", "output": f"It is {n}."} for n in range(8)]
    data.write_text(json.dumps(rows), encoding="utf-8")
    recipe = {
        "model": str(tiny_model_folder),
        "data": {"sources": str(data), "held_out": 2},
        "method": {"name": "freeze", "last_n": 1},
        "train": {"epochs": 2, "batch_size": 3},
        "evaluate": {"question_count": 1, "generation": {"max_new_tokens": 2}},
    }
    log, at_first_step = Events(), []
    one = train_recipe(parse_recipe({**recipe, "out": tmp_path / "auto"}), [log])
    off = {**recipe["train"], "frozen_cache": "off"}  # type: ignore[dict-item]
    other = train_recipe(parse_recipe({**recipe, "out": tmp_path / "off", "train": off}))
    assert any("1 frozen blocks (of 2)" in event["text"] for event in log.of("stage"))
    assert one.losses == pytest.approx(other.losses, abs=1e-6)
    assert one.held_out["after"] == pytest.approx(other.held_out["after"], abs=1e-6)
    assert {path.name for path in one.folder.root.iterdir()} == {p.name for p in other.folder.root.iterdir()}

    def fail(event: dict[str, Any]) -> None:
        if event["event"] == "step":
            at_first_step.append(RunFolder(tmp_path / "failed").frozen_states.is_file())
            raise Stop

    with pytest.raises(Stop):
        train_recipe(parse_recipe({**recipe, "out": tmp_path / "failed"}), [fail])
    assert at_first_step == [True]
    assert not RunFolder(tmp_path / "failed").frozen_states.exists()
