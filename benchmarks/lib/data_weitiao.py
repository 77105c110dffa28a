"""weitiao's side of data.py: through the gate, all checks included, to examples on disk; or back from its cache."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

from weitiao.data.dataset import load_data
from weitiao.data.settings import DataSettings
from weitiao.models.load import load_generation_config, load_tokenizer
from weitiao.models.settings import ModelSettings


def main() -> None:
    """Measure from the file to the first example."""
    task: dict[str, Any] = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    model = ModelSettings(name=task["model"], dtype="fp32", device_map="cpu")
    tokenizer, generation = load_tokenizer(model), load_generation_config(model)
    settings = DataSettings.model_validate(
        {"sources": [{"path": task["data"]}], "held_out": 0, "max_length": task["max_length"]}
    )
    begun, cpu = time.perf_counter(), sum(os.times()[:4])
    prepared = load_data(settings, tokenizer, generation_config=generation)
    rows, first = len(prepared.train), prepared.train[0]
    seconds, cpu_seconds = time.perf_counter() - begun, sum(os.times()[:4]) - cpu
    if prepared.gate is None or prepared.gate.from_cache is not task["from_cache"]:
        raise SystemExit("the cache was not as this run needs it")
    measured = {
        "rows": rows,
        "tokens": int(prepared.gate.store.lengths_E.sum()),
        "first": first.tokens,
        "seconds": seconds,
        "cpu_seconds": cpu_seconds,
    }
    Path(sys.argv[2]).write_text(json.dumps(measured), encoding="utf-8")


if __name__ == "__main__":
    main()
