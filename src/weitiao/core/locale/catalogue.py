"""The catalogue of translations: finds the entry that a finished English text was made from, and fills in its fields.

A field is written `{name}` in both languages. In the English sentence, `{name:number}` matches only a number, with a
unit such as `MiB` or `%`, `{name:word}` only text without spaces and `{name:plural}` only the ending of a plural. In
the translation, `{name:text}` translates the field itself, `{name:list}` each item of a list such as `a, b or c`, and
`{name:names}` what joins the items, which are names and stay as they are.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache, cached_property, lru_cache
from itertools import chain, zip_longest
from pathlib import Path
from typing import NamedTuple

import yaml

CHINESE = Path(__file__).with_name("zh.yaml")

FIELD = re.compile(r"\{(\w+)(?::(\w+))?\}")
SEPARATORS = re.compile(r"(\n+|; |: |, | \(|\)|\. |\.$|\.\n)")
"""What joins sentences and parts of them."""
CHINESE_SEPARATORS: Mapping[str, str] = {
    "; ": "；", ": ": "：", ", ": "，", " (": "（", ")": "）", ". ": "。", ".": "。", ".\n": "。\n",
}  # fmt: skip
TWO_WORDS = re.compile(r"[A-Za-z]{2,}[,;:'\")]* \(?[a-z]+")
"""What makes a string a sentence rather than a name, a number or a command."""
ITEMS = re.compile(r"(, | and | or )")
CHINESE_ITEMS: Mapping[str, str] = {", ": "、", " and ": "和", " or ": "或"}
BETWEEN_NAMES: Mapping[str, str] = {", ": "、", " and ": " 和 ", " or ": " 或 "}

MATCHES: Mapping[str | None, str] = {
    "number": r"([-+\d.,:]+(?: ?(?:%|[A-Za-z]{1,3}))?)",
    "word": r"(\S+)",
    "plural": "(s|es|)",
    None: "(.*?)",
}
"""Kind of a field in the English sentence -> the pattern of its values."""

FEWEST_LETTERS = 3
"""Fewest letters outside fields of an entry that has some; with fewer it would match texts that are not its own."""


def skeleton(sentence: str) -> str:
    """Return a sentence with its fields' names left out: what an entry and a string of the code have in common."""
    return FIELD.sub("{}", sentence)


class Entry:
    """One sentence with fields, and its translation."""

    def __init__(self, english: str, translation: str) -> None:
        """Take the sentence apart; its pattern is compiled when a text may match it, as most are not needed."""
        self.translation = translation
        literals = FIELD.split(english)[::3]
        fields = list(FIELD.finditer(english))
        self.names = [field[1] for field in fields]
        self.letters = sum(map(len, literals))
        self.longest = max(literals, key=len)
        values = [MATCHES[field[2]] for field in fields]
        self._parts = [*chain.from_iterable(zip_longest(map(re.escape, literals), values, fillvalue=""))]

    @cached_property
    def _pattern(self) -> re.Pattern[str]:
        return re.compile("".join(self._parts), re.DOTALL)

    def fields(self, text: str) -> dict[str, str] | None:
        """Return the fields' values in a text, None if the text was not made from this sentence."""
        found = self._pattern.fullmatch(text) if self.longest in text else None
        return dict(zip(self.names, found.groups(), strict=True)) if found else None


PIECE = 4
"""Characters of the pieces by which entries are found that a text may match."""


def pieces_of(text: str) -> set[str]:
    """Return all stretches of PIECE characters in a text."""
    return {text[start : start + PIECE] for start in range(len(text) - PIECE + 1)}


MOST_JOINED = 6
"""Most neighbouring parts of a text that are looked up as one sentence."""


class Translation(NamedTuple):
    """The translation of a text, and how many of its letters are those of entries, not of fields."""

    text: str
    letters: int


