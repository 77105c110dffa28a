"""LLaMA-Factory's dataset_info.json: its entries become sources, so that its users can use their data unchanged.

The keys are those of its data/README.md (https://github.com/hiyouga/LLaMA-Factory/blob/main/data/README.md).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...core.errors import DataError, Problem, nearest, raise_all
from ..settings import SourceSettings
from .folders import read_object
from .reader_choice import MODELSCOPE
from .text_files import reading

FILE_NAME = "dataset_info.json"
ORIGINS = ("hf_hub_url", "ms_hub_url", "om_hub_url", "script_url", "cloud_file_name", "file_name")
KEYS = {
    "file_name", "hf_hub_url", "ms_hub_url", "formatting", "ranking", "subset", "split", "num_samples",
    "columns", "tags",
}  # fmt: skip
"""The keys of an entry that are supported."""
ALPACA = {"prompt": "instruction", "query": "input", "response": "output"}
PAIRS = {"prompt": "prompt", "query": "input", "chosen": "chosen", "rejected": "rejected"}
LABELLED = {"prompt": "prompt", "query": "input", "response": "completion", "kto_tag": "label"}
COMMON = {
    "system": "system", "history": "history", "tools": "tools",
    "images": "images", "videos": "videos", "audios": "audios",
}  # fmt: skip
TALK = {"messages": "messages", "chosen": "chosen", "rejected": "rejected", "kto_tag": "label"}
"""LLaMA-Factory's name of a column -> weitiao's name, one table per kind of data (ALPACA to TALK)."""
USUAL_COLUMNS = {
    ("prompt", "instruction"), ("input", "input"), ("completion", "output"), ("messages", "conversations"),
}  # fmt: skip
"""(our name, its name) of the columns an entry implies when it names none; rows may lack them."""
TURNS = ("sharegpt", "openai")
"""The values of `formatting` for rows that are conversations."""
FORMATTINGS = ("alpaca", *TURNS)
"""All values of `formatting`; alpaca means one exchange per row."""
SHAREGPT_TAGS = {
    "role_tag": "from", "content_tag": "value", "user_tag": "human", "assistant_tag": "gpt",
    "observation_tag": "observation", "function_tag": "function_call", "system_tag": "system",
}  # fmt: skip
"""The default tags of turns: role key, content key and role names."""
OPENAI_TAGS = {
    "role_tag": "role", "content_tag": "content", "user_tag": "user", "assistant_tag": "assistant",
    "observation_tag": "tool", "function_tag": "function_call", "system_tag": "system",
}  # fmt: skip
"""The default tags if `formatting` is openai."""


@dataclass(frozen=True)
class Expanded:
    """The sources that one source expands to, and notes for the user."""

    sources: tuple[SourceSettings, ...]
    notes: tuple[str, ...] = ()


def expand_source(source: SourceSettings) -> Expanded:
    """Return one source per named entry (`a` or `a,b`) of a dataset_info.json; any other source unchanged.

    An entry's file, columns, tags, split, subset and num_samples become settings of the source. What the source sets
    of them itself has precedence, except its path, and a subset that names the entry. Raises DataError with all
    problems: a missing list or file, an unknown name.
    """
    found = _list_and_names(source)
    if found is None:
        return Expanded((source,))
    path, names, source = found
    entries = read_object(path)
    problems: list[Problem] = []
    sources: list[SourceSettings] = []
    notes: list[str] = []
    for name in names:
        entry = entries.get(name)
        if isinstance(entry, dict):
            try:
                sources.append(_source(source, path, name, entry, notes))
            except DataError as error:
                problems += error.problems
        else:
            problems.append(_unknown(path, name, entries))
    raise_all(DataError, problems)
    return Expanded(tuple(sources), tuple(notes))


def _list_and_names(source: SourceSettings) -> tuple[Path, list[str], SourceSettings] | None:
    """Return the dataset_info.json a source refers to, the names of its entries, and the source without them.

    None if it refers to no such list. Raises DataError.
    """
    if source.path is None:
        return None
    with reading(Path(source.path)):
        return _found_list(source, source.path)


def _found_list(source: SourceSettings, given: str) -> tuple[Path, list[str], SourceSettings] | None:
    """Return what `_list_and_names` returns; raises DataError, OSError."""
    text, _, after = given.rpartition(":")
    if after and Path(text).name == FILE_NAME:
        path, named = Path(text).expanduser(), after
    else:
        path, named = Path(given).expanduser(), source.subset or ""
        source = source.model_copy(update={"subset": None})
        path = path / FILE_NAME if path.is_dir() else path
        if path.name != FILE_NAME or not path.is_file() or not _is_list(path):
            return None
    if not path.is_file():
        raise DataError(
            Problem(
                "the list of data sets does not exist",
                str(path),
                "a dataset_info.json",
                "its folder as dataset_dir=FOLDER, or the data file itself as data=my.json",
            )
        )
    names = [name.strip() for name in named.split(",") if name.strip()]
    if not names:
        known = ", ".join(read_object(path))
        raise DataError(Problem(f"{path} lists several data sets", given, f"one of {known}", f"{path}:NAME"))
    return path, names, source


def _is_list(path: Path) -> bool:
    """Return whether the file is LLaMA-Factory's; `datasets` writes a file of the same name for a single data set."""
    with reading(path):
        entries = read_object(path).values()
    return any(isinstance(entry, dict) and set(ORIGINS) & set(entry) for entry in entries)


