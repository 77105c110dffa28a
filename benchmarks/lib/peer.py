"""What the scripts of all peers share: reading the task, and telling the meter of transformers' Trainer."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from .meter import Meter

Task = dict[str, Any]


class Metered(TrainerCallback):
    """Tells the meter when each step ends and what its loss was; refuses a model that is not all in fp32."""

    def __init__(self, meter: Meter) -> None:
        self._meter = meter

    def on_train_begin(self, *_: object, model: torch.nn.Module, **__: object) -> None:
        """Begin with the model loaded and the adapter on it."""
        others = {str(p.dtype) for p in model.parameters()} - {"torch.float32"}
        if others:
            raise SystemExit(f"all sides train in fp32, but this model holds {', '.join(sorted(others))}")
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


def read_task() -> tuple[Task, Path]:
    """Return the task and where the result goes, from the command line, with torch on the task's threads."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--task", type=Path, required=True)
    parser.add_argument("--result", type=Path, required=True)
    options = parser.parse_args()
    task: Task = json.loads(options.task.read_text(encoding="utf-8"))
    torch.set_num_threads(task["threads"])
    return task, options.result


def trainer_settings(task: Task) -> dict[str, Any]:
    """Return what every Trainer is told: one epoch over the task's rows in their order, as the task says."""
    return {
        "output_dir": str(Path(task["folder"]) / "out"),
        "per_device_train_batch_size": task["batch_size"],
        "gradient_accumulation_steps": 1,
        "num_train_epochs": 1,
        "learning_rate": task["lr"],
        "lr_scheduler_type": "constant",
        "max_grad_norm": task["max_grad_norm"],
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": "none",
        "use_cpu": True,
        "disable_tqdm": True,
        "seed": task["seed"],
    }


def load_with_adapter(task: Task) -> torch.nn.Module:
    """Return the model in fp32 with the initial adapter that all sides start from."""
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(task["model"], dtype=torch.float32)
    return PeftModel.from_pretrained(model, task["adapter"], is_trainable=True)
