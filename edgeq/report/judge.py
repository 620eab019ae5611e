"""From two sets of results to a verdict: every check of every model × policy × target, and what caused a change."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterable
from fnmatch import fnmatchcase
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from edgeq.cli import units
from edgeq.evaluate.metrics import FRACTIONS
from edgeq.report import attribute
from edgeq.report.attribute import Change
from edgeq.report.results import Entry, GraphFacts, Results, title_of
from edgeq.report.suite import Cost, Limits, Quality, Suite, Waiver

Status = Literal["fail", "waived", "improved", "new", "pass"]
ORDER: tuple[Status, ...] = ("fail", "waived", "improved", "new", "pass")
COSTS = ("instructions", "stack", "arena", "weights", "code", "file", "compile_seconds")
BYTES = ("stack", "arena", "weights", "code", "file")
LABELS = {
    "accuracy": "accuracy",
    "sqnr": "output SQNR",
    "bits": "bits of the integer graph",
    "agreement": "same bits on the target",
    "instructions": "instructions",
    "stack": "stack",
    "time": "time",
    "arena": "arena (RAM)",
    "weights": "weights",
    "code": "code",
    "file": "file",
    "compile_seconds": "compile time",
    "presence": "measured at all",
}
# Shorter than a thousandth of a point is the last digit of a sum, no change of a model.
ACCURACY_STEP = 1e-9


class Finding(BaseModel):
    """The answer to one check.

    Attributes:
        model, policy, target: what it is about; target is "" for checks of the graph.
        check: a key of LABELS. status: fail, waived, improved, new (nothing to compare with), pass.
        value, baseline: numbers, in the check's unit; None where there are none.
        text: one sentence. allowed: the limit that it broke, in words. waiver: reason and last day.
        changes: what caused it, the largest cause first.
    """

    model_config = ConfigDict(extra="forbid")
    model: str
    policy: str
    target: str = ""
    check: str
    status: Status = "pass"
    value: float | None = None
    baseline: float | None = None
    text: str = ""
    allowed: str = ""
    changes: list[Change] = Field(default_factory=list)
    waiver: str | None = None

    @property
    def title(self) -> str:
        """'digits on arm'."""
        return title_of(self.model, self.policy, self.target)

    @property
    def sentence(self) -> str:
        """What was found, and the limit that it broke."""
        return f"{self.text}; {self.allowed}" if self.allowed else self.text

    @property
    def label(self) -> str:
        """The check for people."""
        return LABELS[self.check]


class Verdict(BaseModel):
    """The whole answer.

    Attributes:
        status: fail if any check does; else waived, improved, pass.
        findings: of all checks. notes: what should be known besides, such as expired waivers.
    """

    model_config = ConfigDict(extra="forbid")
    status: Literal["fail", "waived", "improved", "pass"]
    findings: list[Finding]
    notes: list[str] = Field(default_factory=list)

    def of(self, *statuses: Status) -> list[Finding]:
        """The findings with one of these statuses."""
        return [f for f in self.findings if f.status in statuses]


def limits_of(suite: Suite, key: tuple[str, str, str]) -> Limits:
    """The limits that hold for a model, policy and target."""
    model, policy, target = key
    limits = suite.models[model].limits.over(suite.limits)
    for override in suite.overrides:
        if _matches(override.model, model) and _matches(override.policy, policy) and _matches(override.target, target):
            limits = override.limits.over(limits)
    return limits


def judge(suite: Suite, results: Results, baseline: Results | None, today: dt.date | None = None) -> Verdict:
    """Compare results with the limits and the baseline.

    Args:
        suite: limits and waivers. results: of `run_suite`.
        baseline: None: absolute limits only.
        today: for waivers; by default the day in UTC.
    """
    today = today or dt.datetime.now(dt.timezone.utc).date()
    findings: list[Finding] = []
    for graph in results.graphs:
        old = baseline.graph(graph.model, graph.policy) if baseline else None
        findings += _graph_findings(suite, graph, old)
    for entry in results.entries:
        before = baseline.entry(entry.key) if baseline else None
        findings += _entry_findings(suite, entry, before)
    findings += _absent(results, baseline)
    notes = [_waive(suite.waivers, finding, today) for finding in findings]
    notes += _unused(suite.waivers, findings, today)
    return Verdict(status=_worst(findings), findings=findings, notes=[note for note in notes if note])


def _worst(findings: Iterable[Finding]) -> Literal["fail", "waived", "improved", "pass"]:
    present = {f.status for f in findings}
    if "fail" in present:
        return "fail"
    if "waived" in present:
        return "waived"
    return "improved" if "improved" in present else "pass"


def _graph_findings(suite: Suite, graph: GraphFacts, old: GraphFacts | None) -> list[Finding]:
    limits = limits_of(suite, (graph.model, graph.policy, ""))
    changes = attribute.graph_changes(graph, old) if old else []
    case = suite.models[graph.model]
    base = Finding(model=graph.model, policy=graph.policy, check="bits")
    found = []
    if graph.accuracy is not None:
        points = 100.0 if graph.metric in FRACTIONS else 1.0
        finding = base.model_copy(update={"check": "accuracy"})
        before = old.accuracy if old is not None and old.metric == graph.metric else None
        _quality(finding, limits.accuracy, graph.accuracy, before, points, case.higher_is_better)
        found.append(finding)
    if graph.sqnr is not None:
        finding = base.model_copy(update={"check": "sqnr"})
        _quality(finding, limits.sqnr, graph.sqnr, old.sqnr if old else None, 1.0, True)
        found.append(finding)
    for finding in found:
        if finding.status in ("fail", "improved"):
            finding.changes = attribute.quality_changes(graph, old, changes) if old else []
    found.append(_bits(base, graph, old, limits.bits, changes))
    return found


def _bits(finding: Finding, graph: GraphFacts, old: GraphFacts | None, wanted: str, changes: list[Change]) -> Finding:
    if old is None:
        return finding.model_copy(update={"status": "new", "text": "no bits to compare with"})
    if not changes and old.outputs == graph.outputs:
        return finding.model_copy(update={"text": f"every value of {len(graph.nodes)} nodes is the baseline's"})
    first = changes[0].layer if changes else "the outputs"
    text = f"the bits changed, first in {first}" + ("" if wanted == "same" else " (allowed: bits: any)")
    status: Status = "fail" if wanted == "same" else "pass"
    return finding.model_copy(update={"status": status, "text": text, "changes": changes})


def _quality(finding: Finding, limit: Quality, value: float, before: float | None, points: float, up: bool) -> None:
    """Accuracy and SQNR. `points`: what a unit is worth in the unit of `drop`; `up`: higher is better."""
    finding.value, finding.baseline = value, before
    show = _shower(finding.check, points)
    sign = 1.0 if up else -1.0
    loss = 0.0 if before is None else sign * (before - value) * points
    finding.text = f"{show(value)}" + ("" if before is None else f", baseline {show(before)}")
    if limit.worst is not None and sign * (limit.worst - value) > ACCURACY_STEP:
        finding.status = "fail"
        finding.allowed = f"the limit is {show(limit.worst)}"
    elif limit.drop is not None and loss > limit.drop + ACCURACY_STEP:
        finding.status = "fail"
        finding.text += f": {loss:.3g} {_point_word(finding.check, points)} worse"
        finding.allowed = f"{limit.drop:g} allowed"
    elif before is None:
        finding.status = "new"
    elif limit.drop is not None and -loss > max(limit.drop, ACCURACY_STEP):
        finding.status = "improved"
        finding.text += f": {-loss:.3g} {_point_word(finding.check, points)} better"


def _shower(check: str, points: float) -> Callable[[float], str]:
    if check == "sqnr":
        return units.decibel
    return units.percent if points == 100.0 else lambda value: f"{value:.6g}"


def _point_word(check: str, points: float) -> str:
    return "dB" if check == "sqnr" else "points" if points == 100.0 else ""


def _entry_findings(suite: Suite, entry: Entry, old: Entry | None) -> list[Finding]:
    limits = limits_of(suite, entry.key)
    base = Finding(model=entry.model, policy=entry.policy, target=entry.target, check="agreement")
    found = [_agreement(base, entry, old)]
    for check in COSTS:
        finding = base.model_copy(update={"check": check})
        value, before = getattr(entry, check), getattr(old, check) if old else None
        if _cost(finding, getattr(limits, check), value, before):
            finding.changes = attribute.cost_changes(check, entry, old) if old and finding.status != "pass" else []
            found.append(finding)
    if entry.seconds is not None:
        found.append(_time(base.model_copy(update={"check": "time"}), limits.time, entry))
    return found


def _agreement(finding: Finding, entry: Entry, old: Entry | None) -> Finding:
    if entry.differing:
        text = f"the {entry.target} code gives other bits than the integer graph: {entry.disagreement}"
        changes = attribute.kernel_changes(entry, old) if old else []
        return finding.model_copy(
            update={"status": "fail", "text": text, "value": float(entry.differing), "changes": changes}
        )
    if entry.ran == "no":
        if old is not None and old.ran != "no":
            text = f"was {old.ran} for the baseline, could not be run now: {'; '.join(entry.notes)}"
            return finding.model_copy(update={"status": "fail", "text": text})
        return finding.model_copy(update={"status": "new", "text": "; ".join(entry.notes) or "not run"})
    text = f"{entry.golden} golden vectors and {entry.agreement_samples} samples, {entry.ran}: every bit the same"
    return finding.model_copy(update={"text": text, "value": 0.0})


def _cost(finding: Finding, limit: Cost, value: float | None, before: float | None) -> bool:
    """Judge something that should be low; False where there is nothing to say."""
    if value is None:
        if before is None or finding.check == "compile_seconds":
            return False
        finding.status, finding.baseline = "fail", before
        finding.text = f"could not be measured; the baseline has {show_cost(finding.check, before)}"
        return True
    finding.value, finding.baseline = float(value), before
    finding.text = show_cost(finding.check, value)
    if before is not None and finding.check != "compile_seconds":
        finding.text += f", baseline {show_cost(finding.check, before)}{_percent(value, before)}"
    if limit.max is not None and value > limit.max:
        finding.status = "fail"
        finding.allowed = f"the limit is {show_cost(finding.check, limit.max)}"
    elif before is None or finding.check == "compile_seconds":
        finding.status = "new" if before is None and finding.check != "compile_seconds" else "pass"
    elif limit.increase is not None and value > before * (1 + limit.increase / 100):
        finding.status = "fail"
        finding.allowed = _percent_allowed(limit.increase)
    elif limit.increase is not None and value < before * (1 - limit.increase / 100):
        finding.status = "improved"
    return True


def _time(finding: Finding, limit: Cost, entry: Entry) -> Finding:
    """Times are compared within a pair only; alone they are told."""
    timing = entry.timing
    assert entry.seconds is not None
    finding.value = entry.seconds
    finding.text = units.duration(entry.seconds)
    if limit.max is not None and entry.seconds > limit.max:
        finding.status = "fail"
        finding.allowed = f"the limit is {units.duration(limit.max)}"
    if timing is None:
        finding.text += " (no artifact of the baseline to pair it with)"
        return finding
    finding.baseline = timing.baseline_seconds
    spread = f"{100 * (timing.low - 1):+.1f} to {100 * (timing.high - 1):+.1f} %"
    finding.text = (
        f"{units.duration(timing.seconds)} against {units.duration(timing.baseline_seconds)} in turns: "
        f"{100 * (timing.ratio - 1):+.1f} % (noise band {spread}, {timing.rounds} pairs)"
    )
    if limit.increase is not None and timing.low > 1 + limit.increase / 100:
        finding.status = "fail"
        finding.allowed = _percent_allowed(limit.increase)
    elif limit.increase is not None and timing.high < 1 - limit.increase / 100 and finding.status != "fail":
        finding.status = "improved"
    if finding.status in ("fail", "improved"):
        finding.changes = attribute.time_changes(entry)
    return finding


def show_cost(check: str, value: float) -> str:
    """A cost as people read it; exact where a small difference matters."""
    if check in BYTES:
        return f"{value:,.0f} B".replace(",", " ")
    return units.duration(value) if check == "compile_seconds" else f"{value:,.0f}".replace(",", " ")


def _percent(value: float, before: float) -> str:
    if value == before or not before:
        return ""
    return f" ({100 * (value / before - 1):+.3g} %)"


def _percent_allowed(increase: float) -> str:
    return f"{increase:g} % more allowed" if increase else "no increase allowed"


def _absent(results: Results, baseline: Results | None) -> list[Finding]:
    """Pairs that the baseline has and this run hasn't: what isn't measured any more can't be guarded."""
    have = {e.key for e in results.entries}
    gone = [e for e in baseline.entries if e.key not in have] if baseline else []
    text = "the baseline has it, the suite hasn't; if that is meant, write a new baseline"
    return [
        Finding(model=e.model, policy=e.policy, target=e.target, check="presence", status="fail", text=text)
        for e in gone
    ]


