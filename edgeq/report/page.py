"""The page: one HTML file with style, script and plots inside, that asks the network for nothing."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from edgeq.cli import units
from edgeq.evaluate.metrics import FRACTIONS
from edgeq.report import plots
from edgeq.report.attribute import fullest
from edgeq.report.judge import ORDER, Finding, Status, Verdict
from edgeq.report.results import Entry, GraphFacts, Place, Results, Step
from edgeq.report.text import BASELINE_HINT, WORDS, headline
from edgeq.report.timing import keys

TEMPLATES = Path(__file__).parent / "templates"
# More bars than this tell nobody anything; the rest is one line.
MOST_BARS = 40


@dataclass(frozen=True)
class Cell:
    """A figure in the table: what is shown, what it is sorted by, the change in percent and its class."""

    text: str
    order: float
    delta: str = ""
    kind: str = ""


@dataclass(frozen=True)
class Row:
    """A line of the table: an artifact."""

    anchor: str
    model: str
    target: str
    status: Status
    cells: list[Cell]
    spark: Markup


@dataclass(frozen=True)
class Bar:
    """A layer's share: width in percent of the widest, the baseline's, the figure and the change."""

    name: str
    op: str
    width: float
    old_width: float
    text: str
    delta: str
    kind: str
    kernel: str


@dataclass(frozen=True)
class Detail:
    """Everything about one artifact below the table."""

    anchor: str
    title: str
    unit: str
    bars: list[Bar]
    rest: str
    map: Markup
    arena: str
    facts: list[tuple[str, str]]
    notes: list[str] = field(default_factory=list)
    is_open: bool = False


COLUMNS = ("accuracy", "instructions", "time", "arena", "weights", "code", "file")


def page(
    verdict: Verdict | None,
    results: Results,
    baseline: Results | None,
    past: Sequence[Results],
    *,
    title: str | None = None,
    headline_text: str | None = None,
) -> str:
    """The HTML text.

    Args:
        verdict: None for a plain report.
        results: what was measured. baseline: to compare with. past: the history, oldest first.
        title, headline_text: instead of the suite's name and the verdict's words.
    """
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    findings = verdict.findings if verdict else []
    shown = [c for c in COLUMNS if any(_figure(results, e, c) is not None for e in results.entries)]
    return environment.get_template("report.html.j2").render(
        style=Markup((TEMPLATES / "report.css").read_text(encoding="utf-8")),
        script=Markup((TEMPLATES / "report.js").read_text(encoding="utf-8")),
        title=title or f"edgeq regress · {results.suite}",
        headline=headline_text or (headline(verdict) if verdict else f"{len(results.entries)} artifacts"),
        status=verdict.status if verdict else "pass",
        notable=_notable(findings),
        notes=verdict.notes if verdict else [],
        baseline_hint=BASELINE_HINT if any(f.status == "improved" for f in findings) else "",
        columns=[_column_title(c, results) for c in shown],
        rows=[_row(i, e, shown, results, baseline, past, findings) for i, e in enumerate(results.entries)],
        has_history=bool(past),
        scatters=scatters(results, baseline),
        details=[_detail(i, e, baseline, findings, len(results.entries)) for i, e in enumerate(results.entries)],
        findings=findings,
        words=WORDS,
        has_verdict=verdict is not None,
        version=results.edgeq,
        created=results.created,
        has_baseline=baseline is not None,
    )


def _notable(findings: Sequence[Finding]) -> list[Finding]:
    found = [f for f in findings if f.status in ("fail", "waived", "improved")]
    return sorted(found, key=lambda f: ORDER.index(f.status))


def _figure(results: Results, entry: Entry, column: str) -> float | None:
    if column == "accuracy":
        graph = results.graph(entry.model, entry.policy)
        return graph.accuracy if graph else None
    value = entry.seconds if column == "time" else getattr(entry, column)
    return None if value is None else float(value)


def _column_title(column: str, results: Results) -> str:
    metrics = {g.metric for g in results.graphs if g.metric}
    if column == "accuracy" and len(metrics) == 1:
        return str(next(iter(metrics))).rpartition(":")[2]
    return "arena (RAM)" if column == "arena" else column


def _show(column: str, value: float, graph: GraphFacts | None) -> str:
    if column == "accuracy":
        return units.percent(value) if graph and graph.metric in FRACTIONS else f"{value:.5g}"
    if column == "time":
        return units.duration(value)
    return f"{value:,.0f}".replace(",", "\u202f") if column == "instructions" else units.size(value)


def _delta(value: float, before: float | None) -> tuple[str, str]:
    """Change in percent and whether a higher value is shown as worse."""
    if before is None or before in (0, value):
        return "", ""
    change = 100 * (value / before - 1)
    text = f"{change:+.1f} %" if abs(change) >= 0.05 else f"{change:+.2g} %"
    return f"{_arrow(change)} {text}", "worse" if change > 0 else "better"


def _arrow(change: float) -> str:
    return "▲" if change > 0 else "▼"


def _row(
    index: int,
    entry: Entry,
    columns: Sequence[str],
    results: Results,
    baseline: Results | None,
    past: Sequence[Results],
    findings: Sequence[Finding],
) -> Row:
    old = baseline.entry(entry.key) if baseline else None
    graph = results.graph(entry.model, entry.policy)
    cells = []
    for column in columns:
        value = _figure(results, entry, column)
        if value is None:
            cells.append(Cell("–", float("inf")))
            continue
        before = _figure(baseline, old, column) if baseline and old else None
        if column == "time":
            before = entry.timing.baseline_seconds if entry.timing else None
        delta, kind = _delta(value, before)
        if column == "accuracy" and before is not None and graph:
            points = 100.0 if graph.metric in FRACTIONS else 1.0
            change = (value - before) * points
            delta, kind = (
                (f"{_arrow(change)} {change:+.2f}", "worse" if change < 0 else "better") if change else ("", "")
            )
        cells.append(Cell(_show(column, value, graph), value, delta, kind))
    own = [f.status for f in findings if (f.model, f.policy) == entry.key[:2] and f.target in ("", entry.target)]
    status: Status = min(own, key=ORDER.index, default="pass")
    line = "instructions" if entry.instructions is not None else "file"
    values = [_figure(r, e, line) for r in past if (e := r.entry(entry.key))] + [_figure(results, entry, line)]
    spark = plots.sparkline([v for v in values if v is not None])
    name = entry.model if entry.policy == "default" else f"{entry.model} [{entry.policy}]"
    return Row(f"e{index}", name, entry.target, status, cells, spark)


def scatters(results: Results, baseline: Results | None) -> list[tuple[str, Markup]]:
    """(title, plot) of accuracy against cost, one for each target and metric with an accuracy."""
    found = []
    for target in dict.fromkeys(e.target for e in results.entries):
        entries = [e for e in results.entries if e.target == target]
        for metric in dict.fromkeys(g.metric for g in results.graphs if g.metric):
            cost = "instructions" if all(e.instructions is not None for e in entries) else "time"
            points = [p for e in entries if (p := _scatter_point(e, results, baseline, str(metric), cost))]
            if points:
                unit = "instructions a run" if cost == "instructions" else "µs a run"
                most = 100.0 if metric in FRACTIONS else math.inf
                label = f"{metric}, %" if metric in FRACTIONS else str(metric).rpartition(":")[2]
                found.append((target, plots.scatter(points, unit, label, metric != "mse", most)))
    return found


def _scatter_point(
    entry: Entry, results: Results, baseline: Results | None, metric: str, cost: str
) -> plots.Point | None:
    def position(source: Results | None, e: Entry | None) -> tuple[float, float] | None:
        graph = source.graph(e.model, e.policy) if source and e else None
        if source is None or e is None or graph is None or graph.accuracy is None or graph.metric != metric:
            return None
        value = _figure(source, e, cost)
        scale = 100.0 if metric in FRACTIONS else 1.0
        return None if value is None else (value * (1e6 if cost == "time" else 1.0), graph.accuracy * scale)

    here = position(results, entry)
    if here is None:
        return None
    old = position(baseline, baseline.entry(entry.key)) if baseline else None
    name = entry.model if entry.policy == "default" else f"{entry.model} [{entry.policy}]"
    return plots.Point(name, here[0], here[1], old)


def _detail(index: int, entry: Entry, baseline: Results | None, findings: Sequence[Finding], count: int) -> Detail:
    old = baseline.entry(entry.key) if baseline else None
    unit, bars, rest = _bars(entry, old)
    moment, alive = fullest(entry.memory)
    arena = ""
    if alive:
        name = entry.steps[moment].name if 0 <= moment < len(entry.steps) else "the ends"
        arena = f"{units.size(entry.arena)}; fullest at {name}: " + ", ".join(
            f"{p.name} {units.size(p.size)}" for p in alive[:3]
        )
    steps = [step.name for step in entry.steps]
    failed = any(f.status == "fail" and f.target == entry.target and f.model == entry.model for f in findings)
    return Detail(
        f"e{index}",
        entry.title,
        unit,
        bars,
        rest,
        plots.memory_map(_inside(entry.memory, entry.arena), steps, entry.arena) if entry.memory else Markup(""),
        arena,
        _facts(entry),
        entry.notes,
        failed or count == 1,
    )


def _inside(memory: Sequence[Place], arena: int) -> list[Place]:
    """Larger buffers first, so that small ones are drawn on top and can be pointed at."""
    return sorted((p for p in memory if p.offset < arena), key=lambda p: -p.size)


def _facts(entry: Entry) -> list[tuple[str, str]]:
    facts = [("ran", entry.ran), ("golden vectors", str(entry.golden))]
    if entry.agreement_samples:
        facts.append(("compared samples", f"{entry.agreement_samples}, {entry.differing} values differ"))
    if entry.stack is not None:
        facts.append(("stack", units.size(entry.stack)))
    if entry.compile_seconds is not None:
        facts.append(("compile time", units.duration(entry.compile_seconds)))
    return [*facts, ("digest", entry.digest)]


def _bars(entry: Entry, old: Entry | None) -> tuple[str, list[Bar], str]:
    """Unit, bars and a line for what is left out: by instructions, else time, else multiply-accumulates."""

    def figure(step: Step, unit: str) -> float:
        return float({"instructions": step.instructions, "time": step.seconds, "operations": step.macs}[unit] or 0)

    counted = any(s.instructions is not None for s in entry.steps)
    timed = any(s.seconds is not None for s in entry.steps)
    unit = "instructions" if counted else "time" if timed else "operations"
    before = dict(zip(keys(old.steps), old.steps, strict=True)) if old and unit != "time" else {}
    values = [figure(step, unit) for step in entry.steps]
    olds = [figure(before[k], unit) if k in before else None for k in keys(entry.steps)]
    widest = max([*values, *(v for v in olds if v is not None)], default=0.0) or 1.0
    kept = set(sorted(range(len(values)), key=lambda i: -values[i])[:MOST_BARS])
    bars = []
    for i, (step, value, was) in enumerate(zip(entry.steps, values, olds, strict=True)):
        if i not in kept:
            continue
        delta, kind = _delta(value, was)
        text = units.duration(value) if unit == "time" else f"{value:,.0f}".replace(",", "\u202f")
        shares = 100 * value / widest, 100 * (was or 0.0) / widest
        bars.append(Bar(step.name, step.op, *shares, text, delta, kind, step.kernel))
    left = [v for i, v in enumerate(values) if i not in kept]
    share = 100 * sum(left) / (sum(values) or 1.0)
    return unit, bars, f"{len(left)} smaller steps together: {share:.1f} %" if left else ""
