"""The base of all settings: frozen, with unknown keys refused, all errors reported at once, and YAML in and out."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, ClassVar, Literal, TypeVar, Union, cast, get_args, get_origin

import yaml
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
)
from pydantic.fields import FieldInfo

from .dotted_names import nested_at
from .errors import SHORT_LIST, Problem, SettingsError, nearest, raise_all
from .setting_reasons import reason_of
from .yaml_text import YamlError, load_yaml

S = TypeVar("S", bound="Settings")


class Unfit(ValueError):
    """Raised by validators: why a value is refused, what is expected and what to type."""

    def __init__(self, reason: str, expected: str = "", remedy: str = "") -> None:
        super().__init__(reason)
        self.expected, self.remedy = expected, remedy


def left_out(meaning: str, **limits: Any) -> Any:  # noqa: ANN401  (what pydantic's Field takes and gives)
    """Return a field whose default is None; `meaning` says what None becomes: `20`, or a phrase in brackets."""
    return Field(default=None, json_schema_extra={LEFT_OUT: meaning}, **limits)


TYPEABLE = re.compile(r"[\w.,:/+-]{1,60}")
"""Values that a shell takes without quotes."""

DECIDES_NOTHING = "decides nothing"
"""Marks a setting that a resumed run may change, because no trained number depends on it, as in
`Annotated[int, DECIDES_NOTHING]`."""

LEFT_OUT = "left_out"
"""Key under which a field stores what its default None becomes."""


class Settings(BaseModel):
    """Base of every block of settings; the docstring under a field is its description everywhere."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True, validate_default=True
    )

    known_elsewhere: ClassVar[Mapping[str, str]] = {}
    """Other tools' names for a setting -> the name here, for the error that suggests it."""

    @field_validator("*", mode="before")
    @classmethod
    def _in_any_case(cls, value: object, info: ValidationInfo) -> object:
        """Accept a choice in any case, such as `Cosine` or `NF4`."""
        field = cls.model_fields.get(info.field_name or "")
        if not isinstance(value, str) or field is None:
            return value
        meant = [one for one in choices_of(field.annotation) if one.lower() == value.lower()]
        return value if value in meant or len(meant) != 1 else meant[0]

    @field_validator("*", mode="before")
    @classmethod
    def _no_boolean_as_number(cls, value: object, info: ValidationInfo) -> object:
        """Refuse true and false where a number is meant, since Python counts them as 1 and 0; some fields read them."""
        field = cls.model_fields.get(info.field_name or "")
        reads_words = field is not None and any(isinstance(part, BeforeValidator) for part in field.metadata)
        if field is None or (reads_words and isinstance(value, bool)):
            return value
        if (found := _boolean_as_number(value, field.annotation)) is not None:
            raise Unfit(f"{str(found).lower()} is not a number")
        return value

    @field_validator("*")
    @classmethod
    def _of_this_machine(cls, value: object) -> object:
        """Refuse text with a NUL byte, which no file name can hold, and integers of more than 64 bits."""
        if isinstance(value, int) and not -(2**63) <= value < 2**63:
            raise ValueError("it is a number of more than 64 bits")
        if isinstance(value, str | Path) and "\0" in str(value):
            raise ValueError(f"{str(value)!a} holds a NUL byte")
        return value


def deciding_nothing(settings: Settings, path: str = "") -> set[str]:
    """Return the dotted names of the settings marked with DECIDES_NOTHING, nested blocks included."""
    found: set[str] = set()
    for name, field in type(settings).model_fields.items():
        dotted = f"{path}.{name}" if path else name
        value = getattr(settings, name)
        if DECIDES_NOTHING in field.metadata:
            found.add(dotted)
        elif isinstance(value, Settings):
            found |= deciding_nothing(value, dotted)
    return found


def check_settings(cls: type[S], raw: Mapping[str, Any], path: str = "") -> tuple[S | None, list[Problem]]:
    """Build `cls` from plain values; return it, or None, with all problems found."""
    try:
        return cls.model_validate(dict(raw)), []
    except ValidationError as error:
        return None, _problems(cls, [dict(details) for details in error.errors(include_url=False)], path)


def parse_settings(cls: type[S], raw: Mapping[str, Any], path: str = "") -> S:
    """Build `cls` from plain values; raises SettingsError with all problems at once."""
    settings, problems = check_settings(cls, raw, path)
    raise_all(SettingsError, problems)
    return cast(S, settings)  # no problems: it was built


