"""What `compile` and `bench` print about static libraries and firmware."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from edgeq.cli import common, units

if TYPE_CHECKING:
    from rich.console import Console

    from edgeq.api import CompileResult

CHECKS = {
    "emulated": "golden vectors pass on the emulated board",
    "no": "NOT RUN: no emulated board for this target here (gcc-arm-none-eabi and qemu-system-arm bring it)",
}


def show_library(console: Console, model: str, result: CompileResult) -> None:
    """A static library's facts, one a line, and whether it fits."""
    report, sizes, found = result.report, result.report["sizes"], result.report["fit"]
    if not result.calibrated:
        common.show_not_calibrated(console)
    name = report["name"]
    console.print(f"[bold]{model}[/] → [bold]{result.path}[/]/lib{name}.a, {name}.h  for {result.target}")
    facts = {
        "flash": room(found["flash_needed"], found["flash"])
        + f": code {units.size(sizes['code'])}, weights {units.size(sizes['weights'])}",
        "RAM": room(found["ram_needed"], found["ram"])
        + f": arena {units.size(sizes['arena'])}, stack {units.size(sizes['stack'])} at most",
        "fullest layer": f"{found['peak'].get('name', '–')}: {peak_text(found['peak'])}",
        "operations": f"{units.amount(2 * report['macs'])} an inference, {report['step_count']} kernel calls",
        "calibration": common.calibration_text(result.quantization, result.calibrated),
        "self-check": CHECKS[report["checked"]],
        "time": ", ".join(f"{stage} {units.duration(value)}" for stage, value in result.seconds.items()),
    }
    common.show_facts(console, facts)


def room(needed: int, there: int | None) -> str:
    """'97.6 KiB of 1.00 MiB (10 %)'."""
    if there is None:
        return units.size(needed)
    return f"{units.size(needed)} of {units.size(there)} ({100 * needed / there:.0f} %)"


def peak_text(peak: dict[str, Any]) -> str:
    """The buffers that are alive at the fullest moment."""
    buffers = ", ".join(f"{b['name']} {units.size(b['bytes'])}" for b in peak.get("buffers", [])[:3])
    return f"{units.size(peak.get('ram', 0))} alive ({buffers})"


def show_fit(console: Console, layers: list[dict[str, Any]]) -> None:
    """RAM that is alive and weights of every kernel call."""
    listing = common.table("layer", "op", "RAM", "weights", "operations", right=("RAM", "weights", "operations"))
    for layer in layers:
        listing.add_row(
            layer["name"],
            "+".join(layer["ops"]),
            units.size(layer["ram"]),
            units.size(layer["weights"]) if layer["weights"] else "",
            units.amount(2 * layer["macs"]) if layer["macs"] else "",
        )
    console.print(listing)


def show_firmware(console: Console, report: dict[str, Any]) -> None:
    """Instructions of every step and in total, sizes, and whether all bits are right."""
    listing = common.table("layer", "op", "instructions", "per MAC", right=("instructions", "per MAC"))
    for step in report["steps"]:
        ratio = f"{step['instructions'] / step['macs']:.2f}" if step["macs"] else ""
        listing.add_row(step["name"], step["op"], f"{step['instructions']:,}", ratio)
    console.print(listing)
    sizes = report["sizes"]
    total = f"[bold]{report['instructions']:,}[/] instructions an inference"
    console.print(f"{total} on an emulated {report['target']} (exact; instructions are no time)")
    facts = {
        "arena": f"{sizes['arena']} B",
        "stack": f"{report['stack']} B measured, {sizes['stack']} B bound",
        "code": f"{sizes['code']} B",
        "weights": f"{sizes['weights']} B",
        "outputs": f"{report['different']} differing bytes in {report['runs']} runs",
    }
    common.show_facts(console, facts)
