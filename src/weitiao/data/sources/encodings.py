"""Detection of text encodings: Unicode by its byte order mark or zero bytes; others are guessed, but only to name
them in the error message."""

from __future__ import annotations

import codecs
import re
import shlex
from dataclasses import dataclass
from pathlib import Path

from ...core.errors import Problem

# The little-endian UTF-32 mark begins with that of UTF-16, so UTF-32 comes first.
MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
ASCII_UNITS = {
    "utf-32-le": re.compile(rb"(?:[\t\n\r -~]\0\0\0)"),
    "utf-32-be": re.compile(rb"(?:\0\0\0[\t\n\r -~])"),
    "utf-16-le": re.compile(rb"[\t\n\r -~]\0"),
    "utf-16-be": re.compile(rb"\0[\t\n\r -~]"),
}
"""ASCII characters as each encoding without a mark writes them; JSON, CSV and program text are full of them."""
LEAST_ASCII = 0.05
LEAST_ZEROS = 0.25
HEAD_BYTES = 4000
SAMPLE_CHARACTERS = 20_000
LEAST_PLAUSIBLE = 0.6
EXCERPT_BYTES = 30
HALF_CHARACTER = re.compile(rb"\xed[\xa0-\xbf][\x80-\xbf]")
"""A lone surrogate encoded as UTF-8, as programs that use UTF-16 internally may write it."""
LONG_RUN = re.compile(r"[^\x00-\x7f]{3,}")
"""Three non-ASCII characters in a row, which do not occur in languages written with ASCII letters and accents."""
SCRIPT_BORDER = re.compile(r"[A-Za-z][^\x00-\x7f]|[^\x00-\x7f][A-Za-z]")
"""An ASCII letter next to a non-ASCII character, which is rare in languages with a script of their own."""
CASE_BORDER = re.compile(r"[а-яё][А-ЯЁ]")
"""A capital letter after a small one, which occurs in no Russian word."""
EVERYDAY_HAN = 0xB0, 0xD7
"""The range of the first byte of the 3,755 most frequent characters in GB 2312; most of a short text is in it."""
EVERYDAY_BONUS = 0.3

# The most frequent characters of each language, the most frequent first.
SIMPLIFIED = (
    "的一是不了在人有我他这个们中来上大为和国地到以说时要就出会可也你对生能而子那得于着下自之年"
    "过发后作里用道行所然家种事成方多经么去法学如都同现当没动面起看定天分还进好小部其些主样理心"
    "她本前开但因只从想实"
)
TRADITIONAL = (
    "的一是不了在人有我他這個們中來上大為和國地到以說時要就出會可也你對生能而子那得於著下自之年"
    "過發後作裡用道行所然家種事成方多經麼去法學如都同現當沒動面起看定天分還進好小部其些主樣理心"
    "她本前開但因只從想實"
)
JAPANESE = (
    "のにるたをはしがてでいなりとれられすまこっかあもうよくさんだきけそつみえどーデルス日本語文"
    "章一人大国会年、。"
)
KOREAN = (
    "이다는의에을가고하를한지은도로으기서어사리자나시대인정일들있그수해게만것보여부스아라면구주했습니까요"
)
CYRILLIC = "оеаинтсрвлкмдпуяыьгзбчйхжшюцщэф"
LATIN = "éèàâêîôûçùëïüöäßñóíáúãõåøæœìò’“”–—…«»°€£¿¡©®"
PUNCTUATION = "，。、；：？！“”‘’（）《》「」『』·…—　・"


@dataclass(frozen=True)
class Candidate:
    """A possible encoding of a file, with the frequent characters of its language."""

    codec: str
    title: str
    iconv: str
    frequent: str
    script: str
    """A regular expression for the non-ASCII characters of the language."""
    own_script: bool = True
    """Whether the language's words contain no ASCII letters."""


HAN = "[\u3000-\u303f\u4e00-\u9fff\uff01-\uff5e\u2010-\u2026]"
CANDIDATES = (
    Candidate("gb18030", "GBK/GB18030", "GB18030", SIMPLIFIED + PUNCTUATION, HAN),
    Candidate("big5", "Big5", "BIG5", TRADITIONAL + PUNCTUATION, HAN),
    Candidate("cp932", "Shift-JIS", "SHIFT_JIS", JAPANESE, "[\u3000-\u30ff\u4e00-\u9fff\uff01-\uff5e]"),
    Candidate("cp949", "EUC-KR", "CP949", KOREAN, "[\uac00-\ud7a3\u3000-\u303f]"),
    Candidate(
        "cp1252", "Latin-1/Windows-1252", "WINDOWS-1252", LATIN, "[\xa0-\xff‘-…€™œŒ–—]", own_script=False
    ),
    Candidate("cp1251", "Windows-1251", "WINDOWS-1251", CYRILLIC, "[А-яЁё«»–—№]"),
    Candidate("koi8_r", "KOI8-R", "KOI8-R", CYRILLIC, "[А-яЁё]"),
)


