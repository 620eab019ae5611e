"""Every integer op, random shapes and extreme values: compiled code gives the reference's bits on every target.

The reference itself is held against two ONNX runtimes in tests/integer.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from edgeq import artifact, runtime
from edgeq.compiler import CompileOptions, KernelBuilder, compile_graph, load_target
from tests.integer.cases import CASES, RandomChoice

TARGETS = ("x86-avx2", "x86-vnni", "arm", "arm-dotprod")
NATIVE = [name for name in TARGETS if load_target(name).runs_here()]
FOREIGN = [name for name in ("arm", "arm-dotprod") if name not in NATIVE]
QUICK, FULL = 2, 200


@pytest.fixture(scope="module")
def builder():
    with KernelBuilder() as pool:
        yield pool


def conforms(op: str, seed: int, target: str, path: Path, pool: KernelBuilder) -> None:
    """One random graph of one op: its artifact answers its golden vectors with the reference's bits."""
    case = CASES[op](RandomChoice(seed))
    compiled = compile_graph(case.graph, load_target(target), CompileOptions(golden_inputs=[case.inputs]), pool)
    artifact.write(compiled.image, compiled.objects, compiled.arch, path)
    assert runtime.load(path).verify(threads=1 + seed % 3) == 1, f"seed {seed}"


@pytest.mark.parametrize("op", CASES)
def test_native(op, tmp_path, builder):
    for number, target in enumerate(NATIVE):
        for seed in range(QUICK):
            conforms(op, 10 * number + seed, target, tmp_path / "op.edgeq", builder)


@pytest.mark.emulated
@pytest.mark.parametrize("op", CASES)
def test_emulated(op, tmp_path, builder):
    for number, target in enumerate(FOREIGN):
        conforms(op, 100 + number, target, tmp_path / "op.edgeq", builder)


@pytest.mark.full
@pytest.mark.parametrize("target", NATIVE)
@pytest.mark.parametrize("op", CASES)
def test_native_sweep(op, target, tmp_path, builder):
    for seed in range(1000, 1000 + FULL):
        conforms(op, seed, target, tmp_path / "op.edgeq", builder)


@pytest.mark.full
@pytest.mark.emulated
@pytest.mark.parametrize("target", FOREIGN)
@pytest.mark.parametrize("op", CASES)
def test_emulated_sweep(op, target, tmp_path, builder):
    for seed in range(2000, 2000 + FULL):
        conforms(op, seed, target, tmp_path / "op.edgeq", builder)
