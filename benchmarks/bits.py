"""Bit exactness on the zoo's CNNs: NumPy reference = ONNX Runtime = every compiled target, threads 1 to 4.

    python benchmarks/bits.py --out bits.json

On this machine's targets all evaluation samples run; reference, ONNX Runtime and emulated targets get the first few.
The figure is the number of output values that differ, and has to be 0.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from common import Zoo, arguments, finish, say

import edgeq
from edgeq.compiler import load_target
from edgeq.evaluate.webassembly import run_module
from edgeq.integer import IntegerGraph, oracle, reference

Outputs = dict[str, np.ndarray]


def differing(a: Outputs, b: Outputs) -> int:
    """Output values that differ over the samples that both have."""
    total = 0
    for name, values in a.items():
        count = min(len(values), len(b[name]))
        total += int(np.count_nonzero(values[:count] != b[name][:count]))
    return total


def by_single_runs(run: Any, inputs: Mapping[str, np.ndarray], count: int) -> Outputs:
    """Outputs of the first `count` samples from something that takes one at a time."""
    parts = [run({name: x[i : i + 1] for name, x in inputs.items()}) for i in range(count)]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


class Module:
    """A WebAssembly module under Node.js with the face of a loaded artifact; it has one thread."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def run_batch(self, data: Outputs, *, threads: int, dequantize: bool) -> Outputs:
        found = run_module(self.path, data)
        return {name: values.reshape(-1, *values.shape[2:]) for name, values in found.items()}


def compiled(graph_path: Path, target: str, folder: Path) -> Any:
    """The graph compiled for a target, ready to run."""
    wasm = load_target(target).webassembly
    made = edgeq.compile(graph_path, target=target, output=folder / f"{target}.{'wasm' if wasm else 'edgeq'}").path
    return Module(made) if wasm else edgeq.load(made)


def check(zoo: Zoo, name: str, args: Any, folder: Path) -> dict[str, Any]:
    """Differences of every executor against the first native target, with one thread, on one model."""
    graph_path = folder / f"{name}.int.onnx"
    edgeq.quantize(zoo.model(name), zoo.calibration(name, args.samples, folder), output=graph_path)
    graph = IntegerGraph.load(graph_path)
    x = zoo.inputs(name)[: args.limit]
    models = {t: compiled(graph_path, t, folder) for t in args.targets}
    native = [t for t in args.targets if load_target(t).runs_here()]
    first = models[native[0]]
    inputs = {first.inputs[0].name: quantized(graph, x)}
    base = first.run_batch(inputs, threads=1, dequantize=False)
    few = {n: v[: args.few] for n, v in inputs.items()}
    found: dict[str, int] = {}
    for target, model in models.items():
        for threads in range(1, 2 if isinstance(model, Module) else 5):
            data = inputs if target in native else few
            found[f"{target}, {threads} threads"] = differing(
                model.run_batch(data, threads=threads, dequantize=False), base
            )
    session = oracle.Session(graph, 2)
    count = len(x) if args.oracle == 0 else min(args.oracle, len(x))
    found[f"ONNX Runtime, {count} samples"] = differing(by_single_runs(session.run, inputs, count), base)
    exact = by_single_runs(lambda feed: reference.run(graph, feed), inputs, min(args.few, len(x)))
    found[f"NumPy reference, {min(args.few, len(x))} samples"] = differing(exact, base)
    return {"model": name, "samples": len(x), "few": args.few, "differing": found, "total": sum(found.values())}


def quantized(graph: IntegerGraph, x: np.ndarray) -> np.ndarray:
    """The graph's single input as integers."""
    from edgeq.integer.arithmetic import quantize

    quant = graph.quant(graph.inputs[0])
    return np.asarray(quantize(x, quant.scale, quant.zero_point, quant.dtype))


def main() -> None:
    parser = arguments(__doc__.splitlines()[0])
    parser.add_argument("--targets", nargs="+", default=["x86-avx2", "x86-vnni", "arm-neon", "arm-dotprod"])
    parser.add_argument("--samples", type=int, default=32, help="calibration samples")
    parser.add_argument("--few", type=int, default=16, help="samples for slow executors")
    parser.add_argument("--oracle", type=int, default=64, help="samples for ONNX Runtime; 0: all")
    parser.add_argument("--limit", type=int, help="evaluation samples (default: all)")
    args = parser.parse_args()
    zoo = Zoo(args.zoo)
    rows = []
    for name in args.models:
        with tempfile.TemporaryDirectory() as folder:
            rows.append(check(zoo, name, args, Path(folder)))
        say(f"{name:<32} {rows[-1]['samples']} samples, {rows[-1]['total']} differing values")
    finish("bits", rows, args.out)
    sys.exit(any(row["total"] for row in rows))


if __name__ == "__main__":
    main()
