"""`edgeq inspect`: what is inside a model, an integer graph or an artifact."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgeq.cli import common, fit_output, units
from edgeq.cli.common import table
from edgeq.cli.compile_command import programs_facts

if TYPE_CHECKING:
    from rich.console import Console


@click.command("inspect", short_help="Show layers, bits and sizes of a file, and whether it fits.")
@click.argument("file", type=click.Path())
@click.option(
    "--target", metavar="NAME|FOLDER", help="Would it fit this device? Compiles a model for it and keeps nothing."
)
@click.option("--flash", type=common.BYTES, help="Flash that is free for the model (default: the target's).")
@click.option("--ram", type=common.BYTES, help="RAM that is free for the model (default: the target's).")
@click.option("--fast-ram", type=common.BYTES, help="Fast memory (DTCM) for a second arena with the hottest buffers.")
@common.calibration_options
@common.shape_options
@common.output_options
def command(
    file: str, target: str | None, flash: int | None, ram: int | None, fast_ram: int | None, as_json: bool, **given: Any
) -> None:
    """Show what is inside FILE: an ONNX model, an integer graph, an artifact of any processor, or the folder of a
    static library.

    With --target (or a static library) flash, RAM and stack are compared with the target's memories, layer by layer;
    the exit code is 1 if it doesn't fit. A float model without --calib is calibrated with random data; its
    sizes are real.
    """
    from edgeq.api import inspect as inspect_api

    path = file if Path(file).is_dir() else common.require_file(file, "file")
    with common.progress_bars(quiet=as_json) as progress:
        facts = inspect_api.inspect(
            path, target=target, flash=flash, ram=ram, fast_ram=fast_ram, progress=progress, **common.settings(given)
        )
    found = facts.get("fit")
    if as_json:
        common.print_json(facts)
    elif found:
        fit_output.show(common.stdout_console(), str(path), facts)
    elif facts["kind"] == "artifact":
        show_artifact(common.stdout_console(), facts)
    else:
        show_graph(common.stdout_console(), facts)
    if found and not found["fits"]:
        raise click.exceptions.Exit(1)


def show_graph(console: Console, facts: dict[str, Any]) -> None:
    """Layers of a float model or an integer graph."""
    console.print(f"[bold]{facts['kind']}[/], {units.size(facts['file_bytes'])}")
    if facts.get("calibrated") is False:
        console.print("[bold red]NOT CALIBRATED[/]: made with random data, the outputs mean nothing")
    show_tensors(console, facts)
    listing = table(
        "layer", "op", "output", "type", "weights", "bits", "operations", right=("weights", "bits", "operations")
    )
    for layer in facts["layers"]:
        listing.add_row(
            layer["name"],
            layer["op"],
            units.shape(layer["shape"]) if layer["shape"] else "",
            layer["activation"],
            units.size(layer["weight_bytes"]) if layer["weight_bytes"] else "",
            str(layer["weight_bits"] or ""),
            units.amount(2 * layer["macs"]) if layer["macs"] else "",
        )
    console.print(listing)
    total = facts["totals"]
    console.print(
        f"{total['layers']} layers, constants {units.size(total['weight_bytes'])}, "
        f"{units.amount(2 * total['macs'])} operations (2 for a multiply-accumulate)"
    )


def show_artifact(console: Console, facts: dict[str, Any]) -> None:
    """Sizes and steps of an artifact."""
    sizes = facts["sizes"]
    features = ", ".join(facts["cpu_features"]) or "baseline"
    target = facts["manifest"].get("target", facts["arch"])
    console.print(f"[bold]artifact[/] for {target} ({facts['arch']}: {features}), ABI {facts['abi']}")
    for name, fact in programs_facts(facts).items():
        console.print(f"  {name:<8} {fact}")
    if facts["manifest"].get("calibrated") is False:
        console.print("[bold red]NOT CALIBRATED[/]: made with random data, the outputs mean nothing")
    show_tensors(console, facts)
    right = ("weights", "stored", "tasks", "operations", "bytes moved")
    listing = table("step", "op", *right, right=right)
    compiled = facts["manifest"].get("layers", [])
    for number, step in enumerate(facts["steps"]):
        layer = compiled[number] if number < len(compiled) else {}
        bits = layer.get("weight_bits")
        listing.add_row(
            step["name"],
            step["kind"],
            units.size(layer["weights"]) if layer.get("weights") else "",
            f"{bits} bit" if bits else "",
            str(step["tasks"]),
            units.amount(2 * step["macs"]) if step["macs"] else "",
            units.size(step["bytes"]),
        )
    console.print(listing)
    memory = ", ".join(f"{name} {units.size(sizes[name])}" for name in ("arena", "weights", "code", "file"))
    operations = units.amount(2 * facts["totals"]["macs"])
    console.print(f"{memory}; {operations} operations, {facts['golden']} golden vectors")


def show_tensors(console: Console, facts: dict[str, Any]) -> None:
    """Inputs and outputs, one line each."""
    for label in ("inputs", "outputs"):
        for tensor in facts[label]:
            quantized = ""
            if tensor.get("scale"):
                zero = tensor["zero_point"]
                steps = f"(q {'+' if zero < 0 else '−'} {abs(zero)})" if zero else "q"
                quantized = f"  real = {tensor['scale']:.6g} × {steps}"
            dims = units.shape(tensor["shape"]) if tensor["shape"] is not None else "?"
            console.print(f"  {label[:-1]:<6} {tensor['name']}  {dims} {tensor['dtype']}{quantized}")
