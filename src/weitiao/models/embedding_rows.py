"""Checks token ids against a model's embedding, to name the bad token; the model itself only says `index out of
range`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..core.errors import DataError, Problem

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def require_rows(tokenizer: PreTrainedTokenizerBase, rows: int, ids: Sequence[int], where: str) -> None:
    """Raise DataError, naming the token and `where` it is, for an id not below `rows`, the embedding's number of
    rows."""
    worst = max(ids, default=0)
    if worst < rows:
        return
    token = tokenizer.convert_ids_to_tokens(worst)
    raise DataError(
        Problem(
            "the tokenizer gives an id for which the model's embeddings have no row",
            f"{token!r} is id {worst}, in {where}; the embeddings have {rows} rows",
            "a tokenizer and a model that belong together",
            "the model's own tokenizer files beside its weights, without tokens added to them",
        )
    )
