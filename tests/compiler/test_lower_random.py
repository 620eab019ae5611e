"""Random graphs of many layers: fusion, layouts and task splits change no bit on any target."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgeq import artifact, runtime
from edgeq.compiler import CompileOptions, KernelBuilder, compile_graph, load_target
from edgeq.compiler.program import Program
from tests.support.random_layers import RandomLayers

NATIVE = [name for name in ("x86-avx2", "x86-vnni", "arm-neon", "arm-dotprod") if load_target(name).runs_here()]
FOREIGN = [name for name in ("arm-neon", "arm-dotprod") if name not in NATIVE]
QUICK, FULL = 5, 150
INPUT_SETS = 2


@pytest.fixture(scope="module")
def builder():
    with KernelBuilder(2) as pool:
        yield pool


def conforms(seed: int, target: str, path: Path, pool: KernelBuilder, threads: tuple[int, ...]) -> Program:
    """One random graph: its artifact has the reference's bits for random inputs, however the tasks are split."""
    graph = RandomLayers(seed).graph()
    rng = np.random.default_rng(seed)
    shapes = {str(v.name): tuple(int(n) for n in v.shape) for v in graph.model.graph.inputs}
    inputs = [
        {name: rng.integers(-128, 128, shape).astype(np.int8) for name, shape in shapes.items()}
        for _ in range(INPUT_SETS)
    ]
    compiled = compile_graph(graph, load_target(target), CompileOptions(golden_inputs=inputs), pool)
    artifact.write(compiled.image, compiled.objects, compiled.arch, path)
    model = runtime.load(path)
    for count in threads:
        assert model.verify(threads=count) == INPUT_SETS
    return compiled.program


@pytest.mark.parametrize("target", NATIVE)
@pytest.mark.parametrize("seed", range(QUICK))
def test_native(seed, target, tmp_path, builder):
    conforms(seed, target, tmp_path / "m.edgeq", builder, (1, 2, 3, 4))


@pytest.mark.emulated
@pytest.mark.parametrize("target", FOREIGN)
@pytest.mark.parametrize("seed", range(QUICK))
def test_emulated(seed, target, tmp_path, builder):
    conforms(20 + seed, target, tmp_path / "m.edgeq", builder, (1, 3))


@pytest.mark.full
@pytest.mark.parametrize("target", NATIVE)
def test_native_sweep(target, tmp_path, builder):
    for seed in range(100, 100 + FULL):
        conforms(seed, target, tmp_path / "m.edgeq", builder, (1, 2, 3, 4))


@pytest.mark.full
@pytest.mark.emulated
@pytest.mark.parametrize("target", FOREIGN)
def test_emulated_sweep(target, tmp_path, builder):
    for seed in range(400, 400 + FULL):
        conforms(seed, target, tmp_path / "m.edgeq", builder, (1, 3))
