"""Writes the documentation's tables from the code, between `<!-- generated: NAME -->` and `<!-- end -->`.

    python docs/generate.py            write them
    python docs/generate.py --check    write nothing; exit 1 where a page is not as the code is

Chinese pages take the code's sentences from the catalogue (src/weitiao/core/locale/zh.yaml); what is not there stays
English.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from operator import itemgetter
from pathlib import Path

from weitiao.cli._models_list import letters_of, notes
from weitiao.cli._tables import setting_rows
from weitiao.core.errors import EXIT_CODES
from weitiao.core.locale import in_language
from weitiao.core.settings import Settings
from weitiao.core.units import readable_bytes, readable_count
from weitiao.data.checks import CHECKS
from weitiao.data.formats import FORMATS
from weitiao.data.settings import SourceSettings
from weitiao.data.sources.readers import READERS
from weitiao.engine.checkpoint import CheckpointSettings
from weitiao.engine.kernels.settings import KernelSettings
from weitiao.engine.optim.optimizers import OptimizerSettings
from weitiao.engine.optim.schedules import ScheduleSettings
from weitiao.engine.settings import StepSettings
from weitiao.evaluation.metrics import METRICS
from weitiao.methods import METHODS
from weitiao.methods._aliases import KNOWN_ELSEWHERE
from weitiao.models.known import known_models
from weitiao.objectives import OBJECTIVES
from weitiao.recipe.blocks import OUTER
from weitiao.recipe.names.table import TABLE

ROOT = Path(__file__).resolve().parents[1]
PAIRS = ROOT / "docs" / "architectures.jsonl"
WAYS = ("packed", "one by one", "refused", "not made")
DOTTED = re.compile(r"[\w.]+")
PLACE = re.compile(r"(<!-- generated: (?P<name>[\w., -]+) -->\n).*?(<!-- end -->)", re.DOTALL)

Row = Sequence[str]
Translate = Callable[[str], str]

BLOCKS: Mapping[str, tuple[str, type[Settings]]] = {
    **{name: (name, cls) for name, cls in OUTER.items() if name != "train"},
    "source": ("data.sources", SourceSettings),
    "steps": ("train", StepSettings),
    "optimizer": ("train", OptimizerSettings),
    "schedule": ("train", ScheduleSettings),
    "kernels": ("train", KernelSettings),
    "checkpoints": ("train", CheckpointSettings),
}
"""What a page calls a table of settings -> the block they stand in, and their class."""


def settings_table(cls: type[Settings], block: str, translate: Translate) -> str:
    """Return a block's settings with defaults and descriptions."""
    rows = [
        (f"`{key}`", default if default.startswith(("(", "-")) else f"`{default}`", description)
        for name, field in cls.model_fields.items()
        for key, default, description in setting_rows(f"{block}.{name}" if block else name, field)
    ]
    return table(("setting", "default", "what it does"), rows, translate)


def exit_codes(translate: Translate) -> str:
    """Return what each exit code means."""
    rows = [(f"`{code}`", meaning) for code, meaning in EXIT_CODES.items()]
    return table(("code", "meaning"), rows, translate)


def methods(translate: Translate) -> str:
    """Return every method in a row."""
    rows = [
        (
            f"`{name}`",
            *(m.trains, m.share, yes_or_no(m.merges), m.inference_cost, m.memory),
            *(yes_or_no(m.on_quantized), f"{m.suggested_lr:g}", m.when),
        )
        for name, m in ((name, METHODS.load(name)) for name in METHODS.names())
    ]
    facts = (
        "what is trained",
        "share trained",
        "merges",
        "inference cost",
        "memory",
        "on 4 or 8 bits",
        "lr",
        "when",
    )
    return table(("method", *facts), rows, translate)


def every_method(translate: Translate) -> str:
    """Return the settings of every method under a heading of its own."""
    parts = []
    for name in METHODS.names():
        method = METHODS.load(name)
        settings = (
            settings_table(method, "method", translate)
            if method.model_fields
            else f"{translate('No settings of its own.')}\n"
        )
        parts.append(f"### {name}\n\n{settings}")
    return "\n".join(parts)


def objectives(translate: Translate) -> str:
    """Return every objective in a row, then the settings of those that have any under headings of their own."""
    rows = [(f"`{name}`", OBJECTIVES.summary(name)) for name in OBJECTIVES.names()]
    kinds = {name: OBJECTIVES.load(name) for name in OBJECTIVES.names()}
    settings = (
        f"### {name}\n\n{settings_table(kind, 'objective', translate)}"
        for name, kind in kinds.items()
        if kind.model_fields
    )
    return "\n".join([table(("objective", "what is minimised"), rows, translate), *settings])


def metrics(translate: Translate) -> str:
    """Return every metric of answers."""
    rows = [
        (f"`{name}`", METRICS.summary(name), yes_or_no(METRICS.load(name).higher_is_better))
        for name in METRICS.names()
    ]
    return table(("metric", "what it is", "higher is better"), rows, translate)


