"""Every method on every causal architecture, and, in the ordinary suite, a few pairs and what the sweep found."""

from __future__ import annotations

from pathlib import Path

import pytest

from sweep import zoo
from sweep.pair import Pair, Verdict, check
from sweep.run import RESULTS, in_a_process, line, rows
from weitiao.methods import METHODS
from weitiao.models.anatomy import anatomy

HANDFUL = [
    ("lora", "gemma3_text"),
    pytest.param("lora", "mixtral", marks=pytest.mark.slow),  # tests/contracts/test_experts.py has it too
    ("lora", "mamba"),
    ("lora", "bart"),
    ("prefix_tuning", "mistral"),
]
"""A window, experts, a state, positions that padding would move, and virtual tokens in front of a window."""


@pytest.mark.parametrize(("method", "architecture"), HANDFUL)
def test_a_pair_is_right(method: str, architecture: str) -> None:
    verdict = check(method, architecture)
    assert verdict.faults == []
    assert verdict.way in ("packed", "one by one")
    assert verdict.resume == verdict.batch == "same"


@pytest.mark.parametrize(
    ("method", "architecture", "why"),
    [
        ("freeze", "rwkv", "does not run with what the method adds to it"),
        ("full", "reformer", "does not run with what the method adds to it"),
        ("p_tuning_v2", "whisper", "does not run with what the method adds to it"),
        ("prompt_tuning", "recurrent_gemma", "does not keep all of the virtual tokens"),
        ("prompt_tuning", "nemotron_h", "does not keep all of the virtual tokens"),
        ("prompt_tuning", "gemma3n_text", "does not keep all of the virtual tokens"),
        ("lora", "inkling2_text", "PEFT would not find the adapters of these layers again"),
        ("trainable_tokens", "electra", "drop the bias of a head that shares the embeddings"),
        ("bitfit", "git", "cannot be applied to this model"),
        ("freeze", "zamba2", "share weights with blocks that would stay frozen"),
        ("miss", "reformer", "PEFT says that miss cannot be applied to this model"),
    ],
)
def test_a_pair_that_cannot_be_is_refused_in_words(method: str, architecture: str, why: str) -> None:
    verdict = check(method, architecture)
    assert (verdict.way, verdict.faults) == ("refused", [])
    assert why in verdict.reason


def test_layers_that_compute_by_groups_are_left_out_with_their_share() -> None:
    model = zoo.make_model("deepseek_v4")
    special = anatomy(model).special
    assert special
    assert all(path.endswith("o_a_proj") for path in special)
    assert not anatomy(zoo.make_model("falcon")).special  # a forward of its own, and the same product
    assert any(
        "do not compute a plain matrix product" in said for said in METHODS.load("lora")().left_out(model)
    )


@pytest.mark.parametrize("architecture", ["falcon", "dbrx", "cpmant", "longcat_flash"])
def test_attention_is_found_however_deep_it_lies(architecture: str) -> None:
    assert anatomy(zoo.make_model(architecture)).attention


@pytest.mark.parametrize("architecture", ["xlm", "zaya"])
def test_norms_are_named_so_that_nothing_else_is_meant(architecture: str) -> None:
    assert check("ln_tuning", architecture).faults == []


def test_a_head_of_its_own_is_refused_where_other_weights_are_shared_too() -> None:
    found = {method: check(method, "zamba") for method in ("lora", "trainable_tokens")}
    assert [verdict.faults for verdict in found.values()] == [[], []]
    assert not found["lora"].merge.startswith("refused")
    assert "shares no weights at all" in found["trainable_tokens"].merge


def test_the_default_is_not_refused_where_attention_has_a_projection_that_experts_have_too() -> None:
    assert check("lora", "afmoe").way in ("packed", "one by one")


def test_adalora_bears_layers_that_no_text_went_through() -> None:
    attached = METHODS.load("adalora")(tinit=1, tfinal=1).attach(zoo.make_model("llama"))
    attached.starts(9)
    assert all(parameter.grad is None for parameter in attached.trainable().values())
    for step in range(9):
        attached.after_update(step)


def test_another_loss_is_found(tmp_path: Path) -> None:
    zoo.make_model("llama").save_pretrained(tmp_path / "base")
    pair = Pair(Verdict("lora", "llama"), tmp_path)
    straight, losses = pair.trained()
    assert not pair.same_losses(straight, losses).startswith("FAULT")
    assert pair.same_losses(straight, [losses[0], losses[1] * (1 + 1e-4)]).startswith("FAULT")


@pytest.mark.slow
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("architecture", zoo.architectures())
def test_every_method_is_right_or_refused(architecture: str) -> None:
    found = [in_a_process(method, architecture) for method in METHODS.names()]
    assert [line(row) for row in found if row["faults"]] == []


def test_no_pair_that_was_tried_is_wrong() -> None:
    found = rows(RESULTS)
    assert found
    assert [line(row) for row in found if row["faults"]] == []
