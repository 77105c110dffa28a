"""Our own methods through PEFT: known by its tables, two on one base, in a fresh process, resumed bit by bit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

import tiny_architectures as tiny
from plain_python import output_of_plain
from tiny_training import equal, last_state, make_examples, make_training, weights_of
from weitiao.core.errors import ModelError
from weitiao.engine.checkpoint import list_checkpoints
from weitiao.engine.kernels.matmul import products_from
from weitiao.engine.loop import Training
from weitiao.methods import METHODS
from weitiao.methods._base import Attached
from weitiao.methods._peft.attached import PeftMethod, load_adapter
from weitiao.methods._peft.register import PREFIX, needs_registering, register
from weitiao.models.load import load_model
from weitiao.models.settings import ModelSettings

MOST: dict[str, dict[str, Any]] = {
    "adapter": {"train_norms": True},
    "diff_pruning": {"structured": True, "target_sparsity": 0.9},
    "freeze": {"last_n": 1, "first_n": 1, "embeddings": True, "norms": "all"},
}
"""Settings under which a method does most, where its `example` does less."""
OWN = [name for name in METHODS.names() if METHODS.load(name).tuner() is not None]

each = pytest.mark.parametrize("name", OWN)


def settings_of(name: str) -> dict[str, Any]:
    return {**METHODS.load(name).example, **MOST.get(name, {})}


def make(name: str, **changes: Any) -> PeftMethod:  # noqa: ANN401
    method = METHODS.load(name)(**(settings_of(name) | changes))
    assert isinstance(method, PeftMethod)
    return method


def logits(model: torch.nn.Module) -> torch.Tensor:
    model.eval()
    with torch.no_grad():
        return model(tiny.ids()).logits


def train(attached: Attached, steps: int = 2, seed: int = 0) -> None:
    attached.model.train()
    optimizer = torch.optim.AdamW(attached.trainable().values(), lr=1e-2)
    for step in range(steps):
        optimizer.zero_grad()
        ids = tiny.ids(seed=seed + step)
        attached.model(ids, labels=ids).loss.backward()
        optimizer.step()


def saved(name: str, folder: Path, seed: int = 0, base: Path | None = None) -> torch.Tensor:
    """Train and save an adapter; return its logits."""
    model = tiny.make_model("llama") if base is None else load_model(ModelSettings(name=str(base)))
    attached = make(name).attach(model)
    train(attached, seed=seed)
    attached.save(folder)
    return logits(attached.model)


def test_peft_knows_exactly_these_by_our_prefix() -> None:
    """Fails where PEFT drops a table, or stops taking strings as keys."""
    from peft import mapping
    from peft.tuners.tuners_utils import BaseTuner

    register()
    tables = (
        mapping.PEFT_TYPE_TO_CONFIG_MAPPING,
        mapping.PEFT_TYPE_TO_TUNER_MAPPING,
        mapping.PEFT_TYPE_TO_PREFIX_MAPPING,
    )
    kinds = {f"{PREFIX}{name.upper()}" for name in OWN}
    for table in tables:
        assert {key for key in table if str(key).startswith(PREFIX)} == kinds
    prefixes = list(mapping.PEFT_TYPE_TO_PREFIX_MAPPING.values())
    for kind in kinds:
        tuner = mapping.PEFT_TYPE_TO_TUNER_MAPPING[kind]
        assert issubclass(tuner, BaseTuner)
        assert prefixes.count(tuner.prefix) == 1
        assert mapping.PEFT_TYPE_TO_CONFIG_MAPPING[kind]().peft_type == kind


def test_what_peft_calls_on_a_tuner_is_still_there() -> None:
    """These are PEFT's private hooks; without one of them our methods would silently do something else."""
    from peft.tuners.tuners_utils import BaseTuner, BaseTunerLayer
    from peft.utils import save_and_load

    hooks = ("_create_and_replace", "_replace_module", "_check_merge_allowed", "_unload_and_optionally_merge")
    hooks += ("_check_tied_modules", "_get_tied_target_modules")
    hooks += ("_get_adapter_state_dict", "_remap_adapter_state_dict_for_load")
    assert [hook for hook in hooks if hook not in vars(BaseTuner)] == []
    names = Path(save_and_load.__file__).read_text(encoding="utf-8")
    assert all(f"tuner_cls.{hook}(" in names for hook in hooks[-2:])
    assert [n for n in ("adapter_layer_names", "other_param_names") if n not in vars(BaseTunerLayer)] == []