def about(name: str, translate: Translate) -> str:
    """Return what one method is, in facts."""
    method = METHODS.load(name)
    rows = [
        ("what is trained", method.trains),
        ("share trained", method.share),
        ("formula", f"`{translate(method.formula)}`"),
        ("when", method.when),
        ("merges", yes_or_no(method.merges)),
        ("inference cost", method.inference_cost),
        ("memory", method.memory),
        ("on 4 or 8 bits", yes_or_no(method.on_quantized)),
        ("learning rate", f"{method.suggested_lr:g}"),
        ("paper", method.paper),
    ]
    return table(("fact", method.title), rows, translate)


def drawing(name: str, translate: Translate) -> str:
    """Return the drawing of one method."""
    return f"```text\n{translate(METHODS.load(name).drawing)}\n```\n"


def names(source: str, translate: Translate) -> str:
    """Return what the names of one tool become here, those that become the same in a row."""
    found: dict[str, list[str]] = {}
    for one in TABLE:
        if one.source == source:
            found.setdefault(one.becomes, []).append(one.name)
    rows = [
        (backquoted(listed), f"`{becomes}`" if DOTTED.fullmatch(becomes) else becomes)
        for becomes, listed in found.items()
    ]
    return table(("name there", "here"), rows, translate)


def names_of_methods(translate: Translate) -> str:
    """Return what names of methods become here."""
    known = KNOWN_ELSEWHERE.items()
    rows = [(f"`{name}`", f"`{remedy}`") for name, (_, remedy) in known if METHODS.spelling(name) is None]
    return table(("name there", "here"), rows, translate)


def names_in_methods(translate: Translate) -> str:
    """Return what the names of methods' settings become here."""
    found: dict[tuple[str, str], list[str]] = {}
    for method in METHODS.names():
        for name, ours in METHODS.load(method).known_elsewhere.items():
            found.setdefault((name, f"method.{ours}"), []).append(method)
    rows = [(f"`{name}`", f"`{ours}`", backquoted(of)) for (name, ours), of in sorted(found.items())]
    return table(("name there", "here", "method"), rows, translate)


def formats(translate: Translate) -> str:
    """Return every format of rows, with an example."""
    rows = [(f"`{name}`", f"`{FORMATS.load(name).example}`") for name in FORMATS.names()]
    return table(("format", "a row"), rows, translate)


def formats_columns(translate: Translate) -> str:
    """Return what every format is, the columns it reads, and whether some objective trains it."""
    trained = frozenset().union(*(OBJECTIVES.load(name).forms for name in OBJECTIVES.names()))
    rows = [
        (f"`{name}`", FORMATS.summary(name), backquoted(one.columns), yes_or_no(one.form in trained))
        for name, one in ((name, FORMATS.load(name)) for name in FORMATS.names())
    ]
    return table(("format", "what it is", "columns", "trained today"), rows, translate)


def readers(translate: Translate) -> str:
    """Return every kind of file that can be read."""
    rows = [(backquoted(READERS.load(name).suffixes), READERS.summary(name)) for name in READERS.names()]
    return table(("files", "what becomes rows"), rows, translate)


def checks(translate: Translate) -> str:
    """Return every check of the data, by the name that settings give it."""
    rows = [(f"`{name}`", CHECKS.summary(name)) for name in CHECKS.names()]
    return table(("check", "what it looks for"), rows, translate)


def backquoted(names: Iterable[str]) -> str:
    """Write names as code."""
    return ", ".join(f"`{name}`" for name in names)


def yes_or_no(value: bool) -> str:
    """Write a fact as a word."""
    return "yes" if value else "no"


def table(header: Row, rows: Sequence[Row], translate: Translate) -> str:
    """Return a Markdown table, every cell translated."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(map(cell, map(translate, line))) + " |" for line in lines) + "\n"


def cell(text: str) -> str:
    """Write text so that it stays within its cell."""
    return text.replace("|", "\\|")


def tried_pairs() -> list[dict[str, str]]:
    """Return what the sweep (tests/sweep/run.py) found of each pair of a method and an architecture."""
    return [json.loads(line) for line in PAIRS.read_text(encoding="utf-8").splitlines()]


def architectures(translate: Translate) -> str:
    """Return how each architecture's examples go through the model, by method."""
    rows = []
    by_architecture = sorted(tried_pairs(), key=itemgetter("architecture", "method"))
    for name, group in groupby(by_architecture, itemgetter("architecture")):
        ways = {pair["method"]: pair["way"] for pair in group}
        columns = ([method for method, way in ways.items() if way == wanted] for wanted in WAYS)
        rows.append((f"`{name}`", f"{len(ways)}", *(some_of(column, ways, translate) for column in columns)))
    return table(("architecture", "methods tried", *WAYS), rows, translate)


