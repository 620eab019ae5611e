"""Every integer op, random shapes and extreme values: compiled code gives the reference's bits on every target.

The reference itself is held against two ONNX runtimes in tests/integer. Many cases of one op share an artifact, side by
side: building kernels is then nearly all the time there is.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgeq import artifact, runtime
from edgeq.compiler import CompileOptions, KernelBuilder, compile_graph, load_target
from edgeq.compiler.pipeline import Compiled
from tests.integer.cases import CASES, Case, RandomChoice, merged

TARGETS = ("x86-avx2", "x86-vnni", "arm-neon", "arm-dotprod")
NATIVE = [name for name in TARGETS if load_target(name).runs_here()]
FOREIGN = [name for name in ("arm-neon", "arm-dotprod") if name not in NATIVE]
QUICK, FULL, BATCH = 3, 200, 50
EMULATED_BATCH = 10  # the emulator's program takes 64 files: every input and output of every case is one


@pytest.fixture(scope="module")
def builder():
    with KernelBuilder() as pool:
        yield pool


def compile_cases(op: str, seeds: range, target: str, path: Path, pool: KernelBuilder) -> tuple[Case, Compiled]:
    """Random graphs of one op as one artifact with golden vectors."""
    case = merged(op, {seed: RandomChoice(seed) for seed in seeds})
    compiled = compile_graph(case.graph, load_target(target), CompileOptions(golden_inputs=[case.inputs]), pool)
    artifact.write(compiled.image, compiled.objects, compiled.arch, path)
    return case, compiled


def conforms(op: str, seeds: range, target: str, path: Path, pool: KernelBuilder, *threads: int) -> None:
    """Random graphs of one op, compiled as one: every case has the reference's bits with so many threads."""
    case, compiled = compile_cases(op, seeds, target, path, pool)
    names = [tensor.name for tensor in compiled.image.outputs]
    expected = dict(zip(names, compiled.image.golden[0].outputs, strict=True))
    model = runtime.load(path)
    for count in threads:
        found = model.run(case.inputs, threads=count)
        wrong = [name for name in names if not np.array_equal(found[name], expected[name])]
        assert not wrong, f"{target}, {count} threads: seeds {sorted({name.split('_')[0][1:] for name in wrong})}"


@pytest.mark.parametrize("op", CASES)
def test_native(op, tmp_path, builder):
    for number, target in enumerate(NATIVE):
        conforms(op, range(10 * number, 10 * number + QUICK), target, tmp_path / "op.edgeq", builder, 1, 3)


@pytest.mark.emulated
@pytest.mark.parametrize("op", CASES)
def test_emulated(op, tmp_path, builder):
    for number, target in enumerate(FOREIGN):
        seeds = range(100 + 10 * number, 100 + 10 * number + QUICK)
        conforms(op, seeds, target, tmp_path / "op.edgeq", builder, 3)


@pytest.mark.full
@pytest.mark.parametrize("target", NATIVE)
@pytest.mark.parametrize("op", CASES)
def test_native_sweep(op, target, tmp_path, builder):
    for start in range(1000, 1000 + FULL, BATCH):
        conforms(op, range(start, start + BATCH), target, tmp_path / "op.edgeq", builder, 1, 3)


@pytest.mark.full
@pytest.mark.emulated
@pytest.mark.parametrize("target", FOREIGN)
@pytest.mark.parametrize("op", CASES)
def test_emulated_sweep(op, target, tmp_path, builder):
    for number, start in enumerate(range(2000, 2000 + FULL, EMULATED_BATCH)):
        seeds = range(start, start + EMULATED_BATCH)
        conforms(op, seeds, target, tmp_path / "op.edgeq", builder, 1 + number % 4)
