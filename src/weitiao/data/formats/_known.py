"""Columns and keys whose meaning is known: a row is not trained without one, it is refused where nothing reads it.

A column that stands in no list here is reported as not used.
"""

from __future__ import annotations

from collections.abc import Mapping

LOSS_WEIGHTS = ("weight", "loss_weight", "loss_scale")
"""Numbers from 0 on: how much a turn, or a row's answers, count in the loss (OpenAI's and ms-swift's names)."""
TRAINED = ("train", "training", "loss", "output_with_loss")
"""True or false: whether a turn, or a row's answers, are trained (axolotl's, ms-swift's and XTuner's names)."""
LOSS_MASK = "loss_mask"
"""0 or 1 for a turn, or a list of them for a row's turns: 1 is trained."""
UNREAD_WEIGHTS = (
    "weights", "loss_weights", "sample_weight", "train_detail", "training_detail", "completion_mask", "assistant_masks",
    "权重",
)  # fmt: skip
"""Weights of other kinds: of parts of a turn, of tokens."""
WEIGHTS = frozenset({*LOSS_WEIGHTS, *TRAINED, LOSS_MASK})

_MEANINGS: Mapping[str, str] = {
    "a label, such as whether an answer is wanted": "label kto_tag desirable 标签",
    "how good an answer is": "score scores reward rewards 得分 评分 分数 奖励",
    "a better or a worse answer": "chosen rejected rejected_response rejected_messages positive_messages"
    " negative_messages",
    "images, video or sound": "image images video videos audio audios image_path image_paths image_url image_urls"
    " video_path audio_path 图片 图像 视频 音频",
    "how much something counts in the loss": " ".join((*LOSS_WEIGHTS, *TRAINED, LOSS_MASK, *UNREAD_WEIGHTS)),
    "functions or their calls": "tools functions tool_calls function_call",
}
_PROMPT = (
    "instruction prompt query question input context passage history system system_prompt meta_instruction messages"
    " conversations conversation"
)
MEANINGS: Mapping[str, str] = {name: says for says, names in _MEANINGS.items() for name in names.split()}
"""A column, or a key of a turn, in small letters -> what it says."""
TURN_TEXT: Mapping[str, str] = dict.fromkeys(("content", "value", "text"), "text of a turn")
"""A key of a turn, or of a part of one -> what it says."""
PROMPT_TEXT: Mapping[str, str] = dict.fromkeys(_PROMPT.split(), "text of the prompt")
"""A column -> what it says, where a row asks something. Text that stands in what was read already is no loss."""
