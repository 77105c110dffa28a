"""The sides that benchmarks/gpu.py measures in one process: weitiao, HF + PEFT on padded batches, the same with Liger.

    python -m lib.gpu_sides JOBS OUT        JOBS: a JSON list of [case, side]; OUT: a line of JSON for each

What fails for a known reason (too little memory, a package that is not there) is a line with the reason. Anything else
ends the process: after an error of CUDA nothing more can be measured in it, and gpu.py starts another for what is left.
"""

from __future__ import annotations

import gc
import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from transformers import PreTrainedModel

from weitiao.core.events import EventLog
from weitiao.data.batching.packing import make_pack
from weitiao.data.example import Example
from weitiao.engine.memory.budget import default_pack_tokens
from weitiao.engine.optim.optimizers import build_optimizer
from weitiao.engine.step import LossScale, Stepper
from weitiao.recipe.build import choose_kernels, forward_for, precision_for
from weitiao.recipe.recipe import Recipe, parse_recipe

from .flops import block_shapes, needed_flops
from .gpu_cases import SEED, Case, make_config, make_model, make_rows

WARM_UP_STEPS = 2
RANK, LR = 8, 1e-4
LINEARS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
OURS, PADDED, LIGER = "weitiao", "HF + PEFT", "HF + PEFT + Liger"
SIDES = (OURS, PADDED, LIGER)

PEAKS: dict[str, tuple[float, str]] = {
    "H200": (989.5, "https://www.nvidia.com/en-us/data-center/h200/"),
    "H100 PCIe": (756.5, "https://resources.nvidia.com/en-us-hopper-architecture/nvidia-h100-tensor-c"),
    "H100 80GB HBM3": (989.5, "https://resources.nvidia.com/en-us-hopper-architecture/nvidia-h100-tensor-c"),
    "A100": (312.0, "https://www.nvidia.com/en-us/data-center/a100/"),
    "L40S": (362.05, "https://www.nvidia.com/en-us/data-center/l40s/"),
    "RTX 4090": (
        165.2,
        "https://images.nvidia.com/aem-dam/Solutions/geforce/ada/nvidia-ada-gpu-architecture.pdf",
    ),
    "RTX 3090": (
        71.0,
        "https://www.nvidia.com/content/PDF/nvidia-ampere-ga-102-gpu-architecture-whitepaper-v2.pdf",
    ),
}
"""Dense bf16 TFLOP/s with fp32 accumulation, by a part of the card's name; halves of figures given for sparse ones."""

Measured = dict[str, Any]
Step = Callable[[int], float | torch.Tensor]
"""Makes a step by its number; returns its loss."""


class NotHere(Exception):
    """A side cannot be measured on this machine; the text says why."""


@dataclass(frozen=True)
class Side:
    """A side ready to make steps."""

    step: Step
    at_once: int
    """Tokens of a pack, or rows of a padded batch."""


def make_recipe(case: Case, device: torch.device) -> Recipe:
    """Return weitiao's settings for a case."""
    compute = {"compute_dtype": "bf16" if device.type == "cuda" else "fp32"}
    four_bits = {"quantization": "nf4", **compute} if case.quantization == "nf4" else {}
    lora = {"name": "lora", "r": RANK, "alpha": 2 * RANK, "dropout": 0.0, "target_modules": LINEARS}
    return parse_recipe(
        {
            "model": {"name": "random", **four_bits},
            "data": "random.json",
            "method": lora,
            "train": {"lr": LR, "seed": SEED, "compile": case.compile},
            "out": "none",
        }
    )


