"""One conformance check for every op: reference = ONNX Runtime = ReferenceEvaluator, inside the proven intervals."""

from __future__ import annotations

import numpy as np

from edgeq.integer import oracle, prove, reference
from tests.integer.cases import CASES, Case, Choice

QUICK, FULL = 25, 200


def check(op: str, choice: Choice) -> Case:
    """Make one random case of the op and run it everywhere."""
    case = CASES[op](choice)
    bounds = prove(case.graph)
    mine = reference.run(case.graph, case.inputs, keep=True)
    runtime = oracle.Session(case.graph, threads=1).run(case.inputs)
    onnx = oracle.run_onnx(case.graph, case.inputs)
    for value in case.graph.outputs:
        name = str(value.name)
        for other in (runtime[name], onnx[name]):
            assert mine[name].dtype == other.dtype
            np.testing.assert_array_equal(mine[name], other, strict=True)
    for name, found in mine.items():
        if name in bounds:
            assert np.all(found >= bounds[name].low), name
            assert np.all(found <= bounds[name].high), name
    return case
