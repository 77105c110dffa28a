"""Answers that teach what nobody wants: empty, refused, repeated, cut off, or with another tool's headings in them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, ClassVar

from ..forms import Choice, Labelled, Pair, Tagged
from ._base import Finding, GateContext, GateOutcome, Hits, RowFacts
from ._kinds import REMEMBERED, DistinctValues, Kind, KindsCheck, around, excerpt, gravest_first

SORRY = r"(?:(?:I['’]m |I am )?(?:very |so )?sorry,? (?:but )?)?"
MODEL = r"(?:but )?as an? (?:AI|artificial intelligence|(?:large )?language model)\b"
UNABLE = r"I (?:can(?:no|['’])t|am (?:not able|unable)|do(?: not|n['’]t) have)"
NO_HELP = (
    r"I (?:cannot|can['’]t|am (?:not able|unable) to) "
    r"(?:help|assist|provide|answer|fulfil|comply|create|generate|do that)"
)
REFUSAL = re.compile(
    rf"\s*{SORRY}(?:{MODEL}.{{0,80}}?\b{UNABLE}|{NO_HELP})"
    r"|\s*(?:很)?(?:抱歉|对不起)[，,。 ]*(?:但)?(?:作为.{0,20}[，,])?我(?:无法|不能|没有办法)"
    r"|\s*作为(?:一个|一名)?(?:AI|人工智能|大?语言模型).{0,20}?我(?:无法|不能|没有)",
    re.IGNORECASE | re.DOTALL,
)
MARKUP = re.compile(
    r"###? ?(?:Response|Instruction|Input|Human|Assistant|User)\b ?:|\[/?INST\]|<<SYS>>"
    r"|<\|(?:im_start|im_end|eot_id|endoftext|user|assistant)\|>|^(?:Human|Assistant|USER|ASSISTANT): ?",
    re.MULTILINE,
)
LOOP_CHARACTERS, LOOP_END, LOOP_TIMES = 600, 4, 5
LOOP = re.compile(r"(.{4,80}?)\1{4,}", re.DOTALL)
MARKUP_SIGNS = ("##", "[", "<", "Human:", "Assistant:", "USER:", "ASSISTANT:")
LEAST_FINISHED = 0.8
"""Long answers without final punctuation are reported only if at least this share of long answers has it."""
LONG_CHARACTERS = 300
LONGEST_WORD = 30
UNSPACED = (
    (0x0E00, 0x0F00),
    (0x1000, 0x10A0),
    (0x1780, 0x1800),
    (0x3040, 0x3100),
    (0x3400, 0xA000),
    (0xF900, 0xFB00),
)
"""Thai and Lao, Burmese, Khmer, kana and Han: scripts without spaces between words."""
MOST_UNSPACED = 2
"""Maximum characters of a word in such a script: most Chinese words have two, 早上好 is two words."""
SAME_LEAST, SAME_SHARE = 5, 0.02


class Answers(KindsCheck):
    """Checks every answer that the model should learn to write (`RowText.wanted`); counts rows."""

    kinds: ClassVar[Mapping[str, Kind]] = {
        "empty": Kind(
            "error",
            "answers are empty",
            "leave these rows out, or fill in the answer",
        ),
        "loop": Kind(
            "warning",
            "answers repeat one phrase over and over",
            "leave these rows out: a model trained on loops does not stop",
        ),
        "markup": Kind(
            "warning",
            "answers contain headings or tokens of another prompt format",
            "remove them from the answers: the template writes its own",
        ),
        "refusal": Kind(
            "warning",
            "answers are refusals",
            "leave them out, unless the model should learn to refuse here",
        ),
        "one_word": Kind(
            "note",
            "answers are one word",
            "fine for labels and short facts; a model trained on many of them gives short answers",
        ),
        "echo": Kind(
            "warning",
            "answers are equal to their question",
            "leave these rows out, or write the answer",
        ),
        "same": Kind(
            "warning",
            "one answer is given to many different questions",
            "keep a few of these rows, or write a different answer for each",
        ),
        "cut_off": Kind(
            "note",
            "long answers end in the middle of a sentence",
            "complete these answers or leave them out: the model learns to stop in the middle",
        ),
    }

    def __init__(self, context: GateContext) -> None:
        super().__init__(context)
        added = context.tokenizer.added_tokens_decoder.values() if context.tokenizer else ()
        self._own_tokens = frozenset(token.content for token in added)

    def observe(self, row: RowFacts) -> None:
        """Read a row's answers."""
        if isinstance(row.form, Choice | Labelled | Tagged):
            return
        text = row.text
        for answer in text.wanted if not isinstance(row.form, Pair) else (text.said,):
            self._read(row, answer)
        if (
            text.wanted
            and len(text.said_codes) > 3
            and text.asked_codes.tobytes() == text.said_codes.tobytes()
        ):
            self.hit("echo", row, excerpt(text.said))

    def _read(self, row: RowFacts, answer: str) -> None:
        stripped = answer.strip()
        self.counts["answers"] += 1
        if not stripped:
            self.hit("empty", row)
            return
        if _is_one_word(stripped):
            self.counts["one_word"] += 1
            self.hit("one_word", row, stripped)
        if _refuses(stripped):
            self.hit("refusal", row, excerpt(stripped))
        if any(map(answer.__contains__, MARKUP_SIGNS)):
            self._look_for_markup(row, answer)
        if repeated := _loop_in(stripped):
            self.hit("loop", row, excerpt(repeated))
        if len(stripped) >= LONG_CHARACTERS:
            self._look_at_end(row, stripped)
        if len(stripped) > 20:
            self.value("answers", stripped)
            self.value("questions", row.text.asked)
            self.hits.setdefault("_rows", Hits()).numbers.append(row.number)

    def _look_for_markup(self, row: RowFacts, answer: str) -> None:
        """Look for headings and tokens of another format; the model's own tokens belong to another check."""
        found = next((one for one in MARKUP.finditer(answer) if one[0] not in self._own_tokens), None)
        if found:
            self.hit("markup", row, around(answer, *found.span()))

    def _look_at_end(self, row: RowFacts, stripped: str) -> None:
        last_line = stripped.rsplit("\n", 1)[-1]
        # Lists, code and tables end without final punctuation.
        is_prose = len(last_line) >= 60 or "\n" not in stripped
        if not is_prose:
            return
        self.counts["long"] += 1
        is_word = not stripped.rsplit(None, 1)[-1].startswith(("#", "http", "www.", "@"))
        if is_word and (stripped[-1].isalnum() or stripped[-1] in ",，、"):
            self.counts["cut_off"] += 1
            self.hit("cut_off", row, "…" + excerpt(stripped[-60:]))

    def findings(self, outcome: GateOutcome) -> list[Finding]:
        """Return what was found; cut-off answers are reported only if most long answers end like sentences."""
        unfinished = self.counts["cut_off"]
        kinds = [kind for kind in self.kinds if kind not in ("same", "cut_off")]
        if unfinished <= (1 - LEAST_FINISHED) * self.counts["long"]:
            kinds.append("cut_off")
        found = self.found(kinds, outcome.rows)
        same = self._same_answers(outcome)
        return gravest_first(
            [*found, self.kinds["same"].finding(self.name, same, outcome.rows)] if len(same) else found
        )

    def _same_answers(self, outcome: GateOutcome) -> Hits:
        """Return the rows whose answer is given to many different questions."""
        import numpy as np

        hits = Hits()
        found: set[int] = set()
        values = self.values.get("answers", DistinctValues())
        frequent = [
            (key, words, count)
            for key, words, count in values.counted()
            if count >= max(SAME_LEAST, SAME_SHARE * outcome.rows)
        ]
        questions = self.values.get("questions", DistinctValues()).hashes
        keys = np.frombuffer(values.hashes, dtype=np.uint64)
        rows = np.frombuffer(self.hits["_rows"].numbers if frequent else b"", dtype=np.int64)
        for key, words, _ in frequent:
            own_answers = keys == np.uint64(key)
            if len(np.unique(np.frombuffer(questions, dtype=np.uint64)[own_answers])) < SAME_LEAST:
                continue
            # A row may give this answer in several turns.
            own = np.unique(rows[own_answers])
            found.update(own.tolist())
            hits.details.append(f"{outcome.places[int(own[0])]}: {len(own)} rows: {words}")
        hits.numbers.extend(sorted(found))
        hits.details = hits.details[:5]
        return hits

    def facts(self, outcome: GateOutcome) -> Mapping[str, Any]:
        """Return how many answers were read, and how many are one word."""
        return {"answers": self.counts["answers"], "one_word": self.counts["one_word"]}


@lru_cache(maxsize=REMEMBERED)
def _is_one_word(text: str) -> bool:
    """Return whether a text is one word: without spaces, and in scripts without spaces of at most two characters."""
    if len(text) > LONGEST_WORD or len(text.split()) != 1:
        return False
    unspaced = sum(map(_is_unspaced, text))
    return unspaced <= MOST_UNSPACED and (not unspaced or unspaced == sum(map(str.isalnum, text)))


def _is_unspaced(character: str) -> bool:
    return any(start <= ord(character) < end for start, end in UNSPACED)


@lru_cache(maxsize=REMEMBERED)
def _refuses(text: str) -> bool:
    return REFUSAL.match(text) is not None


@lru_cache(maxsize=REMEMBERED)
def _loop_in(text: str) -> str:
    """Return the phrase that an answer repeats at its end, at least 5 times and over 100 characters or more, or ''."""
    end = text[-LOOP_CHARACTERS:]
    if len(end) < 100 or end.count(end[-LOOP_END:]) < LOOP_TIMES:
        return ""
    found = LOOP.search(end)
    whole = found is not None and len(found[0]) >= 100 and sum(map(str.isalpha, set(found[1]))) > 1
    return found[1] if found is not None and whole else ""
