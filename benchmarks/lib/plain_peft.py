"""A peer: a plain `peft` + `transformers.Trainer` script, as their documentation writes it.

It reads token ids and labels made beforehand, so that both sides train on the same tokens in the same order.
"""

from __future__ import annotations

from transformers import AutoTokenizer, DataCollatorForSeq2Seq, Trainer, TrainingArguments

from .meter import Meter
from .peer import Metered, load_with_adapter, read_task, trainer_settings


def main() -> None:
    """Train once and write what was measured."""
    task, result = read_task()
    tokenizer = AutoTokenizer.from_pretrained(task["model"])
    meter = Meter()
    trainer = Trainer(
        model=load_with_adapter(task),
        args=TrainingArguments(**trainer_settings(task), train_sampling_strategy="sequential"),
        train_dataset=task["rows"],
        data_collator=DataCollatorForSeq2Seq(tokenizer, padding="longest"),
        callbacks=[Metered(meter)],
    )
    trainer.train()
    meter.write(result, task["real_tokens"])


if __name__ == "__main__":
    main()
