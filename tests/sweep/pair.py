"""One method on one architecture: what weitiao does is compared with single unpadded samples, step by step."""

from __future__ import annotations

import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

import tiny
from sweep import zoo
from tiny_training import (
    LINEAR,
    behind,
    equal,
    last_state,
    make_examples,
    make_training,
    sequence_of,
    weights_of,
)
from weitiao.core.errors import ModelError, WeitiaoError
from weitiao.core.events import Event, Listener
from weitiao.data.conversation import Message
from weitiao.data.example import Example
from weitiao.data.templates.template import choose_template
from weitiao.engine.checkpoint import list_checkpoints
from weitiao.engine.loop import Training
from weitiao.engine.optim.optimizers import build_optimizer
from weitiao.engine.optim.schedules import build_schedule
from weitiao.evaluation.generate import generate
from weitiao.evaluation.settings import GenerationSettings
from weitiao.methods import METHODS
from weitiao.methods._alternatives import require_applicable
from weitiao.methods._base import Attached, Method
from weitiao.models.load import load_model, load_weightless
from weitiao.models.settings import ModelSettings

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

STEPS = 12
"""AdaLoRA warms up, allots and settles within these."""
STOPPED_AFTER = 8
SEED = 42
"""The default of train.seed."""
LR = 1e-3
TOLERANCE = 2e-5
"""How far a loss may lie from that of single samples, as a share of it: rounding in fp32."""
MERGE_TOLERANCE = 1e-4
"""How far merged logits may lie from the adapter's, as a share of their spread."""
FP64_TOLERANCE = 1e-9
"""The same in fp64, for models that rounding in fp32 takes further."""
QUESTIONS = ("Hi", "What is LoRA, and what does it add to a frozen layer?", "你是谁？今天天气很好。")


@dataclass
class Verdict:
    """What was found of a pair."""

    method: str
    architecture: str
    way: str = ""
    """How examples go through: packed, one by one, or refused."""
    reason: str = ""
    """Why it was refused, or why transformers made no small model."""
    got: str = ""
    """What it was that was refused."""
    loss: str = ""
    merge: str = ""
    resume: str = ""
    batch: str = ""
    saved: str = ""
    """Whether plain peft or transformers read what was saved, and it answers the same."""
    further: str = ""
    """Whether a saved adapter is trained further."""
    faults: list[str] = field(default_factory=list)
    seconds: float = 0.0


def check(method: str, architecture: str) -> Verdict:
    """Return what is found of a pair; whatever goes wrong is one of its faults."""
    verdict, started = Verdict(method, architecture), time.monotonic()
    try:
        with tempfile.TemporaryDirectory(prefix="weitiao-sweep-") as folder:
            Pair(verdict, Path(folder)).run()
    except WeitiaoError as error:
        first = error.problems[0]
        verdict.way, verdict.reason, verdict.got = "refused", first.what, first.got[:300]
    except Exception as error:  # noqa: BLE001  (a sweep goes on, whatever one pair does)
        verdict.faults.append(_where(error))
    verdict.reason, verdict.got = (text.replace(folder, "MODEL") for text in (verdict.reason, verdict.got))
    verdict.faults = [text.replace(folder, "MODEL") for text in verdict.faults]
    verdict.seconds = round(time.monotonic() - started, 2)
    return verdict


def _where(error: BaseException) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    own = next((f for f in reversed(frames) if "/weitiao/" in f.filename), frames[-1])
    first = str(error).strip().splitlines()[:1]
    place = f"{Path(own.filename).name}:{own.lineno}, {Path(frames[-1].filename).name}:{frames[-1].lineno}"
    return f"{type(error).__name__}: {' '.join(first)[:200]} ({place})"


