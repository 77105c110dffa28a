"""Labels of the gate's report in English, and how its texts are shown in a language, for the terminal and the page."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache

from ...core.locale import Language, in_language
from ...core.locale.catalogue import Catalogue, chinese_catalogue, skeleton
from ..formats._base import KIND_NAMES

VERDICTS: Mapping[str, str] = {
    "error": "Errors: this data cannot be trained on as it is.",
    "warning": "Can be trained on; read the warnings first.",
    "ok": "Ready to be trained on.",
}
NO_MODEL = "Checked without a model: add --model to see tokens, masks and lengths."
TEMPLATES: Mapping[str, str] = {
    "chat": "the model's chat template",
    "instruction": "### Instruction / ### Response",
    "text": "a text with fields (data.template)",
}
"""Kind of a template -> its name."""
NO_FINDINGS = "No problems were found."
OVERVIEW = "Overview"
SEVERITIES: Mapping[str, str] = {"error": "errors", "warning": "warnings", "note": "notes"}
"""A severity -> its plural."""
FATES: Mapping[str, str] = {
    "trained": "trained on",
    "held_out": "held out",
    "dropped": "left out",
    "untrained": "not trained by the objective",
    "bad": "cannot be used",
}
"""What is done with a row -> its name."""

FACTS: Mapping[str, str] = {
    "rows_by_language": "Languages",
    "turns_by_role": "Turns by role",
    "conversations_by_answers": "Conversations by number of answers",
    "most_frequent_systems": "Most frequent system prompts",
    "turns_by_role_and_token": "Control tokens inside content",
    "turns_by_placeholder": "Placeholders",
    "calls_by_function": "Calls by function",
    "rows_by_label": "Labels",
    "labels": "labels",
    "label_entropy_bits": "entropy of the labels, in bits",
    "right_choices_by_position": "Position of the right choice",
    "pairs": "pairs",
    "chosen_longer": "chosen is longer",
    "chosen_shorter": "chosen is shorter",
    "conversations": "conversations",
    "with_system": "with a system prompt",
    "different_systems": "different system prompts",
    "names_in_answers": "Names that answers give themselves",
    "rows_with_tools": "rows with tools",
    "rows_with_thoughts": "rows with reasoning",
    "empty_thoughts": "empty reasoning",
    "answers": "answers",
    "one_word": "answers of one word",
    "mail_addresses": "mail addresses",
    "phone_or_identity_numbers": "phone, identity or card numbers",
    "rows_compared": "rows compared with serving",
    "answers_with_trained_stop": "answers with a trained stop token",
    "pad_token": "pad token",
    "eos_token": "end token",
    "questions": "questions with several answers",
    "copies": "copies",
    "groups": "groups",
    "exact": "exact",
    "normalised": "except for case, spaces, punctuation",
    "near": "nearly the same",
    "held_out": "held-out rows",
    "question": "same question",
    "tokens": "tokens",
    "rows": "rows",
}
"""Name of a check's fact -> its title; a fact without an entry is shown by its name."""

CHECKS: Mapping[str, str] = {
    "answers": "answers",
    "balance": "labels, choices, preferences and scores",
    "begin_token": "begin token",
    "columns": "columns",
    "conflicting_answers": "conflicting answers",
    "control_tokens": "control tokens",
    "duplicates": "duplicates",
    "encoding": "encoding",
    "held_out": "held-out rows",
    "languages": "languages",
    "lengths": "lengths",
    "objective": "objective",
    "overlap": "overlap with held-out rows",
    "pad_is_eos": "pad and end token",
    "placeholders": "placeholders and private data",
    "reading": "reading",
    "reasoning": "reasoning",
    "roles": "roles",
    "same_as_serving": "same as serving",
    "system_prompt": "system prompt",
    "tasks": "tasks",
    "tokenizer_language": "tokenizer and language",
    "tools": "tools",
    "trained_stop": "trained stop",
    "unwritten": "left out by the template",
}
"""Name of a check -> its title; a check without an entry is shown by its name."""

