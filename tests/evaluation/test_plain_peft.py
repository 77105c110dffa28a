"""An adapter of the bundled alias, loaded as the documents and its card say: plain PEFT, another process."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from pages import page
from plain_python import output_of_plain
from tiny_gguf import Q4_1, save_tiny_gguf
from weitiao.evaluation.open_model import open_by_name
from weitiao.models.aliases import ALIASES
from weitiao.recipe.recipe import parse_recipe
from weitiao.recipe.train import train_recipe

ALIAS = ALIASES["smollm2-135m"]
IDS = tuple(range(2, 60))
DOCUMENTED = {"page": "docs/en/training.md", "card": "the card"}
"""Where the code stands that loads an adapter."""


def save_logits(name: str) -> str:
    return f"""
import sys
import torch
from safetensors.torch import save_file

assert "weitiao" not in sys.modules
with torch.inference_mode():
    save_file({{"logits": model(torch.tensor([{list(IDS)}])).logits}}, "{name}.safetensors")
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the run `runs/mine`, trained on the alias, whose package holds a tiny model in 4 bits."""
    root = tmp_path_factory.mktemp("alias")
    package = root / "site" / ALIAS.package
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("raise ImportError('it needs what is not installed here')\n")
    save_tiny_gguf(package / ALIAS.file, Q4_1)
    rows = root / "rows.json"
    rows.write_text(json.dumps([{"instruction": f"What is {n}?", "output": f"{n}."} for n in range(8)]))
    recipe = {
        "model": ALIAS.name,
        "data": str(rows),
        "method": {"name": "lora", "r": 4},
        "train": {"steps": 3, "batch_size": 2, "lr": 3e-2},
        "evaluate": {"question_count": 0},
        "out": str(root / "runs" / "mine"),
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(root / "site"))
        train_recipe(parse_recipe(recipe))
    return root


def logits(name: Path) -> Tensor:
    """Return what weitiao's own loading gives."""
    with torch.inference_mode():
        output: Tensor = open_by_name(str(name)).model(torch.tensor([IDS])).logits
    return output


def code_with_base(text: str) -> str:
    """Return the one block of Python that loads the alias."""
    [code] = [block.partition("```")[0] for block in text.split("```python\n")[1:] if "gguf_file" in block]
    return code


def documented(where: str, root: Path) -> str:
    adapter = root / "runs" / "mine" / "adapter"
    if where.startswith("docs"):
        return code_with_base(page(where).text)
    return code_with_base((adapter / "README.md").read_text(encoding="utf-8")).replace(
        "'PATH'", repr(str(adapter))
    )


def test_plain_peft_gives_what_weitiao_gives(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, where in DOCUMENTED.items():
        script = documented(where, place) + save_logits(name)
        output_of_plain(script, folder=place, path=str(place / "site"))
    monkeypatch.syspath_prepend(str(place / "site"))
    wanted = logits(place / "runs" / "mine")
    for name in DOCUMENTED:
        found = load_file(place / f"{name}.safetensors")["logits"]
        torch.testing.assert_close(found, wanted, atol=1e-5, rtol=0, msg=name)
    assert not torch.allclose(wanted, logits(Path(ALIAS.name)), atol=1e-2), "the adapter changes something"


def test_it_loads_on_another_machine(place: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.syspath_prepend(str(place / "site"))
    wanted = logits(place / "runs" / "mine")
    monkeypatch.setenv("WEITIAO_HOME", str(tmp_path / "home"))
    alone = (place / "runs" / "mine" / "adapter").rename(tmp_path / "downloaded")
    assert torch.equal(logits(alone), wanted)
    alone.rename(place / "runs" / "mine" / "adapter")
