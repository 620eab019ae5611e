"""The page without a suite: single artifacts, or an old and a new one."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeq.errors import UsageError
from edgeq.files import write_text
from edgeq.report import text
from edgeq.report.artifacts import entry_of_file
from edgeq.report.judge import Verdict, judge
from edgeq.report.page import page
from edgeq.report.results import Entry, Results
from edgeq.report.suite import ModelCase, Suite
from edgeq.report.timing import paired, step_ratios

TOLERANCE = 0.05
ROUNDS = 21


@dataclass(frozen=True)
class FileReport:
    """What `edgeq report` found.

    Attributes:
        results: the artifacts (the new one of a comparison). baseline: the old one. verdict: of a comparison.
        title: of the page.
    """

    results: Results
    baseline: Results | None
    verdict: Verdict | None
    title: str

    def headline(self) -> str:
        """'2 figures worse, 1 better', or the number of artifacts."""
        if self.verdict is None:
            return f"{len(self.results.entries)} artifact{'s' if len(self.results.entries) != 1 else ''}"
        worse, better = len(self.verdict.of("fail")), len(self.verdict.of("improved"))
        return f"{worse} figures worse, {better} better, of {len(self.verdict.findings)}"

    def write(self, path: str | Path) -> None:
        """The page."""
        html = page(self.verdict, self.results, self.baseline, [], title=self.title, headline_text=self.headline())
        write_text(path, html)

    def as_dict(self) -> dict[str, Any]:
        """For `--json`."""
        if self.verdict is not None:
            return text.report_json(self.verdict, self.results)
        return self.results.model_dump(mode="json", by_alias=True)

    def lines(self) -> list[str]:
        """For the terminal."""
        found = [self.headline()]
        for finding in self.verdict.of("fail", "improved") if self.verdict else []:
            word = "worse" if finding.status == "fail" else "better"
            found.append(f"  {word}: {finding.label}: {finding.text}")
            found += [f"    {change.text}" for change in finding.changes[:3]]
        return found


def describe_files(paths: Sequence[str], *, instructions: bool, repeats: int) -> FileReport:
    """A report of artifacts side by side.

    Raises:
        ArtifactError: one is truncated or changed.
    """
    entries = [entry_of_file(path, instructions=instructions, repeats=repeats) for path in paths]
    # The same file name in two folders stays two rows.
    names = [e.model for e in entries]
    entries = [
        e.model_copy(update={"model": str(p)}) if names.count(e.model) > 1 else e
        for e, p in zip(entries, paths, strict=True)
    ]
    return FileReport(_results(entries), None, None, "edgeq artifacts")


def compare_files(paths: Sequence[str], *, instructions: bool, repeats: int) -> FileReport:
    """An old and a new artifact: every figure that changed, and the layers that changed it.

    Raises:
        UsageError: not two files. ArtifactError: one is truncated or changed.
    """
    if len(paths) != 2:
        raise UsageError(
            "--compare takes two artifacts", why=f"{len(paths)} were given", hint="the old one, then the new one"
        )
    old, new = (entry_of_file(path, instructions=instructions, repeats=repeats) for path in paths)
    if repeats and old.ran == new.ran == "native":
        _pair(paths, new)
    old = old.model_copy(update={"model": new.model, "target": new.target})
    case = ModelCase(path=new.model, data="", metric=None)
    suite = Suite(version=1, models={new.model: case}, targets=[new.target])
    results, baseline = _results([new]), _results([old])
    verdict = judge(suite, results, baseline)
    for finding in verdict.findings:
        # Nobody set limits: figures are worse or better, not allowed or forbidden.
        finding.allowed = ""
    title = f"{Path(paths[1]).name} against {Path(paths[0]).name}"
    return FileReport(results, baseline, verdict, title)


def _pair(paths: Sequence[str], new: Entry) -> None:
    from edgeq import runtime

    old_model, new_model = (runtime.load(path) for path in paths)
    timing = paired(old_model, new_model, rounds=ROUNDS, threads=1, tolerance=TOLERANCE)
    if timing.low > 1 + TOLERANCE or timing.high < 1 - TOLERANCE:
        timing.steps = step_ratios(old_model, new_model, 1)
    new.timing, new.seconds = timing, timing.seconds


def _results(entries: list[Entry]) -> Results:
    from edgeq import __version__

    created = dt.datetime.now(dt.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
    return Results(suite="artifacts", edgeq=__version__, created=created, graphs=[], entries=entries)
