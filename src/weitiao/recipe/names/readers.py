"""Readers of names that depend on each other: factors of the batch size, quantisation, evaluation schedules."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...core.errors import nearest
from ...core.settings import Unfit
from ...models.settings import LONG_NAMES
from .entries import Context, Given, Group, NotYet, Reading, asks_for_nothing
from .words import as_written, is_true, plain_value

Names = Mapping[str, Given]

PER_DEVICE_EXAMPLES = 8
"""Default per-device batch size of transformers and LLaMA-Factory."""


def _whole(one: Given, usual: int = 1) -> int:
    """Return a number of examples, steps or bits; raises Unfit for anything else, suggesting `usual`."""
    try:
        number = float(one.value)
    except (OverflowError, TypeError, ValueError):
        raise Unfit("it is not a number", "a whole number of at least 1", f"{one.name}={usual}") from None
    if isinstance(one.value, bool) or not number.is_integer() or not 1 <= number < 2**63:
        raise Unfit(
            "it is not a whole number of at least 1", "a whole number of at least 1", f"{one.name}={usual}"
        )
    return int(number)


def _read_batch(given: Names, context: Context) -> Reading:
    each, steps = given.get("per_device_train_batch_size"), given.get("gradient_accumulation_steps")
    if whole := given.get("global_batch_size"):
        lines = (f"{whole.name}, read as train.batch_size", *_unused(each, "the whole batch is given"))
        return Reading({"train.batch_size": _whole(whole)}, lines)
    per_device = (each.name, _whole(each)) if each else ("per_device_train_batch_size", PER_DEVICE_EXAMPLES)
    factors = [per_device, *([(steps.name, _whole(steps))] if steps else [])]
    factors += [("WORLD_SIZE", context.processes)] if context.processes != 1 else []
    product = math.prod(factor for _, factor in factors)
    said = f"{' x '.join(f'{name} {factor}' for name, factor in factors)}, read as train.batch_size={product}"
    return Reading({"train.batch_size": product}, (said,))


BATCH = Group(_read_batch, ("train.batch_size",))

FOUR_BIT_KINDS = ("nf4", "fp4")


NO_BITS = (16, 32, "16", "32")


def _bits_of(one: Given) -> int:
    """Return the bits that `quantization_bit` requests, 0 for none; raises Unfit for an unsupported number."""
    if asks_for_nothing(one.value, NO_BITS):
        return 0
    if str(one.value) not in ("4", "8", "4.0", "8.0"):
        wanted = f"{_whole(one, usual=4)} bits"
        raise NotYet(f"a base of {wanted}", "4 or 8 bits (bitsandbytes)", f"{one.name}=4")
    return int(float(one.value))


def _bits(given: Names) -> int | None:
    """Return the bits requested: 4, 8, 0 for none, None if no name mentions them.

    Raises Unfit if one name requests bits that another excludes.
    """
    asked: dict[str, int] = {}
    excluded: dict[str, tuple[int, ...]] = {}
    for part, bits in (("load_in_4bit", 4), ("load_in_8bit", 8)):
        if part in given and is_true(given[part].value):
            asked[part] = bits
        elif part in given and given[part].value is not None and not given[part].usual:
            excluded[part] = (bits,)
    if counted := given.get("quantization_bit"):
        bits = _bits_of(counted)
        if bits:
            asked["quantization_bit"] = bits
        elif counted.value is not None:
            excluded["quantization_bit"] = (4, 8)
    if len(set(asked.values())) > 1:
        raise Unfit("both are asked for", "one of them", _without(given, list(asked)[1:]))
    for part, bits in asked.items():
        if any(bits in none for none in excluded.values()):
            raise Unfit("one asks for what another excludes", "one of them", _without(given, [part]))
    if asked:
        return next(iter(asked.values()))
    return 0 if excluded or {"load_in_4bit", "load_in_8bit", "quantization_bit"} & set(given) else None


def _without(given: Names, parts: list[str]) -> str:
    """Return the words that cancel what names request."""
    return " ".join(
        f"{given[part].name}={'null' if part == 'quantization_bit' else 'false'}" for part in parts
    )


def _read_quantization(given: Names, context: Context) -> Reading:
    """Read bits, type, double quantisation and compute dtype; without bits the others have no effect."""
    bits = _bits(given)
    four_elsewhere = context.own.get("model.quantization") in FOUR_BIT_KINDS
    if bits is None:
        bits = 4 if "bnb_4bit_quant_type" in given or four_elsewhere else 0
    if bits == 4:
        return _four_bits(given, asked=not four_elsewhere or "bnb_4bit_quant_type" in given)
    given = {part: one for part, one in given.items() if not one.usual}
    settings = {"model.quantization": "int8"} if bits == 8 else {}
    excluded = () if bits else _excluded(given)
    known = {"quantization_bit", "load_in_4bit", "load_in_8bit"}
    said = [
        f"{one}, read as model.quantization=int8"
        if bits == 8 and asked
        else f"{one}, which is how it is here"
        for part, one in given.items()
        if part in known and ((asked := not asks_for_nothing(one.value)) or bits != 8)
    ]
    rest = [one for part, one in given.items() if part not in known]
    said += [f"{one.name} means nothing here: the model is not quantised to 4 bits" for one in rest]
    excludes = {"model.quantization": (excluded, "none")} if excluded else {}
    return Reading(settings, tuple(said), excludes=excludes)


def _excluded(given: Names) -> tuple[str, ...]:
    """Return the quantisation types that names exclude."""
    kinds = {
        "load_in_4bit": FOUR_BIT_KINDS,
        "load_in_8bit": ("int8",),
        "quantization_bit": (*FOUR_BIT_KINDS, "int8"),
    }
    named = [kinds[part] for part, one in given.items() if part in kinds and one.value is not None]
    return tuple(dict.fromkeys(kind for listed in named for kind in listed))


def _four_bits(given: Names, *, asked: bool) -> Reading:
    kind_given = given.get("bnb_4bit_quant_type")
    kind = str(plain_value(kind_given.value)).lower() if kind_given else FOUR_BIT_KINDS[0]
    settings: dict[str, Any] = {"model.quantization": kind} if asked else {}
    first = [one for part, one in given.items() if part not in ("bnb_4bit_use_double_quant", "compute")]
    first = [one for one in first if not (one.usual and asks_for_nothing(one.value))]
    said = [f"{' with '.join(map(str, first))}, read as model.quantization={kind}"] if first else []
    if double := given.get("bnb_4bit_use_double_quant"):
        settings["model.double_quantization"] = is_true(double.value)
        said += [] if double.usual else [f"{double.name}, read as model.double_quantization"]
    if compute := given.get("compute"):
        settings["model.compute_dtype"] = precision(compute.value)
        said.append(f"{compute}, read as model.compute_dtype={precision(compute.value)}")
    return Reading(settings, tuple(said))


QUANTIZATION = Group(
    _read_quantization, ("model.quantization", "model.double_quantization", "model.compute_dtype")
)


def precision(value: Any) -> Any:  # noqa: ANN401  (a name, or torch's own object)
    """Return the name here of one of torch's dtypes."""
    text = str(plain_value(value)).removeprefix("torch.")
    return LONG_NAMES.get(text, text)


