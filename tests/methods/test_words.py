"""What people type, and what they are told: names from elsewhere, lists, refusals, defaults, and no idle notes."""

from __future__ import annotations

import logging
import shlex
import warnings
from typing import Any

import pytest

import tiny_architectures as tiny
from pages import ROOT
from weitiao.core.errors import SettingsError
from weitiao.core.settings import LEFT_OUT, check_settings
from weitiao.methods import METHODS
from weitiao.methods._aliases import KNOWN_ELSEWHERE
from weitiao.methods._peft.any import names
from weitiao.methods._peft.quiet import renamed_in_transformers
from weitiao.recipe.recipe import Recipe, read_recipe

PEFTS_OWN = f"peft:{names()[0]}"
"""A tuner of PEFT's that has no file here."""
NEEDED = {"model": {"name": "m"}, "data": {"sources": ["my.json"]}, "out": "runs/x"}


def recipe_of(remedy: str) -> Recipe:
    """Build the run that one remedy of `KNOWN_ELSEWHERE` means."""
    words = shlex.split(remedy)
    name = words[words.index("--method") + 1]
    return read_recipe(None, {**NEEDED, "method": {"name": name}}, [w for w in words if "=" in w])


@pytest.mark.parametrize("name", [one for one in KNOWN_ELSEWHERE if METHODS.spelling(one) is None])
def test_a_name_from_elsewhere_is_answered_with_what_can_be_typed(name: str) -> None:
    with pytest.raises(SettingsError) as refused:
        METHODS.load(name)
    (problem,) = refused.value.problems
    assert problem.remedy == KNOWN_ELSEWHERE[name][1]
    for one in problem.remedy.split(" or "):
        if "--method" in one:
            assert recipe_of(one)
        else:
            assert (ROOT / shlex.split(one)[2]).is_file()


@pytest.mark.parametrize("typed", ["QLoRA", "q-lora", "LoRA+", "Soft-Prompt", "rs_lora"])
def test_signs_and_capitals_do_not_hide_a_name(typed: str) -> None:
    with pytest.raises(SettingsError, match=r": .*\n(.|\n)*--method"):
        METHODS.load(typed)


@pytest.mark.parametrize("name", [*METHODS.names(), PEFTS_OWN])
def test_signs_and_capitals_do_not_count(name: str) -> None:
    for typed in (name.upper(), name.title(), name.replace("_", "-"), name.replace("_", " ")):
        assert METHODS.spelling(typed) == name
        assert METHODS.load(typed) is METHODS.load(name)


@pytest.mark.parametrize(
    ("method", "setting"),
    [
        ("lora", "layers_to_transform"),
        (PEFTS_OWN, "layers_to_transform"),
        ("freeze", "blocks"),
        ("trainable_tokens", "token_indices"),
    ],
)
def test_every_list_of_numbers_takes_commas_and_ranges(method: str, setting: str) -> None:
    recipe = read_recipe(None, {**NEEDED, "method": {"name": method}}, [f"method.{setting}=0,2-4"])
    assert recipe.method.model_dump()[setting] == [0, 2, 3, 4]


@pytest.mark.parametrize(
    ("method", "settings"),
    [
        ("freeze", {"last_n": 0}),
        ("freeze", {"blocks": []}),
        ("freeze", {"blocks": [0], "last_n": 1}),
        ("prefix_tuning", {"projection_size": 64}),
        ("prefix_tuning", {"projection": True, "init_text": "a"}),
        ("prompt_tuning", {"init": "text"}),
        ("prompt_tuning", {"init": "random", "init_text": "a"}),
        ("p_tuning", {"encoder_num_layers": 3}),
        ("p_tuning", {"encoder": "LSTM", "encoder_num_layers": 1, "encoder_dropout": 0.1}),
        ("oft", {"r": 2, "oft_block_size": 8}),
        ("oft", {"block_share": True, "module_dropout": 0.1}),
        ("adapter", {"size": 8, "reduction_factor": 2}),
        ("adalora", {"init_r": 8, "target_r": 8}),
        ("bitfit", {"targets": "norms", "add_bias": True}),
        ("ia3", {"target_modules": ["k_proj"], "feedforward_modules": ["down_proj"]}),
        ("ln_tuning", {"target_modules": "all-linear"}),
        ("lokr", {"decompose_factor": 0}),
        ("lora", {"init_lora_weights": "pisa"}),
        ("lora", {"target_modules": "(q"}),
        ("lora", {"target_modules": "q.*", "layers_to_transform": [0]}),
        ("miss", {"variant": "bat", "dropout": 0.1}),
        ("trainable_tokens", {"token_indices": [1, 1]}),
        ("vera", {"d_initial": 0}),
    ],
)
def test_a_refusal_says_what_was_expected_and_what_to_try(method: str, settings: dict[str, Any]) -> None:
    cls = METHODS.load(method)
    _, problems = check_settings(cls, settings, "method")
    assert problems
    assert all(problem.got and problem.expected and problem.remedy for problem in problems)
    words = shlex.split(problems[0].remedy.split(" or ")[0])
    if all("=" in word for word in words):
        read_recipe(None, {**NEEDED, "method": {"name": method, **settings}}, words)


@pytest.mark.parametrize("name", METHODS.names())
def test_what_a_setting_comes_to_is_one_it_takes(name: str) -> None:
    cls = METHODS.load(name)
    for key, field in cls.model_fields.items():
        extra = field.json_schema_extra
        meaning = str(extra[LEFT_OUT]) if isinstance(extra, dict) else "("
        if not meaning.startswith("("):
            _, problems = check_settings(cls, {**cls.example, key: meaning})
            assert not any(problem.what.startswith(f"{key} cannot be used") for problem in problems), (
                f"{key}={meaning}"
            )


def test_attaching_leaves_the_users_own_warnings_alone() -> None:
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        filters = list(warnings.filters)
        METHODS.load("lora")().attach(tiny.make_model("llama"))
        METHODS.load("prompt_tuning")().attach(tiny.make_model("llama"))
        assert list(warnings.filters) == filters
        assert [str(w.message) for w in seen if "is_gradient_checkpointing" in str(w.message)] == []
        with renamed_in_transformers():
            warnings.warn("another thing is deprecated", FutureWarning, stacklevel=1)
    assert "another thing is deprecated" in [str(w.message) for w in seen]


def test_only_the_note_on_a_missing_kernel_is_dropped(caplog: pytest.LogCaptureFixture) -> None:
    log = logging.getLogger("bitsandbytes.backends.cpu.ops")
    with caplog.at_level(logging.WARNING, logger=log.name):
        log.warning("Failed to load CPU gemm_4bit_forward from kernels-community: %s", "none")
        log.warning("something else")
    assert caplog.messages == ["something else"]
