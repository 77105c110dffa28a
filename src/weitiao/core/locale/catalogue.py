"""The catalogue of translations: finds the entry that a finished English text was made from, and fills in its fields.

A field is written `{name}` in both languages. In the English sentence, `{name:number}` matches only a number,
`{name:word}` only text without spaces and `{name:plural}` only the ending of a plural. In the translation,
`{name:text}` translates the field itself, and `{name:list}` each item of a list such as `a, b or c`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from functools import cache, lru_cache, partial
from itertools import chain, zip_longest
from pathlib import Path

import yaml

CHINESE = Path(__file__).with_name("zh.yaml")

FIELD = re.compile(r"\{(\w+)(?::(\w+))?\}")
SEPARATORS = re.compile(r"(\n+|; |: |, | \(|\)|\. |\.$|\.\n)")
"""What joins sentences and parts of them."""
CHINESE_SEPARATORS: Mapping[str, str] = {
    "; ": "；", ": ": "：", ", ": "，", " (": "（", ")": "）", ". ": "。", ".": "。", ".\n": "。\n",
}  # fmt: skip
ITEMS = re.compile(r"(, | and | or )")
CHINESE_ITEMS: Mapping[str, str] = {", ": "、", " and ": "和", " or ": "或"}

MATCHES: Mapping[str | None, str] = {
    "number": r"([-+\d.,]+(?: ?%)?)", "word": r"(\S+)", "plural": "(s|es|)", None: "(.*?)",
}  # fmt: skip
"""Kind of a field in the English sentence -> the pattern of its values."""

FEWEST_LETTERS = 3
"""Fewest letters outside fields of an entry that has some; with fewer it would match texts that are not its own."""


def skeleton(sentence: str) -> str:
    """Return a sentence with its fields' names left out: what an entry and a string of the code have in common."""
    return FIELD.sub("{}", sentence)


class Entry:
    """One sentence with fields, and its translation."""

    def __init__(self, english: str, translation: str) -> None:
        """Compile the sentence into a pattern."""
        self.translation = translation
        literals = FIELD.split(english)[::3]
        fields = list(FIELD.finditer(english))
        self.names = [field[1] for field in fields]
        self.letters = sum(map(len, literals))
        self.longest = max(literals, key=len)
        values = [MATCHES[field[2]] for field in fields]
        parts = chain.from_iterable(zip_longest(map(re.escape, literals), values, fillvalue=""))
        self._pattern = re.compile("".join(parts), re.DOTALL)

    def fields(self, text: str) -> dict[str, str] | None:
        """Return the fields' values in a text, None if the text was not made from this sentence."""
        found = self._pattern.fullmatch(text) if self.longest in text else None
        return dict(zip(self.names, found.groups(), strict=True)) if found else None


class Catalogue:
    """Translations by their English sentence."""

    def __init__(self, entries: Mapping[str, str]) -> None:
        """Index the entries; of those that match one text, the entry with most text of its own is taken."""
        self.entries = dict(entries)
        with_fields = (Entry(english, said) for english, said in entries.items() if FIELD.search(english))
        self._with_fields = sorted(with_fields, key=lambda entry: -entry.letters)
        self._found: Callable[[str], str | None] = lru_cache(maxsize=8192)(self._find)

    def translate(self, text: str) -> str:
        """Return a text's translation; without an entry of its own, each part of it that has one is translated."""
        found = self._found(text)
        return self._by_parts(text) if found is None else found

    def has(self, text: str) -> bool:
        """Return whether a text has an entry of its own."""
        return self._found(text) is not None

    def _find(self, text: str) -> str | None:
        if text in self.entries:
            return FIELD.sub(lambda found: f"{{{found[1]}}}", self.entries[text])
        for entry in self._with_fields:
            values = entry.fields(text)
            if values is not None:
                return FIELD.sub(partial(self._field, values), entry.translation)
        return None

    def _field(self, values: Mapping[str, str], found: re.Match[str]) -> str:
        value, kind = values[found[1]], found[2]
        if kind == "list":
            return "".join(CHINESE_ITEMS.get(part, part) for part in map(self.translate, ITEMS.split(value)))
        return self.translate(value) if kind == "text" else value

    def _by_parts(self, text: str) -> str:
        """Return a text with each part of several words that has an entry translated, and the separators beside it."""
        parts = SEPARATORS.split(text)
        said = [self._found(part) if " " in part.strip() else None for part in parts[::2]]
        if len(parts) < 3 or not any(said):
            return text
        return "".join(self._joined(parts, said))

    @staticmethod
    def _joined(parts: list[str], said: list[str | None]) -> Iterator[str]:
        for number, translation in enumerate(said):
            yield parts[2 * number] if translation is None else translation
            if 2 * number + 1 < len(parts):
                beside = translation or (said[number + 1] if number + 1 < len(said) else None)
                separator = parts[2 * number + 1]
                yield CHINESE_SEPARATORS.get(separator, separator) if beside else separator


@cache
def chinese_catalogue() -> Catalogue:
    """Return the Chinese catalogue, read once."""
    return Catalogue(read_entries(CHINESE))


def read_entries(path: Path) -> dict[str, str]:
    """Return the entries of a catalogue's file, English sentence -> translation."""
    loader = yaml.CSafeLoader if yaml.__with_libyaml__ else yaml.SafeLoader
    with path.open(encoding="utf-8") as file:
        return dict(yaml.load(file, loader))
