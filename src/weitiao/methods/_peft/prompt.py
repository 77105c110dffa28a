"""PEFT's prompt methods, with our own forward and generation where PEFT's lose the prompt or misplace tokens.

Shapes: B rows, n virtual tokens, T tokens per row, d the model's width, H key/value heads, D numbers per head.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from peft import PeftModelForCausalLM, PeftModelForSeq2SeqLM, PeftModelForSequenceClassification, PeftType
from peft.utils.other import ModulesToSaveWrapper
from torch import Tensor, nn
from transformers import DynamicCache

from ...core.errors import ModelError, Problem
from ...models.anatomy import anatomy, checkpoints_activations, head_to_save, task_type
from ...models.text_path import CacheShape, cache_shape
from .quiet import renamed_in_transformers

if TYPE_CHECKING:
    from peft import PeftConfig, PeftModel
    from transformers import Cache, PreTrainedModel

DEFAULT = "default"
"""PEFT's name of the first adapter."""
KeysValues = tuple[Tensor, Tensor]
"""Keys and values of one block's prefix, each (1, H, n, D)."""
CHECKED_TOKENS = 5
"""The length of the text whose logits are compared with and without a cached prompt."""
FP32_TOLERANCE, HALF_TOLERANCE = 1e-3, 0.1
"""The largest accepted root-mean-square difference of the two, relative to the logits' standard deviation."""
CACHE_NAMES = ("past_key_values", "layer_past")
"""Names of the argument with which attention modules receive the cache."""


@dataclass(frozen=True)
class PrefixOfBlock:
    """Replaces the cache in one block's attention: prepends the prefix and stores nothing, so that a block may be
    recomputed."""

    prefix: KeysValues

    def update(self, keys: Tensor, values: Tensor, *_: object, **__: object) -> KeysValues:
        """Return keys and values (B, H, n + T, D) for the block's own (B, H, T, D)."""
        rows = keys.shape[0]
        before_k, before_v = (part.to(keys.dtype).expand(rows, -1, -1, -1) for part in self.prefix)
        return torch.cat([before_k, keys], dim=-2), torch.cat([before_v, values], dim=-2)


def _without_autocast(wanted: bool, device: torch.device) -> AbstractContextManager[object]:
    """Return a context manager that switches autocast off if wanted."""
    return torch.autocast(device.type, enabled=False) if wanted else nullcontext()


class SavesAsUsed:
    """Shared by all prompt models: the virtual tokens that are saved are those in use."""

    prompt_encoder: nn.ModuleDict

    def get_prompt_embedding_to_save(self, adapter_name: str) -> Tensor:
        """Return the virtual tokens as they are used: an encoder's output, without its dropout.

        Computed without gradients, as in use: LSTMs round differently with them.
        """
        encoder = self.prompt_encoder[adapter_name]
        was_training = encoder.training
        encoder.eval()
        try:
            with torch.no_grad():
                made: Tensor = super().get_prompt_embedding_to_save(adapter_name)  # type: ignore[misc]  # PEFT's
        finally:
            encoder.train(was_training)
        return made


