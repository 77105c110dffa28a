"""Too little memory is recognised whoever reports it, nothing else is taken for it, and a step survives it."""

from __future__ import annotations

import importlib.util
import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from forked_python import python_server
from tiny_training import equal, make_examples, make_training, weights_of
from weitiao.core.errors import ResourceError
from weitiao.engine.memory.oom import is_out_of_memory
from weitiao.objectives.sft import SupervisedFineTuning

SAID_ON_WINDOWS = (
    "[enforce fail at alloc_cpu.cpp:115] data. DefaultCPUAllocator: not enough memory: you tried to ..."
)
TOO_MUCH_BYTES = 1 << 62


def test_what_torch_and_python_say_of_too_little_memory_is_known() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(TOO_MUCH_BYTES, dtype=torch.uint8)
    assert not isinstance(caught.value, torch.OutOfMemoryError)
    assert is_out_of_memory(caught.value)
    with pytest.raises(MemoryError) as python:
        bytearray(TOO_MUCH_BYTES)
    assert is_out_of_memory(python.value)
    for error in (
        torch.OutOfMemoryError("CUDA"),
        RuntimeError(SAID_ON_WINDOWS),
        RuntimeError("std::bad_alloc"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        torch.AcceleratorError("CUDA error: out of memory\nCUDA kernel errors might be reported later"),
        RuntimeError("Triton Error [CUDA]: out of memory"),
    ):
        assert is_out_of_memory(error)


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("mat1 and mat2 shapes cannot be multiplied (2x3 and 4x5)"),
        RuntimeError("could not create a primitive"),
        RuntimeError("caught std::bad_alloc somewhere else"),
        torch.AcceleratorError("CUDA error: an illegal memory access was encountered"),
        NotImplementedError("DefaultCPUAllocator: not enough memory"),
        OSError("DefaultCPUAllocator: not enough memory"),
    ],
)
def test_no_other_error_is_taken_for_it(error: Exception, tmp_path: Path) -> None:
    assert not is_out_of_memory(error)

    class Fails(SupervisedFineTuning):
        def loss(self, outputs: Any, reference: Any = None) -> Any:  # noqa: ANN401
            raise error

    training = make_training(tmp_path, make_examples(4), batch_size=4)
    training.stepper.objective = Fails()
    with pytest.raises(type(error)) as caught, training.stepper.forward.attention():
        training.stepper.apply(training.plan.batch(0), 0)
    assert caught.value is error


class TooLargeForTheCpu(SupervisedFineTuning):
    """An objective that asks the CPU's allocator for more than there is, above some trained tokens."""

    most: int

    def loss(self, outputs: Any, reference: Any = None) -> Any:  # noqa: ANN401
        if len(outputs.targets_K) > self.most:
            torch.empty(TOO_MUCH_BYTES, dtype=torch.uint8)
        return super().loss(outputs, reference)


def test_the_cpus_allocator_halves_the_packs_and_ends_in_a_resource_error(tmp_path: Path) -> None:
    rows = make_examples(8, longest=24)
    training = make_training(tmp_path, rows, batch_size=8, pack_tokens=200)
    training.stepper.objective = TooLargeForTheCpu(most=30)
    with training.stepper.forward.attention():
        training.stepper.apply(training.plan.batch(0), 0)
    budget = training.stepper.pack_tokens
    assert budget < 200
    started_small = make_training(tmp_path, rows, batch_size=8, pack_tokens=budget)
    with started_small.stepper.forward.attention():
        started_small.stepper.apply(started_small.plan.batch(0), 0)
    assert equal(weights_of(training), weights_of(started_small))
    training.stepper.objective = TooLargeForTheCpu(most=0)
    with pytest.raises(ResourceError, match="one row alone"), training.stepper.forward.attention():
        training.stepper.apply(training.plan.batch(0), 1)


@pytest.mark.skipif(sys.platform != "linux", reason="the limit and glibc's malloc_trim are Linux's")
@pytest.mark.skipif(importlib.util.find_spec("resource") is None, reason="no limits on this system")
def test_a_run_with_too_little_address_space_goes_on_in_smaller_packs(tmp_path: Path) -> None:
    """The allocator really fails: nothing is made up, in a process of its own."""
    script, tests = Path(__file__).with_name("little_memory.py"), Path(__file__).parents[1]
    path = os.pathsep.join([str(tests), os.environ.get("PYTHONPATH", "")])
    done = python_server().run([str(script), str(tmp_path)], environment={**os.environ, "PYTHONPATH": path})
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout.splitlines()[-1])
    # Memory may also run short in the second step only: what the optimizer keeps is made at the end of the first.
    assert answer["found"]["pack_tokens"][-1] in (800, 400, 200)
    assert answer["found"] == answer["wanted"]
    assert len(answer["found"]["losses"]) == 2
    assert answer["error"]["exit_code"] == 6
    assert "one row alone does not fit" in answer["error"]["text"]
