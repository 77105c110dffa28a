"""A peer: LLaMA-Factory's own training on token ids and labels made beforehand, in the environment made for it."""

from __future__ import annotations

from pathlib import Path

from datasets import Dataset
from llamafactory.train.tuner import run_exp

from .meter import Meter
from .peer import Metered, read_task, trainer_settings


def main() -> None:
    """Train once and write what was measured; `own` of the task are settings of LLaMA-Factory."""
    task, result = read_task()
    tokenized = Path(task["folder"]) / "tokenized"
    Dataset.from_list(task["rows"]).save_to_disk(tokenized)
    meter = Meter()
    settings = {
        **trainer_settings(task),
        "model_name_or_path": task["model"],
        "adapter_name_or_path": task["adapter"],
        "stage": "sft",
        "do_train": True,
        "finetuning_type": "lora",
        "dataset": "rows",  # has to be named, and is not read where tokenized_path is there
        "tokenized_path": str(tokenized),
        "template": "smollm2",
        "cutoff_len": task["max_length"],
        "disable_shuffling": True,
        **task["own"],
    }
    run_exp(settings, callbacks=[Metered(meter)])
    meter.write(result, task["real_tokens"])


if __name__ == "__main__":
    main()