def codec_of(head: bytes) -> str:
    """Return the codec for a file that begins with `head`: UTF-16 or UTF-32 by mark or zero bytes, else UTF-8."""
    for mark, codec in MARKS:
        if head.startswith(mark):
            return codec
    head = head[:HEAD_BYTES]
    zeros = head.count(b"\0")
    # A few zero bytes in otherwise valid UTF-8 are damage, not another encoding.
    if not zeros or (zeros < LEAST_ZEROS * len(head) and _is_utf8(head)):
        return "utf-8"
    for codec, pattern in ASCII_UNITS.items():
        width = 4 if "32" in codec else 2
        units = [head[at : at + width] for at in range(0, len(head) - width + 1, width)]
        if sum(bool(pattern.fullmatch(unit)) for unit in units) > LEAST_ASCII * len(units):
            return codec
    return "utf-8"


def _is_utf8(sample: bytes) -> bool:
    """Return whether a sample is UTF-8; its last character may be incomplete."""
    try:
        codecs.getincrementaldecoder("utf-8")().decode(sample)
    except UnicodeDecodeError:
        return False
    return True


def _is_damaged_utf8(sample: bytes) -> bool:
    """Return whether a sample is UTF-8 with errors: lone surrogates, or fewer bad bytes than valid non-ASCII
    characters."""
    if HALF_CHARACTER.search(sample) and _is_utf8(HALF_CHARACTER.sub(b"?", sample)):
        return True
    beyond = [character for character in sample.decode("utf-8", "replace") if character > "\x7f"]
    return beyond.count("\ufffd") * 2 < len(beyond)


def not_in_encoding(
    path: Path, codec: str, line: int, byte: int, sample: bytes, at: int, asked: bool
) -> Problem:
    """Return the problem of a file that cannot be decoded with `codec` from a line and byte on.

    `sample[at]` is the offending byte; `asked` is whether the user named the codec.
    """
    before, after = sample[max(0, at - EXCERPT_BYTES) : at], sample[at : at + EXCERPT_BYTES]
    shown = before.decode(codec, "ignore") + after.decode(codec, "backslashreplace")
    got = f"{path}:{line}, byte {byte} is 0x{sample[at]:02x}: {shown.splitlines()[0] if shown else ''}"
    if asked:
        return Problem(
            f"{path} is not valid {codec} text", got, f"text in {codec}", "leave out data.sources.encoding"
        )
    likely = likely_encoding(sample) if codec.startswith("utf-8") and not _is_damaged_utf8(sample) else None
    if likely is None:
        remedy = f"the file is damaged there, or mixes encodings: correct line {line} and save it as UTF-8"
        return Problem(f"{path} is not valid {codec.upper()} text", got, "text in UTF-8", remedy)
    name = Path(path.stem) if path.suffix in (".gz", ".zst") else Path(path.name)
    converted = path.with_name(f"{name.stem}.utf8{name.suffix}")
    command = f"iconv -f {likely.iconv} -t UTF-8 {shlex.quote(str(path))} > {shlex.quote(str(converted))}"
    remedy = f"data.sources.encoding={likely.codec}, or convert it:\n{command}"
    return Problem(f"{path} is not in UTF-8; it looks like {likely.title}", got, "text in UTF-8", remedy)


def likely_encoding(content: bytes) -> Candidate | None:
    """Return the encoding whose decoded text best fits the script and frequent characters of its language; None if
    none fits well enough."""
    scored = [(_plausibility(content, candidate), -rank) for rank, candidate in enumerate(CANDIDATES)]
    best, rank = max(scored)
    return CANDIDATES[-rank] if best >= LEAST_PLAUSIBLE else None


def _plausibility(content: bytes, candidate: Candidate) -> float:
    """Score how well the bytes fit an encoding.

    The score is the share of the language's script among the non-ASCII characters plus the share of its frequent
    characters (plus `EVERYDAY_BONUS` at most for gb18030), reduced for unlikely neighbours. It is 0 if the bytes cannot
    be decoded.
    """
    try:
        # The sample may end inside a character, so the decoder is not told that it is final.
        text = codecs.getincrementaldecoder(candidate.codec)().decode(content, final=False)
    except UnicodeDecodeError:
        return 0.0
    foreign = "".join(character for character in text if character > "\x7f")[:SAMPLE_CHARACTERS]
    if not foreign:
        return 0.0
    script = len(re.findall(candidate.script, foreign)) / len(foreign)
    frequent = sum(map(set(candidate.frequent).__contains__, foreign)) / len(foreign)
    odd = SCRIPT_BORDER.findall(text) if candidate.own_script else "".join(LONG_RUN.findall(text))
    mixed = (len(odd) + 2 * len(CASE_BORDER.findall(text))) / len(foreign)
    bonus = EVERYDAY_BONUS * _everyday(foreign) if candidate.codec == "gb18030" else 0.0
    return (script + frequent + bonus if script >= LEAST_PLAUSIBLE else 0.0) * max(0.0, 1 - mixed)


def _everyday(foreign: str) -> float:
    """Return the share of the most frequent GB 2312 characters among the Chinese characters."""
    leads = [character.encode("gb18030")[0] for character in foreign if "\u4e00" <= character <= "\u9fff"]
    first, last = EVERYDAY_HAN
    return sum(first <= lead <= last for lead in leads) / len(leads) if leads else 0.0
