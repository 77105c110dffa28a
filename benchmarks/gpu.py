"""Speed, share of the card's peak, and memory of LoRA steps on one GPU, beside plain peft on padded batches.

    python benchmarks/gpu.py [--only 7B] [--steps 5]
    python benchmarks/gpu.py --note-none        write into RESULTS.md that there was no GPU
    python benchmarks/gpu.py --tiny --device cpu    two small models in seconds, to see that the script works

The shapes of Qwen2.5 with random weights, made on the device; nothing is downloaded. LoRA r=8 on all linear layers,
bf16, and 7B also on an nf4 base. The rows of a step are random ids of half to the whole sequence length, the second
half of each trained. Both sides see the same rows.
"""

from __future__ import annotations

import argparse
import gc
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from _flops import block_shapes, needed_flops
from _page import put_section
from peft import LoraConfig, get_peft_model
from torch import nn
from transformers import PreTrainedModel, Qwen2Config, Qwen2ForCausalLM

from weitiao.core.events import EventLog
from weitiao.data.conversation import Example
from weitiao.data.packs import make_pack
from weitiao.engine.forward import base_of
from weitiao.engine.memory import default_pack_tokens
from weitiao.engine.optimizers import build_optimizer
from weitiao.engine.step import LossScale, Stepper
from weitiao.recipe.build import choose_kernels, forward_for, precision_for
from weitiao.recipe.recipe import Recipe, parse_recipe

HERE = Path(__file__).resolve().parent
RESULTS, PAGE = HERE / "results" / "gpu.json", HERE / "RESULTS.md"
HEADING = "## GPU: LoRA on Qwen2.5 shapes"
NO_GPU = "No GPU was available; not measured."
GIB = 2**30
WARM_UP_STEPS = 2
RANK, LR, SEED = 8, 1e-4, 0
LINEARS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]

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


@dataclass(frozen=True)
class Case:
    """One row of the table."""

    name: str
    shape: dict[str, int | bool]
    length: int
    rows: int
    quantization: str = "none"


def shape_of(
    hidden: int, layers: int, heads: int, kv: int, mlp: int, vocabulary: int, tied: bool
) -> dict[str, Any]:
    """Return a Qwen2 config's numbers."""
    return {
        "hidden_size": hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": kv,
        "intermediate_size": mlp,
        "vocab_size": vocabulary,
        "tie_word_embeddings": tied,
        "max_position_embeddings": 32768,
    }


SHAPES = {
    "0.5B": shape_of(896, 24, 14, 2, 4864, 151936, tied=True),
    "1.5B": shape_of(1536, 28, 12, 2, 8960, 151936, tied=True),
    "7B": shape_of(3584, 28, 28, 4, 18944, 152064, tied=False),
}
"""As in the config.json of Qwen/Qwen2.5-0.5B, -1.5B and -7B."""
TINY = shape_of(64, 2, 4, 2, 128, 256, tied=True)

CASES = [
    Case(name, SHAPES[name], length, rows, quantization)
    for name, quantization in (("0.5B", "none"), ("1.5B", "none"), ("7B", "none"), ("7B", "nf4"))
    for length, rows in ((512, 32), (4096, 8))
]
TINY_CASES = [Case("tiny", TINY, 32, 6), Case("tiny", TINY, 32, 6, "nf4")]


