"""What reading data says is said in Chinese as a whole, whatever it is composed of."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from weitiao.core.errors import DataError, Problem
from weitiao.core.locale import in_language
from weitiao.data.dataset import check_data
from weitiao.data.settings import DataSettings


def problems(path: Path, content: str) -> tuple[Problem, ...]:
    path.write_text(content, encoding="utf-8")
    with pytest.raises(DataError) as caught:
        check_data(DataSettings(sources=[{"path": path}]))
    return caught.value.problems


def chinese(text: str) -> str:
    return in_language(text, "zh")


ASKED = {"instruction": "q", "output": "a"}


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"instruction": "q"}, "缺少 'output'"),
        ({**ASKED, "output": ["a"]}, "'output' 应为文本，却是列表"),
        ({**ASKED, "history": "x"}, "'history' 应为列表，却是文本"),
        (
            {**ASKED, "score": 3},
            "'score' 含有回答的好坏，但不会被用到（data.sources.ignore_columns=score 读取时忽略它）",
        ),
        (
            {**ASKED, "text": "something else entirely"},
            "'text' 含有提示和回答以外的文字，但不会被用到（data.columns.context=text 把它放在问题前面；"
            "data.sources.ignore_columns=text 读取时忽略它）",
        ),
        (
            {**ASKED, "is_good": False},
            "'is_good' 标明这条数据不用于训练（data.skip_bad_rows=true 跳过这样的数据；"
            "data.sources.ignore_columns=is_good 照样训练；data.columns.label=is_good 把它用作 KTO 的标签）",
        ),
    ],
)  # fmt: skip
def test_why_a_row_cannot_be_used(tmp_path: Path, row: dict[str, object], said: str) -> None:
    (found,) = problems(tmp_path / "a.json", json.dumps([ASKED, ASKED, row]))
    assert chinese(found.what) == f"3 条数据中有 1 条无法使用：{said}"


@pytest.mark.parametrize(
    ("name", "content", "what", "remedy"),
    [
        ("a.json", "[", "{path} 不是有效的 JSON", "文件提前结束，可能不完整：请重新复制或下载"),
        ("a.json", "%PDF-1.4", "{path} 的内容为：PDF 文档", "把文字复制到 .txt 文件"),
        ("a.json", "PK\x03\x04", "{path} 的内容为：zip 压缩包", "解压后使用其中的数据文件；Excel 文件的名字应为 .xlsx"),
        (
            "a.csv",
            "foo,bar\n1,2\n",
            "{path} 的列不符合任何格式",
            "请指明你的列，例如 data.columns.instruction=QUESTION data.columns.output=ANSWER；"
            "若第一行已是数据，请在上面加一行列名，例如 instruction,output",
        ),
        (
            "a.json",
            '{"train": [{"a": 1}], "test": [{"a": 2}]}',
            "{path} 含有数据集的 2 个划分（train、test），各是一个数据的列表",
            "把每个列表写成单独的文件：data.sources=train.json data.held_out_path=test.json",
        ),
    ],
)  # fmt: skip
def test_why_a_file_cannot_be_read(tmp_path: Path, name: str, content: str, what: str, remedy: str) -> None:
    path = tmp_path / name
    (found,) = problems(path, content)
    assert (chinese(found.what), chinese(found.remedy)) == (what.format(path=path), remedy)