@dataclass
class Pair:
    """The comparisons of one pair, whose files are kept in a folder."""

    verdict: Verdict
    folder: Path
    reads_back: bool = True
    """Whether transformers reads what it saved as it was; Youtu's embedding of the padding is set to zero."""

    def run(self) -> None:
        """Fill the verdict; raises WeitiaoError where the method refuses the architecture."""
        if not self._made():
            return
        shape = load_weightless(self._settings)
        require_applicable(self._method, shape, shape.config)
        planned = list(self._method.plan(shape).trainable())
        straight, losses = self.trained()
        attached = straight.attached
        if list(attached.trainable()) != planned:
            self.verdict.faults.append("plan: a weightless model has other trained parameters")
        self.verdict.way = "packed" if straight.stepper.forward.options.packs else "one by one"
        self._stage("loss", lambda: self.same_losses(straight, losses))
        self._stage("resume", lambda: self._resumed(straight))
        self._stage("batch", lambda: self._same_in_batch(attached))
        self._stage("saved", lambda: self._saved(attached))
        self._stage("further", lambda: self._further(attached))
        self._stage("merge", lambda: self._merged(attached))

    def trained(self) -> tuple[Training, list[float]]:
        """Return a training that has run to its end, and the losses of its first two steps."""
        losses: list[float] = []

        def keep(event: Event) -> None:
            if event["event"] == "step":
                losses.append(event["loss"])

        training = self._training("straight", keep)
        training.run()
        return training, losses[:2]

    def _made(self) -> bool:
        """Write the base; where transformers makes no small model of this architecture, the verdict says why."""
        try:
            model = zoo.make_model(self.verdict.architecture)
            logits(model)
            model.save_pretrained(self.folder / "base")
            again = load_model(self._settings)
            self.reads_back = torch.equal(logits(again), logits(model))
        except Exception as error:  # noqa: BLE001  (whatever keeps an architecture from being made small)
            self.verdict.way, self.verdict.reason = "not made", _where(error)
        return self.verdict.way != "not made"

    def _stage(self, name: str, look: Callable[[], str]) -> None:
        """Write down what one comparison found; an error of its own is a fault, and the next goes on."""
        try:
            found = look()
        except Exception as error:  # noqa: BLE001  (a sweep goes on, whatever one comparison does)
            found = f"FAULT {_where(error)}"
        setattr(self.verdict, name, found.removeprefix("FAULT "))
        if found.startswith("FAULT"):
            self.verdict.faults.append(f"{name}: {found.removeprefix('FAULT ')}")

    @property
    def _settings(self) -> ModelSettings:
        return ModelSettings(name=str(self.folder / "base"), dtype="fp32")

    @property
    def _method(self) -> Method:
        kind = METHODS.load(self.verdict.method)
        return kind(**kind.example)

    def _model(self) -> PreTrainedModel:
        return load_model(self._settings)

    def _training(self, name: str, *listeners: Listener) -> Training:
        kind = METHODS.load(self.verdict.method)
        return make_training(
            self.folder / name,
            _examples(),
            method={"name": self.verdict.method, **kind.example},
            model=self._model(),
            listeners=listeners,
            lr=LR,
            steps=STEPS,
            batch_size=3,
            save_every=STOPPED_AFTER,
            keep_checkpoints=STEPS,
        )

    def same_losses(self, straight: Training, found: Sequence[float]) -> str:
        """Compare the losses of a training's first steps with those of single samples."""
        batches = [straight.plan.batch(step) for step in range(len(found))]
        wanted, redrawn = (self._plain_losses(batches, draws) for draws in (0, 1))
        # Where a method draws in its forward, only what comes before the first update can be the same.
        compared = len(found) if wanted == redrawn else 1
        worst = max(
            abs(a - b) / max(abs(b), 1e-6) for a, b in list(zip(found, wanted, strict=True))[:compared]
        )
        if worst > TOLERANCE:
            return f"FAULT {worst:.1e}: {found} instead of {wanted}"
        return f"{worst:.1e}" if compared > 1 else f"{worst:.1e} in the first step; the method draws"

    def _plain_losses(self, batches: Sequence[Sequence[Example]], draws: int) -> list[float]:
        model = self._model()  # which may draw, so it comes before the seed
        torch.manual_seed(SEED)
        attached = self._method.attach(model)
        self._method.prepare(attached.model, iter(()))
        torch.manual_seed(draws)
        return plain_losses(attached, batches, STEPS)

    def _resumed(self, straight: Training) -> str:
        saved = {
            int(p.name.partition("-")[2]): p
            for p in list_checkpoints(self.folder / "straight" / "checkpoints")
        }
        resumed = self._training("resumed")
        resumed.resume(saved[STOPPED_AFTER])
        resumed.run()
        same = equal(weights_of(resumed), weights_of(straight))
        same = same and last_state(self.folder / "resumed") == last_state(self.folder / "straight")
        return "same" if same else "FAULT other weights"

    def _same_in_batch(self, attached: Attached) -> str:
        tokenizer = tiny.make_tokenizer()
        template = choose_template(tokenizer)
        asked = [[Message("user", text)] for text in QUESTIONS]
        settings = GenerationSettings(max_new_tokens=8, min_new_tokens=8)
        try:
            together = generate(attached.model, tokenizer, template, asked, settings)
        except Exception:
            if self._base_generates():
                raise
            return "transformers' own generation fails"
        alone = [generate(attached.model, tokenizer, template, [one], settings)[0] for one in asked]
        if together != alone:
            return f"FAULT {sum(a != b for a, b in zip(together, alone, strict=True))} of {len(asked)} answers differ"
        if _uncached(attached, tokenizer, asked) == alone:
            return "same"
        base = load_model(self._settings)
        cached = [generate(base, tokenizer, template, [one], settings)[0] for one in asked]
        plain = METHODS.load("full")().attach(base)
        if _uncached(plain, tokenizer, asked) != cached:
            return "same; transformers' cache changes the base's answers too"
        if not attached.virtual_tokens and _by_transformers(attached, tokenizer, asked) == alone:
            return "same; transformers' cache changes answers"
        return "FAULT answers differ from those without a cache"

    def _base_generates(self) -> bool:
        """Return whether the base itself, without weitiao, generates from one unpadded row."""
        try:
            load_model(self._settings).generate(torch.arange(3, 9)[None], max_new_tokens=8, min_new_tokens=8)
        except Exception:  # noqa: BLE001  (whatever its own code raises)
            return False
        return True

    def _saved(self, attached: Attached) -> str:
        from peft import PeftModel
        from transformers import AutoModelForCausalLM

        folder, wanted = self.folder / "saved", own_logits(attached)
        attached.save(folder)
        wanted = own_logits(attached)  # diff pruning prunes when it is saved
        if attached.saves_whole_model:
            return self._difference(AutoModelForCausalLM.from_pretrained(folder).eval(), wanted)
        base = AutoModelForCausalLM.from_pretrained(self.folder / "base")
        return self._difference(PeftModel.from_pretrained(base, folder).eval(), wanted)

    def _difference(self, model: nn.Module, wanted: Tensor) -> str:
        found = logits(model)[:, -wanted.shape[1] :]
        worst = float((found - wanted).abs().max()) / max(1.0, float(wanted.std()))
        if worst > TOLERANCE and not self.reads_back:
            return "transformers reads its own models back as others"
        return f"{worst:.1e}" if worst <= TOLERANCE else f"FAULT {worst:.1e}"

    def _further(self, attached: Attached) -> str:
        try:
            again = self._method.continue_from(self._model(), self.folder / "saved")
        except ModelError as refusal:
            return f"refused: {refusal.problems[0].what}"
        return self._difference(again.model, own_logits(attached))

    def _merged(self, attached: Attached) -> str:
        from transformers import AutoModelForCausalLM

        unmerged = own_logits(attached)
        try:
            merged = attached.merge()
        except ModelError as refusal:
            same = torch.equal(own_logits(attached), unmerged)
            what = refusal.problems[0].what
            return f"refused: {what}" if same else f"FAULT refused, and the model is another: {what}"
        spread = max(1.0, float(unmerged.std()))
        worst = float((logits(merged) - unmerged).abs().max()) / spread
        if not worst <= MERGE_TOLERANCE:
            exact = self._merged_in_fp64()
            return f"{worst:.1e}, {exact:.1e} in fp64" if exact <= FP64_TOLERANCE else f"FAULT {worst:.1e}"
        merged.save_pretrained(self.folder / "merged")
        again, info = AutoModelForCausalLM.from_pretrained(self.folder / "merged", output_loading_info=True)
        lost = {key: sorted(names)[:2] for key, names in info.items() if names and key.endswith("keys")}
        if lost:
            return f"FAULT read back: {lost}"
        worst = max(worst, float((logits(again.eval()) - unmerged).abs().max()) / spread)
        if worst > MERGE_TOLERANCE and not self.reads_back:
            return "transformers reads its own models back as others"
        return f"{worst:.1e}" if worst <= MERGE_TOLERANCE else f"FAULT read back {worst:.1e}"

    def _merged_in_fp64(self) -> float:
        """Return how far merged logits lie from the adapter's in fp64, where rounding plays no part."""
        attached = self.trained()[0].attached
        attached.model.double()
        unmerged = own_logits(attached)
        return float((logits(attached.merge().double()) - unmerged).abs().max()) / float(unmerged.std())


