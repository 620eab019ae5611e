"""`edgeq profile`: where the time of a run goes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from edgeq.cli import common, units

if TYPE_CHECKING:
    from edgeq.board import Board


@click.command("profile", short_help="Time every step of an artifact.")
@click.argument("artifact", type=click.Path())
@click.option("--input", "data", type=click.Path(), help="Inputs to use (default: zeros).")
@click.option("--repeat", type=click.IntRange(min=1), default=20, show_default=True, help="Runs to take medians over.")
@click.option("--threads", type=click.IntRange(1, 64), default=1, show_default=True)
@click.option("--sort", type=click.Choice(["order", "time"]), default="order", show_default=True)
@common.board_options
@common.output_options
def command(
    artifact: str, data: str | None, repeat: int, threads: int, sort: str, board: Board | None, as_json: bool
) -> None:
    """Time every step of ARTIFACT: microseconds, share of the run, operations a second."""
    from edgeq.evaluate.execute import profile

    common.require_file(artifact, "artifact")
    found = profile(artifact, data=data, repeats=repeat, threads=threads, board=board)
    steps: list[dict[str, Any]] = [
        {"name": s.step.name, "op": s.step.kind, "macs": s.step.macs, "median_ns": s.median_ns, "min_ns": s.min_ns}
        for s in found.steps
    ]
    if as_json:
        totals = {"median_ns": found.total_median_ns, "min_ns": found.total_min_ns}
        common.print_json(
            {"artifact": artifact, "threads": threads, "repeats": repeat, "total": totals, "steps": steps}
        )
        return
    if sort == "time":
        steps.sort(key=lambda step: -step["median_ns"])
    total = sum(step["median_ns"] for step in steps) or 1.0
    listing = common.table("step", "op", "time", "share", "GOP/s", right=("time", "share", "GOP/s"))
    for step in steps:
        nanoseconds = step["median_ns"]
        speed = f"{2 * step['macs'] / nanoseconds:.1f}" if step["macs"] and nanoseconds else ""
        listing.add_row(
            step["name"],
            step["op"],
            units.duration(nanoseconds * 1e-9),
            f"{100 * nanoseconds / total:.1f} %",
            speed,
        )
    console = common.stdout_console()
    console.print(listing)
    console.print(
        f"[bold]{units.duration(found.total_median_ns * 1e-9)}[/] a run, median of {repeat}, {threads} thread(s)"
    )
