"""A peer: TRL's SFTTrainer on token ids and labels made beforehand, in the environment that was made for it."""

from __future__ import annotations

from datasets import Dataset
from transformers import AutoTokenizer
from trl import SFTConfig, SFTTrainer

from .meter import Meter
from .peer import Metered, load_with_adapter, read_task, trainer_settings


def main() -> None:
    """Train once and write what was measured; `own` of the task are settings of SFTConfig."""
    task, result = read_task()
    rows = [{name: row[name] for name in ("input_ids", "labels")} for row in task["rows"]]
    meter = Meter()
    settings = {
        **trainer_settings(task),
        "train_sampling_strategy": "sequential",
        "max_length": task["max_length"],
        "bf16": False,
        **task["own"],
    }
    trainer = SFTTrainer(
        model=load_with_adapter(task),
        args=SFTConfig(**settings),
        train_dataset=Dataset.from_list(rows),
        processing_class=AutoTokenizer.from_pretrained(task["model"]),
        callbacks=[Metered(meter)],
    )
    trainer.train()
    meter.write(result, task["real_tokens"])


if __name__ == "__main__":
    main()