def _examples() -> list[Example]:
    """Return nine examples, two of which begin alike, so that packs share."""
    made = make_examples(9, seed=2)
    header = Example.of(tuple(range(3, 43)), (0.0,) * 40, "")
    return [
        *made[:7],
        *(behind(header, example) for example in made[7:]),
    ]


def plain_losses(attached: Attached, batches: Sequence[Sequence[Example]], steps: int) -> list[float]:
    """Return the losses of steps made with plain forwards of one unpadded sample each."""
    from weitiao.engine.settings import TrainSettings

    settings = TrainSettings(lr=LR, steps=steps, **LINEAR)
    attached.starts(steps)
    parameters = attached.trainable()
    optimizer = build_optimizer(parameters, attached.fast_parameters(), settings, LR)
    schedule = build_schedule(optimizer, settings, steps)
    attached.model.train()
    losses = []
    for step, examples in enumerate(batches):
        optimizer.zero_grad()
        weight = sum(example.loss_weight for example in examples)
        parts = [plain_loss(attached, example) / weight for example in examples if example.trained_tokens]
        loss = sum(parts[1:], parts[0])
        penalty = attached.penalty()
        loss = loss if penalty is None else loss + penalty
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters.values(), settings.max_grad_norm)
        optimizer.step()
        attached.after_update(step)
        schedule.step()
        losses.append(float(loss.detach()))
    return losses


