"""Every integer op on WebAssembly: the reference's bits under Node.js."""

from __future__ import annotations

import pytest

from edgeq.artifact.wasm import write_wasm
from edgeq.compiler import CompileOptions, KernelBuilder, compile_graph, load_target
from edgeq.runtime.node import differing_bytes
from tests.integer.cases import CASES, RandomChoice, merged

FULL, BATCH = 200, 20
RELAXED = ("wasm-relaxed-x86", "wasm-relaxed-arm")
MULTIPLYING = [op for op in CASES if op.startswith(("Conv", "Gemm", "MatMul"))]


@pytest.fixture(scope="module")
def builder():
    with KernelBuilder(2) as pool:
        yield pool


def conforms(op, seeds, path, builder, target="wasm-simd128") -> None:
    case = merged(op, {seed: RandomChoice(seed) for seed in seeds})
    write_wasm(compile_graph(case.graph, load_target(target), CompileOptions(1, [case.inputs]), builder), path)
    assert differing_bytes(path) in ((0,) if target == "wasm-simd128" else (0, None))  # None: an engine of another kind


@pytest.mark.node
@pytest.mark.parametrize("op", CASES)
def test_every_op(op, tmp_path, builder):
    conforms(op, range(3), tmp_path / "op.wasm", builder)


@pytest.mark.node
@pytest.mark.parametrize("target", RELAXED)
@pytest.mark.parametrize("op", MULTIPLYING)
def test_relaxed_products(op, target, tmp_path, builder):
    conforms(op, range(20, 24), tmp_path / "op.wasm", builder, target)


@pytest.mark.full
@pytest.mark.node
@pytest.mark.parametrize("target", RELAXED)
@pytest.mark.parametrize("op", CASES)
def test_relaxed_sweep(op, target, tmp_path, builder):
    for start in range(7000, 7000 + FULL // 4, BATCH):
        conforms(op, range(start, start + BATCH), tmp_path / "op.wasm", builder, target)


@pytest.mark.full
@pytest.mark.node
@pytest.mark.parametrize("op", CASES)
def test_every_op_sweep(op, tmp_path, builder):
    for start in range(5000, 5000 + FULL, BATCH):
        conforms(op, range(start, start + BATCH), tmp_path / "op.wasm", builder)