class ClassifierBehindPrompt(SavesAsUsed, PeftModelForSequenceClassification):  # type: ignore[misc]
    """A classification model behind virtual tokens: PEFT's wrapper, which also switches off the trained head.

    PEFT's own leaves the trained head on, and raises UnboundLocalError if the base cannot generate (0.21).
    """

    @contextmanager
    def disable_adapter(self) -> Iterator[None]:
        """Within the context the model is the base, with the base's own head."""
        heads = [module for module in self.modules() if isinstance(module, ModulesToSaveWrapper)]
        self._adapters_disabled = True
        for head in heads:
            head.enable_adapters(False)
        try:
            yield
        finally:
            self._adapters_disabled = False
            for head in heads:
                head.enable_adapters(True)

    def forward(self, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401  (transformers' own arguments)
        """Return the base's output behind the virtual tokens, or without them while they are switched off."""
        if self._adapters_disabled:
            return self.base_model(*args, **kwargs)
        return super().forward(*args, **kwargs)


class Seq2SeqBehindPrompt(SavesAsUsed, PeftModelForSeq2SeqLM):  # type: ignore[misc]
    """An encoder-decoder model whose encoder reads virtual tokens first: PEFT's own wrapper."""


class PromptModel(SavesAsUsed, PeftModelForCausalLM):  # type: ignore[misc]  # peft exports it untyped
    """A causal model behind virtual tokens: a PEFT wrapper that reads and writes PEFT's adapters.

    Three things differ from PEFT's own. A prefix also reaches blocks under activation checkpointing, where transformers
    drops the cache. Generation puts the virtual tokens into the key/value cache once, so that left padding changes no
    position; PEFT counts the padding in. And in a packed sequence, whose examples' positions each start at 0, these
    positions are kept, and the virtual tokens come once, at its start; PEFT drops the positions.
    """

    def __init__(self, model: PreTrainedModel, config: PeftConfig, adapter_name: str = DEFAULT) -> None:
        """Put fresh virtual tokens on a model and freeze the model's own parameters."""
        attentions = _attention_modules(model)
        super().__init__(model, config, adapter_name)
        self._prefix: list[KeysValues] = []
        if config.peft_type == PeftType.PREFIX_TUNING:
            for number, attention in enumerate(attentions):
                attention.register_forward_pre_hook(_gives_prefix_back(self, number), with_kwargs=True)

    @property
    def virtual_tokens(self) -> int:
        """The number of virtual tokens before every row; 0 while they are switched off."""
        return 0 if self._adapters_disabled else int(self.active_peft_config.num_virtual_tokens)

    def forward(self, *args: Any, position_ids: Tensor | None = None, **kwargs: Any) -> Any:  # noqa: ANN401
        """Return what PEFT's forward does or, given positions (1, T), the base's output for a packed sequence of T
        tokens."""
        if position_ids is None:
            return super().forward(*args, **kwargs)
        return self._behind_once(position_ids + self.virtual_tokens, *args, **kwargs)

    def _behind_once(self, positions_1T: Tensor, input_ids: Tensor, **kwargs: Any) -> Any:  # noqa: ANN401
        prompt = self.get_prompt(1)
        if not isinstance(prompt, Tensor):
            return self.base_model(
                input_ids=input_ids, past_key_values=prompt, position_ids=positions_1T, **kwargs
            )
        embedded_1TD = self.word_embeddings(input_ids)
        own_1n = torch.arange(self.virtual_tokens, device=positions_1T.device)[None]
        return self.base_model(
            inputs_embeds=torch.cat([prompt.to(embedded_1TD.dtype), embedded_1TD], dim=1),
            position_ids=torch.cat([own_1n, positions_1T], dim=1),
            **kwargs,
        )

    def get_prompt(self, batch_size: int, task_ids: None = None, max_cache_len: int | None = None) -> Any:  # noqa: ANN401
        """Return what PEFT's method does: a cache that holds the prefix, or embeddings (B, n, d).

        P-tuning's encoder runs in fp32, as when its output is saved; many CPUs have no bf16 LSTM.
        """
        with _without_autocast(self.active_peft_config.peft_type is PeftType.P_TUNING, self.device):
            prompt = super().get_prompt(batch_size, task_ids, max_cache_len)
        if isinstance(prompt, DynamicCache) and self.is_checkpointed:
            self._prefix = [(layer.keys[:1], layer.values[:1]) for layer in prompt.layers]
        return prompt

    def lost_prefix(self, number: int) -> KeysValues | None:
        """Return a block's prefix if transformers drops it, which is in training with activation checkpointing."""
        return self._prefix[number] if self.is_checkpointed and self.virtual_tokens else None

    @property
    def is_checkpointed(self) -> bool:
        """Whether the base trains with activation checkpointing, in which transformers drops a cached prefix."""
        return bool(self.base_model.training and checkpoints_activations(self.base_model))

    def generate(self, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401  (transformers' own arguments)
        """Generate as the base does, behind the virtual tokens; return ids without them."""
        if not self.virtual_tokens:
            return self.base_model.generate(*args, **kwargs)
        with torch.no_grad(), self._behind(self._cached_prompt()):
            return self.base_model.generate(*args, **kwargs)

    def require_cache(self) -> None:
        """Raise ModelError if a base's output behind a cached prompt differs from its output in training.

        Such are bases with a state beside keys and values (nemotron_h), or that read ids beside embeddings (gemma3n).
        """
        base, modes = self.base_model, [(module, module.training) for module in self.modules()]
        self.eval()
        try:
            with torch.no_grad(), refused_without_cache(base):
                asked, trained = self._answered_and_trained()
        finally:
            for module, mode in modes:
                module.training = mode
        exact = base.dtype is torch.float32
        distance = float((asked - trained).square().mean().sqrt()) / (float(trained.std()) or 1.0)
        if distance > (FP32_TOLERANCE if exact else HALF_TOLERANCE):
            raise ModelError(_gives_no_cache(base))

    def _answered_and_trained(self) -> tuple[Tensor, Tensor]:
        """Return the logits (T, V) of a short text with the prompt as a cache, and as training computes them."""
        ids_1T = torch.arange(CHECKED_TOKENS, device=self.word_embeddings.weight.device)[None]
        trained = self(input_ids=ids_1T).logits[0, -CHECKED_TOKENS:].float()
        with self._behind(self._cached_prompt()):
            asked = self.base_model(input_ids=ids_1T, use_cache=True).logits[0].float()
        return asked, trained

    def _cached_prompt(self) -> list[KeysValues]:
        """Return the virtual tokens' keys and values, which are all that later tokens see of a soft prompt."""
        prompt = self.get_prompt(1)
        if isinstance(prompt, Tensor):
            embedded = prompt.to(self.word_embeddings.weight.dtype)
            # A plain cache: in the model's own, a sliding-window layer keeps only the last tokens of its window.
            whole = DynamicCache()
            prompt = self.base_model(
                inputs_embeds=embedded, past_key_values=whole, use_cache=True
            ).past_key_values
        return [(layer.keys, layer.values) for layer in prompt.layers]

    @contextmanager
    def _behind(self, prompt: list[KeysValues]) -> Iterator[None]:
        """Within the context, every call of the base has `prompt` at the start of its cache."""
        handle = self.base_model.register_forward_pre_hook(_puts_in_front(prompt), with_kwargs=True)
        try:
            yield
        finally:
            handle.remove()


@contextmanager
def refused_without_cache(base: nn.Module) -> Iterator[None]:
    """Within the context, errors of an architecture whose cache is unlike the usual one become a ModelError."""
    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except (AssertionError, AttributeError, IndexError, RuntimeError, TypeError, ValueError) as error:
        raise ModelError(_gives_no_cache(base)) from error


def wrapped(model: PreTrainedModel, config: PeftConfig) -> PeftModel:
    """Put fresh virtual tokens on a model, for any task that they support."""
    kinds = {"SEQ_CLS": ClassifierBehindPrompt, "SEQ_2_SEQ_LM": Seq2SeqBehindPrompt}
    return kinds.get(task_type(model) or "", PromptModel)(model, config)


def _gives_prefix_back(model: PromptModel, number: int) -> Any:  # noqa: ANN401  (torch's type of a hook is wider)
    """Return a hook that passes block `number`'s prefix to its attention if transformers dropped the cache."""

    def hook(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, Any] | None:
        prefix = model.lost_prefix(number)
        if prefix is None:
            return None
        name = next((name for name in CACHE_NAMES if name in kwargs), None)
        if name is None:
            raise ModelError(_takes_no_cache(model.base_model))
        return args, {**kwargs, name: PrefixOfBlock(prefix)}

    return hook


def _puts_in_front(prompt: list[KeysValues]) -> Any:  # noqa: ANN401
    """Return a hook on the base that starts an empty cache with `prompt` and shifts mask and positions by its length
    n."""
    width = prompt[0][0].shape[-2]

    def hook(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, Any]:
        moved = dict(kwargs)
        rows = moved["input_ids"].shape[0]
        cache = moved.get("past_key_values")
        if cache is None:
            cache = moved["past_key_values"] = DynamicCache()
        if cache.get_seq_length() == 0:
            _fill(cache, prompt, rows)
        mask = moved.get("attention_mask")
        if mask is not None:
            moved["attention_mask"] = torch.cat([mask.new_ones(rows, width), mask], dim=1)
        if moved.get("position_ids") is not None:
            moved["position_ids"] = moved["position_ids"] + width
        return args, moved

    return hook


def _fill(cache: Cache, prompt: list[KeysValues], rows: int) -> None:
    for number, (keys, values) in enumerate(prompt):
        cache.update(keys.expand(rows, -1, -1, -1), values.expand(rows, -1, -1, -1), number)


def _attention_modules(model: PreTrainedModel) -> list[nn.Module]:
    """Return each block's attention module, in model order."""
    parts = anatomy(model)
    depth = parts.blocks[0].count(".") + 2
    paths = dict.fromkeys(".".join(path.split(".")[:depth]) for path in parts.attention)
    return [model.get_submodule(path) for path in paths]


def _gives_no_cache(base: nn.Module) -> Problem:
    return Problem(
        "this architecture's cache does not keep all of the virtual tokens, so its answers would differ from what"
        " was trained",
        type(base).__name__,
        "attention with keys and values in every block, and embeddings that hold everything about a token",
        "method.name=lora",
    )


def _takes_no_cache(base: nn.Module) -> Problem:
    return Problem(
        "this architecture's attention takes no cache by name, so activation checkpointing cannot run with a prefix",
        type(base).__name__,
        " or ".join(CACHE_NAMES),
        "train.gradient_checkpointing=none",
    )


@renamed_in_transformers()
def load_prompt(model: PreTrainedModel, config: PeftConfig, folder: Path, trainable: bool) -> PeftModel:
    """Put saved virtual tokens on a model, as PEFT's `from_pretrained` does; raises RuntimeError for another shape."""
    config.inference_mode = not trainable
    loaded = wrapped(model, config)
    loaded.load_adapter(str(folder), DEFAULT, is_trainable=trainable)
    return loaded


@torch.no_grad()
def begin_embeddings(model: PeftModel, start: str, ids: list[int]) -> None:
    """Initialise a soft prompt: at random with the vocabulary's mean and standard deviation, or as the embeddings of
    `ids` or of words drawn from the vocabulary."""
    table = model.get_base_model().get_input_embeddings().weight
    encoder = model.prompt_encoder[DEFAULT]
    wanted = encoder.embedding.weight
    if start == "random":
        values = table.float()
        begun = values.mean(0) + values.std(0) * torch.randn(wanted.shape).to(values.device)
    else:
        begun = table[_chosen_ids(model, start, ids)].float()
    wanted.copy_(begun)


@torch.no_grad()
def begin_prefix(model: PeftModel, start: str, ids: list[int]) -> None:
    """Initialise a prefix with the base's keys and values for a text, or for words drawn from its vocabulary.

    With `start` random, PEFT's random initialisation is kept.
    """
    if start == "random":
        return
    base = model.get_base_model()
    was_training = base.training
    base.eval()
    chosen_1n = _chosen_ids(model, start, ids)[None]
    cache = base(input_ids=chosen_1n, past_key_values=DynamicCache(), use_cache=True).past_key_values
    base.train(was_training)
    both = [part for layer in cache.layers for part in (layer.keys[0], layer.values[0])]
    flat_nX = torch.stack(both).permute(2, 0, 1, 3).flatten(1)  # 2L of (H, n, D) to (n, 2L * H * D)
    model.prompt_encoder[DEFAULT].load_prompt_embeddings(flat_nX.float())


def _chosen_ids(model: PeftModel, start: str, ids: list[int]) -> Tensor:
    """Return n ids: those of the text, cut or repeated, or some drawn from the vocabulary with torch's global
    generator."""
    count, base = int(model.active_peft_config.num_virtual_tokens), model.get_base_model()
    if start == "vocabulary":
        drawn = torch.randint(0, base.config.get_text_config().vocab_size, (count,))
    else:
        drawn = torch.tensor((ids * (count // len(ids) + 1))[:count])
    return drawn.to(base.get_input_embeddings().weight.device)


def shape_of(model: PreTrainedModel, per_block: bool) -> Mapping[str, Any]:
    """Return the sizes of the model that PEFT's config needs; `per_block` for keys and values instead of embeddings."""
    config = model.config.get_text_config()
    heads = int(config.num_attention_heads)
    values = config.to_dict()
    width = model.get_input_embeddings().weight.shape[1]
    if per_block:
        kept = cache_shape(model) or CacheShape(
            values.get("num_key_value_heads") or heads,
            values.get("head_dim") or int(config.hidden_size) // heads,
        )
        heads, width = kept.heads, kept.heads * kept.numbers
    return {
        "num_layers": int(config.num_hidden_layers),
        "token_dim": width,
        "num_attention_heads": heads,
        "num_transformer_submodules": 1,
        "task_type": task_type(model),
        "modules_to_save": head_to_save(model) or None,
    }
