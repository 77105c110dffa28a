"""All texts of the gate's report, in English and Chinese, for the terminal and the page."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

Language = Literal["en", "zh"]
LANGUAGES: tuple[Language, ...] = ("en", "zh")

WORDS: Mapping[str, tuple[str, str]] = {
    "title": ("Data check", "数据检查"),
    "colon": (": ", "："),
    "comma": (", ", "，"),
    "verdict.error": (
        "Errors: this data cannot be trained on as it is.",
        "有错误：这份数据现在不能用来训练。",
    ),
    "verdict.warning": (
        "Can be trained on; read the warnings first.",
        "可以训练，但请先看警告。",
    ),
    "verdict.ok": ("Ready to be trained on.", "可以训练。"),
    "verdict.no_model": (
        "Checked without a model: add --model to see tokens, masks and lengths.",
        "未指定模型：加上 --model 才能看到词元、掩码和长度。",
    ),
    "error": ("error", "错误"),
    "warning": ("warning", "警告"),
    "note": ("note", "提示"),
    "errors": ("errors", "错误"),
    "warnings": ("warnings", "警告"),
    "notes": ("notes", "提示"),
    "all": ("all", "全部"),
    "problems": ("What keeps the data from being read", "数据无法读取的原因"),
    "problem.got": ("got", "实际"),
    "problem.expected": ("expected", "应为"),
    "problem.remedy": ("try", "可试"),
    "overview": ("Overview", "概况"),
    "rows": ("rows", "行"),
    "count": ("rows", "行数"),
    "share": ("share", "占比"),
    "read": ("read", "读入"),
    "kept": ("kept", "可用"),
    "trained_on": ("to train on", "用于训练"),
    "held_out": ("held out", "留出"),
    "left_out": ("left out", "未用"),
    "unusable": ("unusable", "无法使用"),
    "cut": ("cut", "截短"),
    "turns_left_out": ("early turns left out", "略去的早期轮次"),
    "answers_shortened": ("answers shortened", "缩短的回答"),
    "examples": ("examples", "样本"),
    "tokens": ("tokens", "词元"),
    "trained_tokens": ("tokens trained", "参与训练的词元"),
    "template": ("template", "模板"),
    "template.chat": ("the model's chat template", "模型的对话模板"),
    "template.instruction": ("### Instruction / ### Response", "### Instruction / ### Response"),
    "template.text": ("a text with fields (data.template)", "带字段的文本（data.template）"),
    "format": ("format", "格式"),
    "formats": ("Formats", "格式"),
    "source": ("source", "来源"),
    "why": ("why", "依据"),
    "findings": ("Findings", "发现"),
    "finding": ("finding", "发现"),
    "no_findings": ("Nothing was found that you should know.", "没有需要注意的问题。"),
    "fix": ("fix", "处理"),
    "places": ("at", "位置"),
    "more": ("and {count} more", "另有 {count} 处"),
    "unusable_rows": ("rows cannot be used: ", "有数据无法使用："),
    "unusable_fix": (
        "correct the rows, or data.skip_bad_rows=true leaves them out and counts them",
        "修正这些行，或设 data.skip_bad_rows=true 跳过并计数",
    ),
    "untrained_rows": (
        "rows are of the form {form!r}, which the objective {objective} does not train",
        "有数据是 {form!r} 形式，训练目标 {objective} 不训练它",
    ),
    "untrained_fix": (
        "use rows of a form that it trains; training refuses these",
        "换用它能训练的数据形式；训练时会拒绝这些数据",
    ),
    "nothing_left": ("no row is left to train on", "没有剩下任何可训练的数据"),
    "nothing_left_fix": (
        "see why the rows are left out; training refuses data of which nothing is left",
        "请看各行未用的原因；没有数据可用时训练会被拒绝",
    ),
    "unused_columns": ("columns and keys of turns that are not used: ", "没有用到的列和轮次的键："),
    "unused_fix": (
        "where one matters, name what it is: data.columns.OURS=YOURS",
        "若其中有需要的，请指明它是什么：data.columns.OURS=YOURS",
    ),
    "graded_columns": (
        "columns that grade or choose rows are not used, every row counts alike: ",
        "为数据评级或挑选数据的列没有用到，每条数据同等对待：",
    ),
    "graded_fix": (
        "take out the rows you do not want first; data.columns.weight=NAME makes a number the weight of its row",
        "请先去掉不要的数据；data.columns.weight=列名 可把数字用作该行的权重",
    ),
    "left_out_by_reason": ("Left out, by reason", "未用的数据，按原因"),
    "reason": ("reason", "原因"),
    "lengths": ("Length in tokens", "长度（词元）"),
    "longest": ("longest", "最长"),
    "trained_share": ("Share of trained tokens, by example", "各样本中参与训练的词元占比"),
    "trained_share_all": ("trained", "训练占比"),
    "charts": ("What is in it", "内容"),
    "numbers": ("Numbers", "数字"),
    "samples": ("Samples", "样本"),
    "sample": ("sample", "样本"),
    "row": ("row", "行"),
    "more_tokens": ("… {count} more tokens", "……还有 {count} 个词元"),
    "sample_tokens": ("{tokens} tokens, {trained} trained", "{tokens} 个词元，其中 {trained} 个参与训练"),
    "fate.trained": ("trained on", "用于训练"),
    "fate.held_out": ("held out", "留出"),
    "fate.dropped": ("left out", "未用"),
    "fate.untrained": ("not trained by the objective", "训练目标不训练它"),
    "fate.bad": ("cannot be used", "无法使用"),
    "legend": ("legend", "图例"),
    "legend.context": ("context", "上下文"),
    "legend.trained": ("trained", "参与训练"),
    "legend.partly": ("trained with less weight", "以较小权重训练"),
    "legend.control": ("control token", "控制词元"),
    "legend.control_trained": ("control token, trained", "控制词元，参与训练"),
    "legend.cut": ("cut off", "被截去"),
    "filter": ("show", "显示"),
    "theme": ("light or dark", "浅色或深色"),
    "previous": ("previous", "上一个"),
    "next": ("next", "下一个"),
    "token_id": ("id", "编号"),
    "weight": ("weight", "权重"),
    "made_by": (
        "Made by weitiao check. Nothing in this page leaves your machine.",
        "由 weitiao check 生成。本页不会向外发送任何内容。",
    ),
    "hint": (
        "Every sample: --sample N, --row FILE:LINE; the whole as a page: --html FILE.",
        "查看任一样本：--sample N、--row FILE:LINE；生成网页：--html FILE。",
    ),
    "page_written": ("The page is in {path}", "网页已写入 {path}"),
    "from_cache": ("(unchanged since the last check)", "（与上次检查相比没有变化）"),
    "progress": ("{rows} rows checked, {speed} rows/s", "已检查 {rows} 行，每秒 {speed} 行"),
}
"""Key -> text in each language, in the order of LANGUAGES."""

FACTS: Mapping[str, tuple[str, str]] = {
    "rows_by_language": ("Languages", "语言"),
    "turns_by_role": ("Turns by role", "各角色的轮数"),
    "conversations_by_answers": ("Conversations by number of answers", "对话的回答轮数"),
    "most_frequent_systems": ("Most frequent system prompts", "最常见的系统提示"),
    "turns_by_role_and_token": ("Control tokens inside content", "内容中的控制词元"),
    "turns_by_placeholder": ("Placeholders", "占位符"),
    "calls_by_function": ("Calls by function", "各函数的调用次数"),
    "rows_by_label": ("Labels", "标签"),
    "labels": ("labels", "标签"),
    "label_entropy_bits": ("entropy of the labels, in bits", "标签的熵（比特）"),
    "right_choices_by_position": ("Position of the right choice", "正确选项的位置"),
    "pairs": ("pairs", "对"),
    "chosen_longer": ("chosen is longer", "被选中的更长"),
    "chosen_shorter": ("chosen is shorter", "被选中的更短"),
    "conversations": ("conversations", "对话"),
    "with_system": ("with a system prompt", "带系统提示"),
    "different_systems": ("different system prompts", "不同的系统提示"),
    "rows_with_tools": ("rows with tools", "带工具的行"),
    "rows_with_thoughts": ("rows with reasoning", "带思考过程的行"),
    "empty_thoughts": ("empty reasoning", "空的思考过程"),
    "answers": ("answers", "回答"),
    "one_word": ("of one word", "只有一个词的"),
    "mail_addresses": ("mail addresses", "邮箱地址"),
    "phone_or_identity_numbers": ("phone, identity or card numbers", "电话、身份证或卡号"),
    "rows_compared": ("rows compared with serving", "与推理时比对的行"),
    "answers_with_trained_stop": ("answers with a trained stop token", "停止词元参与训练的回答"),
    "pad_token": ("pad token", "填充词元"),
    "eos_token": ("end token", "结束词元"),
    "questions": ("questions with several answers", "有多种回答的问题"),
    "copies": ("copies", "重复的行"),
    "groups": ("groups", "组"),
    "exact": ("exact", "完全相同"),
    "normalised": ("but for case, spaces, punctuation", "仅大小写、空白、标点不同"),
    "near": ("nearly the same", "近似"),
    "held_out": ("held-out rows", "留出的行"),
    "question": ("same question", "问题相同"),
    "tokens": ("tokens", "词元"),
    "rows": ("rows in all", "总行数"),
}
"""Name of a check's fact -> title in each language; a fact without an entry is shown by its name."""

