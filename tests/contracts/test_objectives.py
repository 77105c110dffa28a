"""What holds for every objective: how a step is cut changes neither its loss nor its gradient, nor what it reports."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import tiny_architectures as tiny
from tiny_objectives import TOYS, OfSequences, Pairs, PairsBesideReference, WholeStep, make_pairs
from tiny_training import largest_difference, make_examples, make_training, weights_of
from weitiao.core.locale import in_language
from weitiao.data.batching.packing import cut_into_packs
from weitiao.data.example import Example
from weitiao.data.forms import FORMS
from weitiao.engine.loop import Training
from weitiao.engine.step import StepResult
from weitiao.engine.two_passes import need_two_passes
from weitiao.evaluation.held_out import measure_held_out
from weitiao.methods._base import Attached
from weitiao.objectives import NOT_YET, OBJECTIVES, known_elsewhere
from weitiao.objectives._base import Objective, SequenceObjective

PAIRS = make_pairs(16, tiny.VOCABULARY)
ROWS = make_examples(16, seed=3, longest=24)
EVERYTHING = 10_000
OBJECTIVE_KINDS = [*(OBJECTIVES.load(name) for name in OBJECTIVES.names()), *TOYS]


def make(
    folder: Path, objective: Objective, pack_tokens: int, architecture: str = "llama", batch_size: int = 4
) -> Training:
    rows = PAIRS if isinstance(objective, SequenceObjective) else ROWS
    settings = {"lr": 1e-2, "eps": 1e-3, "batch_size": batch_size, "pack_tokens": EVERYTHING}
    model = tiny.make_model(architecture, num_hidden_layers=2)
    training = make_training(folder, rows, objective=objective, model=model, **settings)
    training.stepper.pack_tokens = pack_tokens
    return training


def steps(training: Training, count: int = 2) -> list[StepResult]:
    with training.stepper.forward.attention():
        return [training.stepper.apply(training.plan.batch(step), step) for step in range(count)]


@pytest.mark.parametrize("name", OBJECTIVES.names())
def test_it_says_what_it_is(name: str) -> None:
    kind = OBJECTIVES.load(name)
    assert OBJECTIVES.summary(name).endswith((".", ":"))
    assert kind.title and kind.forms and kind.forms <= set(FORMS)
    assert kind(**kind.example).name == name
    assert all(field.description for field in kind.model_fields.values())
    assert kind.lr_factor > 0
    if kind.needs_reference or kind.couples == "step":
        assert issubclass(kind, SequenceObjective), "the engine needs a value for each sequence"


def test_an_objective_that_has_a_file_is_not_called_unsupported() -> None:
    assert not set(OBJECTIVES.known_elsewhere) & set(OBJECTIVES.names())
    for names, meaning in NOT_YET.items():
        for name in names:
            known = known_elsewhere({"sft", name})
            assert name not in known
            for other in set(names) - {name}:
                assert known[other] == (f"of its kind weitiao has {name}", f"objective={name}")
            elsewhere = {one for kind in NOT_YET if kind != names for one in kind}
            assert all(known[one] == known_elsewhere({"sft"})[one] for one in elsewhere)
            assert meaning not in {said for said, _ in known.values()}


def test_the_objectives_of_its_kind_are_named_in_both_languages() -> None:
    meaning, remedy = known_elsewhere({"sft", "dpo", "kto"})["orpo"]
    assert remedy == "objective=dpo or objective=kto"
    said = f"there is no objective called 'orpo': {meaning}"
    assert in_language(said, "zh") == "没有名为 'orpo' 的训练目标：weitiao 有同类的 dpo、kto"


@pytest.mark.parametrize("name", OBJECTIVES.names())
def test_it_reports_the_metrics_that_it_names(name: str, tmp_path: Path) -> None:
    kind = OBJECTIVES.load(name)
    (result,) = steps(make(tmp_path, kind(**kind.example), EVERYTHING), 1)
    assert tuple(result.metrics) == kind.metrics
    assert all(isinstance(value, float) for value in kind(**kind.example).report(result.loss).values())


@pytest.mark.parametrize(
    ("kind", "architecture"),
    [*((kind, "llama") for kind in OBJECTIVE_KINDS), (OBJECTIVES.load("sft"), "bloom"), (Pairs, "bloom")],
    ids=lambda value: value if isinstance(value, str) else value.__name__,
)
def test_cutting_a_step_differently_changes_nothing(
    kind: type[Objective], architecture: str, tmp_path: Path
) -> None:
    whole = make(tmp_path, kind(**kind.example), EVERYTHING, architecture)
    at_once = steps(whole, 1)
    for pack_tokens in (60, 1):
        cut = make(tmp_path, kind(**kind.example), pack_tokens, architecture)
        packs = cut.stepper.forward.cut(cut.plan.batch(0), pack_tokens)
        assert len(packs) > 1
        for one, other in zip(steps(cut, 1), at_once, strict=True):
            assert one.loss == pytest.approx(other.loss, abs=2e-6)
            assert one.metrics == pytest.approx(other.metrics, abs=1e-6)
        assert largest_difference(weights_of(cut), weights_of(whole)) < 1e-6


def test_two_passes_are_made_where_they_are_needed_and_only_there() -> None:
    together, apart = (cut_into_packs(PAIRS[:8], pack_tokens) for pack_tokens in (60, 1))
    one_pack = cut_into_packs(PAIRS[:8], EVERYTHING)
    assert len(together) > 1
    assert not need_two_passes(Pairs(), together) and need_two_passes(Pairs(), apart)
    assert not need_two_passes(WholeStep(), one_pack) and need_two_passes(WholeStep(), together)
    assert not need_two_passes(OBJECTIVES.load("sft")(), apart)


def test_the_sequences_of_an_example_stay_in_one_pack_where_they_fit() -> None:
    for pack_tokens in (40, 60, 100, 200):
        packs = cut_into_packs(PAIRS, pack_tokens)
        assert sum(len(pack.sequences) for pack in packs) == 2 * len(PAIRS)
        assert all(len(pack.ids_T) <= pack_tokens for pack in packs)
        for pack in packs:
            assert len(pack.owners) == 2 * len(pack.examples)


def plain_log_probs(model: nn.Module, example: Example) -> Tensor:
    """Return the log-probabilities of an example's sequences by transformers and torch alone."""
    found = []
    for sequence in example.sequences:
        logits_TV = model(input_ids=torch.tensor([sequence.ids]), use_cache=False).logits[0].float()
        log_probs_TV = logits_TV[:-1].log_softmax(-1)
        own_T = log_probs_TV.gather(1, torch.tensor(sequence.ids[1:])[:, None])[:, 0]
        found.append((own_T * torch.tensor(sequence.weights[1:])).sum())
    return torch.stack(found)


