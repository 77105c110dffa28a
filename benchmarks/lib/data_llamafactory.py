"""LLaMA-Factory's side of data.py: its own get_dataset, in the environment that data.py made for it."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any


def main() -> None:
    """Measure from the file to the first example."""
    task: dict[str, Any] = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    os.environ["HF_DATASETS_CACHE"] = task["folder"]  # read at the import
    from llamafactory.data import get_dataset, get_template_and_fix_tokenizer
    from llamafactory.hparams import get_train_args
    from llamafactory.model import load_tokenizer

    data = Path(task["data"])
    described = Path(task["folder"]) / "dataset_info.json"
    described.write_text(json.dumps({"rows": {"file_name": str(data)}}), encoding="utf-8")
    model_args, data_args, training_args, *_ = get_train_args(
        {
            "model_name_or_path": task["model"],
            "stage": "sft",
            "do_train": True,
            "finetuning_type": "lora",
            "dataset": "rows",
            "dataset_dir": task["folder"],
            "template": "smollm2",
            "cutoff_len": task["max_length"],
            "preprocessing_num_workers": task["processes"],
            "output_dir": str(Path(task["folder"]) / "out"),
            "report_to": "none",
        }
    )
    module = load_tokenizer(model_args)
    template = get_template_and_fix_tokenizer(module["tokenizer"], data_args)
    begun, cpu = time.perf_counter(), sum(os.times()[:4])
    made = get_dataset(template, model_args, data_args, training_args, stage="sft", **module)["train_dataset"]
    rows, first = len(made), made[0]
    seconds, cpu_seconds = time.perf_counter() - begun, sum(os.times()[:4]) - cpu
    tokens = sum(len(ids) for batch in made.iter(10_000) for ids in batch["input_ids"]) if rows else 0
    measured = {
        "rows": rows,
        "tokens": tokens,
        "first": len(first["input_ids"]),
        "seconds": seconds,
        "cpu_seconds": cpu_seconds,
    }
    Path(sys.argv[2]).write_text(json.dumps(measured), encoding="utf-8")


if __name__ == "__main__":
    main()
