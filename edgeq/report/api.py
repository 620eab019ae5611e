"""`edgeq.regress` and `edgeq.report`: the commands of these names, for Python."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from edgeq.report import results as files
from edgeq.report.command import Outputs, check_outputs
from edgeq.report.judge import Verdict, judge
from edgeq.report.runner import RunOptions, run_suite
from edgeq.report.single import FileReport, compare_files, describe_files
from edgeq.report.suite import load_suite


def regress(suite: str | Path, baseline: str | Path | None = None, *, jobs: int = 2, fresh: bool = False) -> Verdict:
    """Measure every model × policy × target of a suite and judge it against a baseline.

    Args:
        suite: YAML file. baseline: JSON that `edgeq regress --update-baseline` wrote; None: absolute limits only.
        jobs: artifacts built and measured at a time.
        fresh: measure again what the cache knows.

    Returns:
        The verdict: `status` is pass, improved, waived or fail; `findings` name model, target and layer.

    Raises:
        UsageError: a broken suite, or a baseline of another schema.
    """
    wanted = load_suite(suite)
    known = files.load_results(str(baseline), "baseline") if baseline is not None else None
    run = run_suite(wanted, Path(suite).resolve().parent, RunOptions(jobs, not fresh))
    return judge(wanted, run.results, known)


def report(
    artifacts: Sequence[str | Path],
    output: str | Path | None = None,
    *,
    compare: bool = False,
    instructions: bool = True,
    repeats: int = 50,
) -> FileReport:
    """Sizes, layers, instructions, times and golden vectors of artifacts, as one page.

    Args:
        artifacts: files. output: HTML file to write; None: none.
        compare: the first of two is the old one, the second the new one.
        instructions: count them under the emulator where it is installed.
        repeats: runs to time; 0: none.

    Raises:
        ArtifactError: one is truncated or changed. UsageError: `compare` without exactly two.
    """
    paths = [str(path) for path in artifacts]
    if output is not None:
        check_outputs(Outputs(html=str(output)), False)
    make = compare_files if compare else describe_files
    found = make(paths, instructions=instructions, repeats=repeats)
    if output is not None:
        found.write(str(output))
    return found
