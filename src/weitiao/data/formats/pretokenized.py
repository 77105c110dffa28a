"""Rows that are tokens already: input_ids, with labels (-100 is not trained) or a mask of what is trained.

The columns are those of transformers' data collators and of TRL (https://huggingface.co/docs/trl/sft_trainer). Padding
(attention_mask 0) is removed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from ..conversation import Row
from ..forms import Tokens
from ._base import Format, RowError, list_in, shortened_value
from ._fields import is_empty

NOT_TRAINED = -100
MASKS = ("completion_mask", "assistant_masks", "loss_mask")
"""Masks with 1 for trained tokens; if a row has several, a token is trained only if all masks are 1."""
NOT_TEXT = ("pixel_values", "input_features", "image_grid_thw", "decoder_input_ids", "inputs_embeds")
"""Other inputs of a model besides the tokens; rows with them are refused, as they change what the tokens mean."""


class Pretokenized(Format):
    """Trains the tokens as they are, without a chat template and without adding BOS or EOS tokens."""

    form: ClassVar[str] = "tokens"
    columns: ClassVar[tuple[str, ...]] = (
        "input_ids", "labels", *MASKS, "attention_mask", "special_tokens_mask", "token_type_ids", "position_ids",
        "length",
    )  # fmt: skip
    ways: ClassVar[tuple[frozenset[str], ...]] = (frozenset({"input_ids"}),)
    may_stay: ClassVar[tuple[str, ...]] = ("special_tokens_mask", "token_type_ids", "length")
    rank: ClassVar[int] = 2
    example: ClassVar[str] = '{"input_ids": [1, 17, 42, 2], "labels": [-100, -100, 42, 2]}'

    def read(self, row: Row) -> Tokens:
        """Parse a row into tokens and weights; raises RowError for lists that do not fit together."""
        fields = row.fields
        _refuse_other_inputs(fields)
        ids = _whole_numbers(fields, "input_ids")
        if not ids:
            raise RowError("'input_ids' is an empty list")
        if min(ids) < 0:
            raise RowError("'input_ids' holds a number below 0", str(min(ids)))
        kept = _attended(fields, len(ids))
        _require_usual_positions(fields, kept)
        trained = _trained(fields, ids, kept)
        return Tokens(
            row.place, ids=tuple(ids[at] for at in kept), weights=tuple(float(trained[at]) for at in kept)
        )


def _refuse_other_inputs(fields: Mapping[str, Any]) -> None:
    """Raise RowError for a row with other inputs than tokens."""
    found = [name for name in NOT_TEXT if fields.get(name) is not None]
    if found:
        raise RowError(f"{found[0]!r} next to 'input_ids' cannot be trained on")


def _whole_numbers(fields: Mapping[str, Any], name: str, count: int | None = None) -> list[int]:
    """Return a list of integers; raises RowError, also if it does not have `count` items, those of `input_ids`."""
    values = list_in(fields, name)
    if len(values) == 1 and isinstance(values[0], list):
        values = values[0]  # a tokenizer called with return_tensors returns a batch of one
    wrong = next((value for value in values if type(value) is not int), None)
    if wrong is not None or None in values:
        raise RowError(f"{name!r} holds values other than whole numbers", shortened_value(wrong))
    if count is not None and len(values) != count:
        raise RowError(f"{name!r} and 'input_ids' have different lengths", f"{len(values)} and {count}")
    return values


def _mask(fields: Mapping[str, Any], name: str, count: int) -> list[int] | None:
    """Return a mask of 0 and 1; None if the row has none, or an empty one."""
    if is_empty(fields.get(name)):
        return None
    given = {name: [int(one) if isinstance(one, bool) else one for one in list_in(fields, name)]}
    values = _whole_numbers(given, name, count)
    if set(values) - {0, 1}:
        raise RowError(f"{name!r} holds numbers other than 0 and 1")
    return values


def _attended(fields: Mapping[str, Any], count: int) -> Sequence[int]:
    """Return the positions that are not padding; raises RowError for padding between tokens."""
    mask = _mask(fields, "attention_mask", count)
    if mask is None:
        return range(count)
    if 1 not in mask:
        raise RowError("'attention_mask' leaves no token")
    first, end = mask.index(1), count - mask[::-1].index(1)
    if 0 in mask[first:end]:
        raise RowError("'attention_mask' masks tokens between others")
    return range(first, end)


def _require_usual_positions(fields: Mapping[str, Any], kept: Sequence[int]) -> None:
    """Raise RowError if position_ids do not count up from 0, as with several texts packed into one row."""
    if fields.get("position_ids") is None:
        return
    positions = _whole_numbers(fields, "position_ids")
    if [positions[at] for at in kept if at < len(positions)] != list(range(len(kept))):
        raise RowError(
            "'position_ids' does not count up from 0: the row holds several texts; write one row for each"
        )


def _trained(fields: Mapping[str, Any], ids: Sequence[int], kept: Sequence[int]) -> list[bool]:
    """Return a flag per token that is True for trained ones; raises RowError for labels that differ from the tokens."""
    trained = [True] * len(ids)
    if fields.get("labels") is not None:
        labels = _whole_numbers(fields, "labels", len(ids))
        other = next((at for at in kept if labels[at] not in (NOT_TRAINED, ids[at])), None)
        if other is not None:
            detail = f"label {other + 1} is {labels[other]}, the token is {ids[other]}"
            raise RowError(
                "'labels' is neither -100 nor the token at the same place (it may be shifted)", detail
            )
        trained = [label != NOT_TRAINED for label in labels]
    for mask in (_mask(fields, name, len(ids)) for name in MASKS):
        trained = [one and bool(own) for one, own in zip(trained, mask, strict=True)] if mask else trained
    return trained
