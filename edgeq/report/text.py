"""The verdict as Markdown (a pull request's comment), JUnit XML and JSON."""

from __future__ import annotations

import json
from typing import Any
from xml.etree import ElementTree

from pydantic import BaseModel, ConfigDict, Field

from edgeq.report.judge import ORDER, Finding, Verdict
from edgeq.report.results import Results

SIGNS = {"fail": "❌", "waived": "⚠️", "improved": "⬆️", "new": "🆕", "pass": "✅"}
WORDS = {"fail": "FAIL", "waived": "WAIVED", "improved": "IMPROVED", "new": "NEW", "pass": "PASS"}
BASELINE_HINT = "An improvement asks for a new baseline, or the next regression hides behind it: --update-baseline."
MOST_CAUSES = 4


class Report(BaseModel):
    """What `edgeq regress --json` prints: verdict and everything measured."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)
    format: str = "edgeq-report"
    schema_version: int = Field(default=1, alias="schema")
    verdict: Verdict
    results: Results


def headline(verdict: Verdict) -> str:
    """'FAIL: 2 regressions in 26 checks'."""
    counts = {status: len(verdict.of(status)) for status in ORDER}
    words = {"fail": "regression", "waived": "waived regression", "improved": "improvement", "new": "new figure"}
    parts = [f"{n} {words[s]}{'s' if n != 1 else ''}" for s, n in counts.items() if n and s in words]
    return f"{WORDS[verdict.status]}: {', '.join(parts) or 'no change'} in {len(verdict.findings)} checks"


def markdown(verdict: Verdict, results: Results) -> str:
    """A summary with a table of everything that isn't a plain pass, causes below, all figures folded away."""
    lines = [f"## {SIGNS[verdict.status]} {results.suite}: {headline(verdict)}", ""]
    notable = verdict.of("fail", "waived", "improved")
    if notable:
        lines += ["| | model | check | what |", "|---|---|---|---|"]
        lines += [f"| {SIGNS[f.status]} | {_cell(f.title)} | {f.label} | {_cell(f.sentence)} |" for f in notable]
        lines.append("")
    for finding in notable:
        lines += _causes(finding)
    if verdict.of("improved"):
        lines += [f"> {BASELINE_HINT}", ""]
    lines += [f"> {note}" for note in verdict.notes]
    lines += ["", "<details><summary>All figures</summary>", "", *_table(verdict), "", "</details>", ""]
    return "\n".join(lines)


def _causes(finding: Finding) -> list[str]:
    lines = [f"**{_cell(finding.title)}, {finding.label}**"]
    if finding.waiver:
        lines.append(f"- waived: {finding.waiver}")
    lines += [f"- `{change.layer}`: {change.what}" for change in finding.changes[:MOST_CAUSES]]
    if len(finding.changes) > MOST_CAUSES:
        lines.append(f"- and {len(finding.changes) - MOST_CAUSES} more")
    return [*lines, ""] if len(lines) > 1 else []


def _table(verdict: Verdict) -> list[str]:
    rows = [f"| {SIGNS[f.status]} | {_cell(f.title)} | {f.label} | {_cell(f.sentence)} |" for f in verdict.findings]
    return ["| | model | check | figure |", "|---|---|---|---|", *rows]


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def junit(verdict: Verdict, results: Results) -> str:
    """JUnit XML: a test case for each check, named model.target; failures say which layer did it."""
    root = ElementTree.Element("testsuites", name="edgeq")
    suite = ElementTree.SubElement(
        root,
        "testsuite",
        name=results.suite,
        tests=str(len(verdict.findings)),
        failures=str(len(verdict.of("fail"))),
        errors="0",
        skipped=str(len(verdict.of("waived"))),
    )
    for finding in verdict.findings:
        place = ".".join(part for part in (results.suite, finding.model, finding.policy, finding.target) if part)
        case = ElementTree.SubElement(suite, "testcase", classname=place, name=finding.label)
        if finding.status == "fail":
            failure = ElementTree.SubElement(case, "failure", message=_xml(f"{finding.title}: {finding.sentence}"))
            failure.text = _xml("\n".join([finding.sentence, *(change.text for change in finding.changes)]))
        elif finding.status == "waived":
            ElementTree.SubElement(case, "skipped", message=_xml(f"waived: {finding.waiver}; {finding.sentence}"))
        else:
            ElementTree.SubElement(case, "system-out").text = _xml(f"{WORDS[finding.status]}: {finding.text}")
    ElementTree.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ElementTree.tostring(root, encoding="unicode") + "\n"


def _xml(text: str) -> str:
    """Without the control characters that XML 1.0 can't hold."""
    return "".join(c for c in text if c in "\t\n" or c >= " ")


def report_json(verdict: Verdict, results: Results) -> dict[str, Any]:
    """The whole report as JSON can hold it."""
    return Report(verdict=verdict, results=results).model_dump(mode="json", by_alias=True)


def schema_text(kind: type[BaseModel], title: str) -> str:
    """JSON schema of a file format, as it is published in docs/schema."""
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", **kind.model_json_schema(), "title": title}
    return json.dumps(schema, indent=1, ensure_ascii=False) + "\n"
