"""AdaLoRA: its budget driven by the loop, its penalty PEFT's own, its memory kept in checkpoints."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from peft import AdaLoraConfig, PeftModel, get_peft_model

import tiny_architectures as tiny
from tiny_training import equal, last_state, make_examples, make_training, sequence_of, weights_of
from weitiao.core.errors import ModelError, SettingsError
from weitiao.core.settings import parse_settings
from weitiao.methods._peft.attached import load_adapter
from weitiao.methods.adalora import AdaLora

SETTINGS = {"name": "adalora", "init_r": 6, "target_r": 3, "tinit": 2, "tfinal": 3}


def logits(model: torch.nn.Module) -> torch.Tensor:
    model.eval()
    with torch.no_grad():
        return model(tiny.ids()).logits


def test_the_penalty_is_what_peft_adds_to_a_loss_with_labels() -> None:
    attached = AdaLora(orth_reg_weight=0.3).attach(tiny.make_model("llama"))
    ids = tiny.ids()
    with_penalty = attached.model(ids, labels=ids).loss
    without = attached.model.get_base_model()(ids, labels=ids).loss
    penalty = attached.penalty()
    assert penalty is not None and float(penalty) > 0.1
    torch.testing.assert_close(penalty, with_penalty - without, atol=1e-6, rtol=0)
    assert AdaLora(orth_reg_weight=0).attach(tiny.make_model("llama")).penalty() is None


def test_the_loop_cuts_the_budget_as_plain_peft_does(tmp_path: Path) -> None:
    """The same steps by hand, with PEFT's own loss and its allocator called after every update."""
    examples = make_examples(8, shortest=6, longest=6)
    plain = {"scheduler": "constant", "weight_decay": 0, "max_grad_norm": 0, "warmup_steps": 0}
    training = make_training(
        tmp_path, examples, method=SETTINGS, layers=3, steps=10, batch_size=8, lr=1e-2, **plain
    )
    first = {n: t.clone() for n, t in weights_of(training).items()}
    training.run()

    settings = AdaLoraConfig(init_r=6, target_r=3, lora_alpha=32, tinit=2, tfinal=3, total_step=10,
                             target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM")  # fmt: skip
    peft = get_peft_model(tiny.make_model("llama"), settings)
    parameters = {n: p for n, p in peft.named_parameters() if p.requires_grad}
    for name, parameter in parameters.items():
        parameter.data.copy_(first[name])
    optimizer = torch.optim.AdamW(parameters.values(), lr=1e-2, weight_decay=0)
    sequences = [sequence_of(example) for example in examples]
    ids = torch.tensor([one.ids for one in sequences])
    trained = torch.tensor([one.weights for one in sequences]) > 0
    for step in range(10):
        optimizer.zero_grad()
        peft(ids, labels=torch.where(trained, ids, -100)).loss.backward()
        optimizer.step()
        peft.base_model.update_and_allocate(step)
    ours = weights_of(training)
    assert max(float((ours[n] - p).abs().max()) for n, p in parameters.items()) < 1e-4
    kept = sum(int(t.count_nonzero()) for n, t in ours.items() if "lora_E" in n)
    assert kept == 3 * 6  # target_r in each of six layers


def test_resume_is_bit_exact_in_every_phase(tmp_path: Path) -> None:
    """Before the first cut, between cuts, and where the mask stays."""
    examples = make_examples(24)
    plan = {"steps": 10, "batch_size": 3, "save_every": 1, "keep_checkpoints": 20, "method": SETTINGS}
    whole = make_training(tmp_path / "whole", examples, **plan)
    whole.run()
    for step in (1, 5, 8):
        folder = tmp_path / f"from-{step}"
        again = make_training(folder, examples, **plan)
        again.resume(tmp_path / "whole" / "checkpoints" / f"step-{step:08d}")
        again.run()
        assert equal(weights_of(again), weights_of(whole))
        assert last_state(folder) == last_state(tmp_path / "whole")
        for name in [f"step-{later:08d}" for later in range(step + 1, 10)]:
            files = [p / "checkpoints" / name / "extra.safetensors" for p in (folder, tmp_path / "whole")]
            assert files[0].read_bytes() == files[1].read_bytes()
        shutil.rmtree(folder)


def test_after_the_cuts_plain_peft_answers_bit_equal(tmp_path: Path) -> None:
    training = make_training(
        tmp_path / "run", make_examples(24), method=SETTINGS, layers=3, steps=10, batch_size=3
    )
    training.run()
    trained = logits(training.attached.model)
    training.attached.save(tmp_path / "adapter")
    loaded = PeftModel.from_pretrained(tiny.make_model("llama"), str(tmp_path / "adapter"))
    assert torch.equal(logits(loaded), trained)
    torch.testing.assert_close(logits(training.attached.merge()), trained, atol=1e-5, rtol=0)


def test_it_trains_on_from_a_saved_adapter_with_a_schedule_of_its_own(tmp_path: Path) -> None:
    first = make_training(
        tmp_path / "run", make_examples(24), method=SETTINGS, layers=3, steps=10, batch_size=3
    )
    first.run()
    first.attached.save(tmp_path / "adapter")
    method = AdaLora(init_r=6, target_r=3)
    again = method.continue_from(tiny.make_model("llama"), tmp_path / "adapter")
    again.starts(20)
    assert (again.config.total_step, again.config.tinit, again.config.tfinal) == (20, 2, 6)
    assert torch.equal(logits(again.model), logits(first.attached.model))
    with pytest.raises(ModelError, match="init_r"):
        AdaLora(init_r=7, target_r=3).continue_from(tiny.make_model("llama"), tmp_path / "adapter")


def test_an_adapter_whose_ranks_are_cut_out_is_not_trained_on(tmp_path: Path) -> None:
    attached = AdaLora(init_r=6, target_r=3).attach(tiny.make_model("llama"))
    attached.config.rank_pattern = {
        n: [True] * 3 + [False] * 3
        for n, _ in attached.model.get_base_model().named_parameters()
        if ".lora_E." in n
    }
    attached.model.save_pretrained(tmp_path)  # as plain PEFT saves it
    assert load_adapter(tiny.make_model("llama"), tmp_path).state()
    with pytest.raises(ModelError, match="ranks that were cut"):
        AdaLora(init_r=6, target_r=3).continue_from(tiny.make_model("llama"), tmp_path)


def test_a_run_too_short_for_its_schedule_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"10 steps, tinit: 6, tfinal: 4(.|\n)*below the number of steps"):
        make_training(
            tmp_path, make_examples(10), method={"name": "adalora", "tinit": 6, "tfinal": 4}, steps=10
        )
    make_training(tmp_path, make_examples(10), method={"name": "adalora", "tinit": 5, "tfinal": 4}, steps=10)


def test_biases_train_and_are_put_back() -> None:
    base = logits(tiny.make_model("qwen2"))
    attached = AdaLora(bias="lora_only").attach(tiny.make_model("qwen2"))
    assert any(name.endswith(".bias") for name in attached.trainable())
    for parameter in attached.trainable().values():
        parameter.data += 0.1
    assert not torch.allclose(logits(attached.model), base, atol=1e-2)
    with attached.disabled():
        assert torch.equal(logits(attached.model), base)


def test_ranks_that_would_grow_are_refused() -> None:
    with pytest.raises(SettingsError, match=r"target_r \(8\) must be below init_r \(8\)"):
        parse_settings(AdaLora, {"init_r": 8, "target_r": 8})
