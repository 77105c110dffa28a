"""Generation: batches equal single prompts, plain transformers agrees, streams are whole, nothing is disturbed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

import tiny
from weitiao.core.errors import DataError
from weitiao.data.conversation import Message, Prompt
from weitiao.data.templates.template import Template, choose_template
from weitiao.evaluation.generate import Generated, generate, generate_answers, stream
from weitiao.evaluation.settings import GenerationSettings
from weitiao.evaluation.token_draws import Draws

QUESTIONS = ["Hi", "What is LoRA, and what does it add to a frozen layer?", "你是谁？", "x " * 40, "阴阳"]


@pytest.fixture(scope="module")
def model() -> LlamaForCausalLM:
    return tiny.make_llama(seed=3)


@pytest.fixture(scope="module")
def template(chatml_tokenizer: PreTrainedTokenizerFast) -> Template:
    return choose_template(chatml_tokenizer)


def asked(texts: Sequence[str]) -> list[list[Message]]:
    return [[Message("user", text)] for text in texts]


def settings(**changed: Any) -> GenerationSettings:  # noqa: ANN401
    return GenerationSettings(**{"max_new_tokens": 12, **changed})


@pytest.mark.parametrize(
    "changed",
    [
        {},
        {"num_beams": 3},
        {"repetition_penalty": 1.3},
        {"min_new_tokens": 8},
        {"temperature": 1.0},
        {"temperature": 1.5, "top_k": 20, "num_return_sequences": 3},
        {"temperature": 0.7, "top_p": 0.9, "repetition_penalty": 1.3},
        {"temperature": 1.0, "num_beams": 2},
    ],
    ids=str,
)
def test_a_batch_gives_what_each_prompt_gives_alone(
    model: LlamaForCausalLM,
    chatml_tokenizer: PreTrainedTokenizerFast,
    template: Template,
    changed: dict[str, Any],
) -> None:
    chosen = settings(**changed)
    together = generate(model, chatml_tokenizer, template, asked(QUESTIONS), chosen)
    alone = [generate(model, chatml_tokenizer, template, asked([q]), chosen)[0] for q in QUESTIONS]
    assert together == alone
    assert len({answer[0] for answer in together}) > 1, "the prompts should not all give one answer"


def test_greedy_equals_the_plain_argmax_of_the_model(
    model: LlamaForCausalLM, chatml_tokenizer: PreTrainedTokenizerFast, template: Template
) -> None:
    ids = list(template.prompt(asked(QUESTIONS)[1]).ids)
    start = len(ids)
    with torch.inference_mode():
        while len(ids) < start + 12 and ids[-1] not in template.stop_ids:
            ids.append(int(model(torch.tensor([ids])).logits[0, -1].argmax()))
    truth = chatml_tokenizer.decode(ids[start:], skip_special_tokens=True)
    assert generate(model, chatml_tokenizer, template, asked(QUESTIONS), settings())[1] == [truth]


def test_draws_follow_from_the_seed_and_leave_the_random_state(
    model: LlamaForCausalLM, chatml_tokenizer: PreTrainedTokenizerFast, template: Template
) -> None:
    def draw(seed: int) -> list[list[str]]:
        chosen = settings(temperature=1.0, top_p=0.95, num_return_sequences=2, seed=seed)
        return generate(model, chatml_tokenizer, template, asked(QUESTIONS[:2]), chosen)

    state = torch.get_rng_state()
    first = draw(1)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(99)
    assert draw(1) == first
    assert draw(2) != first
    assert all(len(answers) == 2 and answers[0] != answers[1] for answers in first)


def test_draws_have_the_models_distribution() -> None:
    """Of 4,000 draws as many are of each token as its probability says, within four standard deviations."""
    scores_V = torch.tensor([2.0, 1.0, 0.0, -1.0, -20.0])
    prompts = [Prompt((number,)) for number in range(1000)]
    drawn = Draws(settings(temperature=2.0, num_return_sequences=4), prompts)
    chosen = drawn(torch.zeros(4000, 1), scores_V.repeat(4000, 1)).argmax(-1)
    wanted = 4000 * (scores_V / 2).softmax(-1)
    off = (torch.bincount(chosen, minlength=5) - wanted).abs()
    assert bool((off <= 4 * wanted.sqrt() + 1).all())
    few = Draws(settings(temperature=2.0, top_k=2), prompts[:500])
    assert set(few(torch.zeros(500, 1), scores_V.repeat(500, 1)).argmax(-1).tolist()) == {0, 1}


def test_a_token_without_an_embedding_is_named(
    chatml_tokenizer: PreTrainedTokenizerFast, template: Template
) -> None:
    """A tokenizer with more tokens than the model has embeddings; only a text that has such a token is refused."""
    fitting, beyond = (max(template.prompt(asked([text])[0]).ids) for text in ("7", "What is LoRA?"))
    model = tiny.make_llama(vocab_size=beyond)
    assert fitting < beyond
    for answers in (
        lambda: generate(model, chatml_tokenizer, template, asked(["7", "What is LoRA?"]), settings()),
        lambda: list(stream(model, chatml_tokenizer, template, asked(["What is LoRA?"])[0], settings())),
    ):
        with pytest.raises(DataError, match=rf"is id {beyond}, in the conversation"):
            answers()
    assert generate(model, chatml_tokenizer, template, asked(["7"]), settings())


def test_the_models_mode_is_as_before(chatml_tokenizer: PreTrainedTokenizerFast, template: Template) -> None:
    model = tiny.make_llama()
    model.train()
    model.model.layers[0].eval()
    before = [module.training for module in model.modules()]
    generate(model, chatml_tokenizer, template, asked(["Hi"]), settings())
    "".join(stream(model, chatml_tokenizer, template, asked(["Hi"])[0], settings()))
    assert [module.training for module in model.modules()] == before


@pytest.mark.parametrize("question", QUESTIONS)
@pytest.mark.parametrize("changed", [{"max_new_tokens": 20}, {"temperature": 1.0, "max_new_tokens": 20}])
def test_a_stream_joins_to_the_answer(
    model: LlamaForCausalLM,
    chatml_tokenizer: PreTrainedTokenizerFast,
    template: Template,
    question: str,
    changed: dict[str, Any],
) -> None:
    whole = generate(model, chatml_tokenizer, template, asked([question]), settings(**changed))[0][0]
    pieces = list(stream(model, chatml_tokenizer, template, asked([question])[0], settings(**changed)))
    assert "".join(pieces) == whole
    assert len(pieces) > 1


def test_stop_texts_cut_the_answer_and_its_stream(
    model: LlamaForCausalLM, chatml_tokenizer: PreTrainedTokenizerFast, template: Template
) -> None:
    whole = generate(model, chatml_tokenizer, template, asked(QUESTIONS), settings(max_new_tokens=40))[1][0]
    stop = whole[6:9]
    chosen = settings(max_new_tokens=40, stop=["never there", stop])
    answers = generate(model, chatml_tokenizer, template, asked(QUESTIONS), chosen)
    assert answers[1][0] == whole[: whole.index(stop)]
    assert "".join(stream(model, chatml_tokenizer, template, asked(QUESTIONS)[1], chosen)) == answers[1][0]
    assert not any(stop in text for answer in answers for text in answer)


class CountingLlama(LlamaForCausalLM):
    """Counts how often it is run."""

    runs = 0

    def forward(self, *arguments: Any, **keywords: Any) -> Any:  # noqa: ANN401
        self.runs += 1
        return super().forward(*arguments, **keywords)


@pytest.fixture
def counting() -> CountingLlama:
    made = tiny.make_llama(seed=3)
    counted = CountingLlama(made.config)
    counted.load_state_dict(made.state_dict())
    return counted.eval()


def test_a_stop_text_ends_generation_and_not_only_the_text(
    counting: CountingLlama, chatml_tokenizer: PreTrainedTokenizerFast, template: Template
) -> None:
    whole = generate(counting, chatml_tokenizer, template, asked(["Hi"]), settings(max_new_tokens=60))[0][0]
    all_runs, counting.runs = counting.runs, 0
    generate(
        counting, chatml_tokenizer, template, asked(["Hi"]), settings(max_new_tokens=60, stop=[whole[2:5]])
    )
    assert counting.runs < all_runs / 2


def test_closing_a_stream_ends_generation(
    counting: CountingLlama, chatml_tokenizer: PreTrainedTokenizerFast, template: Template
) -> None:
    chosen = settings(max_new_tokens=400, min_new_tokens=400)
    pieces = stream(counting, chatml_tokenizer, template, asked(["Hi"])[0], chosen)
    next(pieces)
    pieces.close()
    assert counting.runs < 200
    assert not counting.training


def test_somebody_else_can_end_generation(
    counting: CountingLlama, chatml_tokenizer: PreTrainedTokenizerFast, template: Template
) -> None:
    chosen = settings(max_new_tokens=400, min_new_tokens=400)
    answers = generate(
        counting, chatml_tokenizer, template, asked(["Hi"] * 20), chosen, lambda: counting.runs >= 3
    )
    assert counting.runs == 3
    assert answers[0][0]
    assert answers[-1] == [""]


class BrokenLlama(LlamaForCausalLM):
    """Cannot be run."""

    def forward(self, *arguments: Any, **keywords: Any) -> Any:  # noqa: ANN401
        raise FloatingPointError("broken on purpose")


def test_an_error_while_streaming_reaches_the_reader(
    chatml_tokenizer: PreTrainedTokenizerFast, template: Template
) -> None:
    broken = BrokenLlama(tiny.make_llama().config).eval()
    with pytest.raises(FloatingPointError, match="on purpose"):
        list(stream(broken, chatml_tokenizer, template, asked(["Hi"])[0], settings()))


def test_a_conversation_longer_than_the_context_is_refused(
    model: LlamaForCausalLM, chatml_tokenizer: PreTrainedTokenizerFast, template: Template
) -> None:
    with pytest.raises(DataError, match="fewer than 512 tokens"):
        generate(model, chatml_tokenizer, template, asked(["x" * 2000]), settings())


def test_an_answer_ends_where_the_context_ends(
    counting: CountingLlama, chatml_tokenizer: PreTrainedTokenizerFast, template: Template
) -> None:
    question = asked(["鑫" * 155])
    tokens = len(template.prompt(question[0]).ids)
    assert 470 < tokens < 512
    chosen = settings(max_new_tokens=300, min_new_tokens=300)
    generate(counting, chatml_tokenizer, template, question, chosen)
    assert counting.runs == 512 - tokens


@pytest.mark.parametrize("narrowed", [{"top_k": 1}, {"top_p": 1e-6}, {"temperature": 1e-4}])
def test_draws_from_the_likeliest_token_alone_are_greedy(
    model: LlamaForCausalLM,
    chatml_tokenizer: PreTrainedTokenizerFast,
    template: Template,
    narrowed: dict[str, Any],
) -> None:
    greedy = generate(model, chatml_tokenizer, template, asked(QUESTIONS), settings())
    chosen = settings(**{"temperature": 1.0, **narrowed})
    assert generate(model, chatml_tokenizer, template, asked(QUESTIONS), chosen) == greedy


def test_an_answer_that_may_not_be_longer_is_called_cut(
    model: LlamaForCausalLM, chatml_tokenizer: PreTrainedTokenizerFast, template: Template
) -> None:
    def answers(**changed: Any) -> list[Generated]:  # noqa: ANN401
        given = generate_answers(model, chatml_tokenizer, template, asked(QUESTIONS), settings(**changed))
        return [own[0] for own in given]

    short, long = answers(), answers(max_new_tokens=60)
    for one, whole in zip(short, long, strict=True):
        assert one.cut == (one.text != whole.text)
        assert whole.text.startswith(one.text)
    assert any(one.cut for one in short)
    text = next(one.text for one in short if one.cut)
    stopped = answers(stop=[text[2:5]])
    assert not stopped[[one.text for one in short].index(text)].cut, "a stop text ended it"


def test_how_far_answering_is_only_grows_to_the_end(
    model: LlamaForCausalLM, chatml_tokenizer: PreTrainedTokenizerFast, template: Template
) -> None:
    told: list[tuple[float, float]] = []
    generate_answers(
        model, chatml_tokenizer, template, asked(QUESTIONS), settings(),
        on_progress=lambda done, total: told.append((done, total)),
    )  # fmt: skip
    done = [part for part, _ in told]
    assert done == sorted(done) and done[-1] == len(QUESTIONS)
    assert {total for _, total in told} == {len(QUESTIONS)} and len(told) > len(QUESTIONS)
