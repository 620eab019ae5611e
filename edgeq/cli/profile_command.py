"""`edgeq profile`: where the time of a run goes."""

from __future__ import annotations

import dataclasses
from pathlib import Path
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
@click.option("--roofline", "wants_roofline", is_flag=True, help="Compare each step with what this machine can do.")
@click.option("--html", type=click.Path(), help="Write the comparison as a page.")
@common.board_options
@common.output_options
def command(
    artifact: str,
    data: str | None,
    repeat: int,
    threads: int,
    sort: str,
    wants_roofline: bool,
    html: str | None,
    board: Board | None,
    as_json: bool,
) -> None:
    """Time every step of ARTIFACT: microseconds, share of the run, operations a second.

    With --roofline also how close each step comes to the measured ceiling of the instructions it uses, or of the
    memory it moves. The machine is measured once, which takes some seconds.
    """
    from edgeq.evaluate.execute import profile

    common.require_file(artifact, "artifact")
    if wants_roofline or html:
        _roofline(artifact, data, repeat, threads, sort, html, board, as_json)
        return
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
            units.layer(step["name"]),
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


def _roofline(
    artifact: str,
    data: str | None,
    repeat: int,
    threads: int,
    sort: str,
    html: str | None,
    board: Board | None,
    as_json: bool,
) -> None:
    from edgeq import load
    from edgeq.errors import UsageError
    from edgeq.evaluate.execute import profile
    from edgeq.files import write_text
    from edgeq.tuning.roofline import roofline
    from edgeq.tuning.roofline_page import page

    if board is not None:
        raise UsageError("a board's ceilings aren't known", why="kernels are timed on this machine only")
    found = profile(artifact, data=data, repeats=repeat, threads=threads)
    points, ceilings = roofline(found, load(artifact).manifest, threads)
    if html:
        write_text(Path(html), page(f"{Path(artifact).name}: time against the machine", points, ceilings))
    if as_json:
        rows = [{**dataclasses.asdict(point), "efficiency": point.efficiency} for point in points]
        common.print_json({"artifact": artifact, "bytes_a_second": ceilings.bytes, "steps": rows})
        return
    if sort == "time":
        points.sort(key=lambda point: -point.seconds)
    numbers = ("time", "share", "MACs", "GMAC/s", "ceiling", "bytes", "of bound")
    listing = common.table("step", "kernel", *numbers, "limit", right=numbers)
    for p in points:
        listing.add_row(
            units.layer(p.name, 26),
            p.kernel,
            units.duration(p.seconds),
            f"{100 * p.share:.1f} %",
            units.amount(p.macs) if p.macs else "",
            f"{p.macs / p.seconds / 1e9:.1f}" if p.macs and p.seconds else "",
            f"{p.layer_ceiling / 1e9:.0f}" if p.layer_ceiling else "",
            units.size(p.bytes),
            f"{100 * p.efficiency:.0f} %",
            "MACs" if p.limit == "multiplications" else p.limit,
        )
    console = common.stdout_console()
    console.print(listing)
    total, bound = sum(p.seconds for p in points), sum(min(p.bound, p.seconds) for p in points)
    console.print(
        f"[bold]{units.duration(total)}[/] in all steps, {units.duration(bound)} of it asked for by multiplications "
        f"or bytes ({100 * bound / total if total else 0:.0f} %)"
    )
    if html:
        console.print(f"page: [bold]{html}[/]")
