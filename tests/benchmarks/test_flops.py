"""The count of needed operations against torch's own counter of matrix products, on models run as the count says.

Attention is done one query at a time over the keys it sees, so that the counter sees no product that is masked away.
"""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode
from transformers import PreTrainedModel
from transformers.masking_utils import AttentionMaskInterface
from transformers.modeling_utils import AttentionInterface

import tiny_architectures

sys.path.append(str(Path(__file__).resolve().parents[2] / "benchmarks"))

from lib.flops import Flops, needed_flops

BY_QUERY = "one_query_at_a_time"
RANK = 3


def attend_by_query(
    module: nn.Module,
    query_BHTD: Tensor,
    key_BhTD: Tensor,
    value_BhTD: Tensor,
    attention_mask: Tensor | None,
    seen: Sequence[Sequence[int]] = (),
    **_: object,
) -> tuple[Tensor, None]:
    """Let query t attend to the keys `seen[t]`; returns (B, T, H, D) as transformers expects."""
    groups = query_BHTD.shape[1] // key_BhTD.shape[1]
    key, value = (part.repeat_interleave(groups, dim=1) for part in (key_BhTD, value_BhTD))
    rows = []
    for t, allowed in enumerate(seen):
        scores = query_BHTD[:, :, [t]] @ key[:, :, list(allowed)].transpose(2, 3)
        rows.append(scores.softmax(dim=-1) @ value[:, :, list(allowed)])
    return torch.cat(rows, dim=2).transpose(1, 2), None


AttentionInterface.register(BY_QUERY, attend_by_query)
AttentionMaskInterface.register(BY_QUERY, lambda *_, **__: None)


def make_model(targets: Sequence[str], blocks: Collection[int]) -> tuple[nn.Module, PreTrainedModel]:
    base = tiny_architectures.make_model("llama", num_hidden_layers=3)
    base.set_attn_implementation(BY_QUERY)
    base.requires_grad_(False)
    model: nn.Module = base
    if targets:
        lora = LoraConfig(task_type="CAUSAL_LM", r=RANK, target_modules=list(targets))
        model = get_peft_model(base, lora)
    for number in blocks:
        base.model.layers[number].requires_grad_(True)
    return model, base


def seen_by(lengths: Sequence[int], contexts: Sequence[int]) -> Iterator[list[int]]:
    """Yield what each token sees: its own row up to itself, and so many of the first tokens of all."""
    start = 0
    for length, context in zip(lengths, contexts, strict=True):
        for t in range(start, start + length):
            yield [*range(context), *range(start, t + 1)]
        start += length


def counted(model: nn.Module, seen: Sequence[Sequence[int]], kept: Sequence[int]) -> Flops:
    """Return what torch counts in a forward and a backward pass."""
    with FlopCounterMode(display=False) as counter:
        logits = model(
            input_ids=torch.arange(len(seen))[None] % 50,
            use_cache=False,
            seen=seen,
            logits_to_keep=torch.tensor(list(kept)),
        ).logits
        forward = counter.get_total_flops()
        logits.sum().backward()
    return Flops(forward, counter.get_total_flops() - forward)


@pytest.mark.parametrize(
    ("targets", "blocks"),
    [
        (["q_proj", "v_proj"], []),
        (["v_proj"], []),
        (["k_proj"], []),
        (["o_proj"], []),
        (["gate_proj"], []),
        (["down_proj"], []),
        (["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"], []),
        ([], [2]),
        ([], [1]),
        ([], [0, 1, 2]),
    ],
)
def test_the_count_is_torchs_count(targets: list[str], blocks: list[int]) -> None:
    lengths, kept = (7, 5), (2, 3, 9)
    model, base = make_model(targets, blocks)
    torchs = counted(model, list(seen_by(lengths, (0, 0))), kept)
    ours = needed_flops(base.config, lengths, len(kept), targets, rank=RANK, trained_blocks=blocks)
    assert ours == torchs


def test_what_rows_share_is_counted_once() -> None:
    lengths, contexts, targets = (6, 4, 5), (0, 6, 3), ["q_proj", "v_proj"]
    model, base = make_model(targets, [])
    torchs = counted(model, list(seen_by(lengths, contexts)), (8, 9))
    assert needed_flops(base.config, lengths, 2, targets, rank=RANK, contexts=contexts) == torchs


def test_a_row_alone_and_rows_together_need_the_same() -> None:
    _, base = make_model(["v_proj"], [])
    together = needed_flops(base.config, (7, 5), 4, ["v_proj"])
    apart = needed_flops(base.config, (7,), 1, ["v_proj"]) + needed_flops(base.config, (5,), 3, ["v_proj"])
    assert together == apart
