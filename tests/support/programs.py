"""Small integer graphs as artifacts that check themselves: who builds them, and for which targets."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx_ir as ir

from edgeq import artifact
from edgeq.compiler import CompileOptions, KernelBuilder, compile_graph, load_target
from edgeq.compiler.program import Program
from edgeq.integer.graph import IntegerGraph
from tests.support.graphs import Layers

NATIVE = [name for name in ("x86-avx2", "x86-vnni", "arm-neon", "arm-dotprod") if load_target(name).runs_here()]
FOREIGN = [name for name in ("arm-neon", "arm-dotprod") if name not in NATIVE]


def graph_named(graphs: Mapping[str, Callable[[Layers], list[ir.Value]]], name: str) -> IntegerGraph:
    """A graph by the function that makes its layers; the name decides its random constants."""
    layers = Layers(seed=len(name))
    return layers.finish(*graphs[name](layers))


def build(
    graph: IntegerGraph, target: str, path: Path, pool: KernelBuilder, golden: Sequence[dict[str, np.ndarray]]
) -> Program:
    """An artifact whose golden vectors are these inputs and the reference's answers."""
    compiled = compile_graph(graph, load_target(target), CompileOptions(golden_inputs=golden), pool)
    artifact.write(compiled.image, compiled.objects, compiled.arch, path)
    return compiled.program