def make_stepper(case: Case, device: torch.device) -> Stepper:
    """Return weitiao's step, made of the parts a run is made of."""
    recipe, log = make_recipe(case, device), EventLog(None, ())
    model = make_model(case, device)
    precision = precision_for(recipe.model, model)
    choose_kernels(recipe, model, log)
    attached = recipe.method.attach(model)
    forward = forward_for(attached, precision, log)
    if not (forward.options.packs and forward.options.shares):
        raise NotHere("the probe found that packs mix rows, or cannot share: a fault of weitiao's")
    forward = forward.with_options(compiles=case.compile)
    parameters = attached.trainable()
    return Stepper(
        attached=attached,
        forward=forward,
        objective=recipe.objective,
        parameters=parameters,
        optimizer=build_optimizer(parameters, attached.fast_parameters(), recipe.train, recipe.lr),
        max_grad_norm=recipe.train.max_grad_norm,
        pack_tokens=default_pack_tokens(device, case.shape["hidden_size"]),
        seed=SEED,
        scale=LossScale.for_precision(precision),
        longest_row=case.length,
    )


@contextmanager
def our_side(case: Case, rows: Sequence[Example], device: torch.device, at_once: int) -> Iterator[Side]:
    """Give weitiao's step."""
    stepper = make_stepper(case, device)
    stepper.forward.model.train()
    with stepper.forward.attention():
        yield Side(lambda step: stepper.apply(rows, step).loss, stepper.pack_tokens)


@contextmanager
def padded_side(case: Case, rows: Sequence[Example], device: torch.device, at_once: int) -> Iterator[Side]:
    """Give the step of a plain loop: peft, transformers, batches padded to the longest row, summed up."""
    yield Side(_plain_step(make_model(case, device), rows, device, at_once), at_once)


@contextmanager
def liger_side(case: Case, rows: Sequence[Example], device: torch.device, at_once: int) -> Iterator[Side]:
    """Give the same with Liger's norms, MLPs, rotary positions and loss."""
    if find_spec("liger_kernel") is None:
        raise NotHere("liger-kernel is not installed")
    if device.type != "cuda":
        raise NotHere("Liger needs a GPU")
    from liger_kernel.transformers.monkey_patch import _apply_liger_kernel_to_instance

    base = make_model(case, device)
    module = sys.modules[type(base).__module__]
    before = dict(vars(module))
    try:
        _apply_liger_kernel_to_instance(
            model=base
        )  # which changes the module for every model of the process too
        yield Side(_plain_step(base, rows, device, at_once), at_once)
    finally:
        vars(module).update(before)


def _plain_step(base: PreTrainedModel, rows: Sequence[Example], device: torch.device, at_once: int) -> Step:
    base.set_attn_implementation("sdpa")
    lora = LoraConfig(r=RANK, lora_alpha=2 * RANK, target_modules=LINEARS, task_type="CAUSAL_LM")
    model = get_peft_model(base, lora).train()
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=LR, weight_decay=0.0, fused=device.type == "cuda")
    batches = [padded(rows[start : start + at_once], device) for start in range(0, len(rows), at_once)]
    items = sum((batch["labels"][:, 1:] != -100).sum() for batch in batches)

    def step(_: int) -> torch.Tensor:
        losses = []
        for batch in batches:
            with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
                loss = model(**batch, num_items_in_batch=items, use_cache=False).loss
            loss.backward()
            losses.append(loss.detach())
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return torch.stack(losses).sum()

    return step


def padded(rows: Sequence[Example], device: torch.device) -> dict[str, torch.Tensor]:
    """Return rows as one batch, padded to the longest."""
    sequences = [sequence for row in rows for sequence in row.sequences]
    shape = (len(sequences), max(row.longest for row in rows))
    ids_BT, mask_BT = torch.zeros(shape, dtype=torch.long), torch.zeros(shape, dtype=torch.long)
    labels_BT = torch.full(shape, -100)
    for number, sequence in enumerate(sequences):
        length, ids_T = len(sequence.ids), torch.tensor(sequence.ids)
        ids_BT[number, :length] = ids_T
        mask_BT[number, :length] = 1
        trained = torch.tensor(sequence.weights) > 0
        labels_BT[number, :length] = torch.where(trained, ids_T, -100)
    batch = {"input_ids": ids_BT, "attention_mask": mask_BT, "labels": labels_BT}
    return {name: tensor.to(device) for name, tensor in batch.items()}


