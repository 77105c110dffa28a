"""Merging: the written model is read back and compared, and nothing is left where it differs."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from tiny_run import make_run
from weitiao.core.errors import ModelError, ResourceError, RunFolderError
from weitiao.evaluation.open_model import Opened, open_by_name
from weitiao.serving import merge
from weitiao.serving.merge import compare, merge_run


@pytest.mark.parametrize("method", ["lora", "full", "freeze"])
def test_plain_transformers_reads_what_was_written(
    tmp_path: Path, tiny_model_folder: Path, method: str
) -> None:
    run = make_run(tmp_path / "run", tiny_model_folder, method)
    merged = merge_run(str(run), tmp_path / "out")
    assert merged.comparison.holds and merged.comparison.exact
    assert merged.comparison.same_choice == 1
    assert merged.size_bytes > 0
    plain = AutoModelForCausalLM.from_pretrained(tmp_path / "out").eval()
    ids = torch.tensor([AutoTokenizer.from_pretrained(tmp_path / "out")("你是谁？")["input_ids"]])
    with torch.inference_mode():
        wanted = open_by_name(str(run)).model(ids).logits
        assert torch.allclose(plain(ids).logits, wanted, atol=1e-4)
    assert (tmp_path / "out" / "generation_config.json").is_file()
    assert not list(tmp_path.glob(".*"))


def test_half_precision_stays_half_and_is_reported(tmp_path: Path, tiny_model_folder: Path) -> None:
    run = make_run(tmp_path / "run", tiny_model_folder, model={"dtype": "bf16"})
    merged = merge_run(str(run), tmp_path / "out")
    assert merged.dtype == "bfloat16"
    assert not merged.comparison.exact
    weights = load_file(tmp_path / "out" / "model.safetensors")
    assert {tensor.dtype for tensor in weights.values()} == {torch.bfloat16}


def _write_and_tamper(opened: Opened, folder: Path) -> torch.dtype:
    dtype = _WRITE(opened, folder)
    weights = load_file(folder / "model.safetensors")
    name = next(name for name in weights if name.endswith("q_proj.weight"))
    weights[name] += 0.01
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    return dtype


_WRITE = merge.write_merged


def test_what_differs_on_disk_is_not_kept(
    tmp_path: Path, tiny_model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run(tmp_path / "run", tiny_model_folder)
    monkeypatch.setattr(merge, "write_merged", _write_and_tamper)
    with pytest.raises(ModelError, match="does not answer as"):
        merge_run(str(run), tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_an_existing_folder_is_left_alone(tmp_path: Path, tiny_model_folder: Path) -> None:
    run = make_run(tmp_path / "run", tiny_model_folder)
    with pytest.raises(RunFolderError, match="already exists"):
        merge_run(str(run), run)
    assert (run / "run.yaml").is_file()


def test_a_plain_model_has_nothing_to_merge(tmp_path: Path, tiny_model_folder: Path) -> None:
    with pytest.raises(RunFolderError, match="nothing to merge"):
        merge_run(str(tiny_model_folder), tmp_path / "out")


def test_a_full_disk_is_known_before_any_weight_is_loaded(
    tmp_path: Path, tiny_model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run(tmp_path / "run", tiny_model_folder)
    (run / "adapter" / "adapter_model.safetensors").unlink()
    monkeypatch.setattr(merge, "merged_bytes", lambda settings: 1 << 60)
    with pytest.raises(ResourceError, match="too little disk"):
        merge_run(str(run), tmp_path / "out")


def test_the_size_is_that_of_the_plain_weights(tiny_model_folder: Path) -> None:
    weights_bytes = (tiny_model_folder / "model.safetensors").stat().st_size
    source = merge.locate(str(tiny_model_folder))
    assert weights_bytes < merge.merged_bytes(source.base) < weights_bytes + (65 << 20)


def test_a_difference_and_a_nan_do_not_hold() -> None:
    logits = torch.randn(5, 7)
    assert compare([logits], [logits + 5e-5], exact=True).holds
    assert not compare([logits], [logits + 5e-4], exact=True).holds
    assert compare([logits], [logits + 5e-3], exact=False).holds
    assert not compare([logits], [logits.flip(-1)], exact=False).holds
    assert not compare([logits], [logits * float("nan")], exact=True).holds
