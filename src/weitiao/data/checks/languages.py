"""Which languages questions and answers are in, by script and by common words."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Any, ClassVar

from ..sources.encodings import SIMPLIFIED, TRADITIONAL
from ._base import GateOutcome, RowFacts
from ._kinds import Kind, KindsCheck, most_first

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

LEAST_LETTERS = 12
"""With fewer letters, a text's language is not detected."""
READ_CHARACTERS = 400
WORD = re.compile(r"[^\W\d_]+")
SCRIPTS = (
    "",
    "latin",
    "han",
    "kana",
    "hangul",
    "cyrillic",
    "arabic",
    "thai",
    "devanagari",
    "greek",
    "hebrew",
)
RANGES = {
    "latin": ((0x41, 0x5B), (0x61, 0x7B), (0xC0, 0x250), (0x1E00, 0x1F00)),
    "han": ((0x3400, 0x4DC0), (0x4E00, 0xA000)),
    "kana": ((0x3040, 0x3100),),
    "hangul": ((0xAC00, 0xD7A4), (0x1100, 0x1200)),
    "cyrillic": ((0x400, 0x530),),
    "arabic": ((0x600, 0x700),),
    "thai": ((0xE00, 0xE80),),
    "devanagari": ((0x900, 0x980),),
    "greek": ((0x370, 0x400),),
    "hebrew": ((0x590, 0x600),),
}
OF_SCRIPT = {
    "hangul": "ko", "cyrillic": "ru", "arabic": "ar", "thai": "th", "devanagari": "hi", "greek": "el", "hebrew": "he",
}  # fmt: skip
COMMON_WORDS = {
    "en": "the of and to in is that for it you are with as was on be this have from or what how can your which not",
    "de": "der die das und ist nicht ein eine zu den mit von sich auf für im dem auch wird sind wie oder aber",
    "fr": "le la les des et est une que pour dans qui pas sur avec sont du au vous ce il par plus nous être",
    "es": "el la los las que y es una por con para se del como más su sus está son pero lo qué",
    "it": "il che di è un una per con non sono della del gli nel alla come più anche si questo dei le",
    "pt": "o que os as um uma não para com é por mais como dos da na em ao são seu você do se",
    "nl": "de het een en van is dat niet zijn op te voor met aan door wordt ook naar maar bij ik je",
    "vi": "là và của không có cho được một người các với trong những này để bạn khi như đã",
    "id": "yang dan di dengan untuk adalah ini dari dalam tidak itu pada akan dapat atau ke anda",
    "tr": "ve bir bu için ile olarak çok daha da ne gibi olan değil var en ama nasıl kadar",
    "pl": "w nie się że jest jak są dla przez od jego może który oraz tego ale być tym więc czy",
}
WORDS_OF = {language: frozenset(words.split()) for language, words in COMMON_WORDS.items()}
LEAST_COMMON_WORDS = 3


class Languages(KindsCheck):
    """Detects the languages of each row."""

    kinds: ClassVar[Mapping[str, Kind]] = {
        "mixed": Kind(
            "note",
            "questions and answers are in different languages",
            "fine for translations; otherwise the model learns to answer in another language",
        )
    }

    def observe(self, row: RowFacts) -> None:
        """Detect the language of the question and of the answer."""
        text = row.text
        asked, said = language_of(text.asked), language_of(text.said if text.wanted else "")
        both = asked and said and asked.partition("-")[0] != said.partition("-")[0]
        if asked or said:
            self.counts[f"{asked}>{said}" if both else (said or asked)] += 1
        else:
            self.counts["unknown"] += 1
        if both:
            self.hit("mixed", row, f"{asked} > {said}")

    def facts(self, outcome: GateOutcome) -> Mapping[str, Any]:
        """Return the number of rows by language, or by question>answer if the two differ."""
        return {"rows_by_language": most_first(self.counts)}


def language_of(text: str) -> str:
    """Return a text's language code (zh, or zh-Hans or zh-Hant if that is detected), '' if it is unknown."""
    return _language(text[:READ_CHARACTERS])


@lru_cache(maxsize=4096)
def _language(text: str) -> str:
    from ._sketch import PLANE, codes_of

    if text.isascii():
        return _latin(text) if len(text) >= LEAST_LETTERS else ""
    codes = codes_of(text)
    counts = _counted(_script_table()[codes[codes < PLANE]])
    letters = sum(counts[script] for script in SCRIPTS[1:])
    if letters < LEAST_LETTERS:
        return ""
    asian = counts["han"] + counts["kana"] + counts["hangul"]
    # A Chinese, Japanese or Korean character carries as much as several letters of an alphabet.
    if counts["latin"] > 3 * asian and 2 * counts["latin"] > letters:
        return _latin(text)
    if 10 * counts["kana"] > asian > 0 and counts["kana"] > counts["hangul"]:
        return "ja"
    best = max(SCRIPTS[2:], key=counts.__getitem__)
    return _chinese(text) if best == "han" else OF_SCRIPT.get(best, "")


def _counted(scripts: NDArray[np.uint8]) -> Counter[str]:
    import numpy as np

    return Counter(dict(zip(SCRIPTS, np.bincount(scripts, minlength=len(SCRIPTS)).tolist(), strict=True)))


@cache
def _script_table() -> NDArray[np.uint8]:
    import numpy as np

    from ._sketch import PLANE

    table = np.zeros(PLANE, dtype=np.uint8)
    for script, ranges in RANGES.items():
        for start, end in ranges:
            table[start:end] = SCRIPTS.index(script)
    return table


def _latin(text: str) -> str:
    words = set(WORD.findall(text.lower()))
    if len(words & WORDS_OF["en"]) > LEAST_COMMON_WORDS and text.isascii():
        return "en"
    found = {language: len(words & common) for language, common in WORDS_OF.items()}
    best = max(found, key=found.__getitem__)
    enough = found[best] >= LEAST_COMMON_WORDS and 10 * found[best] >= len(words)
    # If two languages have equally many of the words, the language is unknown.
    return best if enough and sum(count == found[best] for count in found.values()) == 1 else ""


ONLY_SIMPLIFIED = frozenset(SIMPLIFIED) - frozenset(TRADITIONAL)
ONLY_TRADITIONAL = frozenset(TRADITIONAL) - frozenset(SIMPLIFIED)


def _chinese(text: str) -> str:
    simplified = sum(map(ONLY_SIMPLIFIED.__contains__, text))
    traditional = sum(map(ONLY_TRADITIONAL.__contains__, text))
    if simplified == traditional:
        return "zh"
    return "zh-Hans" if simplified > traditional else "zh-Hant"
