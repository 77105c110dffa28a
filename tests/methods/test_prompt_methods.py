"""Virtual tokens: counts, losses and gradients by hand, plain PEFT, checkpointing, generation, and what is refused."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import get_peft_model
from torch.nn.functional import cross_entropy
from transformers import AutoConfig, DynamicCache, LlamaConfig

import tiny
import tiny_architectures
from plain_python import output_of_plain
from tiny_methods import make_config, make_model
from tiny_training import Events, equal, make_examples, make_training, sequence_of, weights_of
from weitiao.core.errors import ModelError, SettingsError
from weitiao.core.settings import parse_settings
from weitiao.data.example import Example
from weitiao.engine.checkpoint import newest_whole
from weitiao.engine.optim.precision import Precision
from weitiao.methods import METHODS
from weitiao.methods._alternatives import require_applicable
from weitiao.methods._base import Attached, count_parameters
from weitiao.methods._peft.attached import PeftAttached, load_adapter
from weitiao.methods._prompt import PromptMethod
from weitiao.models.load import load_model, weightless
from weitiao.models.settings import ModelSettings

VARIANTS: dict[str, dict[str, Any]] = {
    "prompt_tuning": {"name": "prompt_tuning"},
    "prompt_tuning-random": {"name": "prompt_tuning", "init": "random"},
    "p_tuning": {"name": "p_tuning"},
    "p_tuning-lstm": {"name": "p_tuning", "encoder": "LSTM", "encoder_hidden_size": 8, "encoder_dropout": 0.5},
    "prefix_tuning": {"name": "prefix_tuning"},
    "prefix_tuning-projection": {"name": "prefix_tuning", "projection": True, "projection_size": 12},
    "p_tuning_v2": {"name": "p_tuning_v2"},
    "p_tuning_v2-random": {"name": "p_tuning_v2", "init": "random"},
}  # fmt: skip
OTHERS = ("prompt_tuning-random", "p_tuning-lstm", "prefix_tuning-projection")
"""Variants that are no method's example, which the contract of methods tests."""
ENCODED = ("p_tuning", "p_tuning-lstm", "prefix_tuning-projection")
ARCHITECTURES = ("llama", "qwen2", "gpt2", "opt", "gemma", "gemma2", "bloom")
TOKENS = 5

every_variant = pytest.mark.parametrize("variant", VARIANTS)


def some_pairs(turn: int) -> pytest.MarkDecorator:
    """Parametrise a test over every variant, each on two architectures; each turn gives it the next two."""
    count = len(ARCHITECTURES)
    pairs = [
        (variant, ARCHITECTURES[(number + 2 * turn + more) % count])
        for number, variant in enumerate(VARIANTS)
        for more in range(2)
    ]
    return pytest.mark.parametrize(("variant", "architecture"), pairs)


def make(variant: str, **changes: Any) -> PromptMethod:  # noqa: ANN401
    settings = {"num_virtual_tokens": TOKENS, **VARIANTS[variant], **changes}
    method = METHODS.load(settings.pop("name"))(**settings)
    assert isinstance(method, PromptMethod)
    return method


def attach(variant: str, architecture: str = "llama", seed: int = 0, **changes: Any) -> PeftAttached:  # noqa: ANN401
    torch.manual_seed(seed)
    return make(variant, **changes).attach(make_model(architecture))


def logits(model: torch.nn.Module, ids: torch.Tensor | None = None) -> torch.Tensor:
    model.eval()
    with torch.no_grad():
        return model(tiny_architectures.ids() if ids is None else ids).logits


def train(attached: Attached, steps: int = 2) -> None:
    optimizer = torch.optim.AdamW(attached.trainable().values(), lr=1e-2)
    for _ in range(steps):
        optimizer.zero_grad()
        attached.model.train()
        attached.model(tiny_architectures.ids(), labels=tiny_architectures.ids()).loss.backward()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in attached.trainable().values())
        optimizer.step()