def _matches(pattern: str, name: str) -> bool:
    return pattern == name or fnmatchcase(name, pattern)


def _covers(waiver: Waiver, finding: Finding) -> bool:
    pairs = (
        (waiver.model, finding.model),
        (waiver.policy, finding.policy),
        (waiver.target, finding.target),
        (waiver.check, finding.check),
    )
    return all(_matches(pattern, name) for pattern, name in pairs)


def _waive(waivers: Iterable[Waiver], finding: Finding, today: dt.date) -> str:
    """Turn a failure into a waived one where a waiver covers it; returns a note where one no longer does."""
    if finding.status != "fail":
        return ""
    note = ""
    for waiver in waivers:
        if not _covers(waiver, finding):
            continue
        if waiver.until < today:
            note = f"the waiver of {finding.check} for {finding.title} expired on {waiver.until}: {waiver.reason}"
            continue
        if waiver.limit is not None and finding.value is not None and _beyond(finding, waiver.limit):
            note = f"{finding.check} of {finding.title} is beyond what its waiver covers ({waiver.limit:g})"
            continue
        finding.status, finding.waiver = "waived", f"{waiver.reason} (until {waiver.until})"
        return ""
    return note


def _beyond(finding: Finding, limit: float) -> bool:
    assert finding.value is not None
    low_is_bad = finding.check in ("accuracy", "sqnr")
    return finding.value < limit if low_is_bad else finding.value > limit


def _unused(waivers: Iterable[Waiver], findings: list[Finding], today: dt.date) -> list[str]:
    return [
        f"the waiver of {w.check} for {w.model} on {w.target} covers nothing any more: take it out"
        for w in waivers
        if w.until >= today and not any(f.status == "waived" and _covers(w, f) for f in findings)
    ]
