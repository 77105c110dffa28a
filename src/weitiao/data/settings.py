"""Data settings: sources, how they are read, the held-out set and the longest row."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from encodings import aliases
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    field_serializer,
    field_validator,
    model_validator,
)

from ..core.errors import nearest
from ..core.registry import component_files
from ..core.settings import Settings, Unfit, left_out
from .formats import FORMATS
from .sources.decompression import USUAL_RATIO
from .sources.python_rows import chosen_split, gives_rows, is_split, plain_records
from .templates.template_choice import KINDS, OWN_SYSTEM, Wording
from .templates.text_template import EXAMPLE, is_text_template, parse_text_template

Columns = dict[str, Any]
HeldOut = Annotated[float, Field(ge=0, allow_inf_nan=False)] | Literal["auto"]

PLACEHOLDER = re.compile(r"\{\{\s*(\w+)\s*\}\}")
"""A placeholder `{{name}}` that `data.fill` replaces."""
TAGS = ("role", "content", "user", "assistant", "system", "observation", "function")
"""The names `tags` may rename: keys of a turn, and roles."""


def require_usable_name(path: str) -> str:
    """Return a path unchanged if it is usable.

    Raises ValueError for an empty path (it would mean the current folder), a path that is not valid UTF-8 or holds a
    NUL byte, and `~user` of an unknown user.
    """
    if not path.strip():
        raise Unfit("the path is empty", "a file, a folder or a data set of the hub, such as my.jsonl")
    if not path.isascii() and path.encode("utf-8", "replace").decode() != path:
        raise ValueError(f"the name {path!a} is not in UTF-8: rename the file")
    if "\0" in path:
        raise ValueError(f"the name {path!a} holds a NUL byte, which no file name can have")
    try:
        Path(path).expanduser()
    except RuntimeError as error:
        raise ValueError(f"there is no home folder {path.partition('/')[0]}") from error
    return path


def _as_text(path: object) -> object:
    return str(path) if isinstance(path, Path) else path


PathText = Annotated[str, BeforeValidator(_as_text), AfterValidator(require_usable_name)]


USUAL_SPLIT = "train"
CHECKS_PACKAGE = "weitiao.data.checks"
"""The checks depend on these settings, so this module knows them only by file name."""


class SourceSettings(Settings):
    """One file, folder, data set of the hub, or list of rows."""

    path: PathText | None = None
    """A .json, .jsonl, .csv, .tsv, .parquet, .arrow, .xlsx, .txt or .md file (text also as .gz or .zst), a folder
    of them, a data set of the hub as owner/name or of ModelScope as modelscope:owner/name, or an entry of
    LLaMA-Factory's list as FOLDER/dataset_info.json:NAME."""
    rows: Any = None
    """Rows given from Python in place of a path: a list or generator of dicts, a datasets.Dataset or DatasetDict
    (of which `split` is read), a DataFrame or a pyarrow Table, a torch Dataset of dicts."""
    format: str = "auto"
    """The format of the rows; auto detects it from the column names."""
    columns: dict[str, str] = Field(default_factory=dict)
    """weitiao's name of a column -> its name in this source; takes precedence over data.columns."""
    tags: dict[str, str] = Field(default_factory=dict)
    """The words this source uses in turns, if they differ from the usual ones: role, content, user, assistant,
    system, observation or function -> its word."""
    ignore_columns: list[str] = Field(default_factory=list)
    """Columns of this source to ignore, and keys of turns written as messages[].id, although their meaning is
    known."""
    task: str = ""
    """The task of rows that have no column task, for data.task_templates and the table of tasks."""
    weight: float = Field(default=1.0, gt=0, le=10_000)
    """How many times an epoch sees each row: 0.5 is every second row, 2 each row twice. Sources are simply
    concatenated."""
    take: int | None = Field(default=None, ge=1, le=sys.maxsize)
    """The number of rows to use from this source, drawn with the seed; for mixing sources by row counts."""
    split: str | None = left_out(USUAL_SPLIT)
    """The split to read of a data set of the hub, or of a folder whose files are named after splits."""
    subset: str | None = None
    """The subset (configuration) to read of a data set of the hub; of a folder with LLaMA-Factory's
    dataset_info.json the NAME in it."""
    sheet: str | None = None
    """The sheet to read of an .xlsx file; the first one if left out."""
    encoding: str = "auto"
    """The encoding of text files: auto reads UTF-8, UTF-16 and UTF-32; others by name, such as gb18030 or big5."""
    lines: bool = False
    """Whether each line of a .txt file is a row, as LLaMA-Factory reads it; otherwise documents end at empty lines."""
    outside: bool = False
    """Whether a dataset_info.json may name files outside its own folder."""
    max_unpack_ratio: float = Field(default=USUAL_RATIO, gt=0)
    """How many times its own size a compressed, parquet, arrow or xlsx file may become when it is read; 128 MiB are
    always allowed. A file that becomes larger is refused as a decompression bomb."""

    @model_validator(mode="before")
    @classmethod
    def _one_split(cls, value: object) -> object:
        """Replace a DatasetDict by the split that `split` names."""
        if not isinstance(value, Mapping) or not is_split(value.get("rows")):
            return value
        return {**value, "rows": chosen_split(value["rows"], str(value.get("split") or USUAL_SPLIT))}

    @property
    def split_read(self) -> str:
        """The split that is read: the one that was named, else train."""
        return self.split or USUAL_SPLIT

    @field_validator("rows", mode="before")
    @classmethod
    def _rows_as_given(cls, rows: object) -> object:
        """Keep rows that can be iterated repeatedly; read a generator into a list, as it yields its rows only once."""
        if rows is not None and not gives_rows(rows):
            raise ValueError(
                f"rows must be a list of dicts, a Dataset or a DataFrame, not {type(rows).__name__}"
            )
        return list(rows) if isinstance(rows, Iterator) else rows

    @field_serializer("rows", when_used="json-unless-none")
    def _rows_as_list(self, rows: Iterable[object]) -> list[Any]:
        return plain_records(rows)

    @field_validator("ignore_columns", mode="before")
    @classmethod
    def _one_or_several(cls, names: object) -> object:
        return names.split(",") if isinstance(names, str) else names

    @field_validator("encoding")
    @classmethod
    def _known_encoding(cls, name: str) -> str:
        if name != "auto":
            try:
                "".encode(name)
            except LookupError as error:
                near = " or ".join(nearest(name, aliases.aliases))
                what = f"there is no text encoding {name!r}; did you mean {near}?"
                raise ValueError(what if near else f"there is no text encoding {name!r}") from error
        return name

    @field_validator("tags")
    @classmethod
    def _known_tags(cls, tags: dict[str, str]) -> dict[str, str]:
        unknown = sorted(set(tags) - set(TAGS))
        if unknown:
            raise ValueError(f"there is no tag {', '.join(unknown)}, only {', '.join(TAGS)}")
        return tags

    @field_validator("format")
    @classmethod
    def _known_format(cls, name: str) -> str:
        known = ["auto", *FORMATS.names()]
        if name not in known:
            near, names = " or ".join(nearest(name, known)), ", ".join(known)
            what = f"there is no format {name!r}, only {names}; did you mean {near}?"
            raise ValueError(what if near else f"there is no format {name!r}, only {names}")
        return name

    @model_validator(mode="after")
    def _one_origin(self) -> SourceSettings:
        if (self.path is None) == (self.rows is None):
            expected = "a file, a folder or a data set of the hub (rows only from Python)"
            remedy = "data.sources.path=my.json" if self.rows is None else "data.sources=my.json"
            raise Unfit("a source needs either a path or rows", expected, remedy)
        return self


