"""Names whose meaning depends on the run's method, because only some methods have the setting."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ...core.settings import Unfit
from ...methods import METHODS
from ...methods._aliases import read_as
from .entries import Context, Given, Group, Name, Reading, asks_for_nothing
from .words import as_written, is_true, plain_value

Names = Mapping[str, Given]


def _not_a_setting(one: Given, context: Context) -> Reading:
    """Accept a name that belongs to other methods."""
    return Reading(said=(f"{one.name} means nothing here: {context.method} has no such setting",))


def method_name(value: Any) -> Any:  # noqa: ANN401  (a text or PEFT's Enum)
    """Return a method's name here; unknown names are returned unchanged, for the method's own check."""
    text = str(plain_value(value))
    words = read_as(text)
    return METHODS.spelling(text) or (words[0].partition("=")[2] if words else text)


def targets(value: Any) -> Any:  # noqa: ANN401  (a name, a list of names)
    """Return the target modules; `all` means all linear layers."""
    return "all-linear" if str(value).lower() == "all" else value


def of_method(setting: str, names: str) -> Iterator[Name]:
    """Yield names, separated by blanks, for a setting that only some methods have."""
    target = f"method.{setting}"

    def read(given: Mapping[str, Given], context: Context) -> Reading:
        (one,) = given.values()
        if setting not in context.method_settings:
            return _not_a_setting(one, context)
        if one.value is None or (setting == "r" and asks_for_nothing(one.value)):
            return Reading(said=(f"{one}, which is how it is here",))
        value = targets(one.value)
        said = (
            f"{one.name}, read as {target}"
            if value == one.value
            else f"{one}, read as {target}={as_written(value)}"
        )
        return Reading({target: value}, (said,))

    for name in names.split():
        yield Name(name, Group(read, (target,)), "method", target)


def _number(value: Any) -> Any:  # noqa: ANN401
    """Return the integer in a text such as `'8'`; anything else unchanged."""
    digits = value.strip().removeprefix("-") if isinstance(value, str) else ""
    return int(value) if digits.isascii() and digits.isdigit() and len(digits) < 10 else value


def _read_rank(given: Names, context: Context) -> Reading:
    """Read rank and alpha; as in LLaMA-Factory, alpha is twice the rank if it is not given."""
    rank, alpha = given.get("lora_rank"), given.get("lora_alpha")
    settings: dict[str, Any] = {}
    said: list[str] = []
    own = {"r": context.elsewhere.get("lora_rank", "r"), "alpha": "alpha"}
    for key, one in (("r", rank), ("alpha", alpha)):
        if one is None or (key == "alpha" and one.value is None):
            continue
        if own[key] not in context.method_settings:
            said += _not_a_setting(one, context).said
            continue
        settings[f"method.{own[key]}"] = _number(one.value)
        said.append(f"{one.name}, read as method.{own[key]}")
    follows = alpha is None or alpha.value is None
    if rank and follows and settings and "alpha" in context.method_settings:
        count = _number(rank.value)
        if not isinstance(count, int) or isinstance(count, bool):
            raise Unfit("it is not a rank", "a whole number", f"{rank.name}=8")
        if "method.alpha" not in context.own:
            settings["method.alpha"] = 2 * count
            said[-1] = f"{said[-1]}, and method.alpha={2 * count}: twice the rank, as LLaMA-Factory has it"
    return Reading(settings, tuple(said))


ALPHA_TOO = Group(_read_rank, ("method.r", "method.alpha"))


def _read_pissa(given: Names, context: Context) -> Reading:
    """Read whether A and B are initialised by PiSSA, and with how many iterations (-1: exact SVD)."""
    init, rounds = given.get("pissa_init"), given.get("pissa_iter")
    if init is None or not is_true(init.value) or "init_lora_weights" not in context.method_settings:
        return Reading(said=tuple(f"{one}, which is how it is here" for one in given.values()))
    count = rounds.value if rounds else 16
    start = "pissa" if count in (-1, None) else f"pissa_niter_{count}"
    said = f"{' with '.join(map(str, given.values()))}, read as method.init_lora_weights={start}"
    return Reading({"method.init_lora_weights": start}, (said,))


PISSA = Group(_read_pissa, ("method.init_lora_weights",))


def _read_layers(given: Names, context: Context) -> Reading:
    """Read how many blocks train: the last ones, or the first ones for a negative number."""
    (one,) = given.values()
    if "last_n" not in context.method_settings:
        return _not_a_setting(one, context)
    count = _number(one.value)
    if not isinstance(count, int) or isinstance(count, bool):
        raise Unfit("it is not a number of blocks", "a whole number", f"{one.name}=2")
    if count < 0:
        return Reading({"method.first_n": -count}, (f"{one}, read as method.first_n={-count}",))
    return Reading({"method.last_n": count}, (f"{one.name}, read as method.last_n",))


LAYERS = Group(_read_layers, ("method.last_n", "method.first_n"))
