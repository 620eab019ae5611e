"""`edgeq compile`: from a model to an artifact, with one command."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import click

from edgeq.cli import common, fit_output, static_output, units, wasm_output

if TYPE_CHECKING:
    from rich.console import Console

    from edgeq.api.result import CompileResult

CHECKS = {
    "native": "golden vectors pass on this machine",
    "emulated": "golden vectors pass under the emulator",
    "no": "NOT RUN: no emulator for this target here (see `edgeq doctor`)",
}


@click.command("compile", short_help="Compile a model to an artifact.")
@click.argument("model", type=click.Path())
@click.option("-o", "--output", type=click.Path(), help="Artifact to write (default: MODEL with the suffix .edgeq).")
@common.target_option
@common.calibration_options
@common.shape_options
@click.option(
    "--max-threads",
    type=click.IntRange(1, 64),
    default=4,
    show_default=True,
    help="Most threads that may run it; each costs scratch memory.",
)
@click.option(
    "--weights",
    type=click.Choice(["auto", "fast", "small"]),
    default="auto",
    show_default=True,
    help="Weights of 4 bits and less: a byte each (fast), packed (small), or packed where it costs little time.",
)
@common.schedule_option
@click.option(
    "--format",
    "file_format",
    type=click.Choice(["edgeq", "static", "c", "wasm"]),
    help="A file for the runtime, a folder with a library and a header, with C99 source, or a .wasm "
    "(default: what the target needs).",
)
@click.option("--name", help="Name of a static library or C source, a C identifier (default: the model's).")
@click.option(
    "--flash", type=common.BYTES, help="Flash that is free for the model (default: the target's), as in 512k."
)
@click.option(
    "--ram",
    type=common.BYTES,
    help="RAM that is free for the model, as in 64k: layers run a few rows at a time where whole tensors need more "
    "(default: the target's, if it has no operating system).",
)
@click.option(
    "--fast-ram", type=common.BYTES, help="Fast memory (DTCM) for a second arena with the hottest buffers, as in 64k."
)
@click.option(
    "--layout",
    type=click.Choice(["plain", "zephyr", "cmsis"]),
    default="plain",
    show_default=True,
    help="Static libraries and C source: add a Zephyr module with CMakeLists.txt, or a CMSIS pack.",
)
@click.option("--debug-outputs", is_flag=True, help="Give out every value on the way too, for `edgeq compare`.")
@click.option("--layers", is_flag=True, help="List every layer as well.")
@common.output_options
def command(
    model: str,
    output: str | None,
    target: str,
    max_threads: int,
    weights: Literal["auto", "fast", "small"],
    schedule: str | None,
    file_format: str | None,
    name: str | None,
    flash: int | None,
    ram: int | None,
    fast_ram: int | None,
    layout: Literal["plain", "zephyr", "cmsis"],
    debug_outputs: bool,
    layers: bool,
    as_json: bool,
    **given: Any,
) -> None:
    """Compile MODEL, an ONNX file with a float model or an integer graph, to one file for one target.

    \b
    edgeq compile model.onnx --target arm --calib calib.npz -o model.edgeq
    """
    from edgeq.api import artifact

    common.require_file(model, "model")
    with common.progress_bars(quiet=as_json) as progress:
        result = artifact.compile(
            model,
            target=target,
            output=output,
            max_threads=max_threads,
            weights=weights,
            schedule=schedule,
            format=file_format,
            name=name,
            flash=flash,
            ram=ram,
            fast_ram=fast_ram,
            layout=layout,
            debug_outputs=debug_outputs,
            progress=progress,
            **common.settings(given),
        )
    if as_json:
        common.print_json(result.as_dict())
        return
    console = common.stdout_console()
    common.show_warnings(result.quantization)
    if result.report.get("format") in ("static", "c"):
        if layers:
            fit_output.show_layers(console, result.report["fit"])
        static_output.show_library(console, model, result)
        return
    if layers:
        show_layers(console, result)
    if result.report.get("format") == "wasm":
        wasm_output.show_module(console, model, result)
        return
    show_summary(console, model, result)


def show_summary(console: Console, model: str, result: CompileResult) -> None:
    """What a person wants to know about an artifact, one fact a line."""
    report = result.report
    sizes = report["sizes"]
    if not result.calibrated:
        common.show_not_calibrated(console)
    console.print(f"[bold]{model}[/] → [bold]{result.path}[/]  for {result.target}")
    facts = {
        "layers": f"{report['layer_count']} ({_counts(report['op_counts'])}), {report['step_count']} kernel calls",
        "bits": _bits(report),
        **programs_facts(report),
        "weights": units.size(sizes["weights"]),
        "arena": f"{units.size(sizes['arena'])} (activations and scratch, {report['max_threads']} threads)",
        **fit_output.row_wise(report),
        "code": units.size(sizes["code"]),
        "file": units.size(sizes["file"]),
        "operations": f"{units.amount(2 * report['macs'])} an inference",
        "calibration": common.calibration_text(result.quantization, result.calibrated),
        "self-check": CHECKS[report["checked"]],
        "time": ", ".join(f"{name} {units.duration(value)}" for name, value in result.seconds.items()),
    }
    common.show_facts(console, facts)


def programs_facts(report: dict[str, Any]) -> dict[str, str]:
    """Variants and programs, where an artifact has several; the other facts are of the first."""
    facts = {}
    if len(report["variants"]) > 1:
        facts["variants"] = ", ".join(variant["name"] for variant in report["variants"]) + ": the best for the CPU runs"
    if len(report["programs"]) > 1:
        listed = "; ".join(
            ", ".join(f"{name} {units.shape(shape)}" for name, shape in program["inputs"].items())
            for program in report["programs"]
        )
        padding = "shorter inputs are padded" if report["pads"] else "no other shapes"
        facts["programs"] = f"{listed} ({padding})"
    return facts


def show_layers(console: Console, result: CompileResult) -> None:
    """Every compiled step with its bits and sizes."""
    listing = common.table("layer", "op", "bits", "weights", "operations", right=("bits", "weights", "operations"))
    for layer in result.report["layers"]:
        listing.add_row(
            layer["name"],
            layer["op"],
            str(layer["weight_bits"] or ""),
            units.size(layer["weight_bytes"]) if layer["weight_bytes"] else "",
            units.amount(2 * layer["macs"]) if layer["macs"] else "",
        )
    console.print(listing)


def _counts(counts: dict[str, int]) -> str:
    listed = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    text = ", ".join(f"{count} {name}" for name, count in listed[:6])
    return text + (", …" if len(listed) > 6 else "")


def _bits(report: dict[str, Any]) -> str:
    def spread(counts: dict[Any, int], noun: str) -> str:
        return ", ".join(f"{bits}-bit in {n} {noun}" for bits, n in sorted(counts.items()))

    weights = spread(report["weight_bits"], "layers")
    return f"weights {weights or 'none'}; activations {spread(report['activation_bits'], 'tensors')}"
