"""`edgeq tune`: measures which kernels suit a model's shapes on this machine."""

from __future__ import annotations

import dataclasses
from typing import Any

import click

from edgeq.cli import common, units


@click.command("tune", short_help="Measure which kernels suit a model best.")
@click.argument("model", type=click.Path())
@click.option("-o", "--output", type=click.Path(), help="Schedule to write, for `edgeq compile --schedule`.")
@common.target_option
@common.calibration_options
@common.shape_options
@click.option("--fresh", is_flag=True, help="Measure again what the cache knows.")
@click.option("--all", "show_all", is_flag=True, help="List the shapes that keep their default as well.")
@common.output_options
def command(
    model: str, output: str | None, target: str, fresh: bool, show_all: bool, as_json: bool, **given: Any
) -> None:
    """Measure on this machine which kernel, product and register tile each shape of MODEL is fastest with.

    Results never depend on it, only times do. Let nothing else run meanwhile. Interrupted, it goes on where it was.

    \b
    edgeq tune model.int.onnx -o schedule.json
    edgeq compile model.int.onnx --schedule schedule.json
    """
    from edgeq.tuning.api import tune

    common.require_file(model, "model")
    with common.progress_bars(quiet=as_json) as progress:
        found = tune(model, target=target, output=output, progress=progress, fresh=fresh, **common.settings(given))
    if as_json:
        common.print_json(
            {
                "target": found.schedule.target,
                "gain": found.gain,
                "choices": found.schedule.choices,
                "shapes": [dataclasses.asdict(shape) for shape in found.shapes],
            }
        )
        return
    console = common.stdout_console()
    listing = common.table(
        "shape", "layers", "default", "time", "best", "faster", right=("layers", "time", "faster")
    )  # fmt: skip
    for shape in sorted(found.shapes, key=lambda s: -s.seconds * len(s.layers)):
        if show_all or shape.best != shape.default:
            faster = f"{shape.ratio:.2f}x" if shape.best != shape.default else ""
            name = shape.key.rsplit(" ", 1)[0]
            row = (name, str(len(shape.layers)), shape.default, units.duration(shape.seconds), shape.best, faster)
            listing.add_row(*row)
    if listing.row_count:
        console.print(listing)
    changed = sum(shape.best != shape.default for shape in found.shapes)
    console.print(
        f"{changed} of {len(found.shapes)} shapes have a faster kernel than the default; "
        f"all of them together: {found.gain:.2f}x"
    )
    console.print(f"[bold]edgeq compile --schedule {output or 'tuned'}[/] uses what was found")
