"""Packs filled up to one length, and blocks compiled once for all of them: the same losses and gradients."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch._dynamo.utils import counters

import tiny_architectures as tiny
from tiny_packs import gradients
from tiny_training import Events, make_examples, make_ids, make_training
from weitiao.core.errors import ResourceError
from weitiao.data.batching.packing import FILLER_ROWS, make_pack
from weitiao.data.example import Example
from weitiao.engine.attention.backends import attention_of_packs
from weitiao.engine.kernels.compile import CPP_COMPILERS, compiled_blocks, parts_to_compile, require_compiler
from weitiao.engine.loop import Training
from weitiao.models.anatomy import base_of

CPU = torch.device("cpu")
METHODS = ("lora", "full", "prefix_tuning", "prompt_tuning")


def shared_rows() -> list[Example]:
    header = make_ids(12, seed=9)
    alike = [Example.of((*header, n, n + 1, 7), (0.0,) * 12 + (1.0,) * 3, f"rows.json:{n}") for n in (3, 9)]
    return [*make_examples(4), *alike]


def moved(training: Training) -> Training:
    with torch.no_grad():  # so that LoRA's B is not zero, and the gradient of A neither
        for parameter in training.stepper.parameters.values():
            parameter += 0.05 * torch.ones_like(parameter)
    return training


def step(training: Training, rows: Sequence[Example], fill_to: int | None) -> tuple[float, dict[str, Any]]:
    """Return loss and gradients of rows in one pack, filled up or not."""
    forward, objective = training.stepper.forward, training.stepper.objective
    pack = make_pack(rows, forward.options.shares, fill_to)
    loss = objective.loss(forward.outputs(pack)).sum
    loss.backward()
    return float(loss.detach()), gradients(training.stepper.parameters)


def test_a_filled_pack_holds_the_same_examples_and_rows_that_nothing_reads() -> None:
    rows = shared_rows()
    plain, filled = make_pack(rows), make_pack(rows, fill_to=500)
    total = len(plain.ids_T)
    assert (len(filled.ids_T), filled.filler) == (500, 500 - total)
    assert filled.ids_T[:total].tolist() == plain.ids_T.tolist()
    assert filled.segments[: len(plain.segments)] == plain.segments
    fillers = filled.segments[len(plain.segments) :]
    assert [s.context for s in fillers] == [()] * len(fillers)
    assert max(s.end - s.start for s in fillers) == FILLER_ROWS
    assert (fillers[0].start, fillers[-1].end) == (total, 500)
    assert max(filled.kept_P) < total
    assert all(
        (one == other).all()
        for one, other in (
            (filled.kept_P, plain.kept_P), (filled.rows_K, plain.rows_K), (filled.targets_K, plain.targets_K)
        )
    )  # fmt: skip
    assert len(make_pack(rows, fill_to=total).ids_T) == total
    assert len(make_pack(rows, fill_to=total - 1).ids_T) == 2 * (total - 1)


@pytest.mark.parametrize(
    ("architecture", "method"), [*(("llama", method) for method in METHODS), ("gpt2", "full")]
)
def test_filling_changes_no_loss_and_no_gradient(architecture: str, method: str, tmp_path: Path) -> None:
    rows = shared_rows()
    training = moved(make_training(tmp_path, rows, method=method, model=tiny.make_model(architecture)))
    with training.stepper.forward.attention():
        wanted_loss, wanted = step(training, rows, None)
        loss, found = step(training, rows, 300)
    assert loss == pytest.approx(wanted_loss, rel=1e-6)
    assert found.keys() == wanted.keys()
    for name in found:
        torch.testing.assert_close(found[name], wanted[name], atol=1e-6, rtol=1e-6, msg=name)


def test_noise_on_embeddings_takes_filler_too(tmp_path: Path) -> None:
    rows = make_examples(4)
    training = make_training(tmp_path, rows, neftune_alpha=5.0)
    training.stepper.forward.model.train()
    with training.stepper.forward.attention():
        loss, _ = step(training, rows, 300)
    assert loss > 0


@pytest.fixture
def dynamo() -> Iterator[None]:
    torch._dynamo.reset()
    counters.clear()
    yield
    torch._dynamo.reset()


@pytest.mark.usefixtures("dynamo")
@pytest.mark.parametrize(
    ("architecture", "method", "checkpointing"),
    [
        ("qwen2", "full", False),
        ("llama", "lora", True),
        ("gpt2", "prompt_tuning", False),
    ],
)
def test_blocks_are_compiled_once_for_packs_of_any_content(
    architecture: str, method: str, checkpointing: bool, tmp_path: Path
) -> None:
    """Counted by torch's own tracer, whose graphs run here as they are: no compiler is needed for that.

    The first block's input needs no gradient where the embeddings do not train, so there are two graphs of it.
    """
    deep = {"n_layer": 6} if architecture == "gpt2" else {"num_hidden_layers": 6}
    model = tiny.make_model(architecture, **deep)
    training = moved(
        make_training(
            tmp_path, make_examples(24), method=method, model=model, gradient_checkpointing=checkpointing
        )
    )
    forward, base = training.stepper.forward, base_of(training.attached.model)
    names = list(training.attached.model.state_dict())
    steps = [make_examples(count, seed=count) for count in (3, 5, 2)]
    forward.model.train()
    with forward.attention():
        wanted = [step(training, rows, None) for rows in steps]
    assert not counters["stats"]
    training.stepper.forward = forward.with_options(compiles=True)
    with attention_of_packs(base), compiled_blocks(parts_to_compile(base), backend="eager"):
        found = [step(training, rows, 200) for rows in steps[:1]]
        graphs = counters["stats"]["unique_graphs"]
        found += [step(training, rows, 200) for rows in steps[1:]]
        assert list(training.attached.model.state_dict()) == names
    assert 0 < graphs <= 8  # six blocks, one by one, would be 12 at least
    assert counters["stats"]["unique_graphs"] == graphs
    assert all(part._compiled_call_impl is None for part in base.modules())
    for (loss, gradient), (wanted_loss, wanted_gradient) in zip(found, wanted, strict=True):
        assert loss == pytest.approx(wanted_loss, rel=1e-6)
        for name in wanted_gradient:
            torch.testing.assert_close(gradient[name], wanted_gradient[name], atol=1e-5, rtol=1e-5, msg=name)


def can_compile() -> bool:
    try:
        require_compiler(CPU)
    except ResourceError:
        return False
    return True


@pytest.mark.slow  # what a compiler makes of the graphs; that they are the right ones is tested above
@pytest.mark.usefixtures("dynamo")
@pytest.mark.skipif(not can_compile(), reason="needs a C++ compiler")
def test_a_compiled_run_gives_the_weights_of_one_that_is_not(tmp_path: Path) -> None:
    rows = make_examples(12)

    def trained(folder: str, **train: Any) -> dict[str, torch.Tensor]:  # noqa: ANN401
        model = tiny.make_model("llama", num_hidden_layers=1)
        training = make_training(
            tmp_path / folder, rows, method="full", model=model, pack_tokens=64, batch_size=4, steps=3,
            lr=1e-3, **train,
        )  # fmt: skip
        assert training.stepper.forward.options.compiles is train.get("compile", False)
        training.run()
        return {name: p.detach().clone() for name, p in training.stepper.parameters.items()}

    wanted = trained("plain")
    assert not counters["stats"]
    found = trained("compiled", compile=True)
    assert counters["stats"]["unique_graphs"] > 0
    for name, value in wanted.items():
        torch.testing.assert_close(found[name], value, atol=1e-5, rtol=1e-5, msg=name)


def test_without_a_compiler_it_is_refused_in_words(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ResourceError, match="needs a compiler") as caught:
        require_compiler(CPU)
    (problem,) = caught.value.problems
    assert all(name in problem.got for name in CPP_COMPILERS)
    assert problem.remedy.endswith("train.compile=false")
    monkeypatch.setenv("CXX", "/no/compiler")
    with pytest.raises(ResourceError, match="/no/compiler, which does not exist"):
        require_compiler(CPU)


def test_where_examples_go_one_at_a_time_nothing_is_compiled_and_the_run_says_so(tmp_path: Path) -> None:
    events = Events()
    model = tiny.make_model("bloom")
    training = make_training(
        tmp_path, make_examples(3), model=model, compile=True, steps=1, listeners=(events,)
    )
    training.run()
    assert any("nothing is compiled" in event["text"] for event in events.of("note"))
