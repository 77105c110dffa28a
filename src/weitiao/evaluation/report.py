"""The report of a run, in English and Chinese: what was trained, with what result, and what to do next."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..core.files import PRIVATE_FILE, write_atomic
from ..core.locale import Language, in_language
from ..core.run_folder import RunFolder
from ..core.units import (
    is_longer,
    readable_bytes,
    readable_change,
    readable_loss,
    readable_seconds,
    readable_share,
    significant,
)
from ..core.visible import visible
from ..models.aliases import ALIASES
from .answer_scores import score_answers
from .answers import CUT_MARK, Answer, earlier_text, marked
from .curve import curve_svg
from .run_facts import ReportFacts, Scores
from .verdict import KINDS
from .verdict import lines as verdict_lines

CURVE_FILE = "loss.svg"
MARKUP = re.compile(r"([\\|*_`\[\]~$#])")


@dataclass(frozen=True)
class Words:
    """The fixed texts of the report in one language."""

    title: str
    verdict: str
    trained: str
    base: str
    data: str
    method: str
    parameters: str
    settings: str
    left_out: str
    summary: str
    held_out: str
    before: str
    after: str
    change: str
    loss: str
    measures: Mapping[str, str]
    """Titles of the objective's other measures, by their names in events."""
    answers: str
    question: str
    reference: str
    curve: str
    curve_labels: tuple[str, str, str]
    cost: str
    time: str
    speed: str
    memory: str
    versions: str
    load: str
    next_steps: str
    chat: str
    compare: str
    merge: str
    nothing_held_out: str
    failures: str
    steps: str
    stopped_early: str
    training: str
    weights: str
    of_last_step: str
    of_best_step: str
    chosen_by_loss: str
    cut: str


ENGLISH = Words(
    title="Fine-tuning report",
    verdict="Verdict",
    trained="What was trained",
    base="Base model",
    data="Data",
    method="Method",
    parameters="Trained parameters",
    settings="Settings",
    left_out="What the method does not reach",
    summary="The data",
    held_out="On data it was not trained on",
    before="before",
    after="after",
    change="change",
    loss="held-out loss (nats a token; lower is better)",
    measures={"perplexity": "perplexity (lower is better)"},
    answers="The same questions, before and after",
    question="question",
    reference="the data's answer",
    curve="The loss while training",
    curve_labels=("training", "held-out", "step"),
    cost="What it took",
    time="Time",
    speed="Speed",
    memory="Peak memory",
    versions="Versions",
    load="How to load it",
    next_steps="What next",
    chat="Talk to it, `/base` switches what was trained off",
    compare="Compare its answers with those before training",
    merge="Make a plain model of it",
    nothing_held_out="No rows were held out, so there is no such number: set `data.held_out`.",
    failures="What failed after the result was saved",
    steps="{steps} steps",
    stopped_early="{steps} of {planned} steps: stopped early, as the held-out loss no longer fell",
    training="{whole}, of which training {seconds}",
    weights="Weights",
    of_last_step="of step {step}, the last",
    of_best_step="of step {step} of the {steps} made, the lowest held-out loss",
    chosen_by_loss="The weights were chosen by this same loss, so it is slightly optimistic.",
    cut="{mark}: the answer was cut off after {tokens} tokens (`evaluate.generation.max_new_tokens`).",
)
CHINESE = Words(
    title="微调报告",
    verdict="结论",
    trained="训练内容",
    base="基座模型",
    data="数据",
    method="方法",
    parameters="训练的参数",
    settings="设置",
    left_out="方法未触及的部分",
    summary="数据概况",
    held_out="在未参与训练的数据上",
    before="训练前",
    after="训练后",
    change="变化",
    loss="留出集损失（纳特/词元，越低越好）",
    measures={"perplexity": "困惑度（越低越好）"},
    answers="同样的问题，训练前后的回答",
    question="问题",
    reference="数据中的回答",
    curve="训练过程中的损失",
    curve_labels=("训练", "留出集", "步"),
    cost="开销",
    time="时间",
    speed="速度",
    memory="内存峰值",
    versions="版本",
    load="如何加载",
    next_steps="接下来",
    chat="与它对话，`/base` 关闭训练的部分",
    compare="与训练前的回答对比",
    merge="合并成普通模型",
    nothing_held_out="没有留出数据，因此没有这项数字：请设置 `data.held_out`。",
    failures="结果保存之后未能完成的部分",
    steps="{steps} 步",
    stopped_early="计划 {planned} 步，第 {steps} 步提前停止：留出集损失不再下降",
    training="{whole}，其中训练 {seconds}",
    weights="权重",
    of_last_step="第 {step} 步，即最后一步",
    of_best_step="第 {step} 步（共训练 {steps} 步），留出集损失最低",
    chosen_by_loss="权重正是按这一损失挑选的，因此它略偏乐观。",
    cut="{mark}：回答在 {tokens} 个词元处被截断（`evaluate.generation.max_new_tokens`）。",
)


