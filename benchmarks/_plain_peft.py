"""The peer: a plain `peft` + `transformers.Trainer` script, as their documentation writes it.

It reads token ids and labels made beforehand, so that both sides train on the same tokens in the same order.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import torch
from _meter import Meter
from peft import LoraConfig, get_peft_model
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    DataCollatorForSeq2Seq,
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)


class Metered(TrainerCallback):
    """Tells the meter when each step ends and what its loss was."""

    def __init__(self, meter: Meter) -> None:
        self._meter = meter

    def on_train_begin(self, *_: object, **__: object) -> None:
        """Begin with the model loaded and the adapter on it."""
        self._meter.begin()

    def on_step_end(self, *_: object, **__: object) -> None:
        """Note the time; the Trainer knows the loss only when it logs."""
        self._meter.step(float("nan"))

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any],
        **_: object,
    ) -> None:
        """Take the loss of the step just made."""
        if "loss" in logs:
            self._meter.loss(float(logs["loss"]))


def main() -> None:
    """Train once and write what was measured."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--padding", choices=["max_length", "longest"], required=True)
    parser.add_argument("--task", type=Path, required=True)
    parser.add_argument("--result", type=Path, required=True)
    options = parser.parse_args()
    task = json.loads(options.task.read_text(encoding="utf-8"))
    torch.set_num_threads(task["threads"])

    model = AutoModelForCausalLM.from_pretrained(task["model"], dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(task["model"])
    torch.manual_seed(task["seed"])
    lora = LoraConfig(
        task_type="CAUSAL_LM", r=8, lora_alpha=16, lora_dropout=0.0, target_modules=["q_proj", "v_proj"]
    )
    model = get_peft_model(model, lora)
    collator = DataCollatorForSeq2Seq(tokenizer, padding=options.padding, max_length=task["max_length"])
    meter = Meter()
    with tempfile.TemporaryDirectory() as out:
        arguments = TrainingArguments(
            output_dir=out,
            per_device_train_batch_size=task["batch_size"],
            num_train_epochs=1,
            learning_rate=task["lr"],
            lr_scheduler_type="constant",
            max_grad_norm=task["max_grad_norm"],
            train_sampling_strategy="sequential",
            logging_steps=1,
            save_strategy="no",
            report_to="none",
            use_cpu=True,
            disable_tqdm=True,
            seed=task["seed"],
        )
        trainer = Trainer(
            model=model,
            args=arguments,
            train_dataset=task["rows"],
            data_collator=collator,
            callbacks=[Metered(meter)],
        )
        trainer.train()
    meter.write(options.result, task["real_tokens"])


if __name__ == "__main__":
    main()
