"""The README card of an adapter or model: metadata for the hub, then text for people."""

from __future__ import annotations

from pathlib import Path

import yaml

from ..core.files import write_atomic
from .loading_code import loading_code
from .report import cell, parameters_text, scores_table, settings_text, weights_text
from .run_facts import ReportFacts


def write_card(folder: Path, facts: ReportFacts) -> None:
    """Write README.md into an adapter's or model's folder, atomically; raises OSError."""
    write_atomic(folder / "README.md", card(facts))


def card(facts: ReportFacts) -> str:
    """Return the card: YAML metadata (without a licence, which the author chooses) and Markdown."""
    loader = "peft" if facts.is_adapter else "transformers"
    base = cell(facts.base)
    sections = [
        f"# {cell(Path(facts.run).name)}",
        f"{facts.method_title} on {base}, trained with weitiao.",
        f"- **Base model:** {base}\n"
        f"- **Data:** {'; '.join(map(cell, facts.data))}\n"
        f"- **Method:** {facts.method} ({cell(settings_text(facts.method_settings))})\n"
        f"- **Trained parameters:** {parameters_text(facts)}\n"
        f"- **Steps:** {facts.steps}; the weights are {weights_text(facts)}",
        _scores(facts),
        f"## Load it\n\n{_needs(facts, loader)}, PATH being this folder:",
        f"```python\n{loading_code(facts, 'PATH')}\n```",
        "With weitiao:",
        f"```sh\nweitiao chat PATH\n{'weitiao merge PATH OUT' if facts.is_adapter else ''}".rstrip()
        + "\n```",
    ]
    return f"---\n{_metadata(facts)}---\n\n" + "\n\n".join(section for section in sections if section) + "\n"


def _needs(facts: ReportFacts, loader: str) -> str:
    """Return what must be installed to load the result, and the error seen otherwise."""
    if not facts.needs_weitiao:
        return f"With {loader} alone"
    return (
        f"{loader} alone does not know this method and stops with `KeyError: 'WEITIAO_...'`: what is missing is "
        f"`import weitiao` (`pip install weitiao`). With it"
    )


def _metadata(facts: ReportFacts) -> str:
    metadata: dict[str, object] = {"base_model": facts.base_hub_id} if facts.base_hub_id else {}
    metadata["library_name"] = "peft" if facts.is_adapter else "transformers"
    metadata["pipeline_tag"] = "text-generation"
    metadata["tags"] = ["weitiao", facts.method, *facts.extra_tags]
    return str(yaml.safe_dump(metadata, sort_keys=False, allow_unicode=True))


def _scores(facts: ReportFacts) -> str:
    if facts.before is None or facts.after is None:
        return ""
    return f"## Scores\n\n{scores_table(facts.before, facts.after)}"
