"""Writes what a run of a suite leaves behind: pages, baseline, history, artifacts. All or nothing for each file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from edgeq.errors import UsageError
from edgeq.files import write_text
from edgeq.report import text
from edgeq.report.judge import Verdict
from edgeq.report.page import page
from edgeq.report.results import Results, append_history, save_results
from edgeq.report.runner import Run, save_artifacts


@dataclass(frozen=True)
class Outputs:
    """Where things go; None: not wanted. `baseline` only when it shall be updated."""

    html: str | None = None
    markdown: str | None = None
    junit: str | None = None
    history: str | None = None
    artifacts: str | None = None
    baseline: str | None = None


def check_outputs(outputs: Outputs, update_baseline: bool) -> None:
    """See before the work that every output can be written.

    Raises:
        UsageError: a folder is missing, or a file is a folder.
    """
    if update_baseline and outputs.baseline is None:
        raise UsageError("--update-baseline needs --baseline", hint="say which file to write")
    for name in (outputs.html, outputs.markdown, outputs.junit, outputs.baseline):
        if name is None:
            continue
        path = Path(name)
        if path.is_dir():
            raise UsageError("can't write the output", where=name, why="it is a folder", hint="give a file name")
        if not path.parent.is_dir():
            raise UsageError(
                "can't write the output", where=name, why="its folder doesn't exist", hint=f"mkdir -p {path.parent}"
            )
    for name in (outputs.history, outputs.artifacts):
        if name is not None and Path(name).exists() and not Path(name).is_dir():
            raise UsageError("can't write into the folder", where=name, why="it is a file")


def write_outputs(outputs: Outputs, run: Run, verdict: Verdict, baseline: Results | None, past: list[Results]) -> None:
    """Write everything that is wanted."""
    results = run.results
    if outputs.html:
        write_text(outputs.html, page(verdict, results, baseline, past))
    if outputs.markdown:
        write_text(outputs.markdown, text.markdown(verdict, results))
    if outputs.junit:
        write_text(outputs.junit, text.junit(verdict, results))
    if outputs.artifacts:
        save_artifacts(run, Path(outputs.artifacts))
    if outputs.history:
        append_history(outputs.history, results)
    if outputs.baseline:
        save_results(results.without_times(), outputs.baseline)
