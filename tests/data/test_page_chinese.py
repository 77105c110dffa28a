"""The check's page and its report on a terminal, in Chinese: no English sentence is left in them.

The rows here are in Chinese, so every run of English words is the program's own.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable, Mapping, Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from transformers import PreTrainedTokenizerFast

from weitiao.cli._gate import GatePrinter
from weitiao.core.locale import in_language
from weitiao.data.checks import CHECKS
from weitiao.data.checks._kinds import Kind
from weitiao.data.gate.gate import Gate, open_data
from weitiao.data.report.html import page, rows_to_show
from weitiao.data.report.overview import Overview, overview
from weitiao.data.report.phrases import DETAILS, JSON_FAULTS, detail_in, place_in
from weitiao.data.report.token_view import Samples
from weitiao.data.settings import DataSettings

HAN = re.compile("[\u4e00-\u9fff]")
ENGLISH = re.compile(r"[A-Za-z]{2,}(?: [A-Za-z]{2,}){2,}")
"""Three words in a row, as in no setting, command or list of names."""
EXAMPLE_ROW = re.compile(r'\{"[^{}]*\}')
TOKENS = {"text", "en"}
"""Classes of elements that are not read: rows, with their template's own words, and what is shown in English."""
UNCLOSED = {"meta", "rect", "line", "br", "link"}


