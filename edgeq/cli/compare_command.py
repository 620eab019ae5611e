"""`edgeq compare`: where two models part."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from edgeq.cli import common, units

if TYPE_CHECKING:
    from edgeq.evaluate.compare import Comparison, Difference


@click.command("compare", short_help="Find the first op whose output differs between two models.")
@click.argument("a", type=click.Path())
@click.argument("b", type=click.Path())
@click.option("--input", "data", required=True, type=click.Path(), help=".npz or .npy with the inputs of A.")
@click.option("--samples", type=click.IntRange(min=1), default=8, show_default=True, help="Use at most this many.")
@common.output_options
def command(a: str, b: str, data: str, samples: int, as_json: bool) -> int:
    """Run A and B (float models, integer graphs, artifacts) on the same inputs and compare them layer by layer.

    B may be an .npz with what a device computed on these inputs: arrays by tensor name, samples first. Artifacts show
    their outputs, or every value if compiled with --debug-outputs.

    Exit code 0 if every compared value is equal, 1 if not.
    """
    from edgeq.evaluate.compare import compare

    result = compare(a, b, data, samples=samples)
    if as_json:
        common.print_json({**asdict(result), "equal": result.equal})
    else:
        show(result)
    return int(not result.equal)


def show(result: Comparison) -> None:
    """Per-layer table and the verdict."""
    console = common.stdout_console()
    console.print(f"A  {result.a} ({result.kind_a})\nB  {result.b} ({result.kind_b})\n{result.samples} samples")
    listing = common.table(
        "tensor", "layer", "op", "differing", "largest", "SQNR", right=("differing", "largest", "SQNR")
    )
    for layer in result.layers:
        listing.add_row(
            layer.tensor,
            layer.node,
            layer.op,
            f"{layer.differing} of {layer.size}" if layer.differing else "none",
            _largest(layer),
            units.decibel(layer.sqnr),
        )
    console.print(listing)
    if result.first is None:
        console.print(f"[green]equal[/]: all {sum(d.size for d in result.layers)} compared values")
        return
    first = result.first
    console.print(
        f"first difference: [bold]{first.node}[/] ({first.op}), tensor {first.tensor}: "
        f"{first.differing} of {first.size} values, by up to {_largest(first)}"
    )
    if first.form:
        console.print(f"{first.op} rounds so: {first.form}")
    if result.explanations:
        console.print(f"B has exactly what this would give: [bold]{' or '.join(result.explanations)}[/]")
    if result.worst is not None and not first.exact:
        console.print(f"largest loss of SQNR: [bold]{result.worst.node}[/], to {units.decibel(result.worst.sqnr)}")
    if result.agreement is not None:
        console.print(f"same choice on {units.percent(result.agreement)} of the samples")


def _largest(layer: Difference) -> str:
    if not layer.differing:
        return ""
    return f"{layer.largest:.0f} steps" if layer.exact else f"{layer.largest:.3g}"