def _is_row(item: object) -> bool:
    """Return whether an object is a row rather than a source.

    A dict with only keys of SourceSettings is taken for a source whose path is missing.
    """
    if not isinstance(item, dict) or is_split(item) or {"path", "rows"} & set(item):
        return False
    return not item or not set(item) <= set(SourceSettings.model_fields)


def _as_source(item: object) -> object:
    """Wrap a path, or an object that yields rows, as the settings of a source."""
    if isinstance(item, str | Path):
        return {"path": item}
    if is_split(item):
        return {"rows": item}
    return {"rows": item} if gives_rows(item) and not isinstance(item, Settings) else item


class ReplaySettings(Settings):
    """General rows that are mixed into training, so that the model forgets less of what the data does not hold."""

    share: float = Field(default=0.25, ge=0, allow_inf_nan=False)
    """How many general rows: below 1 their share of the examples an epoch sees, from 1 on a number of rows; 0 mixes
    none in. There are at most as many as questions (192 in each language) or rows in `answers`."""
    language: Literal["auto", "en", "zh", "both"] = "auto"
    """The language of the questions: en, zh or both. auto follows the rows, and asks in Chinese only if the model's
    tokenizer is made for it."""
    answers: PathText = "model"
    """Where the rows come from. model: general questions that come with weitiao, which the model answers itself
    before training, so that it learns nothing foreign. Anything else is a file of your own rows."""
    max_new_tokens: int = Field(default=64, ge=1)
    """The maximum number of tokens of an answer of the model; an answer that has not ended by then is left out."""

    @field_validator("share")
    @classmethod
    def _whole_count(cls, share: float) -> float:
        return _share_or_count(share, "data.replay.share")

    def rows_beside(self, own: float) -> int:
        """Return how many general rows to add to `own` examples per epoch; at least 1 unless the share is 0."""
        if self.share >= 1:
            return int(self.share)
        return max(1, round(own * self.share / (1 - self.share))) if self.share else 0

    @property
    def asks_the_model(self) -> bool:
        """Whether the model itself answers the general questions."""
        return bool(self.answers == type(self).model_fields["answers"].default)