class Catalogue:
    """Translations by their English sentence."""

    def __init__(self, entries: Mapping[str, str]) -> None:
        """Index the entries; of those that match one text, the one that explains most of its letters is taken."""
        self.entries = dict(entries)
        with_fields = (Entry(english, said) for english, said in entries.items() if FIELD.search(english))
        self._with_fields = sorted(with_fields, key=lambda entry: -entry.letters)
        self._by_piece = self._indexed()
        self._found: Callable[[str], Translation | None] = lru_cache(maxsize=8192)(self._find)

    def translate(self, text: str) -> str:
        """Return a text's translation; without an entry of its own, each part of it that has one is translated."""
        return self._said(text).text

    def has(self, text: str) -> bool:
        """Return whether a text has an entry of its own."""
        return self._found(text) is not None

    def _said(self, text: str) -> Translation:
        found, parts = self._found(text), self._by_parts(text)
        return found if found and found.letters >= parts.letters else parts

    def _find(self, text: str) -> Translation | None:
        """Return the translation by the entry that explains most; what is translated inside its fields counts too."""
        if text in self.entries:
            return Translation(FIELD.sub(lambda found: f"{{{found[1]}}}", self.entries[text]), len(text))
        matching = ((entry, entry.fields(text)) for entry in self._candidates(text))
        filled = (self._filled(entry, values) for entry, values in matching if values is not None)
        return max(filled, key=lambda found: found.letters, default=None)

    def _indexed(self) -> Mapping[str, Sequence[int]]:
        """Return the numbers of the entries that only a text with a piece can match: for each, its rarest piece."""
        pieces = [pieces_of(entry.longest) for entry in self._with_fields]
        counts = Counter(chain.from_iterable(pieces))
        found: dict[str, list[int]] = {}
        for number, own in enumerate(pieces):
            rarest = min(sorted(own), key=lambda piece: counts[piece], default="")
            found.setdefault(rarest, []).append(number)
        return found

    def _candidates(self, text: str) -> Iterator[Entry]:
        """Yield the entries that a text may match, in their order."""
        found = (self._by_piece.get(piece, ()) for piece in ("", *pieces_of(text)))
        return (self._with_fields[number] for number in sorted(chain.from_iterable(found)))

    def _filled(self, entry: Entry, values: Mapping[str, str]) -> Translation:
        said = [self._field(values[field[1]], field[2]) for field in FIELD.finditer(entry.translation)]
        values_said = (one.text for one in said)
        text = FIELD.sub(lambda _: next(values_said), entry.translation)
        return Translation(text, entry.letters + sum(one.letters for one in said))

    def _field(self, value: str, kind: str | None) -> Translation:
        if kind == "list":
            items = [self._said(part) for part in ITEMS.split(value)]
            return Translation(_listed([one.text for one in items]), sum(one.letters for one in items))
        if kind == "names":
            return Translation(ITEMS.sub(lambda found: BETWEEN_NAMES[found[1]], value), 0)
        return self._said(value) if kind == "text" else Translation(value, 0)

    def _by_parts(self, text: str) -> Translation:
        """Return a text cut at its separators so that entries explain most of it; the other parts stay as they are.

        A text whose first sentence has no entry stays as it is: half of it in Chinese would be harder to read.
        """
        parts = SEPARATORS.split(text)
        texts, separators = parts[::2], [*parts[1::2], ""]
        best = [Cut(0, ())]
        """The best cut of the first n texts, for each n."""
        for end in range(1, len(texts) + 1):
            options = []
            for start in range(max(0, end - MOST_JOINED), end):
                said = self._piece("".join(parts[2 * start : 2 * end - 1]))
                if said or start == end - 1:
                    letters = best[start].letters + (said.letters if said else 0)
                    options.append(
                        Cut(letters, (*best[start].pieces, Phrase(texts[start], said, separators[end - 1])))
                    )
            best.append(max(options, key=lambda cut: cut.letters))
        letters, pieces = best[-1]
        if pieces[0].said is None and TWO_WORDS.search(pieces[0].text):
            return Translation(text, 0)
        return Translation("".join(_joined(pieces)), letters)

    def _piece(self, text: str) -> Translation | None:
        """Return the translation of a part of several words with whole brackets; single words are too often names."""
        is_phrase = " " in text.strip() and text.count("(") == text.count(")")
        return self._found(text) if is_phrase else None


def _listed(items: Sequence[str]) -> str:
    """Return items and what joins them, in Chinese; words that join get spaces beside Latin letters."""
    text = items[0]
    for joint, item in zip(items[1::2], items[2::2], strict=True):
        latin = text[-1:].isascii() and item[:1].isascii()
        text += (BETWEEN_NAMES if latin else CHINESE_ITEMS)[joint] + item
    return text


class Phrase(NamedTuple):
    """A part of a text, its translation if it has one, and the separator behind it."""

    text: str
    said: Translation | None
    separator: str


class Cut(NamedTuple):
    """A text cut into pieces, and how many letters entries explain in all."""

    letters: int
    pieces: tuple[Phrase, ...]


def _joined(pieces: Sequence[Phrase]) -> Iterator[str]:
    """Yield pieces and separators; one beside a translation is Chinese, and so is the end of a Chinese bracket."""
    opened: list[bool] = []
    for piece, following in zip_longest(pieces, pieces[1:]):
        yield piece.said.text if piece.said else piece.text
        is_chinese = bool(piece.said or (following and following.said))
        if piece.separator == " (":
            opened.append(is_chinese)
        elif piece.separator == ")" and opened:
            is_chinese = opened.pop()
        yield CHINESE_SEPARATORS.get(piece.separator, piece.separator) if is_chinese else piece.separator


@cache
def chinese_catalogue() -> Catalogue:
    """Return the Chinese catalogue, read once."""
    return Catalogue(read_entries(CHINESE))


def read_entries(path: Path) -> dict[str, str]:
    """Return the entries of a catalogue's file, English sentence -> translation."""
    loader = yaml.CSafeLoader if yaml.__with_libyaml__ else yaml.SafeLoader
    with path.open(encoding="utf-8") as file:
        return dict(yaml.load(file, loader))