def make_rows(case: Case) -> list[Example]:
    """Return the rows of a step: the longest is `length` tokens, the others from half of it on."""
    generator = torch.Generator().manual_seed(SEED)
    lengths = torch.randint(case.length // 2, case.length + 1, (case.rows,), generator=generator).tolist()
    lengths[0] = case.length
    rows = []
    for number, length in enumerate(lengths):
        ids = torch.randint(3, int(case.shape["vocab_size"]), (length,), generator=generator).tolist()
        weights = tuple(float(t >= length // 2) for t in range(length))
        rows.append(Example(tuple(ids), weights, f"random:{number + 1}"))
    return rows


def make_model(case: Case, device: torch.device) -> PreTrainedModel:
    """Return a model of random weights: bf16 on a GPU, fp32 on a CPU, its blocks' linears in 4 bits for nf4."""
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    torch.manual_seed(SEED)
    with torch.device(device):
        model = Qwen2ForCausalLM._from_config(Qwen2Config(**case.shape), dtype=dtype)
    if case.quantization == "nf4":
        _quantize(model, dtype)
    return model.requires_grad_(False)


def _quantize(model: PreTrainedModel, dtype: torch.dtype) -> None:
    """Put bitsandbytes' layers in place of the blocks' linears, as from_pretrained does."""
    from bitsandbytes.nn import Linear4bit, Params4bit

    for path, linear in list(model.model.layers.named_modules()):
        if isinstance(linear, nn.Linear):
            device = linear.weight.device
            layer = Linear4bit(
                linear.in_features, linear.out_features, linear.bias is not None, compute_dtype=dtype,
                quant_type="nf4", device="meta",
            )  # fmt: skip
            layer.weight = Params4bit(linear.weight.detach().cpu(), requires_grad=False, quant_type="nf4")
            layer.bias = linear.bias
            layer.support_avx512bf16_for_cpu = False  # as weitiao.models.load does, and for the same reason
            model.model.layers.set_submodule(path, layer.to(device))
    model.is_loaded_in_4bit = True  # what PEFT asks


def make_recipe(case: Case, device: torch.device) -> Recipe:
    """Return weitiao's settings for a case."""
    compute = {"compute_dtype": "bf16" if device.type == "cuda" else "fp32"}
    four_bits = {"quantization": "nf4", **compute} if case.quantization == "nf4" else {}
    return parse_recipe(
        {
            "model": {"name": "random", **four_bits},
            "data": "random.json",
            "method": {
                "name": "lora",
                "r": RANK,
                "alpha": 2 * RANK,
                "dropout": 0.0,
                "target_modules": LINEARS,
            },
            "train": {"lr": LR, "seed": SEED},
            "out": "none",
        }
    )


def our_side(
    case: Case, rows: Sequence[Example], device: torch.device
) -> tuple[Callable[[int], object], Stepper]:
    """Return weitiao's step, made of the parts a run is made of."""
    recipe, log = make_recipe(case, device), EventLog(None, ())
    model = make_model(case, device)
    precision = precision_for(recipe.model, model)
    choose_kernels(recipe, model, log)
    attached = recipe.method.attach(model)
    forward = forward_for(attached, precision, log)
    parameters = attached.trainable()
    stepper = Stepper(
        attached=attached,
        forward=forward,
        objective=recipe.objective,
        parameters=parameters,
        optimizer=build_optimizer(parameters, attached.fast_parameters(), recipe.train, recipe.lr),
        max_grad_norm=recipe.train.max_grad_norm,
        pack_tokens=default_pack_tokens(device),
        seed=SEED,
        scale=LossScale.for_precision(precision),
    )
    forward.model.train()
    return lambda step: stepper.apply(rows, step), stepper


def plain_side(
    case: Case, rows: Sequence[Example], device: torch.device, at_once: int
) -> Callable[[int], object]:
    """Return the step of a plain loop: peft, transformers, batches padded to the longest row, summed up."""
    base = make_model(case, device)
    base.set_attn_implementation("sdpa")
    lora = LoraConfig(r=RANK, lora_alpha=2 * RANK, target_modules=LINEARS, task_type="CAUSAL_LM")
    model = get_peft_model(base, lora).train()
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=LR, weight_decay=0.0, fused=device.type == "cuda")
    batches = [_padded(rows[start : start + at_once], device) for start in range(0, len(rows), at_once)]
    items = sum((batch["labels"][:, 1:] != -100).sum() for batch in batches)

    def step(_: int) -> None:
        for batch in batches:
            with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
                loss = model(**batch, num_items_in_batch=items, use_cache=False).loss
            loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def _padded(rows: Sequence[Example], device: torch.device) -> dict[str, torch.Tensor]:
    longest = max(len(row.ids) for row in rows)
    shape = (len(rows), longest)
    ids_BT, mask_BT = torch.zeros(shape, dtype=torch.long), torch.zeros(shape, dtype=torch.long)
    labels_BT = torch.full(shape, -100)
    for number, row in enumerate(rows):
        length = len(row.ids)
        ids_BT[number, :length] = torch.tensor(row.ids)
        mask_BT[number, :length] = 1
        trained = torch.tensor(row.weights) > 0
        labels_BT[number, :length] = torch.where(trained, torch.tensor(row.ids), -100)
    batch = {"input_ids": ids_BT, "attention_mask": mask_BT, "labels": labels_BT}
    return {name: tensor.to(device) for name, tensor in batch.items()}


def timed(step: Callable[[int], object], steps: int, device: torch.device) -> tuple[float, int | None]:
    """Return the seconds of one step and the peak of the GPU's memory in bytes, None on a CPU."""
    on_gpu = device.type == "cuda"
    for number in range(WARM_UP_STEPS):
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
    return seconds, torch.cuda.max_memory_allocated() if on_gpu else None


def free(device: torch.device) -> None:
    """Give back what the side before held."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()


def measure_plain(
    case: Case, rows: Sequence[Example], device: torch.device, steps: int, budget: int
) -> Measured:
    """Measure the plain loop with as many rows at once as `budget` tokens hold, halved until they fit."""
    at_once = max(1, budget // case.length)
    while at_once:
        try:
            seconds, peak = timed(plain_side(case, rows, device, at_once), steps, device)
            return {"seconds": seconds, "peak_bytes": peak, "rows_at_once": at_once}
        except torch.OutOfMemoryError:
            at_once //= 2
        free(device)
    return {"out_of_memory": True}


def measure(case: Case, device: torch.device, steps: int, peak_flops: float) -> Measured:
    """Measure both sides of a case."""
    rows = make_rows(case)
    tokens = sum(len(row.ids) for row in rows)
    free(device)
    step, stepper = our_side(case, rows, device)
    seconds, peak = timed(step, steps, device)
    head_rows = len(make_pack(rows, share=False).kept_P)
    config = base_of(stepper.attached.model).config
    lengths = [len(row.ids) for row in rows]
    flops = needed_flops(config, lengths, head_rows, block_shapes(config), rank=RANK).total
    pack_tokens = stepper.pack_tokens
    del step, stepper
    free(device)
    plain = measure_plain(case, rows, device, steps, pack_tokens)
    return {
        "model": case.name,
        "weights": "nf4" if case.quantization == "nf4" else "bf16" if device.type == "cuda" else "fp32",
        "length": case.length,
        "rows": case.rows,
        "tokens": tokens,
        "needed_flops": flops,
        "seconds": seconds,
        "tokens_per_second": tokens / seconds,
        "share_of_peak": flops / seconds / peak_flops,
        "peak_bytes": peak,
        "pack_tokens": pack_tokens,
        "plain": plain,
    }


def peak_of(device: torch.device) -> tuple[float, str]:
    """Return a device's peak in FLOP/s, and where the number is from: its maker, or a large product measured here."""
    if device.type == "cuda":
        name = torch.cuda.get_device_name(device)
        for part, (tera, source) in PEAKS.items():
            if part in name:
                return tera * 1e12, f"{tera:g} TFLOP/s dense bf16, {source}"
    side, dtype = (8192, torch.bfloat16) if device.type == "cuda" else (512, torch.float32)
    one, other = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
    seconds, _ = timed(lambda _: one @ other, 20, device)
    flops = 2 * side**3 / seconds
    return flops, f"{flops / 1e12:.3g} TFLOP/s, measured: a product of two {side} x {side} matrices"


def line(row: Measured) -> str:
    """Write one line of the table."""
    plain, gib = row["plain"], "-" if row["peak_bytes"] is None else f"{row['peak_bytes'] / GIB:.1f} GiB"
    if "out_of_memory" in plain:
        beside, ratio, plain_gib = "out of memory", "-", "-"
    else:
        beside = f"{row['tokens'] / plain['seconds']:.0f}"
        ratio = f"{plain['seconds'] / row['seconds']:.2f}x"
        plain_gib = "-" if plain["peak_bytes"] is None else f"{plain['peak_bytes'] / GIB:.1f} GiB"
    return (
        f"| {row['model']} | {row['weights']} | {row['length']} | {row['tokens_per_second']:.0f} "
        f"| {100 * row['share_of_peak']:.1f} % | {gib} | {beside} | {ratio} | {plain_gib} |"
    )


def page(report: Measured) -> str:
    """Write the section of RESULTS.md."""
    versions = ", ".join(f"{name} {number}" for name, number in report["versions"].items())
    return "\n".join(
        [
            HEADING,
            "",
            f"{report['date']}; {report['device']}; {versions}. `{report['command']}`",
            "",
            "Random weights, LoRA r=8 on all linear layers; rows of half to the whole length, the second half trained. "
            f"Share of peak: needed operations over the card's peak ({report['peak']}). Beside it plain peft and "
            "transformers on padded batches of the same rows.",
            "",
            "| model | weights | length | real tokens/s | share of peak | peak memory | plain tokens/s | weitiao is "
            "| plain memory |",
            "|---|---|---:|---:|---:|---:|---:|---:|---:|",
            *map(line, report["measured"]),
            "",
        ]
    )


def write_none() -> None:
    """Say in RESULTS.md that there was no GPU to measure on."""
    put_section(
        PAGE, f"{HEADING}\n\n{date.today().isoformat()}: {NO_GPU} `python benchmarks/gpu.py` fills this in.\n"
    )


def report_of(cases: Sequence[Case], device: torch.device, options: argparse.Namespace) -> Measured:
    """Measure all cases, printing each as it is done."""
    peak_flops, source = peak_of(device)
    print(f"peak: {source}", flush=True)
    measured = []
    for case in cases:
        measured.append(measure(case, device, options.steps, peak_flops))
        print(line(measured[-1]), flush=True)
    return {
        "date": date.today().isoformat(),
        "command": "python benchmarks/gpu.py" + (f" --only {options.only}" if options.only else ""),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU",
        "versions": {name: version(name) for name in ("weitiao", "torch", "transformers", "peft")},
        "peak": source,
        "measured": measured,
    }


def main() -> None:
    """Measure, print and write the results; without a GPU say so and write nothing."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", choices=list(SHAPES))
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--device", default="cuda", choices=["cuda", "cpu"])
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--note-none", action="store_true")
    options = parser.parse_args()
    if options.note_none:
        write_none()
        return
    if options.device == "cuda" and not torch.cuda.is_available():
        print("There is no GPU here that torch can use, so nothing was measured and nothing written.")
        return
    if options.device == "cpu" and not options.tiny:
        parser.error("on a CPU only --tiny: these models are made for a GPU")
    cases = TINY_CASES if options.tiny else [case for case in CASES if options.only in (None, case.name)]
    report = report_of(cases, torch.device(options.device), options)
    if options.tiny:
        print(page(report))
        return
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    put_section(PAGE, page(report))
    print(page(report))


if __name__ == "__main__":
    main()
