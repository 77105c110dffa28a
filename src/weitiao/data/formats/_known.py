"""Columns and keys with a known meaning: a row that has one which the format does not read is refused.

A column that is in none of these lists is only reported as unused.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ...core.lists import name_list

LOSS_WEIGHTS = ("weight", "loss_weight", "loss_scale")
"""Loss weights, 0 or more, of a turn or of a row's answers (OpenAI's and ms-swift's names)."""
TRAINED = (
    "train", "training", "loss", "output_with_loss", "trainable", "learn", "learnable", "is_trained", "train_on_turn",
    "compute_loss", "calculate_loss", "use_loss",
)  # fmt: skip
"""Booleans: whether a turn, or a row's answers, are trained (axolotl's, ms-swift's and XTuner's names)."""
NOT_TRAINED = (
    "masked", "is_masked", "ignore", "ignored", "skip", "exclude", "excluded", "no_train", "no_loss", "ignore_loss",
    "skip_loss", "mask_loss",
)  # fmt: skip
"""Keys of a turn that are true if it is context only; false has no effect, as questions have it too."""
LOSS_MASK = "loss_mask"
"""0 or 1 for a turn, or a list of them for a row's turns; 1 is trained."""
UNREAD_WEIGHTS = (
    "weights", "loss_weights", "sample_weight", "train_detail", "training_detail", "completion_mask", "assistant_masks",
    "mask", "masked", "权重", "掩码",
)  # fmt: skip
"""Weights that are not supported: of parts of a turn, of tokens; or, like `mask`, with two possible meanings."""
WEIGHTS = frozenset({*LOSS_WEIGHTS, *TRAINED, *NOT_TRAINED, LOSS_MASK})

_MEANINGS: Mapping[str, Sequence[str]] = {
    "a label, such as whether an answer is wanted": name_list("label kto_tag desirable 标签"),
    "the quality of an answer": name_list("score scores reward rewards 得分 评分 分数 奖励"),
    "a better or a worse answer": name_list(
        "chosen rejected rejected_response rejected_messages positive_messages negative_messages"
    ),
    "images, video or sound": name_list(
        "image images video videos audio audios image_path image_paths image_url image_urls video_path audio_path"
        " 图片 图像 视频 音频"
    ),
    "a weight in the loss": (*LOSS_WEIGHTS, *TRAINED, LOSS_MASK, *UNREAD_WEIGHTS),
    "tools or tool calls": name_list("tools functions tool_calls function_call"),
}
_ASKED = name_list("instruction prompt query question input 问题 提问 指令 提示")
_BEFORE = name_list(
    "context passage history system system_prompt meta_instruction messages conversations conversation"
    " 系统提示 上下文"
)
MEANINGS: Mapping[str, str] = {name: says for says, names in _MEANINGS.items() for name in names}
"""A column, or a key of a turn, in lower case -> its meaning."""
TURN_TEXT: Mapping[str, str] = dict.fromkeys(("content", "value", "text"), "text of a turn")
"""A key of a turn, or of a part of a turn -> its meaning."""
PROMPT_TEXT: Mapping[str, str] = dict.fromkeys((*_ASKED, *_BEFORE), "text of the prompt")
"""A column -> its meaning in rows with a prompt. It may stay unread if the text that was read contains it."""
_ANSWER = name_list("output response completion reply answer solution 回答 答案 回复")
ANSWER_TEXT: Mapping[str, str] = dict.fromkeys(_ANSWER, "text of an answer")
"""A column -> its meaning in rows with an answer, and in rows that are a text."""
WHOLE_TEXT: Mapping[str, str] = dict.fromkeys(
    ("text", "content", "document", "article", "paragraph", "story"), "text besides the prompt and the answer"
)
"""A column -> its meaning next to a prompt. It may stay unread if it holds prompt and answer, as `text` in Alpaca's own
data."""
SPEAKERS: tuple[frozenset[str], ...] = (
    frozenset(("user", "human", "q")),
    frozenset(("assistant", "gpt", "bot", "a")),
)
"""Columns next to a text that hold a question and its answer if both are present; `user` alone may be a name."""
ASKS = frozenset((*_ASKED, *SPEAKERS[0], "problem"))
"""Columns that can be the question on their own."""
BESIDE_TEXT: Mapping[str, str] = {
    **PROMPT_TEXT,
    **dict.fromkeys((*SPEAKERS[0], "problem"), "text of the prompt"),
    **ANSWER_TEXT,
    **dict.fromkeys((*SPEAKERS[1], "target"), "text of an answer"),
}
"""A column -> its meaning next to a text that would be trained alone."""
AS_CONTEXT = "data.columns.context={column} reads it before the question"
AS_ANSWER = "data.columns.prompt={text} data.columns.completion={column} makes it the text's answer"
AS_PROMPT = "data.columns.prompt={column} data.columns.completion={text} makes the text its answer"
"""Settings that use both of two competing columns."""
