"""What `compile` and `bench` print about static libraries and firmware."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from edgeq.cli import common, fit_output, units

if TYPE_CHECKING:
    from rich.console import Console

    from edgeq.api.result import CompileResult

CHECKS = {
    "emulated": "golden vectors pass on the emulated board",
    "no": "NOT RUN: no emulated board for this target here (gcc-arm-none-eabi and qemu-system-arm bring it)",
}


SOURCE_CHECKS = {
    "native": "golden vectors pass, compiled for this machine (NAME_check.c does the same on the device)",
    "no": "NOT RUN: no C compiler for this machine (pip install ziglang brings one)",
}


def show_library(console: Console, model: str, result: CompileResult) -> None:
    """A static library's facts, one a line, and whether it fits."""
    report, found = result.report, result.report["fit"]
    if not result.calibrated:
        common.show_not_calibrated(console)
    name = report["name"]
    source = report["format"] == "c"
    made = f"{name}.c, {name}_weights.c, {name}.h" if source else f"lib{name}.a, {name}.h"
    console.print(f"[bold]{model}[/] → [bold]{result.path}[/]/{made}  for {result.target}")
    facts = {
        **fit_output.summary(found),
        **fit_output.row_wise(report),
        "operations": f"{units.amount(2 * report['macs'])} an inference, {report['step_count']} kernel calls",
        "calibration": common.calibration_text(result.quantization, result.calibrated),
        "self-check": (SOURCE_CHECKS if source else CHECKS)[report["checked"]],
        "time": ", ".join(f"{stage} {units.duration(value)}" for stage, value in result.seconds.items()),
    }
    common.show_facts(console, facts)


def show_firmware(console: Console, report: dict[str, Any]) -> None:
    """Instructions of every step and in total, sizes, and whether all bits are right."""
    numbers = ["instructions", "per MAC", *(["cycles, estimated"] if report["cycles_estimated"] is not None else [])]
    listing = common.table("layer", "op", *numbers, right=numbers)
    for step in report["steps"]:
        ratio = f"{step['instructions'] / step['macs']:.2f}" if step["macs"] else ""
        cycles = [f"{step['cycles_estimated']:,}"] if len(numbers) > 2 else []
        listing.add_row(step["name"], step["op"], f"{step['instructions']:,}", ratio, *cycles)
    console.print(listing)
    sizes = report["sizes"]
    total = f"[bold]{report['instructions']:,}[/] instructions an inference"
    console.print(f"{total} on an emulated {report['target']} (exact; instructions are no time)")
    if report["cycles_estimated"] is not None:
        console.print(f"about {units.amount(report['cycles_estimated'])} cycles, estimated: memory without wait states")
    facts = {
        "arena": f"{sizes['arena']} B",
        **fit_output.row_wise(report),
        "stack": f"{report['stack']} B measured, {sizes['stack']} B bound",
        "code": f"{sizes['code']} B",
        "weights": f"{sizes['weights']} B",
        "outputs": f"{report['different']} differing bytes in {report['runs']} runs",
    }
    common.show_facts(console, facts)
