"""What was to be filled in and was not, and what should not be in training data at all: keys and personal data."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar

from ._base import GateOutcome, RowFacts
from ._kinds import REMEMBERED, Kind, KindsCheck, around, excerpt, most_first

TRIGGERS = (
    *("{{", "[INSERT", "[YOUR", "[Your ", "[Insert ", "TODO:", "FIXME:", "orem ipsum"),
    *("your_api_key", "YOUR_API_KEY", "<YOUR_", "[插入", "【插入", "[在此"),
)
PLACEHOLDER = re.compile(
    r"\{\{\s*\w+\s*\}\}|\[(?:INSERT|Insert|YOUR|Your) [^\]\n]{1,40}\]|(?<![A-Za-z0-9_])(?:TODO|FIXME):|[Ll]orem ipsum|"
    r"your_api_key|YOUR_API_KEY|<YOUR_\w+>|[\[【](?:插入|在此)[^\]】\n]{1,30}[\]】]"
)
SECRET = re.compile(
    r"(?<![A-Za-z0-9_-])(?:sk-(?:proj-)?[A-Za-z0-9_-]{20,}|AKIA[0-9A-Z]{16}|gh[pousr]_[A-Za-z0-9]{36}|hf_[A-Za-z]{30,}|xox[abpr]-[A-Za-z0-9_-]{10,}"
    r"|AIza[A-Za-z0-9_-]{35})(?![A-Za-z0-9_-])|-----BEGIN [A-Z ]*PRIVATE KEY-----"
)
MEDIA = re.compile(
    r"<(?:image|img|video|audio|ImageHere)(?:_\d+)?>|<\|(?:image|video|audio|vision)(?:_\w+)?\|>"
)
MEDIA_TRIGGERS = (
    "<image",
    "<img>",
    "<video",
    "<audio",
    "<ImageHere>",
    "<|image",
    "<|video",
    "<|audio",
    "<|vision",
)
SECRET_SIGNS = ("sk-", "AKIA", "gh", "hf_", "xox", "AIza", "PRIVATE KEY")
# Chinese text follows an address without a space, and counts as letters for \w and \b; so ASCII classes are used.
EMAIL = re.compile(
    r"(?<![A-Za-z0-9._%+-])[A-Za-z0-9._%+-]{1,64}@(?!example\.|test\.|email\.|domain\.)"
    r"(?:[A-Za-z0-9-]{1,63}\.){1,4}[A-Za-z]{2,10}(?![A-Za-z0-9-])"
)
MOBILE = r"(?:(?:\+|00)?86[- ]?)?1[3-9]\d(?:\d{8}|([- ])\d{4}\1\d{4})"
IDENTITY = r"[1-9]\d{5}(?:19|20)\d{2}[01]\d[0-3]\d\d{3}[\dXx]"
NUMBER = re.compile(rf"(?<!\d)(?<!\d\.)(?:{MOBILE}|{IDENTITY})(?!\d)(?!\.\d)", re.ASCII)
SEVERAL_DIGITS = re.compile(r"[0-9]{4}|\+[0-9]")
INTERNATIONAL = re.compile(
    r"(?<![\w+.])(?<!\d )\+(?=[1-9])(?:\d[ -]?|\(\d{1,4}\)[ -]?){8,14}\d(?!\d)(?!\.\d)", re.ASCII
)
"""A phone number with country code (E.164: at most 15 digits)."""
AMERICAN = re.compile(
    r"(?<![\w+.-])(?:1[-. ])?(?:\([2-9]\d\d\) ?[2-9]\d\d[-. ]|[2-9]\d\d([-.])[2-9]\d\d\1)\d{4}(?![\w-])(?!\.\d)",
    re.ASCII,
)
"""Ten digits with separators, as in the North American numbering plan; without separators it could be any number."""
CARD = re.compile(
    r"(?<![\w.-])(?:(?:4\d{3}|5[1-5]\d\d|2[2-7]\d\d|35\d\d|62\d\d|6011|65\d\d)([ -]?)\d{4}\1\d{4}\1\d{4}"
    r"|3[47]\d\d([ -]?)\d{6}\2\d{5})(?![\w-])(?!\.\d)",
    re.ASCII,
)
"""Numbers with the prefix of Visa, Mastercard, JCB, UnionPay, Discover or American Express."""
DIGITS = re.compile("[1-9][0-9]{2}[- ]?[0-9]{4}[- ]?[0-9]{4}")


class Placeholders(KindsCheck):
    """Looks for placeholders, secrets, media tags and personal data in every turn."""

    kinds: ClassVar[Mapping[str, Kind]] = {
        "secret": Kind(
            "warning",
            "texts contain what looks like a secret key or token",
            "remove it and revoke it: a model can repeat what it was trained on",
        ),
        "placeholder": Kind(
            "warning",
            "texts contain placeholders that are not filled in",
            "data.fill.NAME=VALUE fills {{NAME}}; write out or remove the others",
        ),
        "media": Kind(
            "warning",
            "texts contain tags for images, sound or video; only text is trained, so the tag is learnt as "
            "a word",
            "leave out rows that need the image; remove the tag where the text makes sense without it",
        ),
        "personal": Kind(
            "note",
            "texts contain mail addresses, phone, identity or card numbers",
            "replace those of real people",
        ),
    }

    def observe(self, row: RowFacts) -> None:
        """Read each turn of a row."""
        for turn in row.text.turns:
            seen = _signs_in(turn.content)
            if seen is None:
                continue
            if seen.placeholder:
                self.counts[f"placeholder {excerpt(seen.placeholder)}"] += 1
                self.hit("placeholder", row, seen.around)
            if seen.secret:
                self.hit("secret", row, seen.secret)
            if seen.media:
                self.hit("media", row, seen.media)
            self.counts["mail_addresses"] += seen.mails
            self.counts["phone_or_identity_numbers"] += seen.numbers
            if seen.mails or seen.numbers:
                self.hit("personal", row)

    def facts(self, outcome: GateOutcome) -> Mapping[str, Any]:
        """Return the number of turns by placeholder, and of mail addresses and personal numbers."""
        prefix = "placeholder "
        names = {name.removeprefix(prefix): n for name, n in self.counts.items() if name.startswith(prefix)}
        return {
            "turns_by_placeholder": most_first(names),
            "mail_addresses": self.counts["mail_addresses"],
            "phone_or_identity_numbers": self.counts["phone_or_identity_numbers"],
        }


@dataclass(frozen=True)
class Signs:
    """The placeholders, secrets, media tags and personal data of one text."""

    placeholder: str
    around: str
    """The placeholder with the text around it."""
    secret: str
    """The beginning of a key; the key itself is not repeated in a report."""
    mails: int
    numbers: int
    media: str
    """A tag for an image, audio or video, with the text around it."""


def _personal_numbers(text: str) -> int:
    """Return how many phone, identity and card numbers a text contains."""
    count = sum(1 for _ in NUMBER.finditer(text)) if DIGITS.search(text) else 0
    if not SEVERAL_DIGITS.search(text):
        return count
    cards = [found for found in CARD.finditer(text) if _ends_in_its_check_digit(found[0])]
    abroad = [found for found in INTERNATIONAL.finditer(text) if not NUMBER.search(found[0])]
    phones = [
        found
        for found in AMERICAN.finditer(text)
        if not any(one.start() < found.end() and found.start() < one.end() for one in (*abroad, *cards))
    ]
    return count + len(cards) + len(abroad) + len(phones)


def _ends_in_its_check_digit(number: str) -> bool:
    """Return whether a card number's check digit is correct (Luhn algorithm, ISO/IEC 7812-1)."""
    digits = [int(one) for one in reversed(number) if one.isdigit()]
    doubled = [2 * digit - 9 * (digit > 4) for digit in digits[1::2]]
    return (sum(digits[::2]) + sum(doubled)) % 10 == 0


@lru_cache(maxsize=REMEMBERED)
def _signs_in(text: str) -> Signs | None:
    """Return the placeholders, secrets, media tags and personal data of a text, None if it has none."""
    left = PLACEHOLDER.search(text) if any(map(text.__contains__, TRIGGERS)) else None
    key = SECRET.search(text) if any(map(text.__contains__, SECRET_SIGNS)) else None
    sign = MEDIA.search(text) if any(map(text.__contains__, MEDIA_TRIGGERS)) else None
    mails = len(EMAIL.findall(text)) if "@" in text else 0
    numbers = _personal_numbers(text)
    if not (left or key or mails or numbers or sign):
        return None
    beside = around(text, *left.span()) if left else ""
    media = around(text, *sign.span()) if sign else ""
    return Signs(left[0] if left else "", beside, f"{key[0][:6]}…" if key else "", mails, numbers, media)