def _unknown(path: Path, name: str, entries: Mapping[str, Any]) -> Problem:
    if name in entries:
        got, expected = repr(entries[name])[:60], 'an object such as {"file_name": "data.json"}'
        return Problem(f"{path}: the entry {name!r} is not an object", got, expected)
    near = " or ".join(f"{path}:{one}" for one in nearest(name, entries))
    return Problem(f"{path} has no data set {name!r}", name, "one of " + ", ".join(entries), near)


def _source(
    source: SourceSettings, path: Path, name: str, entry: dict[str, Any], notes: list[str]
) -> SourceSettings:
    """Convert one entry to the settings of a source; raises DataError if that is impossible."""
    _require_formatting(entry, path, name)
    columns, tags = _mapping(entry, "columns", path, name), _mapping(entry, "tags", path, name)
    _require_response(entry, columns, path, name)
    renamed, known = _columns(entry, columns)
    ignored = sorted({*(set(entry) - KEYS), *(f"columns.{key}" for key in columns if key not in known)})
    ignored += sorted(f"tags.{key}" for key in set(tags) - set(SHAREGPT_TAGS))
    if ignored:
        notes.append(f"{path}: {name}: ignored, as they are not supported: {', '.join(ignored)}")
    talk = entry.get("formatting") in TURNS
    made: dict[str, Any] = {
        "path": _origin(entry, path, name, source.outside),
        "split": source.split or entry.get("split"),
        "subset": source.subset or entry.get("subset"),
        "take": source.take or entry.get("num_samples"),
        "columns": {**renamed, **source.columns},
        "tags": {**(_tags(tags, _usual_tags(entry)) if talk else {}), **source.tags},
        # LLaMA-Factory reads every line of a .txt file as a row.
        "lines": True,
    }
    notes.append(f"{path}: the data of {name} is {made['path']}")
    kept = source.model_dump(exclude={*made, "rows"})
    try:
        return SourceSettings(**kept, **made)
    except ValueError as error:
        raise DataError(Problem(f"{path}: the entry {name!r} cannot be used", str(error))) from error


def _mapping(entry: Mapping[str, Any], key: str, path: Path, name: str) -> dict[str, str]:
    """Return an entry's columns or tags without null values; raises DataError if they are not an object of names."""
    value = entry.get(key) or {}
    if not isinstance(value, dict) or not all(isinstance(one, str | None) for one in value.values()):
        raise DataError(
            Problem(
                f"{path}: {key} of {name!r} cannot be used",
                repr(value)[:80],
                "an object with a name for each key",
            )
        )
    return {ours: theirs for ours, theirs in value.items() if theirs}


def _columns(entry: Mapping[str, Any], columns: Mapping[str, str]) -> tuple[dict[str, str], set[str]]:
    """Return our name -> the data's name for each column whose name differs, and the supported keys of `columns`."""
    if entry.get("formatting") in TURNS:
        tags = _usual_tags(entry)
        column = "conversations" if tags is SHAREGPT_TAGS else "messages"
        renamed_tags = _tags(entry.get("tags") or {}, tags)
        table = TALK | COMMON | ({} if renamed_tags else {"messages": column})
        columns = {"messages": column, **columns}
    elif entry.get("ranking"):
        table = PAIRS | COMMON
        columns = {"prompt": "instruction", "query": "input", **columns}
    elif "kto_tag" in columns:
        table = LABELLED | COMMON
        columns = {"prompt": "instruction", "query": "input", "response": "output", **columns}
    elif _is_text(columns):
        table = {"prompt": "text"}
    else:
        table = ALPACA | COMMON
    renamed = {table[key]: theirs for key, theirs in columns.items() if key in table}
    return {ours: theirs for ours, theirs in renamed.items() if ours != theirs}, set(table)


