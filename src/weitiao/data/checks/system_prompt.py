"""A system prompt that the chat template writes of its own accord, and that names another assistant than the answers.

Qwen2.5's template writes "You are Qwen, created by Alibaba Cloud.", SmolLM2's "You are a helpful AI assistant named
SmolLM". Such a prompt precedes every question, even if the data teaches another name. This check also counts the rows'
own system prompts: if all rows have the same one, the trained model is prompted with it (templates/system_prompts.py).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import lru_cache
from typing import Any, ClassVar

from ..templates.system_prompts import SystemPrompts
from ._base import Finding, GateContext, GateOutcome, Hits, RowFacts
from ._kinds import REMEMBERED, DistinctValues, Kind, KindsCheck, excerpt, hash_of_text

LEAST_ROWS = 2
"""Minimum number of rows that give the name: a single row may be a story."""
WORD = r"[^\W\d_][\w.&'-]*[\w&]|[^\W\d_]"
QUOTE = r"[\"“'*_「《]{0,3}"
NAME = rf"{QUOTE}(?P<name>(?:{WORD})(?: (?:[A-Z][\w&-]*))*)"
NO_NAME = r"(?!(?:an?|the|your|my|not|AI|I|[Ss]orry|OK|ready|here|happy|glad|sure|able)\b)"
CAPITAL = r"(?=[\"“'*_「《]{0,3}(?:[A-Z]|[^\W\d_\x00-\x7f]))"
"""A capital letter, or a non-ASCII letter, since some scripts have no capitals."""
ENDS = r"(?=[\"”'*_」》]{0,3}(?:[,.!;:)—–]| and | - | (?:by|from)\b|\s*$))"
KIND = r"(?:assistant|model|program|AI|chatbot|bot|software|agent|helper|intelligence)"
MADE = r"(?:created|developed|made|built|trained|designed) by (?:the )?"
ZH_NAME = rf"{QUOTE}(?P<name>[A-Za-z][\w-]*(?: [A-Z][\w-]*)+|[^\s，。,.！!；;：:、（(?？\"”」》*]{{1,16}}?)"
ZH_NO_NAME = (
    r"(?!一[个名款种位]|[个由在来为你您不谁被从用能这那指说]|什么|人工智能|AI|语言模型|大语言模型"
    r"|根据|基于|可以)"
)
ZH_ROLE = r"(?<!的)(?<!人)(?<!助手)(?<!模型)(?<!程序)(?<!学生)(?<!老师)(?<!医生)"
ZH_ENDS = r"(?=[\"”」》*]{0,3}(?:[，。,.！!；;、（(]|\s*$))"
ZH_MADE = r"(?:开发|研发|创建|创造|训练|打造)"
ZH_MAKERS = rf"(?:[^\s，。]{{1,12}}?{ZH_MADE}的)?"

OF_SELF = (
    # "I am Weitiao." with a capital letter; "I am weitiao, an assistant" without one.
    re.compile(rf"\bI(?: am|['’]m) {NO_NAME}{CAPITAL}{NAME}{ENDS}"),
    re.compile(rf"\bI(?: am|['’]m) {NO_NAME}{NAME}{QUOTE}, (?:an?|the|your) (?:[\w-]+ ){{0,4}}{KIND}\b"),
    re.compile(rf"\b(?:[Mm]y name is|I go by the name(?: of)?) {NO_NAME}{NAME}"),
    re.compile(rf"\b(?:[Cc]all me|I(?: am|['’]m) (?:called|named)) {NO_NAME}{CAPITAL}{NAME}"),
    re.compile(rf"\bI(?: am|['’]m| was)\b[^.!?\n]{{0,80}}?\b{MADE}(?=[A-Z]){NAME}"),
    re.compile(
        rf"我(?:叫做?|的名字[是叫]|名叫|名为)\s*{ZH_NO_NAME}{ZH_NAME}(?=[，。,.！!；;、（(\"”」》*\s]|$)"
    ),
    re.compile(rf"我是\s*{ZH_NO_NAME}{ZH_MAKERS}{ZH_NAME}{ZH_ROLE}{ZH_ENDS}"),
    re.compile(rf"我是?由\s*{ZH_NAME}\s*{ZH_MADE}"),
)
"""Patterns by which an answer gives its own name."""
OF_ASSISTANT = (
    re.compile(rf"\b(?:[Yy]ou are|I am|[Yy]our name is|named|called) {NO_NAME}(?=[A-Z]){NAME}"),
    re.compile(rf"\b{MADE}(?=[A-Z]){NAME}"),
    re.compile(rf"(?:你是|我是|你叫|名叫|名为)\s*{ZH_NO_NAME}{ZH_NAME}{ZH_ENDS}"),
    re.compile(rf"由\s*{ZH_NAME}\s*{ZH_MADE}"),
)
"""Patterns by which a system prompt names the assistant."""
TO_SOMEBODY = re.compile(r"\byou(?:r|rself)?\b|[你您]", re.IGNORECASE)
"""Finds questions that address the assistant; otherwise "I am ..." may be said by a character in a story."""
SIGNS = (
    "I am ",
    "I'm ",
    "I’m ",
    "I was ",
    "y name is ",
    "all me ",
    "I go by ",
    "我是",
    "我叫",
    "我的名字",
    "我名",
    "我由",
)


class SystemPrompt(KindsCheck):
    """Compares the names that answers give themselves with those in the template's default system prompt, and counts
    the rows' own system prompts."""

    needs_tokens: ClassVar[bool] = True
    kinds: ClassVar[Mapping[str, Kind]] = {
        "other_name": Kind(
            "warning",
            "the system prompt before every question names another assistant than the answers do: {detail}",
        ),
    }

    def __init__(self, context: GateContext) -> None:
        super().__init__(context)
        self._prompt = "" if context.template is None else context.template.before_question
        self._named = [*dict.fromkeys(_names(self._prompt, OF_ASSISTANT))]
        self._texts: dict[str, int] = {}
        """The system prompts of this chunk's rows."""
        self._candidates: dict[int, str] = {}
        """Hash -> system prompt of more than half of a chunk's rows; one of nearly all rows must be among these."""

    def observe(self, row: RowFacts) -> None:
        """Count the row's system prompt; if it has none, look for the name that an answer gives itself."""
        turns = row.text.turns
        has_own = bool(turns) and turns[0].role == "system"
        own = turns[0].content if has_own else ""
        if row.sequences:
            self.value("systems", own)
            self._texts[own] = self._texts.get(own, 0) + 1
            self.hits.setdefault("_trained", Hits()).numbers.append(row.number)
        if not self._named or not turns or has_own or not TO_SOMEBODY.search(row.text.asked):
            return
        for name in dict.fromkeys(name for answer in row.text.wanted for name in _names_of_self(answer)):
            self.value("names", name)
            self.hits.setdefault("_rows", Hits()).numbers.append(row.number)

    def findings(self, outcome: GateOutcome) -> list[Finding]:
        """Return the name that answers give most often, if the prompt has another."""
        counted = self.values.get("names", DistinctValues()).counted()
        name, hits = next(((name, self._rows_of(key, outcome)) for key, name, _ in counted), ("", Hits()))
        known = self._prompt.casefold()
        if len(hits) < LEAST_ROWS or name.casefold() in known:
            return []
        detail = f"{self._named[0]} instead of {name}"
        found = self.kinds["other_name"].finding(self.name, hits, outcome.rows, detail)
        return [replace(found, fix=_fix(name))]

    def state(self) -> Any:  # noqa: ANN401
        """Return the counts, and the system prompt of more than half of the rows."""
        return super().state(), self._most

    def merge(self, state: Any) -> None:  # noqa: ANN401
        """Add the state of a later chunk."""
        seen, candidates = state
        super().merge(seen)
        self._candidates.update(candidates)

    @property
    def _most(self) -> dict[int, str]:
        """Hash -> system prompt of more than half of the rows observed here, if any."""
        rows = sum(self._texts.values())
        return {hash_of_text(text): text for text, count in self._texts.items() if 2 * count > rows}

    def _systems(self, outcome: GateOutcome) -> SystemPrompts:
        """Count the system prompts of the training rows (not the held-out ones)."""
        import numpy as np

        hashes = np.frombuffer(self.values.get("systems", DistinctValues()).hashes, dtype=np.uint64)
        rows = np.frombuffer(self.hits.get("_trained", Hits()).numbers, dtype=np.int64)
        trained = hashes[~outcome.held_out[rows]]
        some = trained[trained != np.uint64(hash_of_text(""))]
        kinds, counts = np.unique(some, return_counts=True)
        if not len(kinds):
            return SystemPrompts(len(trained), 0, "", 0)
        most = int(counts.argmax())
        text = {**self._candidates, **self._most}.get(int(kinds[most]), "")
        return SystemPrompts(len(trained), len(kinds), text, int(counts[most]))

    def _rows_of(self, key: int, outcome: GateOutcome) -> Hits:
        """Return the rows that give a name."""
        import numpy as np

        rows = np.frombuffer(self.hits["_rows"].numbers, dtype=np.int64)
        keys = np.frombuffer(self.values["names"].hashes, dtype=np.uint64)
        own = np.unique(rows[keys == np.uint64(key)]).tolist()
        hits = Hits(details=[outcome.places[row] for row in own[:5]])
        hits.numbers.extend(own)
        return hits

    def facts(self, outcome: GateOutcome) -> Mapping[str, object]:
        """Return the names in the prompt, the names in answers with their counts, and the rows' system prompts."""
        counted = self.values.get("names", DistinctValues()).counted()
        return {
            "names_in_prompt": self._named,
            "names_in_answers": {name: count for _, name, count in counted[:10]},
            "of_rows": self._systems(outcome).as_fields(),
        }


def _fix(name: str) -> str:
    """Return the setting that gives the assistant this name, in the language of the name."""
    text = f"You are {name}, a helpful assistant." if name.isascii() else f"你是{name}。"
    return (
        f'data.system="{text}" replaces it in training, in use and in the saved tokenizer; '
        "data.system=none leaves it empty"
    )


@lru_cache(maxsize=REMEMBERED)
def _names_of_self(answer: str) -> tuple[str, ...]:
    if not any(map(answer.__contains__, SIGNS)):
        return ()
    return tuple(dict.fromkeys(_names(answer, OF_SELF)))


def _names(text: str, patterns: tuple[re.Pattern[str], ...]) -> Iterator[str]:
    for pattern in patterns:
        for found in pattern.finditer(text):
            yield excerpt(found["name"].strip(), 40)
