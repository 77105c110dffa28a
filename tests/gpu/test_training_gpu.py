"""Training on a GPU: packs against single rows, 16 and 4 bits, optimizers, too little memory, compiling, resuming."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from torch import Tensor
from torch._dynamo.utils import counters

import tiny
import tiny_architectures
from tiny_gpu import (
    DEVICE,
    ON_GPU,
    alike,
    distance,
    gpu_only,
    make_model,
    memory_limited_to,
    peak_bytes,
    rehearsed,
)
from tiny_packs import gradients
from tiny_training import Events, make_examples, make_training, sequence_of, weights_of
from weitiao.core.errors import ResourceError
from weitiao.data.example import Example
from weitiao.engine.checkpoint import newest_whole
from weitiao.engine.kernels.compile import require_compiler
from weitiao.engine.loop import Training
from weitiao.engine.optim.optimizers import OptimizerName
from weitiao.models.load import load_model
from weitiao.models.settings import ModelSettings

BF16, FP32 = torch.bfloat16, torch.float32
ROWS = [*make_examples(5, longest=40), *alike()]
TWELVE_METHODS: dict[str, tuple[str, dict[str, Any]]] = {
    "lora": ("llama", {"r": 4}),
    "dora": ("llama", {"name": "lora", "r": 4, "use_dora": True}),
    "full": ("llama", {}),
    "full, with norms of queries and keys": ("qwen3", {"name": "full"}),
    "freeze": ("llama", {"last_n": 1}),
    "bitfit": ("qwen2", {}),
    "ln_tuning": ("qwen3", {}),
    "adapter": ("llama", {}),
    "ia3": ("mistral", {}),
    "prompt_tuning": ("llama", {}),
    "prefix_tuning": ("llama", {}),
    "p_tuning": ("gpt2", {}),
}


def moved(training: Training) -> Training:
    """Move what is trained, so that no gradient is zero because another matrix is."""
    with torch.no_grad():
        for number, parameter in enumerate(training.stepper.parameters.values()):
            generator = torch.Generator().manual_seed(number)
            parameter += 0.05 * torch.randn(parameter.shape, generator=generator).to(parameter)
    return training


def step(training: Training, rows: Sequence[Example], pack_tokens: int) -> tuple[float, dict[str, Tensor]]:
    """Return loss and gradients of a step over rows, in packs of so many tokens."""
    training.stepper.forward.model.train()  # as a run does: else blocks are not checkpointed
    training.stepper.pack_tokens = pack_tokens
    with training.stepper.forward.attention():
        loss = training.stepper.gradients(rows, 0).loss
    return loss, gradients(training.stepper.parameters)


def assert_alike(found: dict[str, Tensor], wanted: dict[str, Tensor], tolerance: float) -> None:
    assert found.keys() == wanted.keys()
    whole = [torch.cat([grad.flatten().float() for grad in one.values()]) for one in (found, wanted)]
    assert distance(*whole) < tolerance


class TestPacks:
    pytestmark = rehearsed

    @pytest.mark.parametrize("dtype", [FP32, BF16], ids=["fp32", "bf16"])
    @pytest.mark.parametrize("label", TWELVE_METHODS)
    def test_packs_give_what_single_rows_give(self, label: str, dtype: torch.dtype, tmp_path: Path) -> None:
        architecture, settings = TWELVE_METHODS[label]
        method = {"name": label, **settings}
        training = moved(
            make_training(tmp_path, ROWS, method=method, model=make_model(architecture, dtype), batch_size=8)
        )
        forward = training.stepper.forward
        assert (forward.options.packs, forward.options.shares) == (True, True)
        assert forward.device.type == DEVICE.type
        loss, found = step(training, ROWS, 4096)
        wanted_loss, wanted = step(training, ROWS, 1)
        exact = dtype is FP32
        assert loss == pytest.approx(wanted_loss, rel=1e-5 if exact else 1e-2)
        assert_alike(found, wanted, 1e-4 if exact else 5e-2)

    @pytest.mark.parametrize("method", ["lora", "full"])
    def test_bf16_gives_about_what_fp32_gives(self, method: str, tmp_path: Path) -> None:
        losses = {
            dtype: step(
                make_training(tmp_path, ROWS, method=method, model=make_model(dtype=dtype)), ROWS, 4096
            )[0]
            for dtype in (FP32, BF16)
        }
        assert losses[BF16] == pytest.approx(losses[FP32], rel=3e-2)

    @pytest.mark.parametrize("choice", ["elementwise", "full", "every-2"])
    def test_checkpointing_changes_no_gradient(self, choice: str, tmp_path: Path) -> None:
        def made(recompute: str) -> tuple[float, dict[str, Tensor]]:
            training = make_training(tmp_path, ROWS, model=make_model(), gradient_checkpointing=recompute)
            return step(moved(training), ROWS, 4096)

        (loss, found), (wanted_loss, wanted) = made(choice), made("none")
        assert loss == pytest.approx(wanted_loss, rel=1e-3)
        assert_alike(found, wanted, 1e-2)

    def test_offloaded_activations_change_no_gradient(self, tmp_path: Path) -> None:
        rows = make_examples(16, shortest=60, longest=64)

        def made(offload: bool) -> tuple[float, dict[str, Tensor]]:
            model = make_model(max_position_embeddings=64)
            training = make_training(tmp_path, rows, model=model, offload_activations=offload)
            return step(moved(training), rows, 2048)

        (loss, found), (wanted_loss, wanted) = made(True), made(False)
        assert loss == pytest.approx(wanted_loss, rel=1e-3)
        assert_alike(found, wanted, 1e-2)


class TestFourBits:
    pytestmark = rehearsed

    @pytest.fixture
    def four_bits(self, tmp_path: Path) -> ModelSettings:
        folder = tiny.save_tiny_model(tmp_path / "base", hidden=64)
        return ModelSettings(
            name=str(folder), quantization="nf4", compute_dtype="bf16", device_map=DEVICE.type
        )

    @pytest.mark.parametrize("method", ["lora", "adapter", "prompt_tuning"])
    def test_packs_give_what_single_rows_give(
        self, method: str, four_bits: ModelSettings, tmp_path: Path
    ) -> None:
        from bitsandbytes.nn import Linear4bit

        model = load_model(four_bits)
        layers = [module for module in model.modules() if isinstance(module, Linear4bit)]
        assert layers
        assert all(layer.weight.device.type == DEVICE.type for layer in layers)
        training = moved(make_training(tmp_path, ROWS, method=method, model=model))
        loss, found = step(training, ROWS, 4096)
        wanted_loss, wanted = step(training, ROWS, 1)
        assert loss == pytest.approx(wanted_loss, rel=1e-2)
        assert_alike(found, wanted, 5e-2)


class TestOptimizers:
    pytestmark = rehearsed

    @pytest.mark.filterwarnings("ignore:Paged optimizers are not supported on CPU")
    @pytest.mark.parametrize("optimizer", get_args(OptimizerName))
    def test_six_steps_are_three_a_checkpoint_and_three(self, optimizer: str, tmp_path: Path) -> None:
        """A rank so large that 8-bit states are in 8 bits and paged ones paged."""
        settings = {
            "method": {"name": "lora", "r": 512, "dropout": 0.1},
            "optimizer": optimizer,
            "lr": 1e-3,
            "batch_size": 4,
            "steps": 6,
            "save_every": 3,
        }

        def make(folder: str) -> Training:
            return make_training(tmp_path / folder, ROWS, model=make_model(), **settings)

        straight = make("straight")
        before = weights_of(straight)
        straight.run()
        path = next(p for p in (tmp_path / "straight" / "checkpoints").iterdir() if p.name.endswith("3"))
        resumed = make("resumed")
        resumed.resume(path)
        resumed.run()
        wanted, found = weights_of(straight), weights_of(resumed)
        assert_alike(
            {n: w - before[n] for n, w in found.items()}, {n: w - before[n] for n, w in wanted.items()}, 0.1
        )
        assert newest_whole(tmp_path / "resumed" / "checkpoints")[0] is not None

    def test_adamw_is_one_kernel(self, tmp_path: Path) -> None:
        training = make_training(tmp_path, ROWS, model=make_model())
        assert training.stepper.optimizer.param_groups[0]["fused"] is (True if ON_GPU else None)


def wide_model() -> Any:  # noqa: ANN401
    return make_model(
        vocab_size=8192, hidden_size=512, intermediate_size=1408, head_dim=64, num_attention_heads=8,
        num_hidden_layers=6, max_position_embeddings=1024,
    )  # fmt: skip


class TestMemory:
    pytestmark = gpu_only

    def test_a_step_that_does_not_fit_is_redone_in_smaller_packs(self, tmp_path: Path) -> None:
        rows = make_examples(16, shortest=900, longest=1000)

        def make(folder: str) -> Training:
            return make_training(
                tmp_path / folder, rows, model=wide_model(), lr=1e-3, gradient_checkpointing="none"
            )

        def apply(training: Training, pack_tokens: int) -> int:
            training.stepper.forward.model.train()
            training.stepper.pack_tokens = pack_tokens
            with training.stepper.forward.attention():
                return peak_bytes(lambda: training.stepper.apply(rows, 0))

        whole, quarter = (apply(make(f"free-{tokens}"), tokens) for tokens in (16384, 4096))
        assert quarter < whole / 2
        training = make("limited")
        with memory_limited_to((whole + quarter) // 2):
            apply(training, 16384)
        assert training.stepper.pack_tokens < 16384
        wanted = make("wanted")
        apply(wanted, training.stepper.pack_tokens)
        # B is zero before: what it is now is the step alone.
        found, exact = (
            {name: weight for name, weight in weights_of(one).items() if "lora_B" in name}
            for one in (training, wanted)
        )
        assert_alike(found, exact, 0.1)
        alone = make("too-little")
        with memory_limited_to(2**24), pytest.raises(ResourceError, match="one row"):
            apply(alone, 16384)

    @pytest.mark.parametrize("choice", ["none", "elementwise", "full"])
    @pytest.mark.parametrize("method", ["lora", "full", "prompt_tuning"])
    def test_the_plan_says_what_a_pack_takes(self, method: str, choice: str, tmp_path: Path) -> None:
        events = Events()
        rows = make_examples(16, shortest=900, longest=1000)
        training = make_training(
            tmp_path, rows, method=method, model=wide_model(), listeners=(events,), pack_tokens=8192,
            gradient_checkpointing=choice,
        )  # fmt: skip
        (event,) = events.of("memory")
        assert event["pack_tokens"] == 8192
        training.stepper.forward.model.train()  # as a run does: else blocks are not checkpointed
        with training.stepper.forward.attention():
            training.stepper.apply(rows, 0)  # what is made once is there now
            taken = peak_bytes(lambda: training.stepper.gradients(rows, 1))
        grads = sum(parameter.nbytes for parameter in training.stepper.parameters.values())
        assert 0.8 * (taken - grads) < event["activation_bytes"] < 2.5 * taken + 2**28

    def test_offloading_leaves_less_on_the_gpu(self, tmp_path: Path) -> None:
        rows = make_examples(8, shortest=900, longest=1000)

        def taken(offload: bool) -> int:
            training = make_training(
                tmp_path / str(offload), rows, model=wide_model(), offload_activations=offload,
                gradient_checkpointing="none",
            )  # fmt: skip
            training.stepper.forward.model.train()
            training.stepper.pack_tokens = 8192
            with training.stepper.forward.attention():
                return peak_bytes(lambda: training.stepper.gradients(rows, 0))

        assert taken(True) < 0.7 * taken(False)


def can_compile() -> bool:
    try:
        require_compiler(DEVICE)
    except ResourceError:
        return False
    return True


@pytest.fixture
def dynamo() -> Iterator[None]:
    torch._dynamo.reset()
    counters.clear()
    yield
    torch._dynamo.reset()


with_compiler = [
    *gpu_only,
    pytest.mark.skipif(ON_GPU and not can_compile(), reason="needs triton and a C compiler"),
]


class TestCompiled:
    pytestmark = with_compiler

    @pytest.mark.usefixtures("dynamo")
    def test_compiled_blocks_give_the_same_and_are_compiled_once(self, tmp_path: Path) -> None:
        def made(folder: str, **train: Any) -> list[float]:  # noqa: ANN401
            events = Events()
            training = make_training(
                tmp_path / folder, ROWS, model=make_model(num_hidden_layers=6), lr=1e-3, batch_size=4, steps=4,
                pack_tokens=256, listeners=(events,), **train,
            )  # fmt: skip
            training.run()
            return [event["loss"] for event in events.of("step")]

        wanted = made("plain")
        found = made("compiled", compile=True)
        assert found == pytest.approx(wanted, rel=2e-2)
        # Six blocks, one by one, would be four graphs each; FlexAttention has a few of its own.
        assert 0 < counters["stats"]["unique_graphs"] <= 16


class TestKernels:
    pytestmark = gpu_only

    @pytest.mark.parametrize("architecture", ["llama", "mistral", "qwen2", "qwen3"])
    @pytest.mark.parametrize("method", ["lora", "full"])
    def test_liger_gives_losses_and_gradients_of_transformers(
        self, architecture: str, method: str, tmp_path: Path
    ) -> None:
        pytest.importorskip("liger_kernel")
        from weitiao.engine.kernels.liger import use_liger

        def made(prepare: Callable[[Any], object]) -> tuple[float, dict[str, Tensor]]:
            model = make_model(architecture)
            prepare(model)
            return step(moved(make_training(tmp_path, ROWS, method=method, model=model)), ROWS, 4096)

        (loss, found), (wanted_loss, wanted) = made(use_liger), made(lambda model: None)
        assert loss == pytest.approx(wanted_loss, rel=1e-2)
        assert_alike(found, wanted, 5e-2)

    def test_tensors_of_packs_lie_on_the_device(self) -> None:
        from weitiao.data.batching.packing import make_pack
        from weitiao.engine.runtime.transfer import PackTensors

        tensors = PackTensors.of(make_pack(make_examples(3)), DEVICE)
        assert all(part.is_cuda for part in vars(tensors).values())


class TestPrecision:
    pytestmark = rehearsed

    @pytest.mark.parametrize("dtype", [BF16, torch.float16], ids=["bf16", "fp16"])
    def test_a_training_in_16_bits_learns(self, dtype: torch.dtype, tmp_path: Path) -> None:
        if dtype is torch.float16 and not ON_GPU:
            pytest.skip("fp16 is for GPUs")
        events = Events()
        rows = make_examples(4)
        training = make_training(
            tmp_path,
            rows,
            model=make_model(dtype=dtype),
            lr=1e-2,
            batch_size=4,
            steps=12,
            listeners=(events,),
        )
        training.run()
        losses = [event["loss"] for event in events.of("step")]
        assert losses[-1] < 0.9 * losses[0]
        assert all(weight.dtype is FP32 for weight in training.stepper.parameters.values())

    def test_nothing_is_trained_but_what_the_vocabulary_holds(self) -> None:
        assert max(max(sequence_of(row).ids) for row in ROWS) < tiny_architectures.VOCABULARY