def plain_loss(model: nn.Module, objective: OfSequences, examples: Sequence[Example]) -> Tensor:
    features_S = torch.cat([plain_log_probs(model, example) for example in examples])
    return objective.feature_loss(features_S, examples).sum / len(examples)


@pytest.mark.parametrize("kind", [Pairs, WholeStep])
@pytest.mark.parametrize("pack_tokens", [EVERYTHING, 60, 1])
def test_the_gradient_is_that_of_transformers_on_single_sequences(
    kind: type[OfSequences], pack_tokens: int, tmp_path: Path
) -> None:
    """One step of plain gradient descent, whose moves are the gradient itself."""
    training = make(tmp_path, kind(), pack_tokens)
    stepper, batch = training.stepper, training.plan.batch(0)
    stepper.optimizer = torch.optim.SGD(stepper.parameters.values(), lr=1.0)
    stepper.max_grad_norm = 0.0
    before = weights_of(training)
    loss = plain_loss(stepper.forward.model, kind(), batch)
    loss.backward()
    wanted = {name: p.grad.clone() for name, p in stepper.parameters.items() if p.grad is not None}
    stepper.optimizer.zero_grad()
    (result,) = steps(training, 1)
    moved = {name: before[name] - after for name, after in weights_of(training).items()}
    assert result.loss == pytest.approx(loss.item(), abs=2e-6)
    assert largest_difference(moved, wanted) < 1e-6
    assert max(float(gradient.abs().max()) for gradient in wanted.values()) > 1e-3