class Read(HTMLParser):
    """Reads what a page shows when its language is Chinese."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.said: list[str] = []
        self._skipped: list[bool] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        names = {*(given.get("class") or "").split()}
        skip = tag in ("style", "script") or bool(names & TOKENS)
        if tag not in UNCLOSED:
            self._skipped.append(skip or (bool(self._skipped) and self._skipped[-1]))
        self.said += [value or "" for name, value in attrs if name in ("aria-label", "title", "data-zh")]

    def handle_endtag(self, tag: str) -> None:
        if tag not in UNCLOSED:
            self._skipped.pop()

    def handle_data(self, data: str) -> None:
        if not self._skipped or not self._skipped[-1]:
            self.said.append(data)


def english_in(text: str) -> list[str]:
    return ENGLISH.findall(EXAMPLE_ROW.sub("", text))


def asked(question: str, answer: Any, **more: Any) -> dict[str, Any]:  # noqa: ANN401  (JSON)
    return {"instruction": question, "output": answer, **more}


def talk(*turns: Mapping[str, Any], **more: Any) -> dict[str, Any]:  # noqa: ANN401  (JSON)
    return {"messages": list(turns), **more}


def user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


def bot(text: str, **more: Any) -> dict[str, Any]:  # noqa: ANN401  (JSON)
    return {"role": "assistant", "content": text, **more}


LONG = "今天天气很好，我们一起去公园散步，看见许多孩子在玩。" * 12
CALL = {"type": "function", "function": {"name": "weather", "arguments": '{"city": "北京"}'}}
BROKEN = {"type": "function", "function": {"name": "weather", "arguments": "北京"}}
TOOLS = [{"type": "function", "function": {"name": "clock", "parameters": {}}}]

QUESTIONS: list[Any] = [
    *(asked(f"第{n}个问题是什么？", f"这是第{n}个问题的回答，内容各不相同。") for n in "一二三四五六七八九"),
    asked("第一个问题是什么？", "这是第一个问题的回答，内容各不相同。"),
    asked("第一个问题是什么？", "这是第一个问题的回答,内容各不相同"),
    asked("第一个问题是什么？", "另一个回答。"),
    asked("写得很长", LONG),
    asked("写得更长", LONG * 9),
    asked("请说明", "", quality="好"),
    asked("请说明", ["列表"], id=3),
    {"instruction": "没有回答"},
    "{坏的",
    '{"instruction": }',
    '["列表"]',
    asked("结束一轮的词元", "是 <|im_end|> 吗？"),
    asked("问候", "你好，{{name}}！[插入姓名]"),
    asked("密钥", "是 AKIAABCDEFGH12345678。"),
    asked("邮箱", "写给 li.lei@weitiao.cn，电话 13800138000。"),
    asked("图片", "<image>\n看图"),
    asked("乱码", "锟斤拷锟斤拷，好"),
    asked("乱码", "这是 CafÃ© 的例子"),
    asked("网页", "一&nbsp;二</p>"),
    asked("零宽", "零\u200b宽"),
    asked("换行", "一\r\n二\n三"),
    asked("公式", "等于 3 \times 4"),
    asked("拒答", "抱歉，我无法回答这个问题。"),
    asked("循环", "开始。" + "我一直在说同样的话。" * 20),
    asked("回声回声", "回声回声"),
    asked("标题", "### Response: 好"),
    asked("一个词", "好的"),
    asked("思考", "<think>没有结束"),
    asked("思考", "<think>\n\n</think>\n\n好的。"),
    asked("思考", "<think>想了想</think>\n"),
    asked("早上好用英文怎么说呢请告诉我", "Good morning, and have a nice day with all of your friends."),
    asked("任务", "完成。", task="翻译"),
    asked("任务", "也完成。", task="摘要"),
]
TURNS: list[Any] = [
    talk(user("北京天气"), bot("", tool_calls=[CALL]), {"role": "tool", "content": "晴"}, bot("晴天。")),
    talk(user("北京天气"), bot("", tool_calls=[BROKEN]), user("还有呢"), bot("没有了。"), tools=TOOLS),
    talk(user("时间"), bot("稍等。"), {"role": "tool", "content": "八点"}, bot("八点。")),
    talk(user("时间"), bot('<tool_call>{"name": "clock"</tool_call>')),
    talk({"role": "system", "content": " "}, user("你好吗"), bot("很好。")),
    talk({"role": "system", "content": "你是小微。"}, user("你是谁？"), bot("我是小微，由张三开发。")),
    talk(user("你是谁？"), bot("我是小微，由张三开发。")),
    talk(user("你是谁呀？"), bot("我叫小微，由张三开发。")),
    talk(bot("没有提问。")),
    talk(user("一"), user("二"), bot("三")),
    talk(user("轮次"), {"role": "陌生人", "content": "好"}),
    talk(user("轮次"), bot("回答", weight=0)),
    talk({**user("提问也训练"), "weight": 1}, bot("好的，知道了。")),
    talk(user("轮次"), {"content": "没有角色"}),
    talk(user("轮次"), bot(3)),  # type: ignore[arg-type]
    talk(),
    talk(user("有思考"), bot("好的。", reasoning_content="想了想")),
    talk({**user("有名字"), "name": "小李"}, bot("好的。")),
]
PAIRS: list[Any] = [
    {"prompt": f"第{n}问", "chosen": f"较好的{n}", "rejected": f"较差{n}"} for n in range(210)
] + [{"prompt": "同", "chosen": "一样", "rejected": "一样"}]
CLASSES: list[Any] = [{"text": f"第{n}段文字", "label": "少" if n == 7 else "多"} for n in range(220)]
TEXTS: list[Any] = [
    {"text": "甲" * 30},
    {"text": "<|im_start|>user\n问<|im_end|>\n<|im_start|>assistant\n答<|im_end|>"},
]

DATA: dict[str, tuple[Sequence[Any], dict[str, Any]]] = {
    "questions": (QUESTIONS, {"max_length": 200}),
    "cut": (QUESTIONS, {"max_length": 200, "overlong": "cut", "skip_bad_rows": True}),
    "most held out": (QUESTIONS[:14], {"held_out": 9}),
    "task templates": (QUESTIONS, {"task_templates": {"诗歌": "{instruction}"}}),
    "turns": (TURNS, {}),
    "pairs": (PAIRS, {}),
    "classes": (CLASSES, {}),
    "texts": (TEXTS, {}),
    "unknown columns": ([{"甲": 1, "乙": 2}], {}),
    "a misspelt mapping": (QUESTIONS[:3], {"columns": {"outptu": "答"}, "fill": {"nmae": "小微"}}),
    "a field without a column": (QUESTIONS[:3], {"template": "{instruction}{主题}"}),
    "all too long": ([asked("长", LONG * 9)], {"max_length": 30}),
}
Opened = Callable[..., tuple[Gate, Overview, Samples]]


@pytest.fixture
def opened(tmp_path: Path, chatml_tokenizer: PreTrainedTokenizerFast) -> Opened:
    def open_rows(name: str, model: bool) -> tuple[Gate, Overview, Samples]:
        rows, settings = DATA[name]
        path = tmp_path / "数据.jsonl"
        lines = [row if isinstance(row, str) else json.dumps(row, ensure_ascii=False) for row in rows]
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
        tokenizer = chatml_tokenizer if model else None
        given = DataSettings.model_validate({"sources": [str(path)], "held_out": 0, **settings})
        gate = open_data(given, tokenizer)
        trained = {"sft": {"conversation", "text"}} if name in ("pairs", "classes") else None
        return gate, overview(gate, trained), Samples(gate, tokenizer, {"conversation", "text"})

    return open_rows


@pytest.mark.parametrize("model", [True, False], ids=["model", "no model"])
@pytest.mark.parametrize("name", DATA)
def test_the_page_has_no_english_sentence(name: str, model: bool, opened: Opened) -> None:
    gate, view, samples = opened(name, model)
    shown = [samples.sample(row) for row in rows_to_show(view, samples)]
    said = Read(page(gate, view, shown, "zh")).said
    assert sum(bool(HAN.search(text)) for text in said) >= 15
    assert [found for text in said for found in english_in(text)] == []


@pytest.mark.parametrize("name", DATA)
def test_the_report_on_a_terminal_has_no_english_sentence(name: str, opened: Opened) -> None:
    gate, view, samples = opened(name, False)
    shown = [samples.sample(row) for row in samples.typical()]
    console = Console(file=io.StringIO(), width=400)
    GatePrinter(console, "zh").print(gate, view, shown)
    said = console.file.getvalue()  # type: ignore[attr-defined]
    assert english_in(said.partition("样本 ")[0]) == []


def kinds() -> list[tuple[str, Kind]]:
    """Return each kind of finding with its check."""
    found = []
    for name in CHECKS.names():
        check = CHECKS.load(name)
        module = vars(__import__(check.__module__, fromlist=["x"]))
        for value in (*module.values(), getattr(check, "kinds", {})):
            held = value.values() if isinstance(value, dict) else [value]
            found += [(name, one) for one in held if isinstance(one, Kind)]
    return found


def test_every_kind_of_finding_and_its_fix_are_in_chinese() -> None:
    assert len(kinds()) > 60
    for name, kind in kinds():
        for text in filter(None, (kind.what.replace("{detail}", "某"), kind.fix)):
            said = in_language(text, "zh")
            assert HAN.search(said) and not english_in(said), (name, text)


def test_details_are_said_in_chinese_and_text_of_the_data_stays() -> None:
    assert place_in("turn 2.json:3: turn 2 is user", "zh") == "turn 2.json:3: 第 2 轮是 user"
    assert place_in("a.json:1: 30 rows: See 4 tokens", "zh") == "a.json:1: 30 行：See 4 tokens"
    assert place_in("a.json:1: the answer is empty", "zh") == "a.json:1: the answer is empty"
    assert place_in("a.json:1: turn 4: an answer is empty", "zh") == "a.json:1: turn 4: an answer is empty"
    assert place_in("a.json:1", "zh") == "a.json:1"
    assert place_in("a.json:1: turn 4", "en") == "a.json:1: turn 4"
    said = {detail: detail_in(detail, "zh") for detail in ("turn 4", "it has 'a', 'text'", "4.5")}
    assert [*said.values()] == ["第 4 轮", "有 'a'、'text'", "4.5"]


@pytest.mark.parametrize("english", [*DETAILS, *JSON_FAULTS])
def test_every_detail_has_its_chinese(english: str) -> None:
    said = re.sub(r"\{\w+:number\}", "7", english)
    said = re.sub(r"\{\w+(?::word)?\}", "甲", said)
    assert HAN.search(detail_in(said, "zh").replace("甲", "")), english