def write_report(folder: Path, facts: ReportFacts) -> None:
    """Write loss.svg, report.zh.md and, last, report.md into a run's folder, each atomically; raises OSError."""
    run = RunFolder(folder)
    write_atomic(folder / CURVE_FILE, curve_svg(facts.losses, facts.held_out_losses, ENGLISH.curve_labels))
    write_atomic(run.report_zh, report(facts, CHINESE), PRIVATE_FILE)
    write_atomic(run.report, report(facts, ENGLISH), PRIVATE_FILE)  # last: it marks the run as finished


def report(facts: ReportFacts, words: Words = ENGLISH) -> str:
    """Return the report as Markdown."""
    sections = [
        f"# {words.title}: {cell(facts.run)}",
        _verdict(facts, words),
        _trained(facts, words),
        _left_out(facts, words),
        _summary(facts, words),
        _failures(facts, words),
        _held_out(facts, words),
        _answers(facts, words),
        _curve(facts, words),
        _cost(facts, words),
        f"## {words.load}\n\n```python\n{loading_code(facts)}\n```",
        _next(facts, words),
    ]
    return "\n\n".join(section for section in sections if section) + "\n"


def cell(text: str) -> str:
    """Escape text so that Markdown shows it literally, also in a table: one line, no markup."""
    lines = text.strip().replace("\r\n", "\n").replace("\r", "\n")
    plain = visible(lines).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return MARKUP.sub(r"\\\1", plain).replace("\n", "<br>")


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table from cells that are already escaped."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def parameters_text(facts: ReportFacts) -> str:
    """Return `trainable / all / percent`."""
    return f"{facts.trainable:,} / {facts.total:,} / {readable_share(facts.trainable, facts.total)}"


def weights_text(facts: ReportFacts, words: Words) -> str:
    """Return which step's weights are the result."""
    if facts.result_step is None or facts.result_step == facts.steps:
        return words.of_last_step.format(step=facts.steps)
    return words.of_best_step.format(step=facts.result_step, steps=facts.steps)


def settings_text(settings: Mapping[str, Any]) -> str:
    """Return settings as `name=value`, separated by commas."""
    return ", ".join(f"{name}={value}" for name, value in settings.items())


def scores_table(before: Scores, after: Scores, words: Words) -> str:
    """Return a table of the held-out loss and other measures, before and after, with the change in percent."""
    losses = before.loss, after.loss
    rows = [[words.loss, *map(readable_loss, losses), readable_change(*losses)]]
    for name, old in before.measures.items():
        if name in after.measures:
            new = after.measures[name]
            title = words.measures.get(name, name)
            rows.append([title, significant(old), significant(new), readable_change(old, new)])
    return table(["", words.before, words.after, words.change], rows)


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
    return imports, f"base = AutoModelForCausalLM.from_pretrained({base!r})  # where this model lies"


def _trained(facts: ReportFacts, words: Words) -> str:
    rows = [
        [words.base, cell(facts.base)],
        [words.data, "<br>".join(map(cell, facts.data))],
        [words.method, cell(_method(facts, words))],
        [words.settings, cell(settings_text(facts.method_settings))],
        [words.parameters, parameters_text(facts)],
        *_chosen(facts, words),
        [words.weights, weights_text(facts, words)],
    ]
    return f"## {words.trained}\n\n{table(['', ''], rows)}"


def _verdict(facts: ReportFacts, words: Words) -> str:
    if facts.verdict is None:
        return ""
    chinese, kind = words is CHINESE, facts.verdict.kind
    text = "\n".join(f"- {cell(line)}" for line in verdict_lines(facts.verdict.as_fields(), chinese))
    return f"## {words.verdict}: {KINDS[kind] if chinese else kind}\n\n{text}"


def _method(facts: ReportFacts, words: Words) -> str:
    """Return the method's title and name, with the modules it trains if known."""
    named = f"{facts.method_title} ({facts.method})"
    targets = facts.chosen.targets if facts.chosen else None
    if targets is None:
        return named
    return f"{named}：{targets[1]}" if words is CHINESE else f"{named} on {targets[0]}"


def _chosen(facts: ReportFacts, words: Words) -> list[list[str]]:
    """Return the run's other settings, as rows of the table."""
    rows = facts.chosen.rows()[1:] if facts.chosen else []
    return [
        [cell(label.zh), cell(said.zh)] if words is CHINESE else [cell(label.en.capitalize()), cell(said.en)]
        for label, said in rows
    ]


