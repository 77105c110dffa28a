"""Every sentence a person can be shown has its Chinese in the one catalogue, and the catalogue has no other."""

from __future__ import annotations

import ast
import re
from collections import Counter

import pytest

from shown_sentences import all_sentences, every_text, texts_in, without_chinese
from source_code import ROOT
from weitiao.core.errors import Problem
from weitiao.core.locale import in_language, language_from, use_language
from weitiao.core.locale.catalogue import (
    CHINESE,
    FEWEST_LETTERS,
    FIELD,
    MATCHES,
    Catalogue,
    chinese_catalogue,
    skeleton,
)

ROOMS = (
    "described", "components", "core", "data", "models", "methods", "objectives", "engine", "evaluation", "recipe",
    "serving", "cli", "package",
)  # fmt: skip
HAN = re.compile(r"[\u3000-\u9fff\uff00-\uffef]")
KEY = re.compile(r'^"(?:[^"\\]|\\.)*"(?=:)', re.MULTILINE)


def translated() -> set[str]:
    """Return the English side of every entry, as `skeleton` gives it."""
    return {skeleton(english) for english in chinese_catalogue().entries}


def test_every_room_is_looked_at() -> None:
    assert {*ROOMS} >= {room for room, found in all_sentences().items() if found}


@pytest.mark.parametrize("room", [room for room in ROOMS if room != "components"])
def test_every_sentence_has_its_chinese(room: str) -> None:
    missing = without_chinese([room])
    assert missing == {}, f"{len(missing)} sentences are not in {CHINESE.name}"


def test_no_entry_is_of_a_sentence_that_is_gone() -> None:
    said = every_text()
    assert sorted(translated() - said) == []


def test_every_entry_is_in_chinese_and_has_the_fields_of_its_sentence() -> None:
    for english, chinese in chinese_catalogue().entries.items():
        assert HAN.search(chinese) or chinese == english, english
        fields = {found[1] for found in FIELD.finditer(english)}
        assert {found[1] for found in FIELD.finditer(chinese)} <= fields, english
        assert {found[2] for found in FIELD.finditer(english)} <= {None, *MATCHES}, english
        assert {found[2] for found in FIELD.finditer(chinese)} <= {None, "text", "list", "names"}, english
        letters = len(re.sub(r"[^A-Za-z]", "", FIELD.sub("", english)))
        only_numbers = {found[2] for found in FIELD.finditer(english)} == {"number"}
        assert not fields or letters >= FEWEST_LETTERS or (letters and only_numbers), english


def test_no_sentence_is_there_twice() -> None:
    keys = Counter(KEY.findall(CHINESE.read_text(encoding="utf-8")))
    assert [key for key, count in keys.items() if count > 1] == []
    assert len(keys) == len(chinese_catalogue().entries)
    alike = Counter(FIELD.sub(r"{\2}", english) for english in chinese_catalogue().entries)
    assert [english for english, count in alike.items() if count > 1] == [], (
        "they differ in names of fields only"
    )


def test_sentences_are_found_in_code() -> None:
    code = """
x = f"there is no {kind} called " + name
if y:
    'a doc string'
    z = "one" if y else f"{f('a b c')} d"
"""
    found = [text for _, text in texts_in(ast.parse(code))]
    assert found == ["there is no {} called {}", "one", "{} d", "a b c"]


def test_an_entry_fills_its_fields_in() -> None:
    catalogue = Catalogue(
        {
            "there is no {kind} called {name}": "没有名为 {name} 的{kind:text}",
            "method": "方法",
            "one of {names}": "其中之一：{names:list}",
            "one of {names} of the registry": "登记的 {names} 之一",
            "the data": "数据",
            "{n:number} rows": "{n} 行",
            "it has {names}": "有 {names:names}",
            "{n:number} box{s:plural}": "{n} 盒",
            "{n:number} m": "{n} 米",
        }
    )
    assert catalogue.translate("there is no method called 'lorra'") == "没有名为 'lorra' 的方法"
    assert catalogue.translate("one of a, b or c") == "其中之一：a、b 或 c"
    assert catalogue.translate("one of a of the registry") == "登记的 a 之一", "the longer sentence wins"
    assert catalogue.translate("x.json: the data; there is no method called y") == (
        "x.json：数据；没有名为 y 的方法"
    )
    assert catalogue.translate("1,024 rows") == "1,024 行"
    assert catalogue.translate("3 m") == "3 米", "however short it is"
    assert catalogue.translate("it has method, data and x") == "有 method、data 和 x", "names stay"
    assert [catalogue.translate(text) for text in ("1 box", "2 boxes", "2 boxes of x")] == [
        "1 盒",
        "2 盒",
        "2 boxes of x",
    ]
    assert catalogue.translate("some rows") == "some rows"
    assert catalogue.translate("a, b: c") == "a, b: c"


def test_the_entry_that_explains_most_of_a_text_is_taken() -> None:
    catalogue = Catalogue(
        {
            "rows cannot be used: {reason}": "无法使用：{reason:text}",
            "{name} holds {what}, which would not be used": "{name} 含有{what:text}，但不会被用到",
            "{name} holds {what}": "{name} 含有{what}",
            "text of the prompt": "提示的文字",
            "rows cannot be used": "行",
        }
    )
    said = "rows cannot be used: 'x' holds text of the prompt, which would not be used"
    assert catalogue.translate(said) == "无法使用：'x' 含有提示的文字，但不会被用到"
    assert catalogue.translate(f"{said}; rows cannot be used") == (
        "无法使用：'x' 含有提示的文字，但不会被用到；行"
    ), "parts explain more than the short entry that spans them"
    assert catalogue.translate("rows cannot be used (a.json:1, a.json:2): text of the prompt") == (
        "行（a.json:1, a.json:2）：提示的文字"
    ), "a bracket that a Chinese phrase opens is closed by a Chinese one"


@pytest.mark.parametrize(
    ("environment", "language"),
    [
        ({}, "en"),
        ({"LANG": "zh_CN.UTF-8"}, "zh"),
        ({"LANG": "zh_CN.UTF-8", "LC_ALL": "en_US.UTF-8"}, "en"),
        ({"LANG": "en_US.UTF-8", "WEITIAO_LANG": "zh"}, "zh"),
        ({"LANG": "zh_CN.UTF-8", "WEITIAO_LANG": ""}, "zh"),
    ],
)
def test_the_environment_chooses_the_language(environment: dict[str, str], language: str) -> None:
    assert language_from(environment) == language


def test_english_is_left_as_it_is() -> None:
    assert in_language("done", "en") == "done"
    assert in_language("done", "zh") == "完成"
    assert (ROOT / "docs" / "zh").is_dir()


def test_a_value_that_was_given_stays_as_it_was_typed() -> None:
    problem = Problem("there is no setting x", "training", "one of a, b", "a=1 or b=2")
    with use_language("zh"):
        said = str(problem).split("\n")
        assert said[1].split() == ["实际", "training"], "a word that is in the catalogue too"
        assert "Name or service not known" in str(Problem("x", "Name or service not known"))
        assert said[3].split() == ["可试", "a=1", "或", "b=2"]
