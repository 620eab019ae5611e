"""`edgeq inspect`: what is inside a model, an integer graph or an artifact."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from edgeq.cli import units
from edgeq.cli.common import output_options, print_json, require_file, stdout_console, table
from edgeq.cli.compile_command import programs_facts

if TYPE_CHECKING:
    from rich.console import Console


@click.command("inspect", short_help="Show layers, bits and sizes of a file.")
@click.argument("file", type=click.Path())
@output_options
def command(file: str, as_json: bool) -> None:
    """Show what is inside FILE: an ONNX model, an integer graph, or an artifact of any processor."""
    from edgeq.evaluate.describe import describe

    facts = describe(require_file(file, "file"))
    if as_json:
        print_json(facts)
        return
    console = stdout_console()
    if facts["kind"] == "artifact":
        show_artifact(console, facts)
    else:
        show_graph(console, facts)


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