@pytest.mark.parametrize(
    ("method", "kv_heads", "expected"),
    [
        ("prompt_tuning", 32, 20 * 4096),
        ("prefix_tuning", 32, 2 * 4 * 20 * 4096),
        ("p_tuning_v2", 32, 2 * 4 * 20 * 4096),
        ("p_tuning_v2", 8, 2 * 4 * 20 * 8 * 128),
        ("p_tuning", 32, 20 * 4096 + 3 * (4096 * 4096 + 4096)),
    ],
)
def test_counts_are_the_papers_and_pefts(method: str, kv_heads: int, expected: int) -> None:
    """The widths of Llama-2-7B in four blocks, and grouped heads: n d, 2 L n d, 2 L n H D."""
    config = LlamaConfig(
        hidden_size=4096, num_hidden_layers=4, num_attention_heads=32, num_key_value_heads=kv_heads,
        intermediate_size=64, vocab_size=100,
    )  # fmt: skip
    settings = METHODS.load(method)()
    assert count_parameters(settings.plan(weightless(config)).model)[0] == expected
    assert isinstance(settings, PromptMethod)
    theirs = settings.peft_config(weightless(config))
    theirs.num_layers = theirs.token_dim = theirs.num_attention_heads = None
    assert count_parameters(get_peft_model(weightless(config), theirs))[0] == expected


@some_pairs(0)
def test_checkpointing_loses_no_prefix(variant: str, architecture: str) -> None:
    """PEFT's prefix would be dropped in silence; here loss and gradients are those without checkpointing."""

    def of(checkpointed: bool) -> list[torch.Tensor]:
        torch.manual_seed(0)
        attached = attach(variant, architecture)
        if checkpointed:
            attached.model.gradient_checkpointing_enable({"use_reentrant": False})
        attached.model.train()
        torch.manual_seed(1)  # the LSTM's dropout
        output = attached.model(tiny_architectures.ids(), labels=tiny_architectures.ids())
        output.loss.backward()
        gradients = [p.grad for p in attached.trainable().values() if p.grad is not None]
        assert all(gradient.any() for gradient in gradients)
        return [output.loss.detach(), *gradients]

    for plain, checkpointed in zip(of(False), of(True), strict=True):
        torch.testing.assert_close(checkpointed, plain)


