"""A sentence with its Chinese, until the last modules that make them have moved their Chinese into the catalogue."""

from __future__ import annotations


class Said(str):
    """The English sentence, with the Chinese one beside it."""

    zh: str

    def __new__(cls, en: str, zh: str = "") -> Said:
        """Make the English text, and keep the Chinese."""
        said = super().__new__(cls, en)
        said.zh = zh
        return said

    @property
    def en(self) -> str:
        """The English sentence as plain text."""
        return str(self)
