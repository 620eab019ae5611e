"""`edgeq regress`: one verdict over accuracy, bits, instructions, time and memory against a baseline."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgeq.cli import common

if TYPE_CHECKING:
    from edgeq.report.judge import Verdict
    from edgeq.report.results import Results

SUITE = "edgeq-suite.yaml"
STYLES = {"fail": "bold red", "waived": "yellow", "improved": "green", "new": "cyan", "pass": "dim"}
MOST_CAUSES = 3


@click.command("regress", short_help="Measure a suite and compare it with a baseline.")
@click.option("--suite", default=SUITE, show_default=True, type=click.Path(), help="What to measure, and the limits.")
@click.option(
    "--baseline", type=click.Path(), help="Results of the last release; without it only absolute limits hold."
)
@click.option("--update-baseline", is_flag=True, help="Write the results to --baseline, whatever the verdict.")
@click.option("--html", type=click.Path(), help="Write a page that needs no network.")
@click.option("--markdown", type=click.Path(), help="Write a summary for a pull request.")
@click.option("--junit", type=click.Path(), help="Write JUnit XML for a CI system.")
@click.option("--history", type=click.Path(), help="Folder of earlier results; this run is added to it.")
@click.option("--artifacts", type=click.Path(), help="Folder to copy the compiled artifacts to.")
@click.option("--baseline-artifacts", type=click.Path(), help="The baseline's artifacts: times are compared with them.")
@click.option(
    "--ssh",
    multiple=True,
    metavar="[TARGET=]USER@HOST",
    help="Check and time on a board: those of TARGET, or all that its processor runs (may be repeated).",
)
@click.option("--adb", multiple=True, metavar="[TARGET=]SERIAL", help="The same over adb.")
@click.option("--jobs", type=click.IntRange(1, 64), default=2, show_default=True, help="Measurements at the same time.")
@click.option("--fresh", is_flag=True, help="Measure again what the cache already knows.")
@click.option("--init", "init", type=click.Path(), metavar="MODEL.onnx", help="Write a first suite file for a model.")
@common.output_options
def command(
    suite: str,
    baseline: str | None,
    update_baseline: bool,
    html: str | None,
    markdown: str | None,
    junit: str | None,
    history: str | None,
    artifacts: str | None,
    baseline_artifacts: str | None,
    ssh: tuple[str, ...],
    adb: tuple[str, ...],
    jobs: int,
    fresh: bool,
    init: str | None,
    as_json: bool,
) -> int:
    """Measure every model × policy × target of a suite and compare with the baseline.

    Exit code 0: nothing got worse (improvements and waived regressions are told); 1: a regression; 2: the suite, the
    baseline or the history can't be used, and no file was written.
    """
    from edgeq.report import results as files
    from edgeq.report import text
    from edgeq.report.boards import connected
    from edgeq.report.command import Outputs, check_outputs, write_outputs
    from edgeq.report.judge import judge
    from edgeq.report.runner import RunOptions, check_artifacts_folder, run_suite
    from edgeq.report.suite import load_suite

    if init is not None:
        return write_suite(suite, init)
    outputs = Outputs(html, markdown, junit, history, artifacts, baseline if update_baseline else None)
    # Everything that can be wrong with the files is found before minutes of work and before anything is written.
    wanted = load_suite(suite)
    known = None
    if baseline is not None and not (update_baseline and not Path(baseline).exists()):
        known = files.load_results(baseline, "baseline")
    past = files.load_history(history) if history else []
    old_artifacts = Path(baseline_artifacts) if baseline_artifacts else None
    check_artifacts_folder(old_artifacts)
    check_outputs(outputs, update_baseline)
    folder = Path(suite).resolve().parent
    with connected(ssh, adb, wanted, folder) as boards, common.progress_bars(as_json) as progress:
        run = run_suite(wanted, folder, RunOptions(jobs, not fresh, old_artifacts, progress, boards))
    verdict = judge(wanted, run.results, known)
    write_outputs(outputs, run, verdict, known, past)
    if as_json:
        common.print_json(text.report_json(verdict, run.results))
    else:
        show(verdict, run.results, updated=baseline if update_baseline else None)
    return 0 if update_baseline else int(verdict.status == "fail")


def write_suite(path: str, model: str) -> int:
    """`--init`: a first suite file beside which the user's data lies; never replaces one.

    Raises:
        UsageError: the suite exists, or the model doesn't.
    """
    import os

    from edgeq.errors import UsageError
    from edgeq.files import write_text
    from edgeq.report.suite import STARTER

    found = common.require_file(model, "model")
    target = Path(path)
    if target.exists():
        raise UsageError("there is a suite already", where=path, hint="edit it, or choose another place with --suite")
    relative = os.path.relpath(found.resolve(), target.resolve().parent)
    write_text(target, STARTER.format(name=found.stem, model=found.stem, path=relative))
    click.echo(f"{path} written: put in your data, then edgeq regress --baseline baseline.json --update-baseline")
    return 0


def show(verdict: Verdict, results: Results, *, updated: str | None) -> None:
    """The verdict on the terminal: what isn't a plain pass, with its causes."""
    from edgeq.report import text

    console = common.stdout_console()
    listing = common.table("", "model", "check", "figure")
    notable = verdict.of("fail", "waived", "improved") or verdict.findings
    for finding in notable:
        causes = [f"  {change.text}" for change in finding.changes[:MOST_CAUSES]]
        waiver = [f"  waived: {finding.waiver}"] if finding.waiver else []
        style = STYLES[finding.status]
        listing.add_row(
            f"[{style}]{text.WORDS[finding.status]}[/]",
            _plain(finding.title),
            finding.label,
            _plain("\n".join([finding.sentence, *waiver, *causes])),
        )
    console.print(listing)
    for note in verdict.notes:
        console.print(f"note: {_plain(note)}")
    console.print(f"[{STYLES[verdict.status]}]{text.headline(verdict)}[/]")
    if updated:
        console.print(f"baseline written: {updated}")
    elif verdict.of("improved"):
        console.print(text.BASELINE_HINT)


def _plain(text: str) -> str:
    """Square brackets are rich's markup."""
    return text.replace("[", r"\[")
