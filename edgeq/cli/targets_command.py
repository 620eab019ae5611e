"""`edgeq targets`: what can be compiled for, whether it runs on this machine, and what narrow weights gain there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from edgeq.cli.common import output_options, print_json, stdout_console, table
from edgeq.errors import UsageError

if TYPE_CHECKING:
    from edgeq.compiler.costs import Kind

KINDS: tuple[Kind, ...] = ("conv", "gemm", "depthwise")
WIDTHS = (8, 7, 6, 5, 4, 3, 2)


@click.command("targets", short_help="List what can be compiled for.")
@click.argument("name", required=False)
@click.option("--costs", is_flag=True, help="Of NAME: what a multiply-accumulate costs, by layer and bits of weights.")
@output_options
def command(name: str | None, costs: bool, as_json: bool) -> None:
    """List the built-in targets.

    A folder with a target.toml can be given to --target as well.

    \b
    edgeq targets x86-avx2 --costs
    """
    from edgeq.environment import targets

    if costs or name is not None:
        _show_costs(name, costs, as_json)
        return
    rows = targets()
    if as_json:
        print_json(rows)
        return
    listing = table("target", "processor", "instruction set", "runs here")
    for row in rows:
        needs = " ".join(row["cpu_features"]) or "baseline"
        listing.add_row(row["name"], row["description"], f"{row['arch']}: {needs}", row["runs_here"])
    stdout_console().print(listing)


def _show_costs(name: str | None, wanted: bool, as_json: bool) -> None:
    """Relative to 8 bits: less than 1 is a width that is friendly to quantization there."""
    if name is None or not wanted:
        raise UsageError("costs belong to one target", hint="edgeq targets x86-avx2 --costs")
    found = costs_of(name)
    if as_json:
        print_json(found)
        return
    headings = ["8 bits", *(f"{bits} bits" for bits in WIDTHS[1:])]
    listing = table("layer", *headings, "friendly", right=[*headings, "friendly"])
    for kind, row in found["costs"].items():
        relative = (f"{row[bits] / row[8]:.2f} ×" for bits in WIDTHS[1:])
        listing.add_row(kind, f"{row[8]:g} {found['unit']}", *relative, f"{found['friendliness'][kind]:.2f}")
    console = stdout_console()
    console.print(listing)
    console.print(f"of a multiply-accumulate; from: {found['source']}", markup=False)
    console.print("friendly: 0 where narrow weights gain nothing, 1 where cost falls with the bits", markup=False)
    console.print("for the layers of a model: edgeq search MODEL --html", markup=False)


def costs_of(name: str) -> dict[str, Any]:
    """Target, unit, source, cost of a multiply-accumulate (kind of layer → bits → amount) and friendliness to narrow
    weights (kind of layer → score).

    Raises:
        TargetError: no such target. UsageError: nobody has measured it.
    """
    from edgeq.compiler.costs import friendliness
    from edgeq.compiler.target import load_target

    target = load_target(name)
    costs = target.costs
    if costs is None:
        raise UsageError(
            "the target has no table of costs",
            where=str(target.folder / "costs.toml"),
            hint="edgeq search measures the layers of a model there; docs/new-target.md says how a table is made",
        )
    rows: dict[str, dict[int, float]] = {}
    for kind in KINDS:
        row = {bits: costs.of(kind, bits) for bits in WIDTHS}
        known = {bits: value for bits, value in row.items() if value is not None}
        if len(known) == len(WIDTHS):
            rows[kind] = known
    scores = {kind: friendliness(row) for kind, row in rows.items()}
    return {"target": target.name, "unit": costs.unit, "source": costs.source, "costs": rows, "friendliness": scores}
