"""Settings of the data: where it lies, how it is read, what is held out and how long a row may be."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from ..core.errors import nearest
from ..core.settings import Settings
from .formats import FORMATS

Columns = dict[str, Any]


class SourceSettings(Settings):
    """One file, folder, data set of the hub, or list of rows."""

    known_elsewhere: ClassVar[Mapping[str, str]] = {
        "file": "path",
        "data_path": "path",
        "dataset": "path",
        "name": "subset",
        "formatting": "format",
    }

    path: str | None = None
    """A .json, .jsonl, .csv, .tsv or .parquet file, a folder of them, or a data set of the hub as
    owner/name."""
    rows: list[Columns] | None = None
    """Rows given from Python in place of a path."""
    format: str = "auto"
    """The format of the rows; auto goes by the names of the columns."""
    weight: float = Field(default=1.0, gt=0, allow_inf_nan=False)
    """How many times an epoch sees each row; 0.5 is every second row, 2 is each row twice."""
    split: str = "train"
    """The split to read of a data set of the hub."""
    subset: str | None = None
    """The subset (configuration) to read of a data set of the hub."""

    @field_validator("path", mode="before")
    @classmethod
    def _path_as_text(cls, path: object) -> object:
        return str(path) if isinstance(path, Path) else path

    @field_validator("format")
    @classmethod
    def _known_format(cls, name: str) -> str:
        known = ["auto", *FORMATS.names()]
        if name not in known:
            near = nearest(name, known)
            hint = f"; did you mean {' or '.join(near)}?" if near else ""
            raise ValueError(f"there is no format {name!r}, only {', '.join(known)}{hint}")
        return name

    @model_validator(mode="after")
    def _one_origin(self) -> SourceSettings:
        if (self.path is None) == (self.rows is None):
            raise ValueError("a source needs either a path or rows")
        return self


class DataSettings(Settings):
    """What is trained on."""

    known_elsewhere: ClassVar[Mapping[str, str]] = {
        "cutoff_len": "max_length",
        "max_seq_length": "max_length",
        "max_seq_len": "max_length",
        "sequence_len": "max_length",
        "val_size": "held_out",
        "val_set_size": "held_out",
        "test_size": "held_out",
        "dataset": "sources",
        "datasets": "sources",
        "path": "sources",
        "chat_template": "template",
        "eval_dataset": "held_out_path",
    }

    sources: list[SourceSettings] = Field(min_length=1)
    """The data: one path, a list of paths, or a list of sources with path, format and weight."""
    held_out: float = Field(default=0.05, ge=0, allow_inf_nan=False)
    """Rows kept away from training to measure with: below 1 a share (at most 200 rows), from 1 on a number of
    rows; 0 keeps none. Rows that are equal stay on one side."""
    held_out_path: str | None = None
    """A file of its own to measure with; nothing is then taken from the sources."""
    max_length: int = Field(default=1024, ge=8)
    """The longest row in tokens, question, answer and template together."""
    overlong: Literal["drop", "cut"] = "drop"
    """What becomes of a longer row. drop leaves it out. cut first leaves out its earliest exchanges (the
    system message stays), then shortens the last answer from its end. Neither ever cuts a question, the
    assistant's header or the token that ends an answer; both are counted."""
    template: Literal["auto", "chat", "instruction"] = "auto"
    """How turns become text: the tokenizer's chat template, or `### Instruction:` and `### Response:` for
    bases that have none; auto takes the chat template where there is one."""
    fill: dict[str, str] = Field(default_factory=dict)
    """What replaces {{name}} in all text, by name."""
    columns: dict[str, str] = Field(default_factory=dict)
    """The name of a column here -> its name in the data, such as instruction: question."""
    skip_bad_rows: bool = False
    """Leave out and count rows that cannot be used, where otherwise the run is refused with a list of
    them."""

    @model_validator(mode="before")
    @classmethod
    def _short_form(cls, value: object) -> object:
        """Take a path, a list of paths or sources, or a list of rows for the whole block."""
        return {"sources": value} if isinstance(value, str | Path | list | tuple) else value

    @field_validator("sources", mode="before")
    @classmethod
    def _as_sources(cls, value: object) -> object:
        listed = list(value) if isinstance(value, list | tuple) else [value]
        if listed and all(isinstance(item, dict) and not {"path", "rows"} & set(item) for item in listed):
            return [{"rows": listed}]
        return [{"path": item} if isinstance(item, str | Path) else item for item in listed]

    @field_validator("held_out")
    @classmethod
    def _whole_count(cls, held_out: float) -> float:
        if held_out >= 1 and held_out != int(held_out):
            raise ValueError("a number of rows is whole; a share is below 1")
        return held_out

    @field_validator("held_out_path", mode="before")
    @classmethod
    def _path_as_text(cls, path: object) -> object:
        return str(path) if isinstance(path, Path) else path
