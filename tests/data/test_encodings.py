"""Encodings: Unicode is read in every form, others on request; unasked they are named, with what to type."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
from pydantic import ValidationError

from weitiao.core.errors import DataError
from weitiao.data.settings import SourceSettings
from weitiao.data.sources.encodings import likely_encoding
from weitiao.data.sources.sources import read_source

SIMPLIFIED = "中医理论认为，人体的健康取决于阴阳平衡。望、闻、问、切合称四诊。"
TRADITIONAL = "中醫理論認為，人體的健康取決於陰陽平衡。望、聞、問、切合稱四診。"
JAPANESE = "これは日本語の文章です。モデルの学習に使います。"
KOREAN = "한국어 문장을 학습하는 모델입니다. 오늘은 날씨가 아주 좋습니다."
RUSSIAN = "Это русский текст, на котором учится модель. Сегодня хорошая погода."
FRENCH = "Le modèle a été entraîné à Genève, déjà très bien préparé."
FOREIGN = [
    ("gbk", SIMPLIFIED, "GBK/GB18030"),
    ("gb18030", SIMPLIFIED + "𠀀", "GBK/GB18030"),
    ("gbk", "感冒怎么办", "GBK/GB18030"),
    ("gbk", "问题", "GBK/GB18030"),
    ("big5", TRADITIONAL, "Big5"),
    ("cp932", JAPANESE, "Shift-JIS"),
    ("euc-kr", KOREAN, "EUC-KR"),
    ("koi8-r", RUSSIAN, "KOI8-R"),
    ("cp1251", RUSSIAN, "Windows-1251"),
    ("latin-1", FRENCH, "Latin-1/Windows-1252"),
    ("cp1252", "“" + FRENCH + "”", "Latin-1/Windows-1252"),
    ("latin-1", "créée", "Latin-1/Windows-1252"),
]


def instructions(path: Path, encoding: str = "auto") -> list[str]:
    """Return the column `instruction` of a file."""
    return [
        row.fields["instruction"]
        for row in read_source(SourceSettings(path=str(path), encoding=encoding)).rows
    ]


@pytest.mark.parametrize(
    "codec",
    ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-32-be"],
)
@pytest.mark.parametrize("kind", ["json", "csv"])
def test_unicode_is_read(codec: str, kind: str, tmp_path: Path) -> None:
    text = {"json": '[{"instruction": "%s"}]', "csv": "instruction\n%s\n"}[kind] % SIMPLIFIED
    (tmp_path / f"a.{kind}").write_bytes(text.encode(codec))
    assert instructions(tmp_path / f"a.{kind}") == [SIMPLIFIED]


@pytest.mark.parametrize(("codec", "text", "title"), FOREIGN)
def test_others_are_named_with_what_to_type(codec: str, text: str, title: str, tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes((json.dumps({"instruction": "a"}) + '\n{"instruction": "' + text + '"}\n').encode(codec))
    with pytest.raises(DataError) as caught:
        instructions(path)
    (problem,) = caught.value.problems
    assert title in problem.what
    byte = len('{"instruction": "a"}\n{"instruction": "')
    assert f"{path}:2, byte " in problem.got
    first = next(n for n, one in enumerate(path.read_bytes()) if one > 127)
    assert first >= byte
    assert int(problem.got.partition("byte ")[2].split()[0]) in range(first, first + 3)
    setting, _, command = problem.remedy.partition("\n")
    # Both cures work, as they are written.
    assert instructions(path, setting.removeprefix("data.sources.encoding=").partition(",")[0]) == ["a", text]
    subprocess.run(command, shell=True, check=True)
    assert instructions(tmp_path / "a.utf8.jsonl") == ["a", text]


def test_bytes_that_are_no_text_are_not_given_a_name() -> None:
    assert likely_encoding(bytes(range(128, 256)) * 3) is None


@pytest.mark.parametrize("text", ["翻译：你好，世界", SIMPLIFIED, JAPANESE, RUSSIAN, FRENCH])
def test_utf8_with_a_damaged_byte_is_no_other_encoding(text: str, tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"instruction": "' + text.encode() + b'\xff"}\n')
    with pytest.raises(DataError) as caught:
        instructions(path)
    (problem,) = caught.value.problems
    assert "is not valid UTF-8 text" in problem.what
    assert "damaged there" in problem.remedy


def test_the_place_is_exact_far_into_a_file(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    good = (json.dumps({"instruction": SIMPLIFIED}, ensure_ascii=False) + "\n").encode()
    path.write_bytes(good * 30_000 + b'{"instruction": "\xff"}\n')
    with pytest.raises(DataError) as caught:
        instructions(path)
    (problem,) = caught.value.problems
    assert f"{path}:30001, byte {len(good) * 30_000 + 17} is 0xff" in problem.got
    assert "line 30001" in problem.remedy


def test_an_encoding_asked_for_in_vain_says_so(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes("instruction\n中文字".encode())
    with pytest.raises(DataError, match="not valid shift_jis text"):
        instructions(tmp_path / "a.csv", "shift_jis")
    with pytest.raises(ValidationError, match="did you mean gb18030"):
        SourceSettings(path="a.json", encoding="gb18003")
    with pytest.raises(ValidationError, match="no text encoding"):
        SourceSettings(path="a.json", encoding="base64")