LOADER = """
import sys
sys.modules["weitiao"] = None  # importing it now fails
import torch
from peft import AutoPeftModelForCausalLM

try:
    AutoPeftModelForCausalLM.from_pretrained(sys.argv[2], local_files_only=True)
except Exception as error:
    print(repr(error))
del sys.modules["weitiao"]
import weitiao
weitiao.register()
ids = torch.load(sys.argv[1], weights_only=True)
for folder in sys.argv[2:]:
    model = AutoPeftModelForCausalLM.from_pretrained(folder, local_files_only=True).eval()
    with torch.no_grad():
        torch.save(model(ids).logits, folder + ".logits")
"""


def test_plain_peft_names_what_is_missing_and_once_registered_loads_them_bit_equal(tmp_path: Path) -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    tiny.make_model("llama").save_pretrained(tmp_path / "base")
    torch.save(tiny.ids(), tmp_path / "ids")
    with products_from("mkl"):  # as in the other process
        expected = {name: saved(name, tmp_path / name, base=tmp_path / "base") for name in OWN}
    torch.set_num_threads(threads)
    said = output_of_plain(LOADER, str(tmp_path / "ids"), *(str(tmp_path / name) for name in OWN))
    assert said.splitlines() == [f"KeyError('WEITIAO_{next(iter(OWN)).upper()}')"]
    found = {name: torch.load(tmp_path / f"{name}.logits", weights_only=True) for name in OWN}
    assert [name for name in OWN if not torch.equal(found[name], expected[name])] == []


@each
def test_a_saved_one_is_trained_further(name: str, tmp_path: Path) -> None:
    wanted = saved(name, tmp_path / "first")
    attached = make(name).continue_from(tiny.make_model("llama"), tmp_path / "first")
    assert torch.equal(logits(attached.model), wanted)
    train(attached)
    after = logits(attached.model)
    assert not torch.equal(after, wanted)
    attached.save(tmp_path / "second")
    assert torch.equal(logits(load_adapter(tiny.make_model("llama"), tmp_path / "second").model), after)


def test_reading_an_adapter_registers_by_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from peft import mapping

    wanted = saved("bitfit", tmp_path)
    monkeypatch.delitem(mapping.PEFT_TYPE_TO_CONFIG_MAPPING, "WEITIAO_BITFIT")
    assert torch.equal(logits(load_adapter(tiny.make_model("llama"), tmp_path).model), wanted)


def test_other_settings_do_not_continue(tmp_path: Path) -> None:
    saved("adapter", tmp_path)
    with pytest.raises(ModelError, match="size"):
        make("adapter", size=5).continue_from(tiny.make_model("llama"), tmp_path)


@each
def test_in_half_precision_without_autocast(name: str) -> None:
    settings = {"train_norms": False} if name == "adapter" else {}
    attached = make(name, **settings).attach(tiny.make_model("llama").bfloat16())
    train(attached)
    assert logits(attached.model).dtype is torch.bfloat16
    assert all(p.dtype is torch.float32 for p in attached.trainable().values())


@pytest.mark.parametrize(
    ("name", "steps", "stops"),
    [("bitfit", 4, [2]), ("adapter", 4, [2]), ("freeze", 4, [2]), ("diff_pruning", 12, [8, 10])],
)
def test_resumed_bit_by_bit(name: str, steps: int, stops: list[int], tmp_path: Path) -> None:
    """Twelve steps are eight, a checkpoint, and four more in new objects; diff pruning prunes after the ninth."""
    straight = training(name, tmp_path / "straight", steps)
    straight.run()
    saved = {path.name: path for path in list_checkpoints(tmp_path / "straight" / "checkpoints")}
    for stop in stops:
        resumed = training(name, tmp_path / "resumed", steps)
        resumed.resume(saved[f"step-{stop:08d}"])
        resumed.run()
        assert equal(weights_of(resumed), weights_of(straight))
        assert last_state(tmp_path / "resumed") == last_state(tmp_path / "straight")


def training(name: str, folder: Path, steps: int) -> Training:
    method = {"name": name, **settings_of(name)}
    settings = {"lr": 1e-2, "steps": steps, "batch_size": 3, "save_every": 2, "keep_checkpoints": 20}
    return make_training(folder, make_examples(9, seed=2), method=method, **settings)


def test_files_hold_no_machine_and_say_their_kind(tmp_path: Path) -> None:
    for name in OWN:
        saved(name, tmp_path / name)
        config = json.loads((tmp_path / name / "adapter_config.json").read_text(encoding="utf-8"))
        assert config["peft_type"] == f"{PREFIX}{name.upper()}"
        assert config["inference_mode"] is True


def test_only_these_need_registering() -> None:
    assert all(needs_registering(make(name).attach(tiny.make_model("llama"))) for name in OWN)
    assert not any(
        needs_registering(METHODS.load(n)().attach(tiny.make_model("llama"))) for n in ("lora", "full")
    )