def test_checkpointing_is_asked_for_by_its_new_name() -> None:
    """transformers 5.23 warns of the old one; before, there is only the old one."""
    attached = METHODS.load("prefix_tuning")().attach(make_model("llama"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert not attached.model.is_checkpointed
        attached.model.base_model.train()
        attached.model.base_model.model.gradient_checkpointing = True
        assert attached.model.is_checkpointed


def by_hand(attached: PeftAttached, examples: list[Example]) -> tuple[float, dict[str, torch.Tensor]]:
    """Return loss and gradients from the plain base: a sum over trained tokens, divided once."""
    encoder, base = attached.model.prompt_encoder["default"], attached.model.get_base_model()
    total = torch.zeros(())
    for example in examples:
        made = encoder(torch.arange(TOKENS)[None])
        one = sequence_of(example)
        ids, weights = torch.tensor(one.ids), torch.tensor(one.weights)
        embedded = base.get_input_embeddings()(ids)[None]
        if attached.virtual_tokens:
            given = base(inputs_embeds=torch.cat([made, embedded], 1)).logits[0, TOKENS:]
        else:
            parts = made.view(TOKENS, 2, 2, -1, 8).permute(1, 2, 3, 0, 4)  # block, key or value, head, n, D
            cache = DynamicCache([(part[0][None], part[1][None]) for part in parts])
            given = base(input_ids=ids[None], past_key_values=cache).logits[0]
        losses = cross_entropy(given[:-1], ids[1:], reduction="none")
        total = total + (losses * weights[1:]).sum()
    loss = total / sum(example.loss_weight for example in examples)
    parameters = attached.trainable()
    gradients = torch.autograd.grad(loss, list(parameters.values()))
    return float(loss.detach()), dict(zip(parameters, gradients, strict=True))


@pytest.mark.parametrize(
    ("variant", "architecture", "checkpointing"),
    [
        *((variant, "llama", False) for variant in VARIANTS if variant != "p_tuning-lstm"),
        *((variant, "gpt2", True) for variant in VARIANTS if variant != "p_tuning-lstm"),
        ("prefix_tuning", "llama", True),
        ("p_tuning_v2", "llama", True),
    ],
)
def test_the_engine_gives_the_loss_and_gradients_of_a_forward_by_hand(
    variant: str, architecture: str, checkpointing: bool, tmp_path: Path
) -> None:
    examples = make_examples(4, seed=3)
    training = make_training(
        tmp_path, examples, method={"num_virtual_tokens": TOKENS, **VARIANTS[variant]},
        model=make_model(architecture), gradient_checkpointing=checkpointing,
    )  # fmt: skip
    attached, stepper = training.attached, training.stepper
    assert isinstance(attached, PeftAttached)
    attached.model.train()
    with stepper.forward.attention():
        loss = stepper.gradients(examples, step=0).loss
    given = {name: p.grad.clone() for name, p in stepper.parameters.items() if p.grad is not None}
    attached.model.eval()
    expected_loss, expected = by_hand(attached, examples)
    assert loss == pytest.approx(expected_loss, abs=1e-5)
    assert given.keys() == expected.keys()
    for name, gradient in expected.items():
        torch.testing.assert_close(given[name], gradient, atol=1e-5, rtol=1e-4)


def test_switched_off_the_engine_measures_the_base(tmp_path: Path) -> None:
    examples = make_examples(3, seed=4)
    with_prompt = make_training(tmp_path / "a", examples, method={"name": "prompt_tuning"})
    plain = make_training(tmp_path / "b", examples, method="lora")
    forward = with_prompt.stepper.forward
    with torch.no_grad(), with_prompt.attached.disabled(), forward.attention():
        off = with_prompt.stepper.objective.loss(forward.outputs(_pack(examples))).sum
    with torch.no_grad(), plain.stepper.forward.attention():
        base = plain.stepper.objective.loss(plain.stepper.forward.outputs(_pack(examples))).sum
    torch.testing.assert_close(off, base, atol=1e-4, rtol=0)


def _pack(examples: list[Example]) -> Any:  # noqa: ANN401
    from weitiao.data.batching.packing import make_pack

    return make_pack(examples)


@pytest.mark.parametrize("variant", OTHERS)
def test_it_learns_with_the_rate_it_suggests(variant: str, tmp_path: Path) -> None:
    """Twenty steps of the suggested rate on one example take at least a twentieth off its loss."""
    events = Events()
    method = {"num_virtual_tokens": TOKENS, **VARIANTS[variant]}
    make_training(
        tmp_path, make_examples(1, seed=8), method=method, listeners=(events,), steps=20, batch_size=1,
        scheduler="constant",
    ).run()  # fmt: skip
    losses = [event["loss"] for event in events.of("step")]
    assert losses[-1] < 0.95 * losses[0]


@pytest.mark.parametrize("variant", OTHERS)
def test_a_resumed_run_is_bit_exact(variant: str, tmp_path: Path) -> None:
    """As with the settings of each method's example, in the contract of methods."""

    def training(folder: Path, steps: int) -> Any:  # noqa: ANN401
        method = {"num_virtual_tokens": TOKENS, **VARIANTS[variant]}
        return make_training(
            folder, make_examples(6), method=method, steps=4, save_every=steps, batch_size=2, lr=1e-2
        )

    straight = training(tmp_path / "straight", 2)
    straight.run()
    resumed = training(tmp_path / "resumed", 2)
    first = sorted((tmp_path / "straight" / "checkpoints").iterdir())[0]
    assert newest_whole(tmp_path / "straight" / "checkpoints")[0] != first
    resumed.resume(first)
    assert resumed.progress.step == 2
    resumed.run()
    assert equal(weights_of(resumed), weights_of(straight))


@some_pairs(1)
def test_switched_off_it_is_the_base(variant: str, architecture: str) -> None:
    base = logits(make_model(architecture))
    attached = attach(variant, architecture)
    train(attached)
    trained = logits(attached.model)
    assert not torch.allclose(trained[:, attached.virtual_tokens :], base, atol=1e-3)
    with attached.disabled():
        assert torch.equal(logits(attached.model), base)
        plain = make_model(architecture).generate(tiny_architectures.ids(), max_new_tokens=4, do_sample=False)
        assert torch.equal(
            attached.model.generate(tiny_architectures.ids(), max_new_tokens=4, do_sample=False), plain
        )
    assert torch.equal(logits(attached.model), trained)


def test_merging_is_refused_with_the_reason() -> None:
    with pytest.raises(ModelError, match="cannot be merged into them"):
        attach("prompt_tuning").merge()


LOADER = """
import sys
sys.modules["weitiao"] = None
import torch
from peft import AutoPeftModelForCausalLM

for folder in sys.argv[2:]:
    model = AutoPeftModelForCausalLM.from_pretrained(folder, local_files_only=True).eval()
    with torch.no_grad():
        torch.save(model(torch.load(sys.argv[1], weights_only=True)).logits, folder + ".logits")
"""


def test_plain_peft_loads_it_bit_equal_in_a_fresh_process(tmp_path: Path) -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    ids, expected = tiny_architectures.ids(rows=1), {}
    torch.save(ids, tmp_path / "ids")
    for number, architecture in enumerate(ARCHITECTURES):
        base = str(tmp_path / architecture)
        make_model(architecture).save_pretrained(base)
        for variant in [*VARIANTS][number % 3 :: 3]:
            attached = make(variant).attach(load_model(ModelSettings(name=base)))
            train(attached)
            folder = tmp_path / f"{architecture}-{variant}"
            attached.model.train()  # the LSTM's dropout must not reach what is saved
            attached.save(folder)
            expected[folder] = logits(attached.model, ids)
            again = load_adapter(load_model(ModelSettings(name=base)), folder)
            assert torch.equal(logits(again.model, ids), expected[folder])
            assert again.packs
            assert again.virtual_tokens == attached.virtual_tokens
    output_of_plain(LOADER, str(tmp_path / "ids"), *map(str, expected))
    torch.set_num_threads(threads)
    given = {folder: torch.load(f"{folder}.logits") for folder in expected}
    assert [str(f.name) for f, wanted in expected.items() if not torch.equal(given[f], wanted)] == []


@every_variant
def test_a_saved_adapter_trains_on_unless_an_encoder_made_it(variant: str, tmp_path: Path) -> None:
    attached = attach(variant)
    train(attached)
    attached.save(tmp_path)
    base = make_model("llama")
    if variant in ENCODED:
        with pytest.raises(ModelError, match="come from an encoder"):
            make(variant).continue_from(base, tmp_path)
        return
    again = make(variant).continue_from(base, tmp_path)
    assert torch.equal(logits(again.model), logits(attached.model))
    train(again)
    assert not torch.equal(logits(again.model), logits(attached.model))
    with pytest.raises(ModelError, match="another num_virtual_tokens"):
        make(variant, num_virtual_tokens=7).continue_from(make_model("llama"), tmp_path)


@every_variant
def test_two_adapters_live_on_one_base_and_switch(variant: str, tmp_path: Path) -> None:
    wanted = []
    for seed in (1, 2):
        attached = attach(variant, seed=seed)
        train(attached)
        attached.save(tmp_path / str(seed))
        wanted.append(logits(attached.model, tiny_architectures.ids(rows=1)))
    both = load_adapter(make_model("llama"), tmp_path / "1").model
    both.load_adapter(str(tmp_path / "2"), "second")
    for name, expected in (("second", wanted[1]), ("default", wanted[0])):
        both.set_adapter(name)
        assert torch.equal(logits(both, tiny_architectures.ids(rows=1)), expected)


@some_pairs(2)
def test_padded_batches_with_the_cache_equal_single_rows_without(variant: str, architecture: str) -> None:
    attached = attach(variant, architecture)
    train(attached)
    model = attached.model.eval()
    rows = [tiny_architectures.ids(rows=1), tiny_architectures.ids(rows=1, length=4, seed=1)]
    expected = []
    for row in rows:
        seen = row
        for _ in range(6):
            seen = torch.cat([seen, logits(model, seen)[:, -1].argmax(-1)[None]], 1)
        expected.append(seen[0, row.shape[1] :].tolist())
    padded = torch.zeros(2, 9, dtype=torch.long)
    mask = torch.zeros_like(padded)
    for number, row in enumerate(rows):
        padded[number, 9 - row.shape[1] :] = row[0]
        mask[number, 9 - row.shape[1] :] = 1
    # No token ends a row early: every id is as good as another here.
    given = model.generate(
        input_ids=padded,
        attention_mask=mask,
        max_new_tokens=6,
        do_sample=False,
        eos_token_id=-1,
        pad_token_id=0,
    )
    assert given[:, 9:].tolist() == expected


@pytest.mark.parametrize("name", ["prompt_tuning", "prefix_tuning", "p_tuning_v2"])
def test_begun_as_a_text_the_model_has_read_that_text(name: str, tiny_model_folder: Path) -> None:
    """Before any step the method is the base behind the text; its length is the number of virtual tokens."""
    base = load_model(ModelSettings(name=str(tiny_model_folder)))
    text = "You are a small model. 你是谁？"
    from weitiao.models.load import load_tokenizer

    tokenizer = load_tokenizer(ModelSettings(name=str(tiny_model_folder)))
    read = tokenizer(text, add_special_tokens=False, return_tensors="pt")["input_ids"]
    ids = torch.arange(5, 14)[None]
    expected = logits(base, torch.cat([read, ids], 1))[:, -9:]
    attached = METHODS.load(name)(init_text=text).attach(base)
    assert attached.config.num_virtual_tokens == read.shape[1]
    torch.testing.assert_close(logits(attached.model, ids)[:, -9:], expected, atol=1e-5, rtol=0)


@every_variant
def test_the_start_follows_from_the_seed_and_needs_no_weights_to_count(variant: str) -> None:
    first, second, other = (attach(variant, seed=seed).state() for seed in (1, 1, 2))
    assert equal(first, second)
    assert not equal(first, other)
    shape = make(variant).attach(weightless(make_config("llama")))
    real = attach(variant)
    assert count_parameters(shape.model) == count_parameters(real.model)
    assert list(shape.trainable()) == list(real.trainable())


def test_a_random_start_is_as_large_as_the_vocabulary() -> None:
    """PEFT draws from N(0, 1), many times the size of real embeddings."""
    model = tiny.make_llama()
    attached = METHODS.load("prompt_tuning")(init="random", num_virtual_tokens=50).attach(model)
    spread = attached.state()["prompt_embeddings"].std() / model.get_input_embeddings().weight.std()
    assert 0.8 < float(spread) < 1.2


@every_variant
def test_bf16_weights_and_bf16_autocast(variant: str) -> None:
    torch.manual_seed(0)
    attached = make(variant).attach(make_model("llama").bfloat16())
    assert all(p.dtype is torch.float32 for p in attached.trainable().values())
    for model in (attached, attach(variant)):
        with Precision(torch.bfloat16).autocast(torch.device("cpu")):
            train(model, steps=1)


@pytest.mark.parametrize("variant", ["p_tuning", "p_tuning-lstm"])
def test_an_encoder_gives_under_autocast_what_is_saved(variant: str) -> None:
    attached = attach(variant)
    attached.model.eval()
    with torch.no_grad(), Precision(torch.bfloat16).autocast(torch.device("cpu")):
        used = attached.model.get_prompt(1)
    assert torch.equal(used[0], attached.state()["prompt_embeddings"])


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("prompt_tuning", {"init": "text"}, "init: text needs"),
        ("prompt_tuning", {"init": "random", "init_text": "a"}, "not used with"),
        ("prompt_tuning", {"num_virtual_tokens": 0}, "num_virtual_tokens"),
        ("p_tuning", {"encoder_num_layers": 3}, "encoder: LSTM, or neither"),
        (
            "p_tuning",
            {"encoder": "LSTM", "encoder_num_layers": 1, "encoder_dropout": 0.1},
            "there is only one",
        ),
        ("prefix_tuning", {"projection": True, "init": "vocabulary"}, "method.projection=false"),
        ("prefix_tuning", {"projection_size": 8}, "projection: true as well"),
    ],
)
def test_settings_that_cannot_be_are_refused(name: str, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        parse_settings(METHODS.load(name), settings)


def test_models_it_cannot_apply_to_are_refused() -> None:
    llama = weightless(make_config("llama"))
    with pytest.raises(ModelError, match="fewer than 64"):
        require_applicable(make("prompt_tuning", num_virtual_tokens=64), llama, llama.config)
    with pytest.raises(ModelError, match="linear_attention"):
        require_applicable(make("prefix_tuning"), llama, AutoConfig.for_model("qwen3_next"))
    with pytest.raises(ModelError, match="compressed keys and values"):
        require_applicable(make("p_tuning_v2"), llama, AutoConfig.for_model("deepseek_v3"))
    require_applicable(make("prompt_tuning"), llama, AutoConfig.for_model("deepseek_v3"))
