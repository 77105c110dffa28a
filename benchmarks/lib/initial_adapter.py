"""Writes the adapter that all sides start from: A drawn from the seed, B zero, in PEFT's format."""

from __future__ import annotations

from pathlib import Path

import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

from .peer import read_task


def main() -> None:
    """Write the adapter into the task's folder `into`."""
    task, result = read_task()
    model = AutoModelForCausalLM.from_pretrained(task["model"], dtype=torch.float32)
    torch.manual_seed(task["seed"])
    lora = LoraConfig(
        task_type="CAUSAL_LM",
        r=task["lora"]["r"],
        lora_alpha=task["lora"]["alpha"],
        lora_dropout=task["lora"]["dropout"],
        target_modules=task["lora"]["target_modules"],
    )
    get_peft_model(model, lora).save_pretrained(Path(task["into"]))
    result.write_text("{}", encoding="utf-8")


if __name__ == "__main__":
    main()
