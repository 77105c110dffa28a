"""Toy objectives for tests of the objective interface: pairwise terms, whole-step terms, a reference."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid, normalize

from weitiao.data.example import Example, TokenSequence
from weitiao.objectives._base import Couples, LossSum, SequenceObjective
from weitiao.objectives._log_probs import sequence_log_probs
from weitiao.objectives._outputs import Outputs


class OfSequences(SequenceObjective):
    """Base of the toys: features are sequence log-probabilities, and each example has weight 1."""

    title: ClassVar[str] = "toy"
    forms: ClassVar[frozenset[str]] = frozenset({"preference"})

    def weight(self, examples: Sequence[Example]) -> float:
        return float(sum(example.trained_tokens > 0 for example in examples))

    def features(self, outputs: Outputs) -> Tensor:
        return sequence_log_probs(outputs)


class Pairs(OfSequences):
    """-log sigmoid(0.1 * (log p(first) - log p(second))) for each pair, the core of SimPO and DPO."""

    metrics: ClassVar[tuple[str, ...]] = ("accuracy",)

    def feature_loss(
        self, features_S: Tensor, examples: Sequence[Example], reference: Tensor | None = None
    ) -> LossSum:
        better_E, worse_E = (features_S - (0 if reference is None else reference)).reshape(-1, 2).T
        margins_E = better_E - worse_E
        return LossSum(-logsigmoid(0.1 * margins_E).sum(), {"accuracy": (margins_E > 0).float().sum()})


class PairsBesideReference(Pairs):
    """The same, on differences to the log-probabilities before training."""

    needs_reference: ClassVar[bool] = True

    def feature_loss(
        self, features_S: Tensor, examples: Sequence[Example], reference: Tensor | None = None
    ) -> LossSum:
        if reference is None:
            raise ValueError("there is no reference")
        return super().feature_loss(features_S, examples, reference)


class WholeStep(OfSequences):
    """Each example against all others of the step: -log softmax over examples of 0.1 * log p(first)."""

    couples: ClassVar[Couples] = "step"

    def feature_loss(
        self, features_S: Tensor, examples: Sequence[Example], reference: Tensor | None = None
    ) -> LossSum:
        first = torch.tensor([0, *[len(example.sequences) for example in examples]]).cumsum(0)[:-1]
        return LossSum(-(0.1 * features_S[first]).log_softmax(0).sum())


class Embeddings(OfSequences):
    """InfoNCE with in-batch negatives: an example's first sequence must match its own second among all seconds."""

    couples: ClassVar[Couples] = "step"

    def features(self, outputs: Outputs) -> Tensor:
        return outputs.sums_S(outputs.hidden_PD[outputs.rows_K])

    def feature_loss(
        self, features_S: Tensor, examples: Sequence[Example], reference: Tensor | None = None
    ) -> LossSum:
        first_ED, second_ED = normalize(features_S, dim=-1).reshape(len(examples), 2, -1).unbind(1)
        return LossSum(-(first_ED @ second_ED.T).log_softmax(-1).diagonal().sum())


TOYS = (Pairs, PairsBesideReference, WholeStep, Embeddings)


def make_pairs(count: int, vocabulary: int, seed: int = 0) -> list[Example]:
    """Return examples of two sequences with a common prompt. Every second example starts with the same header; in every
    third the answers share a prefix, so that trained targets are shared."""
    generator = torch.Generator().manual_seed(seed)

    def draw(length: int) -> tuple[int, ...]:
        return tuple(torch.randint(3, vocabulary, (length,), generator=generator).tolist())

    header = draw(9)
    examples = []
    for number in range(1, count + 1):
        prompt = (header if number % 2 else ()) + draw(8 + number % 3)
        alike = draw(3) if number % 3 == 0 else ()
        answers = [alike + draw(4 + number % 4), alike + draw(2 + number % 5)]
        sequences = tuple(
            TokenSequence(prompt + answer, (0.0,) * len(prompt) + (1.0,) * len(answer)) for answer in answers
        )
        examples.append(Example(sequences, f"pairs.json:{number}"))
    return examples