def _read_betas(given: Names, context: Context) -> Reading:
    betas = [0.9, 0.999]
    for place, part in enumerate(("adam_beta1", "adam_beta2")):
        if part in given:
            betas[place] = given[part].value
    said = f"{' and '.join(map(str, given.values()))}, read as train.betas={as_written(betas)}"
    return Reading({"train.betas": betas}, (said,))


BETAS = Group(_read_betas, ("train.betas",))


LOOKS_KNOWN = ("steps", "epoch", "no", "false")
SAVES_KNOWN = (*LOOKS_KNOWN, "best")
"""Known values of a strategy; YAML reads the bare word no as false."""


def _strategy(one: Given | None, known: tuple[str, ...]) -> str:
    """Return a strategy, `steps` if none is given; raises Unfit for a word that is not in `known`."""
    if one is None or one.value is None:
        return "steps"
    word = str(plain_value(one.value)).lower()
    if word not in known:
        near = nearest(word, known) or ["steps", "epoch"]
        expected = "one of " + ", ".join(name for name in known if name != "false")
        raise Unfit("there is no such strategy", expected, " or ".join(f"{one.name}={name}" for name in near))
    return word


def _read_looks(given: Names, context: Context) -> Reading:
    """Read when the held-out loss is evaluated."""
    when, steps = given.get("eval_strategy"), given.get("eval_steps")
    strategy = _strategy(when, LOOKS_KNOWN)
    if strategy in ("no", "false"):
        said = (
            f"{when}, but held-out rows are measured at the end of each epoch; data.held_out=0 holds none out"
        )
        return Reading(said=(said, *_unused(steps, "no evaluation is requested")))
    if strategy == "epoch":
        said = f"{when}, which is how it is here"
        return Reading(said=(said, *_unused(steps, "held-out rows are measured at the end of each epoch")))
    if steps is None:
        return Reading(said=(f"{when}, but no eval_steps: held-out rows are measured each epoch",))
    return _steps_between(steps, "train.eval_every", when)