WAYS = {OURS: our_side, PADDED: padded_side, LIGER: liger_side}


def timed(step: Step, steps: int, device: torch.device) -> tuple[float, float, int | None]:
    """Return the first step's loss, the seconds of one later step, and the peak of the GPU's memory in bytes."""
    on_gpu = device.type == "cuda"
    loss = float(step(0))
    for number in range(1, WARM_UP_STEPS):
        step(number)
    if on_gpu:
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
    started = time.perf_counter()
    for number in range(steps):
        step(WARM_UP_STEPS + number)
    if on_gpu:
        torch.cuda.synchronize()
    seconds = (time.perf_counter() - started) / steps
    return loss, seconds, torch.cuda.max_memory_allocated() if on_gpu else None


def free(device: torch.device) -> None:
    """Give back what the side before held."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()


def measure(case: Case, side: str, device: torch.device, steps: int) -> Measured:
    """Measure a side with as many rows at once as a pack holds tokens, halved until they fit."""
    if case.quantization != "none" and find_spec("bitsandbytes") is None:
        return {"failed": "bitsandbytes is not installed"}
    rows = make_rows(case)
    at_once = max(1, default_pack_tokens(device, case.shape["hidden_size"]) // case.length)
    while at_once:
        free(device)
        try:
            with WAYS[side](case, rows, device, at_once) as ready:
                loss, seconds, peak = timed(ready.step, steps, device)
                return {"loss": loss, "seconds": seconds, "peak_bytes": peak, "at_once": ready.at_once}
        except torch.OutOfMemoryError:
            at_once = 0 if side == OURS else at_once // 2
        except NotHere as reason:
            return {"failed": str(reason)}
    return {"failed": "out of memory"}


def flops_of(case: Case) -> int:
    """Return the operations that a step needs, what rows have in common counted once."""
    pack = make_pack(make_rows(case))
    segments = [(s.end - s.start, sum(end - start for start, end in s.context)) for s in pack.segments]
    lengths, contexts = ([part[index] for part in segments] for index in (0, 1))
    config = make_config(case)
    shapes = block_shapes(config)
    return needed_flops(config, lengths, len(pack.kept_P), shapes, rank=RANK, contexts=contexts).total


def peak_of(device: torch.device) -> tuple[float, str]:
    """Return a device's peak in FLOP/s, and where the number is from: its maker, or a large product measured here."""
    if device.type == "cuda":
        name = torch.cuda.get_device_name(device)
        for part, (tera, source) in PEAKS.items():
            if part in name:
                return tera * 1e12, f"{tera:g} TFLOP/s dense bf16, {source}"
    size, dtype = (8192, torch.bfloat16) if device.type == "cuda" else (512, torch.float32)
    one, other = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    _, seconds, _ = timed(lambda _: (one @ other)[0, 0], 20, device)
    flops = 2 * size**3 / seconds
    return flops, f"{flops / 1e12:.3g} TFLOP/s, measured: a product of two {size} x {size} matrices"


def machine(device: torch.device) -> Measured:
    """Return what the table says of the machine."""
    flops, source = peak_of(device)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    return {"device": name, "peak_flops": flops, "peak": source}


def main(jobs: str, out: str) -> None:
    """Measure each job and add its line to the file."""
    asked = json.loads(jobs)
    device = torch.device(asked["device"])
    with Path(out).open("a", encoding="utf-8") as file:

        def write(line: Measured) -> None:
            file.write(json.dumps(line) + "\n")
            file.flush()

        if asked["machine"]:
            write({"machine": machine(device)})
        for wanted, side in asked["jobs"]:
            case = Case(**wanted)
            write({"began": [case.name, side]})
            found = measure(case, side, device, asked["steps"])
            tokens = sum(row.tokens for row in make_rows(case))
            write(
                {
                    "case": case.name,
                    "side": side,
                    "tokens": tokens,
                    "flops": flops_of(case),
                    **asdict(case),
                    **found,
                }
            )


if __name__ == "__main__":
    main(*sys.argv[1:])
