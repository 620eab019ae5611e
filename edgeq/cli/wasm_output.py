"""What `compile` prints about WebAssembly modules."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgeq.cli import common, units

if TYPE_CHECKING:
    from rich.console import Console

    from edgeq.api import CompileResult

CHECKS = {
    "emulated": "golden vectors pass under Node.js",
    "no": "NOT RUN: no Node.js here (apt-get install nodejs)",
}


def show_module(console: Console, model: str, result: CompileResult) -> None:
    """A module's facts, one a line."""
    report, sizes = result.report, result.report["sizes"]
    if not result.calibrated:
        common.show_not_calibrated(console)
    console.print(f"[bold]{model}[/] → [bold]{result.path}[/], edgeq.mjs, edgeq.d.ts  for {result.target}")
    facts = {
        "file": f"{units.size(sizes['file'])}: code {units.size(sizes['code'])}, "
        f"weights {units.size(sizes['weights'])}",
        "arena": f"{units.size(sizes['arena'])} (activations and scratch)",
        "operations": f"{units.amount(2 * report['macs'])} an inference, {report['step_count']} kernel calls",
        "calibration": common.calibration_text(result.quantization, result.calibrated),
        "self-check": CHECKS[report["checked"]],
        "time": ", ".join(f"{stage} {units.duration(value)}" for stage, value in result.seconds.items()),
    }
    common.show_facts(console, facts)
