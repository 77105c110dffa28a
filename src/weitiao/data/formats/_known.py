"""Columns and keys whose meaning is known: a row is not trained without one, it is refused where nothing reads it.

A column that stands in no list here is reported as not used.
"""

from __future__ import annotations

from collections.abc import Mapping

LOSS_WEIGHTS = ("weight", "loss_weight", "loss_scale")
"""Numbers from 0 on: how much a turn, or a row's answers, count in the loss (OpenAI's and ms-swift's names)."""
TRAINED = (
    "train", "training", "loss", "output_with_loss", "trainable", "learn", "learnable", "is_trained", "train_on_turn",
    "compute_loss", "calculate_loss", "use_loss",
)  # fmt: skip
"""True or false: whether a turn, or a row's answers, are trained (axolotl's, ms-swift's and XTuner's names)."""
NOT_TRAINED = (
    "masked", "is_masked", "ignore", "ignored", "skip", "exclude", "excluded", "no_train", "no_loss", "ignore_loss",
    "skip_loss", "mask_loss",
)  # fmt: skip
"""Of a turn, true where it is context only; false says nothing, as questions have it too."""
LOSS_MASK = "loss_mask"
"""0 or 1 for a turn, or a list of them for a row's turns: 1 is trained."""
UNREAD_WEIGHTS = (
    "weights", "loss_weights", "sample_weight", "train_detail", "training_detail", "completion_mask", "assistant_masks",
    "mask", "masked", "权重", "掩码",
)  # fmt: skip
"""Weights of other kinds: of parts of a turn, of tokens; or, as `mask`, of two meanings."""
WEIGHTS = frozenset({*LOSS_WEIGHTS, *TRAINED, *NOT_TRAINED, LOSS_MASK})

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
_ASKED = "instruction prompt query question input 问题 提问 指令 提示"
_BEFORE = "context passage history system system_prompt meta_instruction messages conversations conversation"
_CHINESE = "系统提示 上下文"
MEANINGS: Mapping[str, str] = {name: says for says, names in _MEANINGS.items() for name in names.split()}
"""A column, or a key of a turn, in small letters -> what it says."""
TURN_TEXT: Mapping[str, str] = dict.fromkeys(("content", "value", "text"), "text of a turn")
"""A key of a turn, or of a part of one -> what it says."""
PROMPT_TEXT: Mapping[str, str] = dict.fromkeys(f"{_ASKED} {_BEFORE} {_CHINESE}".split(), "text of the prompt")
"""A column -> what it says, where a row asks something. Text that stands in what was read already is no loss."""
_ANSWER = "output response completion reply answer solution 回答 答案 回复"
ANSWER_TEXT: Mapping[str, str] = dict.fromkeys(_ANSWER.split(), "text of an answer")
"""A column -> what it says, where a row answers something, or is a text."""
WHOLE_TEXT: Mapping[str, str] = dict.fromkeys(
    ("text", "content", "document", "article", "paragraph", "story"), "text beside the prompt and the answer"
)
"""A column -> what it says beside a prompt. One that holds prompt and answer, as Alpaca's own, says nothing new."""
SPEAKERS: tuple[frozenset[str], ...] = (
    frozenset(("user", "human", "q")),
    frozenset(("assistant", "gpt", "bot", "a")),
)
"""Columns beside a text that hold a question and its answer where both are there; `user` alone may be a name."""
ASKS = frozenset((*_ASKED.split(), *SPEAKERS[0], "problem"))
"""Columns that ask by themselves, without others."""
BESIDE_TEXT: Mapping[str, str] = {
    **PROMPT_TEXT,
    **dict.fromkeys((*SPEAKERS[0], "problem"), "text of the prompt"),
    **ANSWER_TEXT,
    **dict.fromkeys((*SPEAKERS[1], "target"), "text of an answer"),
}
"""A column -> what it says beside a text that is trained alone."""
AS_CONTEXT = "data.columns.context={column} reads it before the question"
AS_ANSWER = "data.columns.prompt={text} data.columns.completion={column} makes it the answer to the text"
AS_PROMPT = "data.columns.prompt={column} data.columns.completion={text} makes the text its answer"
"""Settings that use both of two columns that compete."""