def plain_loss(attached: Attached, example: Example) -> Tensor:
    """Return the weighted sum of one sample's losses, from the model's own forward and nothing of the engine's."""
    one = sequence_of(example)
    ids_T = torch.tensor(one.ids)
    logits_TV = attached.model(input_ids=ids_T[None], use_cache=False).logits[0, attached.virtual_tokens :]
    losses_T = nn.functional.cross_entropy(logits_TV[:-1].float(), ids_T[1:], reduction="none")
    return (losses_T * torch.tensor(one.weights[1:])).sum()


@torch.no_grad()
def logits(model: nn.Module, ids: Tensor | None = None) -> Tensor:
    """Return the logits of a row, all positions."""
    model.eval()
    ids_1T = torch.arange(3, 33)[None] * 11 % zoo.VOCABULARY if ids is None else ids
    found: Tensor = model(input_ids=ids_1T, use_cache=False).logits
    return found


def own_logits(attached: Attached, ids: Tensor | None = None) -> Tensor:
    """Return the logits of the text's own tokens, behind any virtual ones."""
    return logits(attached.model, ids)[:, attached.virtual_tokens :]


def _uncached(
    attached: Attached, tokenizer: PreTrainedTokenizerBase, asked: Sequence[Sequence[Message]]
) -> list[list[str]]:
    prompts = [choose_template(tokenizer).prompt(one) for one in asked]
    return [[greedy(attached, prompt.ids, 8, tokenizer)] for prompt in prompts]


def _by_transformers(
    attached: Attached, tokenizer: PreTrainedTokenizerBase, asked: Sequence[Sequence[Message]]
) -> list[list[str]]:
    """Return what transformers' own generation answers to one unpadded row at a time."""
    from weitiao.evaluation.stop_strings import decoded

    answers = []
    for one in asked:
        ids_1T = torch.tensor([choose_template(tokenizer).prompt(one).ids])
        found = attached.model.generate(input_ids=ids_1T, max_new_tokens=8, min_new_tokens=8, do_sample=False)
        answers.append([decoded(tokenizer, found[0, ids_1T.shape[1] :].tolist())])
    return answers


def greedy(attached: Attached, prompt: Sequence[int], count: int, tokenizer: PreTrainedTokenizerBase) -> str:
    """Return what greedy decoding without a cache writes; stop tokens are passed over as long as `count` is."""
    from weitiao.evaluation.stop_strings import decoded

    row_1T = torch.tensor([prompt])
    for _ in range(count):
        last_V = own_logits(attached, row_1T)[0, -1]
        last_V[tokenizer.eos_token_id] = -torch.inf
        row_1T = torch.cat([row_1T, last_V.argmax()[None, None]], 1)
    return decoded(tokenizer, row_1T[0, len(prompt) :].tolist())
