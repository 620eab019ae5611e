"""Writes one sample of an .npz as the integers that a network takes.

python sample.py GRAPH.int.onnx DATA.npz NUMBER INPUT.bin
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from edgeq.integer import IntegerGraph
from edgeq.quantize.report import quantize_inputs


def main(graph_path: str, data: str, number: str, output: str) -> None:
    """Quantizes sample `number` of the array `x` and prints its label, if there is one."""
    graph = IntegerGraph.load(graph_path)
    arrays = np.load(data)
    name = str(graph.model.graph.inputs[0].name)
    sample = quantize_inputs(graph, {name: arrays["x"][int(number)][None]})[name]
    Path(output).write_bytes(sample.tobytes())
    print(f"sample {number}: {sample.nbytes} bytes" + (f", label {arrays['y'][int(number)]}" if "y" in arrays else ""))


if __name__ == "__main__":
    main(*sys.argv[1:])
