"""`edgeq quantize`: from a float model to an integer graph."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from edgeq.cli import common, units


@click.command("quantize", short_help="Make an integer graph of a float model.")
@click.argument("model", type=click.Path())
@click.option(
    "-o", "--output", type=click.Path(), help="Integer graph to write (default: MODEL with the suffix .int.onnx)."
)
@common.calibration_options
@common.shape_options
@common.output_options
def command(model: str, output: str | None, as_json: bool, **given: Any) -> None:
    """Quantize MODEL, an ONNX file with a float model, to an ONNX file that computes with integers only.

    \b
    edgeq quantize model.onnx --calib calib.npz -o model.int.onnx
    """
    from edgeq.api import graphs
    from edgeq.errors import UsageError

    settings = common.settings(given)
    common.require_file(model, "model")
    if settings.get("calib") is None:
        raise UsageError(
            "quantizing needs calibration data",
            where="--calib",
            hint="give --calib with typical inputs, or --calib random for a first look at speed and size",
        )
    path = Path(output) if output else Path(model).with_suffix(".int.onnx")
    with common.progress_bars(quiet=as_json) as progress:
        result = graphs.quantize(model, output=path, progress=progress, **settings)
    report = result.report.as_dict()
    if as_json:
        common.print_json({"path": str(path), "calibrated": result.graph.calibrated, **report})
        return
    console = common.stdout_console()
    common.show_warnings(report)
    if not result.graph.calibrated:
        common.show_not_calibrated(console)
    console.print(f"[bold]{model}[/] → [bold]{path}[/]")
    facts = {
        "calibration": common.calibration_text(report, result.graph.calibrated),
        "file": units.size(path.stat().st_size),
        "next": f"edgeq inspect {path}; edgeq compile {path} --target …",
    }
    common.show_facts(console, facts)
