"""What `compile` prints about WebAssembly modules."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from edgeq.cli import common, units

if TYPE_CHECKING:
    from rich.console import Console

    from edgeq.api.result import CompileResult

CHECKS = {
    "emulated": "golden vectors pass under Node.js",
    "no": "NOT RUN: no Node.js here (apt-get install nodejs)",
    "other engine": "NOT RUN: it is for engines on another kind of processor",
}


def show_module(console: Console, model: str, result: CompileResult) -> None:
    """A module's facts, one a line; of several each with its size."""
    report, modules = result.report, result.report["modules"]
    if not result.calibrated:
        common.show_not_calibrated(console)
    console.print(f"[bold]{model}[/] → [bold]{result.path}[/], edgeq.mjs, edgeq.d.ts  for {result.target}")
    if len(modules) == 1:
        facts = {"file": _size(modules[0]), "self-check": CHECKS[modules[0]["checked"]]}
    else:
        facts = {module["file"]: f"{_size(module)}; {CHECKS[module['checked']]}" for module in modules}
    facts |= {
        "arena": f"{units.size(report['sizes']['arena'])} (activations and scratch)",
        "operations": f"{units.amount(2 * report['macs'])} an inference, {report['step_count']} kernel calls",
        "calibration": common.calibration_text(result.quantization, result.calibrated),
        "time": ", ".join(f"{stage} {units.duration(value)}" for stage, value in result.seconds.items()),
    }
    common.show_facts(console, facts)
    if len(modules) > 1:
        console.print("  loadBest of edgeq.mjs fetches the one for its engine")


def _size(module: dict[str, Any]) -> str:
    sizes = module["sizes"]
    return f"{units.size(sizes['file'])}: code {units.size(sizes['code'])}, weights {units.size(sizes['weights'])}"