CHECKS: Mapping[str, tuple[str, str]] = {
    "answers": ("answers", "回答"),
    "balance": ("labels, choices, preferences and scores", "标签、选项、偏好与得分"),
    "begin_token": ("begin token", "起始词元"),
    "columns": ("columns", "列"),
    "conflicting_answers": ("conflicting answers", "矛盾的回答"),
    "control_tokens": ("control tokens", "控制词元"),
    "duplicates": ("duplicates", "重复"),
    "encoding": ("encoding", "编码"),
    "held_out": ("held-out rows", "留出数据"),
    "languages": ("languages", "语言"),
    "lengths": ("lengths", "长度"),
    "objective": ("objective", "训练目标"),
    "overlap": ("overlap with held-out rows", "与留出数据重叠"),
    "pad_is_eos": ("pad and end token", "填充与结束词元"),
    "placeholders": ("placeholders and private data", "占位符与隐私"),
    "reading": ("reading", "读取"),
    "reasoning": ("reasoning", "思考过程"),
    "roles": ("roles", "角色"),
    "same_as_serving": ("same as serving", "与推理一致"),
    "system_prompt": ("system prompt", "系统提示"),
    "tasks": ("tasks", "任务"),
    "tokenizer_language": ("tokenizer and language", "分词器与语言"),
    "tools": ("tools", "工具"),
    "unwritten": ("left out by the template", "模板没有写出的内容"),
    "trained_stop": ("trained stop", "停止词元"),
}
"""Name of a check -> title in each language."""


def both(key: str) -> tuple[str, str]:
    """Return the text of a key in both languages."""
    return WORDS[key]


def say(language: Language, key: str, **values: object) -> str:
    """Return the text of a key in one language, with values filled in."""
    return WORDS[key][LANGUAGES.index(language)].format(**values)


def called(names: Mapping[str, tuple[str, str]], name: str) -> tuple[str, str]:
    """Return the title of a fact or check in both languages."""
    plain = name.replace("_", " ")
    return names.get(name, (plain, plain))