def _is_text(columns: Mapping[str, str]) -> bool:
    """Return whether the columns describe plain text: LLaMA-Factory lists it as a prompt without a response."""
    return set(columns) == {"prompt"}


def _require_response(entry: Mapping[str, Any], columns: Mapping[str, str], path: Path, name: str) -> None:
    """Raise DataError for rows of one exchange whose columns name no response: LLaMA-Factory would read none."""
    answered = {"response", "chosen", "rejected", "kto_tag"} & set(columns)
    if columns and not answered and not _is_text(columns) and not entry.get("ranking"):
        if entry.get("formatting", FORMATTINGS[0]) in TURNS:
            return
        got, remedy = ", ".join(columns), 'add "response": "output" to its columns, or leave columns out'
        raise DataError(Problem(f"{path}: the columns of {name!r} name no response", got, "response", remedy))


def _usual_tags(entry: Mapping[str, Any]) -> Mapping[str, str]:
    """Return the default tags of turns for an entry's `formatting`."""
    return OPENAI_TAGS if entry.get("formatting") == TURNS[1] else SHAREGPT_TAGS


def _tags(tags: Mapping[str, str], usual: Mapping[str, str]) -> dict[str, str]:
    """Return an entry's tags of turns; empty if they are one of the default sets, which need no translation."""
    words = {**usual, **{key: word for key, word in tags.items() if key in usual and word}}
    known = (SHAREGPT_TAGS, OPENAI_TAGS)
    return {} if words in known else {key.removesuffix("_tag"): word for key, word in words.items()}


def _require_formatting(entry: Mapping[str, Any], path: Path, name: str) -> None:
    """Raise DataError for an unknown `formatting`."""
    said = entry.get("formatting", FORMATTINGS[0])
    if said not in FORMATTINGS:
        near = " or ".join(f'"formatting": "{one}"' for one in nearest(str(said), FORMATTINGS))
        expected = "one of " + ", ".join(FORMATTINGS)
        raise DataError(
            Problem(f"{path}: {name!r} has an unknown formatting", repr(said)[:60], expected, near)
        )


def _origin(entry: Mapping[str, Any], path: Path, name: str, outside: bool) -> str:
    """Return the path or hub id of an entry's data, looked up in LLaMA-Factory's order of keys.

    Raises DataError if the data cannot be read, or if its file is outside the list's folder and `outside` is False.
    """
    if entry.get("hf_hub_url"):
        return str(entry["hf_hub_url"])
    if entry.get("ms_hub_url"):
        return MODELSCOPE + str(entry["ms_hub_url"])
    if not entry.get("file_name"):
        got = ", ".join(f"{key}: {entry[key]}" for key in ORIGINS if key in entry) or "none of them"
        expected = "file_name, hf_hub_url or ms_hub_url (a script is code from elsewhere and is not run)"
        raise DataError(Problem(f"{path}: the data of {name!r} cannot be read", got, expected))
    file = path.parent / str(entry["file_name"])
    with reading(file):
        there = file.exists()
        inside = file.resolve().is_relative_to(path.parent.resolve())
    if not inside and not outside:
        raise DataError(_outside(path, name, str(entry["file_name"])))
    if not there:
        near = " or ".join(nearest(file.name, [one.name for one in path.parent.iterdir()]))
        raise DataError(
            Problem(f"{path}: the file of {name!r} does not exist", str(file), "a file that exists", near)
        )
    return str(file)


def _outside(path: Path, name: str, file_name: str) -> Problem:
    """Return the problem of an entry whose file is outside the folder of the list."""
    return Problem(
        f"{path}: the file of {name!r} is outside the folder of the list",
        f"file_name: {file_name}",
        f"a file in {path.parent}",
        "if you wrote the list, set outside: true under the source in data.sources; or give the file itself as the "
        "source",
    )