def some_of(found: Sequence[str], every: Iterable[str], translate: Translate) -> str:
    """Name the methods that were found among all that were tried, or those that are not where they are fewer."""
    others = [method for method in every if method not in found]
    if found and not others:
        return translate("all")
    if len(others) < len(found):
        return f"{translate('all but')} {backquoted(others)}"
    return backquoted(found)


def refusals(translate: Translate) -> str:
    """Return why methods refuse architectures, and why some architectures could not be tried."""
    reasons: dict[tuple[str, str], set[str]] = {}
    for pair in tried_pairs():
        if pair["reason"]:
            by = "-" if pair["way"] == "not made" else f"`{pair['method']}`"
            reasons.setdefault((by, pair["reason"]), set()).add(pair["architecture"])
    rows = [(*key, backquoted(sorted(names))) for key, names in sorted(reasons.items())]
    return table(("method", "reason", "architectures"), rows, translate)


def sweep(translate: Translate) -> str:
    """Return how many pairs were tried, and what was found of them."""
    pairs = tried_pairs()
    rows = [
        *((way, str(sum(pair["way"] == way for pair in pairs))) for way in WAYS),
        ("largest difference of a loss", largest(pairs, "loss")),
        ("largest difference of merged logits", largest(pairs, "merge")),
        ("continued as uninterrupted", str(sum(pair["resume"] == "same" for pair in pairs))),
        ("batch as single", str(sum(pair["batch"].startswith("same") for pair in pairs))),
    ]
    return table(("pairs", str(len(pairs))), rows, translate)


def largest(pairs: Sequence[Mapping[str, str]], name: str) -> str:
    """Return the largest of the numbers that one comparison begins with."""
    numbers = [float(found[0]) for pair in pairs if (found := re.match(r"[\d.]+e[+-]\d+", pair[name]))]
    return f"{max(numbers, default=0.0):.1e}"


def known_models_table(translate: Translate) -> str:
    """Return every model that has an alias, with its ids on the hubs."""
    letters = letters_of(known_models().values())
    rows = [
        (
            f"`{model.alias}`",
            readable_count(model.parameters),
            readable_bytes(model.download_bytes),
            f"{model.context:,}" if model.context else "-",
            " ".join(letters[note] for note in notes(model)) or "-",
            model.licence or "-",
            f"`{model.hub}`",
            f"`{model.modelscope}`" if model.modelscope else "-",
        )
        for model in known_models().values()
    ]
    facts = ("alias", "parameters", "download", "context", "remarks", "licence", "Hugging Face", "ModelScope")
    return table(facts, rows, translate)


def model_notes(translate: Translate) -> str:
    """Return what the letters of the list of models mean."""
    letters = letters_of(known_models().values())
    return table(("remark", "meaning"), [(letter, note) for note, letter in letters.items()], translate)


WHOLE: Mapping[str, Callable[[Translate], str]] = {
    "methods": methods,
    "every-method": every_method,
    "objectives": objectives,
    "metrics": metrics,
    "names-of-methods": names_of_methods,
    "names-in-methods": names_in_methods,
    "formats": formats,
    "formats-columns": formats_columns,
    "readers": readers,
    "checks": checks,
    "exit-codes": exit_codes,
    "models": known_models_table,
    "model-notes": model_notes,
    "sweep": sweep,
    "architectures": architectures,
    "refusals": refusals,
}
"""Tables of everything of a kind."""


def generated(name: str, translate: Translate) -> str:
    """Return the table or drawing a page asks for; raises KeyError for one there is none of."""
    kind, _, subject = name.partition(" ")
    if kind == "names":
        return names(subject, translate)
    if kind == "settings":
        block, cls = BLOCKS[subject]
        return settings_table(cls, block, translate)
    if kind == "method":
        return settings_table(METHODS.load(subject), "method", translate)
    of_a_method = {"about": about, "drawing": drawing}
    if kind in of_a_method:
        return of_a_method[kind](subject, translate)
    return WHOLE[kind](translate)


def chinese(text: str) -> str:
    """Return a sentence of the code in Chinese, or as it is."""
    return in_language(text, "zh")


def pages() -> Iterator[Path]:
    """Yield every page of the documentation."""
    yield from sorted([*ROOT.glob("README*.md"), *(ROOT / "docs").rglob("*.md")])


def current(page: Path) -> str:
    """Return a page's text with its tables as the code is."""
    relative = page.relative_to(ROOT)
    translate = chinese if "zh" in relative.parts or ".zh" in relative.suffixes else str
    text = page.read_text(encoding="utf-8")
    return PLACE.sub(lambda found: found[1] + generated(found["name"], translate) + found[3], text)


def main(arguments: Sequence[str]) -> int:
    """Write or check all pages; return 1 where a check found one that is not current."""
    stale = []
    for page in pages():
        text = current(page)
        if text != page.read_text(encoding="utf-8"):
            stale.append(page.relative_to(ROOT).as_posix())
            if "--check" not in arguments:
                page.write_text(text, encoding="utf-8")
    print("\n".join(stale) or "every table is as the code is")
    return int(bool(stale) and "--check" in arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
