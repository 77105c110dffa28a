"""Translates the reasons why rows cannot be used into Chinese: patterns of the reasons, and of phrases in them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache, lru_cache

from ..templates.render import REASONS as LENGTHS

SAYS: Mapping[str, str] = {
    "a label, such as whether an answer is wanted": "标签（例如要不要这个回答）",
    "how good an answer is": "回答的好坏",
    "a better or a worse answer": "更好或更差的回答",
    "images, video or sound": "图片、视频或声音",
    "how much something counts in the loss": "在损失里占多少",
    "functions or their calls": "函数或函数调用",
    "text of a turn": "轮次的文字",
    "text of the prompt": "提示的文字",
    "text of an answer": "回答的文字",
    "text beside the prompt and the answer": "提示和回答以外的文字",
    "what another column was taken for": "与另一列相同用途的内容",
}
"""Phrases for the content of an unused column."""
KINDS: Mapping[str, str] = {
    "null": "空值（null）",
    "true or false": "真假值",
    "a number": "数字",
    "a list": "列表",
    "an object": "对象",
    "text": "文本",
}
"""Phrases for the type of a value."""
ENDS: Mapping[str, str] = {
    "it begins with an answer": "开头就是回答",
    "it begins with a tool's result": "开头就是工具结果",
    "two questions in a row": "连续两个问题",
    "a tool's result without a call": "有工具结果而没有调用",
    "two answers in a row": "连续两个回答",
    "a call without its result": "有调用而没有结果",
    "a tool's result without an answer": "有工具结果而没有回答",
    "a system message stands behind the first turn": "系统消息不在第一轮之前",
}
"""Phrases for how turns are out of order."""
PHRASES: Mapping[str, str] = {
    **SAYS,
    **KINDS,
    **ENDS,
    "a call of a tool": "函数调用",
    "the right answer": "正确答案",
    "a choice": "选项",
    "a turn's weights": "轮次的权重",
    "weights": "权重",
}
WITHIN: tuple[tuple[str, str], ...] = (
    (r"the first of ('.*?')", r"\1 的第一项"),
    (r"one of ('.*?')", r"\1 中的一项"),
    (r"a turn's ('.*?')", r"轮次的 \1"),
    (r"a part's ('.*?')", r"内容部分的 \1"),
    (r"a call's ('.*?')", r"调用的 \1"),
    (r"a label in ('.*?')", r"\1 里的标签"),
    (r" or the columns 'A', 'B', \.\.\.", " 或列 'A'、'B'……"),
    (r"' or '", "' 或 '"),
    (r"' and '", "' 和 '"),
    (r"' or ", "' 或 "),
    (
        r"data\.sources\.ignore_columns=(.+) reads the rows without it",
        r"data.sources.ignore_columns=\1 去掉它再读",
    ),
    (r"(data\.columns\.\S+) reads it before the question; ", r"\1 把它放在问题之前；"),
    (r"; (data\.columns\.\S+) makes it the label of KTO", r"；\1 把它当作 KTO 的标签"),
    (r" makes it the answer to the text; ", " 把它当作对文本的回答；"),
    (r" makes the text its answer; ", " 把文本当作它的回答；"),
)
"""Regular expression for a part of a phrase -> its replacement in Chinese."""

PATTERNS: Mapping[str, str] = {
    "{} holds {}, which would not be used ({})": "{} 含有{}，但不会被用到（{}）",
    "{} says that the row is not one to train on (data.skip_bad_rows=true leaves such rows out; {} trains on them)":
        "{} 说明这条数据不用于训练（data.skip_bad_rows=true 跳过这样的数据；{} 照样训练）",
    "{} says that the row is not one to train on (data.skip_bad_rows=true leaves such rows out; {} trains on them{})":
        "{} 说明这条数据不用于训练（data.skip_bad_rows=true 跳过这样的数据；{} 照样训练{}）",
    "its turns are out of order: {}": "轮次的顺序不对：{}",
    "it ends with a question": "结尾是问题",
    "it ends with a tool's result": "结尾是工具结果",
    "it has two system messages": "有两条系统消息",
    "it has no answer (no assistant turn)": "没有回答（没有 assistant 轮次）",
    "an answer is empty": "回答是空的",
    "a question is empty": "问题是空的",
    "a choice is empty": "选项是空的",
    "no answer of it is trained (every weight is 0)": "没有一个回答参与训练（权重都是 0）",
    "a turn's 'role' is missing": "轮次缺少 'role'",
    "a turn in {} is {}, not an object": "{} 里有一轮是{}，不是对象",
    "a turn has two keys of one speaker": "一轮里有两个键是同一个说话人",
    "a turn has no {}": "轮次没有 {}",
    "the role {} is unknown": "不认识角色 {}",
    "a part of a turn's 'content' is {}, not an object": "轮次 'content' 的一部分是{}，不是对象",
    "it holds images or other parts that are not text, which cannot be trained on yet":
        "含有图片等不是文字的内容，目前不能训练",
    "a turn that is not the assistant's calls tools": "不是 assistant 的轮次在调用函数",
    "a call of a tool is {}, not an object": "函数调用是{}，不是对象",
    "a call of a tool has no 'name'": "函数调用没有 'name'",
    "a call's 'arguments' is {}, not an object": "调用的 'arguments' 是{}，不是对象",
    "a tool in {} is {}, not an object": "{} 里有一个工具是{}，不是对象",
    "a tool in {} has no 'name'": "{} 里有一个工具没有 'name'",
    "the calls of one answer have different weights": "同一个回答的几个调用权重不同",
    "two calls of one answer have the same id": "同一个回答的两个调用编号相同",
    "two results of tools have the same tool_call_id": "两个工具结果的 tool_call_id 相同",
    "a tool's result has the tool_call_id of no call in the answer before it":
        "工具结果的 tool_call_id 不属于前一个回答的任何调用",
    "a turn's weight and 'loss_mask' contradict each other": "轮次的权重与 'loss_mask' 互相矛盾",
    "{} contradict each other": "{}互相矛盾",
    "{} has not one number for each turn": "{} 的个数与轮数不同",
    "'history' is not a list of [question, answer] pairs": "'history' 不是 [问题, 回答] 的列表",
    "{} holds a thought, and so does the answer": "{} 里有思考过程，回答里也有",
    "{} is {} where text was meant": "{} 应为文本，却是{}",
    "{} is {} where a list was meant": "{} 应为列表，却是{}",
    "{} is {} where a name was meant": "{} 应为名称，却是{}",
    "{} is {} where an object was meant": "{} 应为对象，却是{}",
    "{} is {} that is no label": "{} 是{}，不能作标签",
    "{} is true or false, which can mean both; write 1 for trained, 0 for not":
        "{} 是真假值，两种意思都可能；请写 1（训练）或 0（不训练）",
    "{} is text that is not a JSON list": "{} 是文本，却不是 JSON 列表",
    "{} is text that is not a JSON object": "{} 是文本，却不是 JSON 对象",
    "{} holds a number that JSON cannot carry (infinite, no number, or of over 4,300 digits)":
        "{} 含有 JSON 写不了的数（无穷、非数或超过 4,300 位）",
    "{} holds half a character (a lone surrogate)": "{} 含有半个字符（孤立代理项）",
    "{} is a number of too many digits": "{} 是位数太多的数",
    "{} is no finite number": "{} 不是有限的数",
    "{} is neither true nor false": "{} 既不是真也不是假",
    "{} is neither 0 nor 1": "{} 既不是 0 也不是 1",
    "{} is below 0": "{} 小于 0",
    "{} is above {}": "{} 大于 {}",
    "{} is an empty list": "{} 是空列表",
    "{} is empty": "{} 是空的",
    "{} is missing": "缺少 {}",
    "{} is no list of choices": "{} 不是选项的列表",
    "there are fewer than two different choices, or two are the same": "不同的选项少于两个，或有两个相同",
    "the right answer's index is not among the choices": "正确答案的序号不在选项之内",
    "the right answer is none of the choices": "正确答案不在选项之中",
    "{} names a label twice": "{} 里同一个标签出现两次",
    "{} is no object of two languages": "{} 不是含两种语言的对象",
    "{} is no object of two numbers, chosen and rejected": "{} 不是含 chosen 和 rejected 两个数的对象",
    "'chosen' and 'rejected' are the same": "'chosen' 和 'rejected' 相同",
    "'chosen' and 'rejected' do not begin with the same question": "'chosen' 和 'rejected' 的开头不是同一个问题",
    "'prompt' is not how 'chosen' begins": "'chosen' 的开头不是 'prompt'",
    "margin and scores say different things": "margin 与得分互相矛盾",
    "of {} and {} only one is there": "{} 和 {} 只有一个",
    "one of {} has no start, end and label": "{} 中有一项没有 start、end 和 label",
    "two of {} lie over each other": "{} 中有两项重叠",
    "a span lies outside its text": "区间超出了文本",
    "a span begins or ends inside a word": "区间的起止落在词的中间",
    "{} and {} are not equally many": "{} 与 {} 的个数不同",
    "{} holds {} where an answer was meant": "{} 里应为回答，却有{}",
    "{} beside 'input_ids' cannot be trained": "'input_ids' 旁边的 {} 不能训练",
    "{} holds something else than whole numbers": "{} 里有不是整数的内容",
    "{} holds other numbers than 0 and 1": "{} 里有 0 和 1 以外的数",
    "'attention_mask' leaves no token": "'attention_mask' 没有留下任何词元",
    "'attention_mask' hides tokens between others": "'attention_mask' 遮住了中间的词元",
    "'position_ids' does not count from 0: the row holds several texts, write a row for each":
        "'position_ids' 不从 0 数起：这一行有几段文本，请每段写成一行",
    "'input_ids' holds a number below 0": "'input_ids' 里有小于 0 的数",
    "'input_ids' holds a number outside of the vocabulary": "'input_ids' 里有词表以外的数",
    "'labels' is neither -100 nor the token at the same place (it may be shifted)":
        "'labels' 既不是 -100，也不是同一位置的词元（可能错了位）",
    "{} holds {}": "{} 含有{}",
    "'current_node' names no message": "'current_node' 没有指向任何消息",
    "a message of 'mapping' that the conversation leads to is not there": "'mapping' 里缺少对话所指的消息",
    "a message of 'mapping' is {} where an object was meant": "'mapping' 的一条消息应为对象，却是{}",
    "the messages of 'mapping' lead in a circle": "'mapping' 的消息绕成了圈",
    "a message's 'thoughts' is no list": "消息的 'thoughts' 不是列表",
    "it calls tools of ChatGPT's own, which are not described in it": "调用了 ChatGPT 自带的工具，数据里没有描述",
    "it is not an object {...}": "不是对象 {...}",
    "it holds a whole number of more than 4,300 digits": "含有超过 4,300 位的整数",
    "it is nested deeper than {} levels": "嵌套超过 {} 层",
    'a turn has no question: if it is a text to learn, as in XTuner, write {"text": "..."}':
        '轮次没有问题：若是要学的文本（XTuner 的写法），请写成 {"text": "..."}',
    "the datasets server has cut its cells: download the data set itself":
        "datasets server 截断了它的单元格：请下载数据集本身",
    "it holds text that is not in UTF-8": "含有不是 UTF-8 的文字",
    "it holds a NUL byte": "含有 NUL 字节",
    "the line is not JSON": "这一行不是 JSON",
    "the line is longer than {} characters": "这一行超过 {} 个字符",
    "it is longer than {} characters": "超过 {} 个字符",
    "it has more or fewer than {} cells": "单元格多于或少于 {} 个",
    "it has more than {} cells": "单元格多于 {} 个",
    "its quotes are not as in a table": "引号不合表格的写法",
    "the chat template refuses it": "对话模板拒绝这条数据",
    "the chat template writes an answer otherwise than behind its prompt": "对话模板写出的回答与接在提示后面的不同",
    "the chat template ends an answer with no token that generation stops on": "对话模板结束回答时没有让生成停止的词元",
    "a message's weight cannot be placed: the chat template changes earlier turns":
        "无法安放消息的权重：对话模板会改动前面的轮次",
    **{one.replace("{max_length}", "{}"): said.replace("{max_length}", "{}") for one, said in LENGTHS.items()},
}  # fmt: skip
"""A reason, with `{}` for variable text -> the same in Chinese, with as many `{}`; the first match wins."""


@lru_cache(maxsize=4096)
def reason_zh(reason: str) -> str:
    """Return a reason in Chinese, unchanged if there is no translation."""
    for pattern, chinese in _patterns():
        if found := pattern.fullmatch(reason):
            pieces = chinese.split("{}")
            given = [_phrase(one) for one in found.groups()]
            return pieces[0] + "".join(one + rest for one, rest in zip(given, pieces[1:], strict=True))
    return reason


@cache
def _patterns() -> list[tuple[re.Pattern[str], str]]:
    return [
        (re.compile(re.escape(english).replace(r"\{\}", "(.+?)"), re.DOTALL), chinese)
        for english, chinese in PATTERNS.items()
    ]


def _phrase(text: str) -> str:
    """Return a part of a reason in Chinese; names and numbers stay unchanged."""
    if text in PHRASES:
        return PHRASES[text]
    for english, chinese in WITHIN:
        text = re.sub(english, chinese, text)
    return text
