"""Encodings: Unicode is read in every form, anything else is named with the command that converts it."""

from __future__ import annotations

from pathlib import Path

import pytest

from weitiao.core.errors import DataError
from weitiao.data.encodings import likely_encoding, read_text

SIMPLIFIED = "中医理论认为，人体的健康取决于阴阳平衡。望、闻、问、切合称四诊。"
TRADITIONAL = "中醫理論認為，人體的健康取決於陰陽平衡。望、聞、問、切合稱四診。"
JAPANESE = "これは日本語の文章です。モデルの学習に使います。"
FRENCH = "Le modèle a été entraîné à Genève, déjà très bien préparé."


@pytest.mark.parametrize("codec", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_unicode_is_read(codec: str, tmp_path: Path) -> None:
    text = '{"instruction": "' + SIMPLIFIED + '"}'
    (tmp_path / "a.json").write_bytes(text.encode(codec))
    assert read_text(tmp_path / "a.json") == text


@pytest.mark.parametrize(
    ("codec", "text", "title"),
    [
        ("gbk", SIMPLIFIED, "GBK/GB18030"),
        ("big5", TRADITIONAL, "Big5"),
        ("cp932", JAPANESE, "Shift-JIS"),
        ("latin-1", FRENCH, "Latin-1/Windows-1252"),
        ("latin-1", "créée", "Latin-1/Windows-1252"),
    ],
)
def test_others_are_named_with_the_command_that_converts(
    codec: str, text: str, title: str, tmp_path: Path
) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(('[\n{"instruction": "' + text + '"}]').encode(codec))
    with pytest.raises(DataError) as caught:
        read_text(path)
    (problem,) = caught.value.problems
    assert title in problem.what
    assert f"{path}:2" in problem.got
    iconv, codec_name, rest = problem.remedy.partition(problem.remedy.split()[2])
    assert (iconv, rest) == ("iconv -f ", f" -t UTF-8 {path} > {tmp_path / 'a.utf8.json'}")
    assert text.encode(codec).decode(codec_name) == text


def test_bytes_that_are_no_text_are_not_given_a_name() -> None:
    assert likely_encoding(bytes(range(128, 256)) * 3) is None