def replay_spelt_out(value: object) -> Any:  # noqa: ANN401  (any value in a run file)
    """Expand the short forms of data.replay into a block: on and off (true and false in YAML), a share, a count."""
    if value is False or value == "off":
        return None
    if value is True or value == "on":
        return {}
    return {"share": value} if isinstance(value, int | float) else value


def _read_replay(value: object) -> object:
    spelt = replay_spelt_out(value)
    if isinstance(spelt, str | Path):
        expected = "on, off, a share such as 0.25 or a number of rows"
        raise Unfit("it is not a number of rows", expected, f"data.replay.answers={spelt}")
    return spelt


def _share_or_count(value: float, setting: str) -> float:
    if value >= 1 and value != int(value):
        expected = "a whole number of rows such as 20, or a share such as 0.1"
        raise Unfit("a number of rows must be whole, a share below 1", expected, f"{setting}={int(value)}")
    return value


class DataSettings(Settings):
    """What is trained on."""

    sources: list[SourceSettings] = Field(min_length=1)
    """The data: one path, a list of paths, or a list of sources with path, format and weight."""
    held_out: HeldOut = "auto"
    """Rows held out of training, to measure with. auto holds out a tenth, at least 10 rows (of fewer than 40 rows a
    quarter); below 1 it is a share, from 1 on a number of rows, 0 holds out none. A share is at most 200 rows.
    Equal rows stay on the same side."""
    held_out_path: PathText | None = None
    """A separate file to measure with; nothing is then held out from the sources."""
    max_length: int = Field(default=1024, ge=8)
    """The longest row in tokens, question, answer and template together."""
    overlong: Literal["drop", "cut"] = "drop"
    """What happens to longer rows. drop leaves them out. cut first removes the earliest exchanges (the system
    message stays), then the middle of the last answer's reasoning, then the end of that answer. Questions, the
    assistant's header, the tags around reasoning, tool calls and the token that ends an answer are never cut. Rows
    that are cut or left out are counted."""
    template: str = "auto"
    """How turns become text. chat is the tokenizer's chat template, instruction writes `### Instruction:` and `###
    Response:` for base models without one, auto uses the chat template if there is one. A text with fields, such as
    `Question: {instruction}\\nAnswer: `, ends where the answer begins."""
    task_templates: dict[str, str] = Field(default_factory=dict)
    """Task -> the text with fields for its rows; rows of other tasks use data.template."""
    system: str = OWN_SYSTEM
    """The system prompt of rows, questions and chats that have none: a text, or none for an empty one; auto keeps
    the chat template's default. It is saved in the result's chat template."""
    train_on: Literal["all", "last", "answers"] = "answers"
    """Which tokens are trained: those of every answer, of the last answer only, or all. A message's own weight
    takes precedence."""
    reasoning: Literal["keep", "drop", "mask"] = "keep"
    """What happens to an answer's reasoning (`<think>`): keep trains it, drop removes it from the text, mask keeps
    it as context that is not trained."""
    replay: Annotated[ReplaySettings | None, BeforeValidator(_read_replay)] = left_out("off")
    """General rows mixed into training, so that the model forgets less: on, off, a share such as 0.25, a number of
    rows, or a block of settings."""
    fill: dict[str, str] = Field(default_factory=dict)
    """The text that replaces {{name}} everywhere, by name."""
    columns: dict[str, str] = Field(default_factory=dict)
    """weitiao's name of a column -> its name in the data, such as instruction: question."""
    accept: list[str] = Field(default_factory=list)
    """Checks of `weitiao check`, by name, whose errors do not stop a run from starting."""
    skip_bad_rows: bool = False
    """Leave out and count rows that cannot be used; otherwise the run is refused with a list of them."""

    @model_validator(mode="before")
    @classmethod
    def _short_form(cls, value: object) -> object:
        """Accept a path, a list of paths or sources, or a list of rows in place of the whole block."""
        whole = (isinstance(value, Mapping | Settings) and not is_split(value)) or value is None
        return value if whole else {"sources": value}

    @field_validator("sources", mode="before")
    @classmethod
    def _as_sources(cls, value: object) -> object:
        listed = list(value) if isinstance(value, list | tuple) else [value]
        if listed and all(_is_row(item) for item in listed):
            return [{"rows": listed}]
        return [_as_source(item) for item in listed]

    @property
    def wording(self) -> Wording:
        """The settings that render turns as text, with the placeholders of the system prompt filled in."""
        system = PLACEHOLDER.sub(lambda found: self.fill.get(found[1], found[0]), self.system)
        return Wording(self.template, self.task_templates, system)

    @field_validator("template")
    @classmethod
    def _known_template(cls, value: str) -> str:
        if value in KINDS:
            return value
        if not is_text_template(value):
            near = nearest(value, KINDS)
            expected = f"{', '.join(KINDS)}, or a text with fields such as {EXAMPLE}"
            raise Unfit(
                "there is no such template", expected, " or ".join(f"data.template={one}" for one in near)
            )
        parse_text_template(value)
        return value

    @field_validator("task_templates")
    @classmethod
    def _texts_with_fields(cls, texts: dict[str, str]) -> dict[str, str]:
        for task, text in texts.items():
            if not is_text_template(text):
                raise Unfit(f"the template of the task {task!r} is not a text with fields", EXAMPLE)
            parse_text_template(text, f"data.task_templates.{task}")
        return texts

    @field_validator("system", mode="before")
    @classmethod
    def _none_is_empty(cls, text: object) -> object:
        return "" if text is None or text == "none" else text

    @field_validator("accept")
    @classmethod
    def _known_checks(cls, names: list[str]) -> list[str]:
        known = list(component_files(CHECKS_PACKAGE))
        unknown = [name for name in names if name not in known]
        if unknown:
            near, listed = " or ".join(nearest(unknown[0], known)), ", ".join(known)
            what = f"there is no check {unknown[0]!r}, only {listed}; did you mean {near}?"
            raise ValueError(what if near else f"there is no check {unknown[0]!r}, only {listed}")
        return names

    @field_validator("accept", mode="before")
    @classmethod
    def _one_or_several(cls, names: object) -> object:
        return names.split(",") if isinstance(names, str) else names

    @field_validator("held_out")
    @classmethod
    def _whole_count(cls, held_out: float | str) -> float | str:
        return held_out if isinstance(held_out, str) else _share_or_count(held_out, "data.held_out")