def _read_saves(given: Names, context: Context) -> Reading:
    """Read when a checkpoint is saved."""
    when, steps = given.get("save_strategy"), given.get("save_steps")
    strategy = _strategy(when, SAVES_KNOWN)
    if strategy in ("no", "false"):
        said = f"{when}, but checkpoints are saved, so that an interrupted run can be resumed"
        return Reading(said=(said, *_unused(steps, "no checkpoint is requested")))
    if strategy == "epoch":
        said = f"{when}, which is how it is here"
        return Reading(said=(said, *_unused(steps, "a checkpoint is saved at the end of each epoch")))
    if strategy == "best":
        said = (
            f"{when}, which is how it is here: train.keep_best keeps the best checkpoint besides the newest"
        )
        return Reading(said=(said, *_unused(steps, "the best checkpoint is kept")))
    if steps is None:
        return Reading(said=(f"{when}, but no save_steps: a checkpoint is saved each epoch",))
    return _steps_between(steps, "train.save_every", when)


def _unused(one: Given | None, reason: str) -> tuple[str, ...]:
    return (f"{one.name} means nothing here: {reason}",) if one else ()


def _steps_between(one: Given, target: str, beside: Given | None) -> Reading:
    if one.value is None:
        return Reading(said=(f"{one}, which is how it is here",))
    if isinstance(one.value, float) and 0 < one.value < 1:
        raise NotYet("a share of all steps", "a number of steps, or nothing", f"{target}=100")
    names = f"{beside.name} and {one.name}" if beside else one.name
    return Reading({target: _whole(one)}, (f"{names}, read as {target}",))


LOOKS = Group(_read_looks, ("train.eval_every",))
SAVES = Group(_read_saves, ("train.save_every",))


def _read_sampling(given: Names, context: Context) -> Reading:
    """Read whether answers are sampled; without a temperature, 1 is used."""
    (one,) = given.values()
    target = "evaluate.generation.temperature"
    if not is_true(one.value):
        return Reading({target: 0.0}, (f"{one}, read as {target}=0",))
    if context.own.get(target):
        return Reading(said=(f"{one}, which is what {target} above 0 says",))
    return Reading({target: 1.0}, (f"{one}, read as {target}=1",))


SAMPLING = Group(_read_sampling, ("evaluate.generation.temperature",))


def _length(setting: str) -> Group:
    """Read names of an answer's length as `setting` which, as in transformers, takes precedence if it is given."""
    target = f"evaluate.generation.{setting}"

    def read(given: Names, context: Context) -> Reading:
        names = " and ".join(one.name for one in given.values())
        first, *others = (one.value for one in given.values())
        if target in context.own:
            return Reading(said=(f"{names} means nothing here: {setting} says how long an answer may be",))
        if any(other != first for other in others):
            raise Unfit("they differ", "one length", f"{target}={first}")
        return Reading({target: first}, (f"{names}, read as {target} (the question not counted)",))

    return Group(read, (target,))


LONGEST_ANSWER, SHORTEST_ANSWER = _length("max_new_tokens"), _length("min_new_tokens")

TRACKERS = ("tensorboard", "trackio", "wandb", "mlflow", "swanlab")


