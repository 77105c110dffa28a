"""datasets.map's side of data.py: a plain function from row to ids and labels, each row alone or in batches."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

Row = dict[str, Any]
ASKED = "<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n"
SAID = "{}<|im_end|>\n"
IGNORED = -100


def texts_of(instruction: str, more: str, answer: str) -> tuple[str, str]:
    """Write a row's question and answer in the template of the model, without its default system text."""
    return ASKED.format(f"{instruction}\n{more}" if more else instruction), SAID.format(answer)


def main() -> None:
    """Measure from the file to the first example."""
    task: Row = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    os.environ["HF_DATASETS_CACHE"] = task["folder"]  # read at the import
    from datasets import load_dataset
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(task["model"])

    def ids_of(texts: Any) -> Any:  # noqa: ANN401  (a text gives ids, a list of texts a list of them)
        return tokenizer(texts, add_special_tokens=False, return_attention_mask=False)["input_ids"]

    def one(row: Row) -> Row:
        asked, said = (ids_of(text) for text in texts_of(row["instruction"], row["input"], row["output"]))
        return {"input_ids": asked + said, "labels": [IGNORED] * len(asked) + said}

    def many(rows: Row) -> Row:
        texts = [
            texts_of(*row) for row in zip(rows["instruction"], rows["input"], rows["output"], strict=True)
        ]
        both = list(
            zip(ids_of([asked for asked, _ in texts]), ids_of([said for _, said in texts]), strict=True)
        )
        return {
            "input_ids": [asked + said for asked, said in both],
            "labels": [[IGNORED] * len(asked) + said for asked, said in both],
        }

    begun, cpu = time.perf_counter(), sum(os.times()[:4])
    read = load_dataset("json", data_files=task["data"], split="train")
    batched = bool(task["batched"])
    made = read.map(
        many if batched else one,
        batched=batched,
        num_proc=task["processes"],
        remove_columns=read.column_names,
    )
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
