"""The operations that training a Llama needs, counted from the shapes of its matrix products.

A product of (m, k) and (k, n) matrices is 2*m*n*k operations. Counted is what no implementation can leave out without
computing something else: all products of the forward pass; backwards the gradient of a product's input where
something trainable lies before it or in it, and that of its weight where that trains; attention where a token sees
another, and nowhere else; the head at positions that predict a trained token. Norms, activations, softmax, rotations
and the optimizer are not counted: they are no matrix products, and small beside them.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PretrainedConfig

Shape = tuple[int, int]
"""Features in and out of a linear layer."""


@dataclass(frozen=True)
class Flops:
    """Operations of one forward and one backward pass."""

    forward: int
    backward: int

    @property
    def total(self) -> int:
        """Both together."""
        return self.forward + self.backward

    def __add__(self, other: Flops) -> Flops:
        """Add two counts."""
        return Flops(self.forward + other.forward, self.backward + other.backward)


def needed_flops(
    config: PretrainedConfig,
    lengths: Sequence[int],
    trained: int,
    lora_targets: Collection[str] = (),
    *,
    rank: int = 8,
    trained_blocks: Collection[int] = (),
    contexts: Sequence[int] | None = None,
) -> Flops:
    """Return the operations for rows of such lengths, of which `trained` positions predict a trained token.

    `lora_targets` are the names of linear layers (`q_proj`) that have LoRA of `rank` in every block, `trained_blocks`
    the numbers of blocks whose own weights train. Where rows share what they begin with, `lengths` are the tokens a
    row has to itself, and `contexts` those it sees before them, which are a row or rows of their own in the list.
    """
    linears = block_shapes(config)
    seen = contexts or [0] * len(lengths)
    pairs = sum(own * before + own * (own + 1) // 2 for own, before in zip(lengths, seen, strict=True))
    tokens, flops, moves = sum(lengths), Flops(0, 0), False
    for number in range(config.num_hidden_layers):
        block = _Block(linears, tokens, pairs, frozenset(lora_targets), rank, number in trained_blocks)
        added, moves = block.count(moves)
        flops += added
    head = 2 * trained * config.hidden_size * config.vocab_size
    return flops + Flops(head, head * moves)


def block_shapes(config: PretrainedConfig) -> dict[str, Shape]:
    """Return the linear layers of a block of a Llama-like model by name."""
    hidden, middle = config.hidden_size, config.intermediate_size
    head = getattr(config, "head_dim", None) or hidden // config.num_attention_heads
    queries, keys = config.num_attention_heads * head, config.num_key_value_heads * head
    return {
        "q_proj": (hidden, queries),
        "k_proj": (hidden, keys),
        "v_proj": (hidden, keys),
        "o_proj": (queries, hidden),
        "gate_proj": (hidden, middle),
        "up_proj": (hidden, middle),
        "down_proj": (middle, hidden),
    }


@dataclass(frozen=True)
class _Block:
    """One block; a value `moves` where something trainable lies before it, so that it has a gradient to pass on."""

    linears: dict[str, Shape]
    tokens: int
    pairs: int
    """How many times a token sees a token, itself included."""
    lora: frozenset[str]
    rank: int
    trains: bool

    def count(self, moves: bool) -> tuple[Flops, bool]:
        """Return the block's operations, and whether what it gives moves."""
        normed = moves or self.trains  # the norm in front has a weight of its own
        query, key, value = (self._moves(name, normed) for name in ("q_proj", "k_proj", "v_proj"))
        attended = query or key or value
        flops = self._attention(query, key, value)
        for name in ("q_proj", "k_proj", "v_proj"):
            flops += self._linear(name, normed)
        flops += self._linear("o_proj", attended)
        normed = moves or self._moves("o_proj", attended) or self.trains
        flops += self._linear("gate_proj", normed) + self._linear("up_proj", normed)
        middle = self._moves("gate_proj", normed) or self._moves("up_proj", normed)
        flops += self._linear("down_proj", middle)
        return flops, self._moves("down_proj", middle) or normed

    def _moves(self, name: str, moves: bool) -> bool:
        """Tell whether what a layer gives moves, where what it is given does or does not."""
        return moves or self.trains or name in self.lora

    def _linear(self, name: str, moves: bool) -> Flops:
        """Count x W, and with LoRA (x A) B, each with the gradients that are needed of it."""
        fan_in, fan_out = self.linears[name]
        product = 2 * self.tokens * fan_in * fan_out
        flops = Flops(product, product * (moves + self.trains))
        if name in self.lora:
            down, up = 2 * self.tokens * fan_in * self.rank, 2 * self.tokens * self.rank * fan_out
            flops += Flops(down + up, 2 * up + down * (1 + moves))
        return flops

    def _attention(self, query: bool, key: bool, value: bool) -> Flops:
        """Count scores and weighted values; backwards the gradients of both factors of each, as far as they move."""
        queries = self.linears["q_proj"][1]
        product = 2 * self.pairs * queries
        weights = query or key
        return Flops(2 * product, product * (weights + value + query + key))
