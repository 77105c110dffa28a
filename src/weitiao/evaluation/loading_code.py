"""Python code that loads a run's result, and the commands to try after a run: what the report and the card show."""

from __future__ import annotations

import shlex
from pathlib import Path

from ..models.aliases import ALIASES
from .run_facts import ReportFacts


def loading_code(facts: ReportFacts, path: str = "") -> str:
    """Return the Python lines that load the result, from `path` or the run's own folder.

    They import weitiao only if PEFT does not know the method without it. An adapter names the hub id of its base, which
    PEFT downloads; a base that is not on a hub is loaded by a line of its own.
    """
    where = path or (Path(facts.run) / facts.result).as_posix()
    first, known = ("import weitiao\n", "weitiao.register()\n") if facts.needs_weitiao else ("", "")
    if facts.is_adapter and not facts.base_hub_id:
        imports, base = _base_code(facts.base)
        lines = f"{base}\nmodel = PeftModel.from_pretrained(base, {where!r})"
        return f"{first}{imports}\n\n{known}{lines}"
    kind, package = (
        ("AutoPeftModelForCausalLM", "peft") if facts.is_adapter else ("AutoModelForCausalLM", "transformers")
    )
    return f"{first}from {package} import {kind}\n\n{known}model = {kind}.from_pretrained({where!r})"


def _base_code(base: str) -> tuple[str, str]:
    """Return the Python lines that load a base that is not on a hub: (imports, code)."""
    imports = "from peft import PeftModel\nfrom transformers import AutoModelForCausalLM"
    if base in ALIASES:
        alias = ALIASES[base]
        folder = f"folder = find_spec({alias.package!r}).submodule_search_locations[0]  # {alias.install}"
        line = (
            f"base = AutoModelForCausalLM.from_pretrained(folder, gguf_file={alias.file!r}, dtype='float32')"
        )
        return f"from importlib.util import find_spec\n\n{imports}", f"{folder}\n{line}"
    return imports, f"base = AutoModelForCausalLM.from_pretrained({base!r})  # where this model is"


def next_commands(run: str) -> dict[str, str]:
    """Return the commands to try after a run, by name."""
    quoted = shlex.quote(run)
    return {
        "chat": f"weitiao chat {quoted}",
        "compare": f"weitiao chat {quoted} --both",
        "merge": f"weitiao merge {quoted} {shlex.quote(run + '-merged')}",
    }