def _problems(cls: type[Settings], errors: Sequence[dict[str, Any]], path: str) -> list[Problem]:
    """Turn pydantic's error records into problems, one per place even if the type is a union of several."""
    by_place: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for details in errors:
        by_place.setdefault(tuple(_location(details)), []).append(details)
    return [
        _problem(cls, found[0], path)
        if len(found) == 1
        else _fits_no_type(cls, place, found[0]["input"], path)
        for place, found in by_place.items()
        if place
    ] + [_problem(cls, details, path) for details in by_place.get((), [])]


TYPE_OF_UNION = re.compile(
    r"(constrained-\w+|(literal|list|dict|tuple|set|function-[\w-]+)\[.*\]|str|int|float|bool)"
)
"""What pydantic inserts into an error's location for a member of a union, where our names are expected."""


def _location(details: Mapping[str, Any]) -> list[str]:
    """Return an error's location in our own names, without the types that pydantic inserts."""
    parts = [str(part) for part in details["loc"]]
    named = 1 if details["type"] == "extra_forbidden" else 0  # the last part is what the person typed
    types = parts[1 : len(parts) - named]
    return [
        *parts[:1],
        *(part for part in types if not TYPE_OF_UNION.fullmatch(part)),
        *parts[1:][len(types) :],
    ]


def _fits_no_type(cls: type[Settings], place: Sequence[str], value: object, path: str) -> Problem:
    """Describe a value that fits none of a setting's types, such as a number or one of some words."""
    key = ".".join(filter(None, [path, *place]))
    remedy = _choice_instead(cls, place, value, key)
    return Problem(f"{key} cannot be used", f"{key}: {value!r}", _describe(cls, place), remedy)


def _choice_instead(cls: type[Settings], place: Sequence[str], value: object, key: str) -> str:
    """Return the choices that a value was probably meant as; empty if the setting has no choices."""
    field = _owner(cls, place[:-1]).model_fields.get(place[-1])
    choices = choices_of(field.annotation) if field else []
    none = ["off"] if not value and "off" in choices else []
    near = nearest(str(value), choices) or none or choices[:1]
    return " or ".join(f"{key}={name}" for name in near)


def _problem(cls: type[Settings], details: dict[str, Any], path: str) -> Problem:
    """Turn one of pydantic's error records into a problem."""
    location = _location(details)
    key = ".".join(filter(None, [path, *location]))
    got = f"{key}: {details['input']!r}"
    if details["type"] == "extra_forbidden":
        return _unknown_key(_owner(cls, location[:-1]), key, details["input"])
    if details["type"] == "missing":
        return Problem(f"{key} is missing", expected=_describe(cls, location), remedy=f"{key}=...")
    if details["type"] == "literal_error":
        return _no_such_choice(key, got, details)
    reason, cause = reason_of(details), details.get("ctx", {}).get("error")
    # What a whole block's settings say of each other has no key of its own where the block has none.
    what = f"{key} cannot be used: {reason}" if key else reason
    got = got if key else ", ".join(f"{name}: {value}" for name, value in dict(details["input"]).items())
    if isinstance(cause, Unfit):
        is_word = isinstance(details["input"], bool)
        meant = _choice_instead(cls, location, details["input"], key) if is_word else ""
        return Problem(what, got, cause.expected or _describe(cls, location), cause.remedy or meant)
    return Problem(what, got, _describe(cls, location))


def _owner(cls: type[Settings], location: Sequence[str]) -> type[BaseModel]:
    """Follow a location into nested settings and return the class that holds the last key."""
    owner: type[BaseModel] = cls
    for part in location:
        field = owner.model_fields.get(part)
        nested = [a for a in _classes(field.annotation) if issubclass(a, BaseModel)] if field else []
        owner = nested[0] if nested else owner
    return owner


def _classes(annotation: Any) -> list[type]:  # noqa: ANN401  (an annotation may be any object)
    """Return the classes an annotation mentions, unions and containers included."""
    if isinstance(annotation, type) and not getattr(annotation, "__args__", None):
        return [annotation]
    return [found for part in getattr(annotation, "__args__", ()) for found in _classes(part)]


def _unknown_key(owner: type[BaseModel], full_key: str, value: object) -> Problem:
    """Describe an unknown key; the remedy is its name here if other tools use it, else the nearest spelling."""
    key, got = full_key.rpartition(".")[2], f"{full_key}: {value!r}"
    known = list(owner.model_fields)
    renamed = issubclass(owner, Settings) and owner.known_elsewhere.get(key)
    near = [renamed] if renamed else nearest(key, known)
    prefix = full_key[: len(full_key) - len(key)]
    remedy = " or ".join(prefix + name + as_typed(value) for name in near)
    return Problem(f"there is no setting {full_key}", got, _one_of(known, full_key), remedy)


