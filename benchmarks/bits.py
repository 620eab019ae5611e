"""Bit exactness on the zoo's models: NumPy reference = ONNX Runtime = every compiled target, threads 1 to 4.

    python benchmarks/bits.py --out bits.json
    python benchmarks/bits.py --models all_minilm_l6_v2 --targets host arm --few 2

On this machine's targets all evaluation samples run; reference, ONNX Runtime and emulated targets get the first few.
Of an artifact with several variants each one runs that this processor, or the emulator, can run.
The figure is the number of output values that differ, and has to be 0. Every artifact's code is disassembled, too:
compiling fails if an instruction in it computes with floats.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from common import Zoo, arguments, finish, say

import edgeq
from edgeq.compiler import load_variants
from edgeq.integer import IntegerGraph, oracle, reference
from edgeq.quantize.report import quantize_inputs
from edgeq.runtime.model import Model
from edgeq.runtime.node import run_module

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


@dataclass(frozen=True)
class Executor:
    """A compiled model as one kind of processor runs it; `native`: this machine does, without an emulator."""

    label: str
    model: Model | Module
    native: bool

    @property
    def most_threads(self) -> int:
        """How many it can use."""
        return 1 if isinstance(self.model, Module) else 64


def is_wasm(target: str) -> bool:
    """Whether a target's product is a module."""
    return load_variants(target)[0].webassembly


def executors(target: str, path: Path) -> list[Executor]:
    """Every variant of the artifact `path`, compiled for `target`, that can run here."""
    if is_wasm(target):
        return [Executor(target, Module(path), False)]
    model, variants = edgeq.load(path), load_variants(target)
    native = any(variant.runs_here() for variant in variants)
    return [
        Executor(
            variant.name if variant.name == target else f"{target}: {variant.name}", model.select(variant=i), native
        )
        for i, variant in enumerate(variants)
        if variant.runs_here() or not native
    ]


def check(zoo: Zoo, name: str, args: Any, folder: Path) -> dict[str, Any]:
    """Differences of every executor against one, native where there is one, with one thread, on one model."""
    graph_path = folder / f"{name}.int.onnx"
    edgeq.quantize(zoo.model(name), zoo.calibration(name, args.samples, folder), output=graph_path)
    graph = IntegerGraph.load(graph_path)
    inputs = quantize_inputs(graph, {n: x[: args.limit] for n, x in zoo.feeds(name).items()})
    samples = len(next(iter(inputs.values())))
    few = {n: x[: args.few] for n, x in inputs.items()}
    compiled = {
        t: edgeq.compile(graph_path, target=t, output=folder / f"{t}.{'wasm' if is_wasm(t) else 'edgeq'}")
        for t in args.targets
    }
    say(f"{name}: compiled")
    running = [executor for t, result in compiled.items() for executor in executors(t, result.path)]
    first = next((executor for executor in running if executor.native), running[0])
    base = first.model.run_batch(inputs if first.native else few, threads=1, dequantize=False)
    found: dict[str, int] = {}

    def note(label: str, outputs: Outputs) -> None:
        found[label] = differing(outputs, base)
        say(f"  {label}: {found[label]}")

    for executor in running:
        for threads in [count for count in args.threads if count <= executor.most_threads]:
            data = inputs if executor.native else few
            outputs = executor.model.run_batch(data, threads=threads, dequantize=False)
            note(f"{executor.label}, {threads} threads", outputs)
    judged = len(next(iter(base.values())))
    count = judged if args.oracle == 0 else min(args.oracle, judged)
    note(f"ONNX Runtime, {count} samples", by_single_runs(oracle.Session(graph, 2).run, inputs, count))
    count = min(args.few, judged)
    note(f"NumPy reference, {count} samples", by_single_runs(lambda feed: reference.run(graph, feed), inputs, count))
    return {
        "model": name,
        "samples": samples,
        "few": args.few,
        "differing": found,
        "total": sum(found.values()),
        "float_free_instructions": {t: result.report.get("float_free_instructions") for t, result in compiled.items()},
    }


def main() -> None:
    parser = arguments(__doc__.splitlines()[0])
    parser.add_argument("--targets", nargs="+", default=["x86-avx2", "x86-vnni", "arm-neon", "arm-dotprod"])
    parser.add_argument("--samples", type=int, default=32, help="calibration samples")
    parser.add_argument("--few", type=int, default=16, help="samples for slow executors")
    parser.add_argument("--oracle", type=int, default=64, help="samples for ONNX Runtime; 0: all")
    parser.add_argument("--limit", type=int, help="evaluation samples (default: all)")
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2, 3, 4])
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