DETAILS: tuple[str, ...] = (
    "turn {n:number}",
    "turn {n:number} is {role:word}",
    "turn {n:number} has {names}",
    "item {n:number} is {kind}",
    "it has {names}",
    "it is empty",
    "known roles are {roles}",
    "its role is {role:word}",
    "the last turn must be the assistant's",
    "{n:number} for {turns:number} turns",
    "{strange}, the calls are {ids}",
    "{n:number} and {m:number}",
    "{answer}, but the {n:number} choices count from 0",
    "{answer}, the choices are {choices}",
    "label {n:number} is {label:number}, the token is {id:number}",
    "{label} begins at {start:number}",
    "{start:number} to {end:number} of {n:number} characters",
    "number {n:number} is {id:number}, the tokenizer has {size:number} tokens",
    "it writes the system text as part of the first question",
    "column {n:number}: {fault}\n{excerpt}",
    "{n:number} cells",
    "the file may be damaged",
    "the file may be damaged, or not text",
    "{n:number} tokens",
    "{n:number} rows: {text}",
    "it ends in the id {id:number}",
    "token {n:number}",
    "token {n:number} of {count:number}",
    "token {n:number}: trained {trained}, served {served}",
    "its tag is not closed",
    "a closing tag without an opening one",
    "its JSON cannot be read",
    "it names no function",
    "there is nothing between the tags",
)
"""Entries of the catalogue for what stands after a place. No other entry is looked for there: most details are quoted
from the data, which is never translated."""
JSON_FAULTS: tuple[str, ...] = (
    "Expecting value",
    "Expecting ',' delimiter",
    "Expecting ':' delimiter",
    "Expecting property name enclosed in double quotes",
    "Illegal trailing comma before end of array",
    "Illegal trailing comma before end of object",
    "Invalid control character at",
    "Invalid \\escape",
    "Invalid \\uXXXX escape",
    "Unterminated string starting at",
    "Extra data",
)
"""What Python's json module says of a line that is not JSON."""
AT_A_LINE = re.compile(r"(.+?(?::\d+(?::\d+)?|, row \d+))(?:: (.+))?", re.DOTALL)
"""A place, and its detail if it has one."""
IN_A_LINE = re.compile(r"(.+), row (\d+)", re.DOTALL)
"""The place of a row that shares its line with others."""


def both(text: str) -> tuple[str, str]:
    """Return a text of the code's in English and Chinese."""
    return text, in_language(text, "zh")


def called(names: Mapping[str, str], name: str) -> str:
    """Return the title of a fact or check in English."""
    return names.get(name, name.replace("_", " "))


def place_in(place: str, language: Language) -> str:
    """Return a place such as file:line, with the detail after it in a language; text of the data stays as it is."""
    found = AT_A_LINE.fullmatch(place)
    at, _, detail = (found[1], "", found[2]) if found else place.partition(": ")
    at = IN_A_LINE.sub(r"\1，第 \2 条", at) if language == "zh" else at
    return f"{at}: {detail_in(detail, language)}" if detail else at


def detail_in(detail: str, language: Language) -> str:
    """Return the detail of a row in a language; text of the data stays as it is."""
    return _details().translate(detail) if language == "zh" and _details().has(detail) else detail


def reason_in(reason: str, detail: str, language: Language) -> str:
    """Return why a row is not used, with the detail of this row, in a language."""
    parts = (in_language(reason, language), detail_in(detail, language))
    return ("：" if language == "zh" else ": ").join(filter(None, parts))


def more_tokens(count: int) -> str:
    """Return the line that counts the tokens not shown."""
    return f"… {count:,} more tokens"


def token_counts(tokens: int, trained: int) -> str:
    """Return the line under a passage."""
    return f"{tokens} tokens, {trained} trained"


@cache
def _details() -> Catalogue:
    entries = chinese_catalogue().entries
    known = {skeleton(english) for english in (*DETAILS, *JSON_FAULTS, *KIND_NAMES.values())}
    return Catalogue({english: said for english, said in entries.items() if skeleton(english) in known})