def as_typed(value: object) -> str:
    """Return `=` and a value, as typed after a setting's name; empty for a value that is long or needs quotes."""
    text = str(value).lower() if isinstance(value, bool) else str(value)
    return f"={text}" if isinstance(value, str | int | float) and TYPEABLE.fullmatch(text) else ""


def _one_of(known: Sequence[str], full_key: str) -> str:
    """Return the known names, or the command that lists them if they are too many to read."""
    block = full_key.partition(".")[0]
    too_many = len(known) > SHORT_LIST and block != full_key
    return f"a setting that `weitiao settings {block}` lists" if too_many else "one of " + ", ".join(known)


def _no_such_choice(key: str, got: str, details: Mapping[str, Any]) -> Problem:
    """Describe a value that is none of a setting's choices; the remedy is the nearest spelling."""
    listed: str = details["ctx"]["expected"]  # 'auto', 'liger' or 'none'
    choices = re.findall(r"'([^']*)'", listed)
    in_list = isinstance(details["loc"][-1], int)  # an override would drop the other members of the list
    near = [name if in_list else f"{key}={name}" for name in nearest(str(details["input"]), choices)]
    expected = listed.replace("'", "")
    return Problem(f"{key} cannot be used: there is no such choice", got, expected, " or ".join(near))


def choices_of(annotation: Any) -> list[str]:  # noqa: ANN401  (an annotation may be any object)
    """Return the words that an annotation allows, those of unions and lists included."""
    if get_origin(annotation) is Literal:
        return [str(choice) for choice in get_args(annotation)]
    return [choice for part in get_args(annotation) for choice in choices_of(part)]


def _boolean_as_number(value: object, annotation: Any) -> bool | None:  # noqa: ANN401
    """Return a boolean used where the annotation allows numbers but no booleans; None if there is none."""
    kinds = _alternatives(annotation)
    if isinstance(value, bool):
        is_number = (int in kinds or float in kinds) and not {bool, Any}.intersection(kinds)
        return value if is_number else None
    inside = list(value.values()) if isinstance(value, Mapping) else value
    if not isinstance(inside, list | tuple):
        return None
    members = [get_args(kind)[-1] for kind in kinds if get_origin(kind) in (list, dict)]
    members += [
        part for kind in kinds if get_origin(kind) is tuple for part in get_args(kind) if part is not ...
    ]
    found = (_boolean_as_number(one, member) for one in inside for member in members)
    return next((one for one in found if one is not None), None)


def _alternatives(annotation: Any) -> list[Any]:  # noqa: ANN401
    """Return the members of a union, without constraints; for any other annotation, a list of itself."""
    if get_origin(annotation) is Annotated:
        return _alternatives(get_args(annotation)[0])
    if get_origin(annotation) in (Union, UnionType):
        return [kind for part in get_args(annotation) for kind in _alternatives(part)]
    return [annotation]


def description_of(field: FieldInfo) -> str:
    """Return a field's description in one line; choices that it does not name are appended."""
    text, choices = (field.description or "").replace("\n", " "), choices_of(field.annotation)
    named = all(re.search(rf"(?<!\w){re.escape(choice)}(?!\w)", text) for choice in choices)
    return text if named else f"{text} One of {', '.join(choices)}."


def _describe(cls: type[Settings], location: Sequence[str]) -> str:
    """Return the description under the field at a location, or an empty text."""
    owner = _owner(cls, location[:-1])
    field = owner.model_fields.get(location[-1]) if location else None
    return description_of(field) if field else ""


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a run file; `1e-5` is a number; a repeated key or a syntax error is refused with its line.

    `${...}` is plain text, so a run file cannot read the environment. Raises SettingsError.
    """
    if not path.is_file():
        similar = nearest(
            path.name, [p.name for p in path.parent.glob("*.y*ml")] if path.parent.is_dir() else []
        )
        remedy = str(path.parent / similar[0]) if similar else "weitiao train --model M --data D --out RUN"
        raise SettingsError(Problem("the run file does not exist", str(path), "a YAML file", remedy))
    try:
        loaded = load_yaml(path.read_text(encoding="utf-8-sig"))
    except (YamlError, UnicodeDecodeError, OSError) as error:
        raise SettingsError(Problem(f"{path} is not readable YAML", str(error))) from error
    if not isinstance(loaded, dict):
        raise SettingsError(
            Problem(f"{path} holds no settings", type(loaded).__name__, "keys such as model, data, method")
        )
    return loaded


def parse_overrides(
    words: Sequence[str], spelt_out: Callable[[Mapping[str, Any]], dict[str, Any]] = dict
) -> dict[str, Any]:
    """Turn `method.r=16 train.lr=2e-4` into nested settings; the order does not matter.

    `spelt_out` expands the short forms of one word into blocks. Raises SettingsError for every word without `=`, and
    where two names set different values for one setting; if one name is given twice, the last counts.
    """
    bad = [w for w in words if "=" not in w.lstrip("=") or w.startswith("-")]
    raise_all(
        SettingsError,
        [
            Problem("an override has the form key=value", w, "for example train.lr=2e-4", _as_override(w))
            for w in bad
        ],
    )
    halves = [(word, *word.split("=", 1)) for word in words]
    raise_all(
        SettingsError, [_no_value(name.strip(), word) for word, name, text in halves if not text.strip()]
    )
    named: dict[str, dict[str, Any]] = {}
    for word, name, text in halves:
        one = spelt_out(nested_at(name.strip(), _value(word, text)))
        named[name.strip()] = merge(named.get(name.strip(), {}), one)
    return _together(named)


def _together(named: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Combine the settings of several words; raises SettingsError where two disagree."""
    nested: dict[str, Any] = {}
    problems: list[Problem] = []
    for number, (name, one) in enumerate(named.items()):
        clashes: list[str] = []
        nested = _beside(nested, one, "", clashes)
        earlier = list(named)[:number]
        for dotted in clashes:
            other = next(old for old in reversed(earlier) if _is_about(named[old], dotted))
            what = f"{other} and {name} give {dotted} different values"
            problems.append(Problem(what, f"{other} and {name}", "one of them", f"leave {name} out"))
    raise_all(SettingsError, problems)
    return nested


