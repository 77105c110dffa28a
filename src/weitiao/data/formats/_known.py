"""Columns and keys whose meaning is known: a row is not trained without one, it is refused where nothing reads it.

A column that stands in no list here is reported as not used.
"""

from __future__ import annotations

from collections.abc import Mapping

LOSS_WEIGHTS = ("weight", "loss_weight", "loss_scale")
"""Numbers from 0 on: how much a turn, or a row's answers, count in the loss (OpenAI's and ms-swift's names)."""
TRAINED = ("train", "training", "loss")
"""True or false: whether a turn, or a row's answers, are trained (axolotl's and ms-swift's names)."""
LOSS_MASK = "loss_mask"
"""0 or 1 for a turn, or a list of them for a row's turns: 1 is trained."""
WEIGHTS = frozenset({*LOSS_WEIGHTS, *TRAINED, LOSS_MASK})

_COMPARED = "how good an answer is"
_MEDIA = "images, video or sound"
_WEIGHED = "how much something counts in the loss"
_CALLED = "functions or their calls"
_ASKED = "text of the prompt"

MEANINGS: Mapping[str, str] = {
    **dict.fromkeys(
        (
            "label",
            "kto_tag",
            "score",
            "scores",
            "reward",
            "rewards",
            "chosen",
            "rejected",
            "rejected_response",
        ),
        _COMPARED,
    ),
    **dict.fromkeys(("image", "images", "video", "videos", "audio", "audios"), _MEDIA),
    **dict.fromkeys(WEIGHTS, _WEIGHED),
    **dict.fromkeys(("tools", "functions", "tool_calls", "function_call"), _CALLED),
}
"""A column, or a key of a turn -> what it says."""

PROMPT_TEXT: Mapping[str, str] = dict.fromkeys(
    (
        "instruction",
        "prompt",
        "query",
        "question",
        "input",
        "context",
        "passage",
        "history",
        "system",
        "system_prompt",
        "messages",
        "conversations",
        "conversation",
    ),
    _ASKED,
)
"""A column -> what it says, where a row asks something. Text that stands in what was read already is no loss."""
