"""What a run leaves: no private path, a tokenizer beside the weights, the stop tokens that were trained."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

import tiny
from weitiao.core.errors import DataError
from weitiao.evaluation.open_model import open_by_name
from weitiao.recipe.outcome import public_path
from weitiao.recipe.recipe import parse_recipe
from weitiao.recipe.train import train_recipe
from weitiao.serving.merge import merge_run

FULL = {"name": "full"}


def run_of(recipe: dict[str, Any], **changes: Any) -> Path:  # noqa: ANN401
    train_recipe(parse_recipe(recipe | changes))
    return Path(recipe["out"])


def logits(model: torch.nn.Module) -> torch.Tensor:
    with torch.inference_mode():
        output: torch.Tensor = model(torch.arange(2, 12)[None]).logits
    return output


@pytest.mark.parametrize("method", [{"name": "lora", "r": 4}, FULL], ids=str)
def test_no_result_names_a_private_path(
    recipe: dict[str, Any], tmp_path: Path, tiny_model_folder: Path, method: dict[str, Any]
) -> None:
    root = run_of(recipe, method=method)
    merge_run(str(root), tmp_path / "merged")
    private = [str(tmp_path), str(tiny_model_folder.parent), str(Path.home())]
    files = [root / "report.md", root / "report.zh.md"]
    files += [path for name in ("adapter", "model", "merged") for path in (root / name).rglob("*")]
    files += list((tmp_path / "merged").rglob("*"))
    assert len(files) > 8
    for path in files:
        found = [place for place in private if place.encode() in path.read_bytes()]
        assert not found, (path.name, found)
    assert f"| Base model | {tiny_model_folder.name} |" in (root / "report.md").read_text("utf-8")


def test_a_runs_folder_is_named_as_seen_from_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert public_path(Path("runs/mine")) == "runs/mine"
    assert public_path(tmp_path / "runs" / "mine") == "mine"
    monkeypatch.chdir(tmp_path)
    assert public_path(tmp_path / "runs" / "mine") == "runs/mine"


def test_a_tokenizer_lies_beside_an_adapter_and_plain_peft_loads_it(
    recipe: dict[str, Any], tiny_model_folder: Path
) -> None:
    from peft import PeftModel

    root = run_of(recipe)
    own = AutoTokenizer.from_pretrained(root / "adapter")
    assert own.get_vocab() == tiny.make_tokenizer().get_vocab()
    assert own.chat_template == tiny.make_tokenizer().chat_template
    base = AutoModelForCausalLM.from_pretrained(tiny_model_folder)
    model = PeftModel.from_pretrained(base, root / "adapter").eval()
    assert torch.equal(logits(model), logits(open_by_name(str(root)).model))


@pytest.mark.parametrize("method", [{"name": "lora", "r": 4, "target_modules": "all-linear"}, FULL], ids=str)
def test_a_padded_vocabulary_keeps_its_rows(
    recipe: dict[str, Any], tmp_path: Path, method: dict[str, Any]
) -> None:
    padded = tmp_path / "padded"
    tiny.make_llama(vocab_size=512).save_pretrained(padded)
    tiny.make_tokenizer().save_pretrained(padded)
    root = run_of(recipe, model=str(padded), method=method)
    result = root / "adapter" if (root / "adapter").is_dir() else root / "model"
    place = result / "tokenizer" if (result / "tokenizer").is_dir() else result
    assert AutoTokenizer.from_pretrained(place).get_vocab() == tiny.make_tokenizer().get_vocab()
    # Where PEFT finds a tokenizer_config.json beside an adapter, older versions cut the embedding.
    assert (result / "tokenizer_config.json").is_file() == (result.name == "model")
    assert logits(open_by_name(str(root)).model).shape[-1] == 512
    assert open_by_name(str(result)).tokenizer.chat_template == tiny.make_tokenizer().chat_template


@pytest.mark.parametrize("method", [{"name": "lora", "r": 4}, FULL], ids=str)
def test_a_plain_model_stops_where_it_was_trained_to(
    recipe: dict[str, Any], tmp_path: Path, method: dict[str, Any]
) -> None:
    base = tiny.save_tiny_model(tmp_path / "base")
    tokenizer = tiny.make_tokenizer()
    end_of_turn = tokenizer.eos_token_id
    GenerationConfig(eos_token_id=7).save_pretrained(base)
    root = run_of(recipe, model=str(base), method=method)
    merge_run(str(root), tmp_path / "merged")
    folders = [tmp_path / "merged", *(path for path in [root / "model"] if path.is_dir())]
    for folder in folders:
        assert GenerationConfig.from_pretrained(folder).eos_token_id == sorted({7, end_of_turn})


def test_an_id_without_a_row_names_its_token(recipe: dict[str, Any], tmp_path: Path) -> None:
    small = tmp_path / "small"
    tokenizer = tiny.make_tokenizer()
    tiny.make_llama(vocab_size=len(tokenizer)).save_pretrained(small)
    tokenizer.add_tokens(["It is"])
    tokenizer.save_pretrained(small)
    with pytest.raises(DataError, match=rf"'It is' is id {len(tokenizer) - 1}, in (.|\n)*rows\.json"):
        train_recipe(parse_recipe(recipe | {"model": str(small)}))


LIMITED = {
    "gpt2": {"n_positions": 24, "n_embd": 32, "n_layer": 2, "n_head": 2},
    "gptj": {"n_positions": 24, "n_embd": 32, "n_layer": 2, "n_head": 2, "rotary_dim": 4},
    "gpt_bigcode": {"n_positions": 24, "n_embd": 32, "n_layer": 2, "n_head": 2},
    "codegen": {"n_positions": 24, "n_ctx": 24, "n_embd": 32, "n_layer": 2, "n_head": 4, "rotary_dim": 4},
    "mpt": {"max_seq_len": 24, "d_model": 32, "n_layers": 2, "n_heads": 2},
    "ctrl": {"n_positions": 24, "n_embd": 32, "n_layer": 2, "n_head": 2, "dff": 32},
    "openai-gpt": {"n_positions": 24, "n_embd": 32, "n_layer": 2, "n_head": 2},
    "opt": {"max_position_embeddings": 24, "hidden_size": 32, "ffn_dim": 32, "num_hidden_layers": 2,
            "num_attention_heads": 2, "word_embed_proj_dim": 32},
}  # fmt: skip


@pytest.mark.parametrize("architecture", LIMITED)
def test_rows_longer_than_a_models_context_are_refused(
    recipe: dict[str, Any], tmp_path: Path, architecture: str
) -> None:
    from transformers import AutoConfig

    folder = tmp_path / architecture
    words = {"vocab_size": tiny.vocabulary_size(), "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1}
    config = AutoConfig.for_model(architecture, **LIMITED[architecture], **words)
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    tiny.make_tokenizer().save_pretrained(folder)
    (tmp_path / "rows.json").write_text(
        json.dumps([{"instruction": f"{n} b c " * 40, "output": "x y"} for n in range(6)])
    )
    with pytest.raises(DataError, match=r"does not fit the model's context(.|\n)*up to 24 tokens"):
        train_recipe(parse_recipe(recipe | {"model": str(folder), "method": {"name": "full"}}))