def test_a_reference_is_the_model_before_training(tmp_path: Path) -> None:
    """As long as the model is its reference all margins are 0, and the loss is log 2 (0.693147)."""
    training = make(tmp_path, PairsBesideReference(), EVERYTHING, batch_size=8)
    first, *_, last = steps(training, 3)
    assert first.loss == pytest.approx(0.693147, abs=1e-6)
    assert first.metrics == {"accuracy": 0.0}
    assert last.loss < first.loss - 1e-3


@pytest.mark.parametrize(
    ("kind", "pack_tokens"),
    [*((kind, 1) for kind in TOYS), *zip(TOYS, (EVERYTHING, 60, 60, EVERYTHING), strict=True)],
)
def test_training_and_held_out_looks_report_the_same_quantity(
    kind: type[Objective], pack_tokens: int, tmp_path: Path
) -> None:
    training = make(tmp_path, kind(), pack_tokens)
    stepper, batch = training.stepper, training.plan.batch(0)
    with stepper.forward.attention():
        found = measure_held_out(
            stepper.forward, stepper.objective, batch, pack_tokens, reference=stepper.reference
        )
    (result,) = steps(training, 1)
    assert found is not None
    assert found.loss == pytest.approx(result.loss, abs=2e-6)
    assert found.measures == pytest.approx(result.metrics, abs=1e-6)


def test_an_example_drawn_twice_counts_twice(tmp_path: Path) -> None:
    training = make(tmp_path, Pairs(), 1)
    stepper = training.stepper
    with stepper.forward.attention():
        once = measure_held_out(stepper.forward, Pairs(), PAIRS[:1], 1)
        twice = measure_held_out(stepper.forward, Pairs(), [PAIRS[0], PAIRS[0]], 1)
    assert once is not None and twice is not None
    assert [loss for loss, _ in twice.rows] == pytest.approx([once.rows[0][0]] * 2)


def test_a_target_that_two_sequences_share_with_opposite_signs_moves_nothing(tmp_path: Path) -> None:
    """Of a pair whose answers are equal neither is better: the loss is log 2 and its gradient 0."""
    first = PAIRS[0].sequences[0]
    training = make(tmp_path, Pairs(), EVERYTHING)
    before = weights_of(training)
    with training.stepper.forward.attention():
        result = training.stepper.apply([replace(PAIRS[0], sequences=(first, first))], 0)
    assert result.loss == pytest.approx(0.693147, abs=1e-6)
    assert largest_difference(weights_of(training), before) < 1e-7


def test_the_check_of_cutting_would_see_a_loss_that_is_cut_apart(tmp_path: Path) -> None:
    """A step-coupled loss that says it is not: each pack then normalises over its own examples."""

    class CutApart(WholeStep):
        couples = "example"

    whole, cut = (steps(make(tmp_path, CutApart(), tokens), 1)[0] for tokens in (EVERYTHING, 60))
    assert abs(whole.loss - cut.loss) > 1e-3


def test_the_method_is_on_again_after_the_reference(tmp_path: Path) -> None:
    training = make(tmp_path, PairsBesideReference(), EVERYTHING)
    steps(training, 3)
    attached: Attached = training.attached
    assert all(parameter.requires_grad for parameter in attached.trainable().values())
    assert training.stepper.forward.model.training