def _left_out(facts: ReportFacts, words: Words) -> str:
    sentences = [part.zh if words is CHINESE else part.en for part in facts.left_out]
    return f"## {words.left_out}\n\n" + "\n".join(f"- {cell(s)}" for s in sentences) if sentences else ""


def _summary(facts: ReportFacts, words: Words) -> str:
    lines = [in_language(line, "zh" if words is CHINESE else "en") for line in facts.data_lines]
    return f"## {words.summary}\n\n" + "\n".join(f"- {cell(line)}" for line in lines) if lines else ""


def _failures(facts: ReportFacts, words: Words) -> str:
    lines = "\n".join(f"- {cell(line)}" for line in facts.failures)
    return f"## {words.failures}\n\n{lines}" if lines else ""


def _held_out(facts: ReportFacts, words: Words) -> str:
    text = words.nothing_held_out
    if facts.before is not None and facts.after is not None:
        text = scores_table(facts.before, facts.after, words)
        text += f"\n\n{words.chosen_by_loss}" if facts.chosen_by_loss else ""
    return f"## {words.held_out}\n\n{text}"


def _answers(facts: ReportFacts, words: Words) -> str:
    if not facts.answers:
        return ""
    header = [words.question, words.before, words.after, words.reference]
    rows = [
        [
            "<br>".join(filter(None, (_earlier(a, words), cell(a.question)))),
            cell(marked(a.before, a.before_cut)),
            cell(marked(a.after, a.after_cut)),
            cell(marked(a.reference, a.reference_cut)),
        ]
        for a in facts.answers
    ]
    cut = any(a.before_cut or a.after_cut or a.reference_cut for a in facts.answers)
    note = words.cut.format(mark=cell(CUT_MARK), tokens=facts.most_new_tokens) if cut else ""
    return "\n\n".join(
        filter(None, (f"## {words.answers}", table(header, rows), note, _answer_scores(facts, words)))
    )


def _answer_scores(facts: ReportFacts, words: Words) -> str:
    """Return a table of what every metric says of the answers; empty if the data has no answers to compare with."""
    language: Language = "zh" if words is CHINESE else "en"
    scores = score_answers(facts.answers)
    rows = [[in_language(part, language) for part in score.row()] for score in scores]
    return table(["", words.before, words.after], [list(map(cell, row)) for row in rows]) if rows else ""


def _earlier(answer: Answer, words: Words) -> str:
    """Return the turns before a question, in italics; empty if there are none."""
    text = earlier_text(answer.as_fields(), words is CHINESE)
    return f"*{cell(text)}*" if text else ""


def _curve(facts: ReportFacts, words: Words) -> str:
    return f"## {words.curve}\n\n![{words.curve}]({CURVE_FILE})" if facts.losses else ""


def _cost(facts: ReportFacts, words: Words) -> str:
    planned = facts.chosen.steps if facts.chosen else facts.steps
    made = words.stopped_early if facts.steps < planned else words.steps
    rows = [
        [words.time, f"{_time(facts, words)} ({made.format(steps=facts.steps, planned=planned)})"],
        [words.speed, f"{facts.tokens_per_second:,.0f} tokens/s"],
        [words.memory, readable_bytes(facts.peak_memory_bytes)],
        [words.versions, cell(", ".join(f"{name} {version}" for name, version in facts.versions.items()))],
    ]
    return f"## {words.cost}\n\n{table(['', ''], rows)}"


def _time(facts: ReportFacts, words: Words) -> str:
    """Return the total time of the run, and the time in steps if that is clearly less."""
    whole = readable_seconds(max(facts.whole_seconds, facts.seconds))
    if not is_longer(facts.whole_seconds, facts.seconds):
        return whole
    return words.training.format(whole=whole, seconds=readable_seconds(facts.seconds))


def _next(facts: ReportFacts, words: Words) -> str:
    commands = next_commands(facts.run)
    labels = {"chat": words.chat, "compare": words.compare, "merge": words.merge}
    lines = [f"- {label}: `{commands[name]}`" for name, label in labels.items()]
    return f"## {words.next_steps}\n\n" + "\n".join(lines)


def next_commands(run: str) -> dict[str, str]:
    """Return the commands to try after a run, by name."""
    import shlex

    quoted = shlex.quote(run)
    return {
        "chat": f"weitiao chat {quoted}",
        "compare": f"weitiao chat {quoted} --both",
        "merge": f"weitiao merge {quoted} {shlex.quote(run + '-merged')}",
    }