def _beside(old: Mapping[str, Any], new: Mapping[str, Any], path: str, clashes: list[str]) -> dict[str, Any]:
    """Return both combined; the dotted names with two different values are appended to `clashes`."""
    both = dict(old)
    for key, value in new.items():
        dotted = f"{path}.{key}" if path else str(key)
        if key not in both:
            both[key] = value
            continue
        before = both[key]
        if isinstance(before, Mapping) and isinstance(value, Mapping):
            both[key] = _beside(before, value, dotted, clashes)
        elif isinstance(value, Mapping) and _are_blocks(before):
            both[key] = _merged(before, value)
        elif isinstance(before, Mapping) and _are_blocks(value):
            both[key] = _merged(value, before)
        elif before != value:
            clashes.append(dotted)
    return both


def _is_about(nested: Any, dotted: str) -> bool:  # noqa: ANN401
    """Return whether nested settings contain a dotted name."""
    for part in dotted.split("."):
        if not isinstance(nested, Mapping) or part not in nested:
            return False
        nested = nested[part]
    return True


WITH_FIELD = re.compile(r"\{[?^]?\s*\w[^{}:,\n]*\}")
"""A field of a template, as in `Question: {instruction}`."""


def _no_value(name: str, word: str) -> Problem:
    """Describe a word with nothing after its `=`."""
    expected = "a value after `=`, '\"\"' for an empty text"
    return Problem(f"{name} has no value", word, expected, f"leave {name}= out")


def _value(word: str, text: str) -> Any:  # noqa: ANN401  (whatever the text says)
    """Read a value as YAML; text with template fields, which YAML would read as an object, stays as typed."""
    if WITH_FIELD.match(text) or (text[:1] not in tuple("{['\"") and WITH_FIELD.search(text)):
        return text
    try:
        return load_yaml(text)
    except YamlError as error:
        name = word.partition("=")[0]
        remedy = f"{name}='\"...\"' if it is meant as text"
        raise SettingsError(
            Problem(f"the value of {name} cannot be read", word, str(error), remedy)
        ) from error


def _as_override(word: str) -> str:
    """Guess the override meant by a flag such as `--train.lr=1`."""
    name, _, value = word.lstrip("-=").partition("=")
    if word.lstrip("-").startswith("="):
        return f"NAME={name}"
    return f"{name}={value or 'VALUE'}"


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Merge `over` into `base`: a mapping merges key by key, also into each mapping of a list (so that
    data.sources.encoding=gb18030 applies to every source); anything else replaces."""
    merged = dict(base)
    for key, value in over.items():
        merged[key] = _merged(merged.get(key), value)
    return merged


def _merged(old: Any, value: Any) -> Any:  # noqa: ANN401
    if not isinstance(value, Mapping):
        return value
    if isinstance(old, Mapping):
        return merge(old, value)
    if _are_blocks(old):
        return [merge(one, value) for one in old]
    return value


def _are_blocks(value: Any) -> bool:  # noqa: ANN401
    """Return whether a value is a list of blocks, such as data.sources."""
    return isinstance(value, list) and bool(value) and all(isinstance(one, Mapping) for one in value)


def to_yaml(settings: BaseModel) -> str:
    """Write settings as YAML that reads back equal."""
    return yaml.safe_dump(settings.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