def _read_trackers(given: Names, context: Context) -> Reading:
    """Read the trackers; `all` is refused, because it depends on what is installed and a run file must not."""
    to: list[str] = []
    for part, one in given.items():
        listed = one.value.split(",") if isinstance(one.value, str) else one.value
        if part == "use_swanlab":
            listed = ["swanlab"] if is_true(one.value) else []
        if not isinstance(listed, list | tuple | set | None):
            raise Unfit("it is not a list", "one of " + ", ".join(TRACKERS), "track.to=tensorboard")
        to += [str(name).strip() for name in listed or [] if str(name).strip().lower() != "none"]
    if "all" in to:
        raise Unfit(
            "all depends on what is installed", "one of " + ", ".join(TRACKERS), "track.to=tensorboard"
        )
    said = f"{' and '.join(map(str, given.values()))}, read as track.to={as_written(to)}"
    return Reading({"track.to": to}, (said,))


TO = Group(_read_trackers, ("track.to",))


def _read_data_set(given: Names, context: Context) -> Reading:
    """Read names in LLaMA-Factory's list of data sets; a name that is a file or a hub id is used directly."""
    folder = given.get("dataset_dir")
    where = str(folder.value) if folder and folder.value else "data"
    if where.startswith("REMOTE:"):
        raise NotYet("a list of data sets on the hub", "a folder", "dataset_dir=data")
    settings: dict[str, Any] = {}
    said: list[str] = []
    for part, target in (("dataset", "data.sources"), ("eval_dataset", "data.held_out_path")):
        one = given.get(part)
        if one is None or one.value is None:
            continue
        listed = one.value if isinstance(one.value, list | tuple) else str(one.value).split(",")
        places = [_place(str(name).strip(), where, folder is not None) for name in listed]
        settings[target] = (
            _one_place(one, places) if target != "data.sources" else [{"path": place} for place in places]
        )
        listed_in = f" with {folder}" if folder else ""
        said.append(f"{one}{listed_in}, read as {target}={','.join(places)}")
    unused = () if said or folder is None else (f"{folder.name} means nothing here: no dataset is named",)
    return Reading(settings, (*said, *unused))


def _one_place(one: Given, places: list[str]) -> str:
    """Return the one data set to evaluate with; raises Unfit for none or several."""
    if not places:
        raise Unfit("it names no data set", "one", f"{one.name}=null")
    if len(places) > 1:
        raise NotYet("measuring with several data sets", "one", f"{one.name}={places[0].rpartition(':')[2]}")
    return places[0]


def _place(name: str, folder: str, folder_given: bool) -> str:
    """Return what a data set's name refers to: a path, a hub id, or an entry of a list."""
    its_list = Path(folder) / "dataset_info.json"
    plain_path = _is_there(name) or (Path(name).suffix and not its_list.is_file())
    on_hub = folder.upper() == "ONLINE" or (name.count("/") == 1 and not folder_given)
    return name if plain_path or on_hub else f"{its_list}:{name}"


def _is_there(name: str) -> bool:
    """Return whether a name is an existing path; False for a name too long for the file system."""
    try:
        return Path(name).exists()
    except OSError:  # the name is too long
        return False


DATA_SET = Group(_read_data_set, ("data.sources", "data.held_out_path"))


def _read_share_of_processes(given: Names, context: Context) -> Reading:
    """Say that nothing is sharded; a name and its config are often given together."""
    asked = " and ".join(one.name for one in given.values() if not asks_for_nothing(one.value))
    usual = tuple(f"{one}, which is how it is here" for one in given.values() if asks_for_nothing(one.value))
    if not asked:
        return Reading(said=usual)
    said = f"{asked} means nothing here: each process holds the whole model, in packs that fit its memory"
    return Reading(said=(said, *usual))


SHARDING = Group(_read_share_of_processes)


def _read_resume(given: Names, context: Context) -> Reading:
    (one,) = given.values()
    if asks_for_nothing(one.value):
        return Reading(said=(f"{one}, which is how it is here",))
    run = one.value if isinstance(one.value, str) else context.own.get("out", "RUN")
    raise Unfit("a run is resumed by a command", "null", f"weitiao train --resume {run}")


RESUME = Group(_read_resume)
