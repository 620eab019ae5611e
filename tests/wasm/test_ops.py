"""Every integer op on WebAssembly: the reference's bits under Node.js."""

from __future__ import annotations

import pytest

from edgeq.artifact.wasm import write_wasm
from edgeq.compiler import CompileOptions, KernelBuilder, compile_graph, load_target
from edgeq.evaluate.webassembly import differing_bytes
from tests.integer.cases import CASES, RandomChoice, merged

FULL, BATCH = 200, 20


@pytest.fixture(scope="module")
def builder():
    with KernelBuilder(2) as pool:
        yield pool


def conforms(op, seeds, path, builder) -> None:
    case = merged(op, {seed: RandomChoice(seed) for seed in seeds})
    write_wasm(compile_graph(case.graph, load_target("wasm-simd128"), CompileOptions(1, [case.inputs]), builder), path)
    assert differing_bytes(path) == 0


@pytest.mark.node
@pytest.mark.parametrize("op", CASES)
def test_every_op(op, tmp_path, builder):
    conforms(op, range(3), tmp_path / "op.wasm", builder)


@pytest.mark.full
@pytest.mark.node
@pytest.mark.parametrize("op", CASES)
def test_every_op_sweep(op, tmp_path, builder):
    for start in range(5000, 5000 + FULL, BATCH):
        conforms(op, range(start, start + BATCH), tmp_path / "op.wasm", builder)
