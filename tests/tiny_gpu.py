"""Helpers for tests/gpu: marks, models whose head size GPU kernels support, and attention from its formula.

WEITIAO_GPU_REHEARSAL=1 runs the tests that need no GPU kernel on the CPU, to find faults in the tests themselves
without a GPU.
"""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import tiny_architectures as tiny
from weitiao.data.batching.packing import Pack
from weitiao.data.example import Example
from weitiao.engine.attention.backends import Call

ON_GPU = torch.cuda.is_available()
REASON = "needs a CUDA device"
DEVICE = torch.device("cuda" if ON_GPU else "cpu")

rehearsed = [
    pytest.mark.gpu,
    pytest.mark.skipif(not ON_GPU and "WEITIAO_GPU_REHEARSAL" not in os.environ, reason=REASON),
]
"""Marks for GPU tests that can also run on a CPU."""
gpu_only = [pytest.mark.gpu, pytest.mark.skipif(not ON_GPU, reason=REASON)]

HEADS_OF_16 = {"hidden_size": 64, "intermediate_size": 96, "head_dim": 16}
GPT2_HEADS_OF_16 = {"n_embd": 64}


def make_model(architecture: str = "llama", dtype: torch.dtype = torch.bfloat16, **changes: Any) -> Any:  # noqa: ANN401
    """Return a tiny model on the GPU with head size 16, the smallest its kernels support."""
    heads = GPT2_HEADS_OF_16 if architecture == "gpt2" else HEADS_OF_16
    return tiny.make_model(architecture, **(heads | changes)).to(DEVICE, dtype)


def alike(count: int = 3, header: int = 24, own: int = 6) -> list[Example]:
    """Return examples with a shared prefix of `header` tokens, followed by `own` trained tokens each."""
    generator = torch.Generator().manual_seed(2)
    ids = torch.randint(3, tiny.VOCABULARY, (count, header + own), generator=generator)
    ids[:, :header] = ids[0, :header]
    ids[:, header] = 3 + torch.arange(count)  # so that no two continue with the same token
    weights = (0.0,) * header + (1.0,) * own
    return [Example.of(tuple(row), weights, f"rows.json:{n}") for n, row in enumerate(ids.tolist(), start=1)]


def attention_by_formula(call: Call, pack: Pack) -> Tensor:
    """Return (1, Q, H, D): softmax(Q K^T * scale) V for each example separately, in the tensors' own dtype.

    Extra keys at the front are seen by every example; extra queries at the front, if as many, belong to them.
    """
    query_HTD, key_HkD, value_HkD = (part[0] for part in (call.query_BHTD, call.key_BHkD, call.value_BHkD))
    groups = len(query_HTD) // len(key_HkD)
    key_HkD, value_HkD = (part.repeat_interleave(groups, dim=0) for part in (key_HkD, value_HkD))
    front = key_HkD.shape[1] - len(pack.ids_T)
    ahead = key_HkD.shape[1] - query_HTD.shape[1]
    output_THD = torch.zeros_like(query_HTD).transpose(0, 1)
    scale = query_HTD.shape[-1] ** -0.5 if call.scaling is None else call.scaling
    ends = [*pack.rows, *_filler_rows(pack)]
    for rows in ends:
        seen = np.concatenate([np.arange(front), rows + front])
        asking = seen[ahead:] - ahead if not ahead else rows
        keys = torch.from_numpy(seen).to(query_HTD.device)
        queries = torch.from_numpy(asking).to(query_HTD.device)
        scores_Hqk = query_HTD[:, queries] @ key_HkD[:, keys].transpose(1, 2) * scale
        distance = torch.arange(len(keys) - len(queries), len(keys))[:, None] - torch.arange(len(keys))
        hidden = (distance < 0) | (distance >= (call.window or len(keys)))
        weights_Hqk = scores_Hqk.masked_fill(hidden.to(scores_Hqk.device), -torch.inf).softmax(-1)
        made_qHD = (weights_Hqk @ value_HkD[:, keys]).transpose(0, 1)
        output_THD = output_THD.index_copy(0, queries, made_qHD)
    return output_THD[None]


def _filler_rows(pack: Pack) -> list[np.ndarray]:
    total = len(pack.ids_T) - pack.filler
    return [np.arange(s.start, s.end) for s in pack.segments if s.start >= total]


def with_gradients(attend: Callable[[Call], Tensor], call: Call, like: Tensor) -> list[Tensor]:
    """Return the output of `attend` and the gradients of sum(output * like), in fp32."""
    parts = (call.query_BHTD, call.key_BHkD, call.value_BHkD)
    query, key, value = (part.detach().requires_grad_() for part in parts)
    output = attend(replace(call, query_BHTD=query, key_BHkD=key, value_BHkD=value))
    (output.float() * like).sum().backward()
    return [
        output.detach().float(),
        *(leaf.grad.float() for leaf in (query, key, value) if leaf.grad is not None),
    ]


def distance(found: Tensor, wanted: Tensor) -> float:
    """Return the norm of the difference divided by the norm of `wanted`."""
    wanted = wanted.float()
    return float((found.float().to(wanted.device) - wanted).norm() / wanted.norm().clamp_min(1e-12))


@contextmanager
def memory_limited_to(more_bytes: int) -> Iterator[None]:
    """Within the context, limit this process's GPU memory to what tensors hold now plus `more_bytes`."""
    gc.collect()
    torch.cuda.empty_cache()
    whole = torch.cuda.get_device_properties(DEVICE).total_memory
    torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_allocated() + more_bytes) / whole)
    try:
        yield
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)


def peak_bytes(run: Callable[[], object]) -> int:
    """Return the peak GPU memory of tensors while `run` runs, in bytes above the amount before."""
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    run()
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated() - before
