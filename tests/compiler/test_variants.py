"""One artifact for several kinds of CPU: the same bits in all, the best one chosen, equal parts stored once."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import pytest

from edgeq import artifact, runtime
from edgeq.compiler import KernelBuilder, ProgramSource, compile_graph, compile_model, load_target
from edgeq.compiler.weights import WeightPool
from edgeq.integer.graph import IntegerGraph
from edgeq.runtime.build import runner
from edgeq.runtime.emulate import emulator
from edgeq.runtime.runner import RunnerModel
from tests.support.graphs import Layers

NATIVE = [name for name in ("x86-vnni", "x86-avx2") if load_target(name).runs_here()]


@pytest.fixture(scope="module")
def builder():
    with KernelBuilder() as made:
        yield made


def graph() -> IntegerGraph:
    layers = Layers(seed=4)
    return layers.finish(layers.conv(layers.input(1, 8, 9, 9), 12, 3))


def write(names: list[str], path: Path, builder: KernelBuilder) -> Path:
    compiled = compile_model([ProgramSource(graph())], [load_target(n) for n in names], None, builder)
    artifact.write_variants(compiled.variants, compiled.objects, path)
    return path


@pytest.mark.skipif(len(NATIVE) < 2, reason="needs a CPU with two of the x86 targets")
def test_variants_of_this_machine_agree(tmp_path: Path, builder: KernelBuilder) -> None:
    model = runtime.load(write(NATIVE, tmp_path / "m.edgeq", builder), emulate=False)
    assert model.variant == 0
    assert [v.programs[0].manifest["target"] for v in model.artifact.variants] == NATIVE
    vectors = len(model.image.golden)
    assert model.verify() == 2 * vectors
    assert model.select(variant=1).verify() == vectors
    given = model.image.golden[0].inputs
    for variant in (0, 1):
        found = model.select(variant=variant).run(given)
        for tensor, expected in zip(model.outputs, model.image.golden[0].outputs, strict=True):
            assert np.array_equal(found[tensor.name], expected)


@pytest.mark.emulated
@pytest.mark.parametrize(("cpu", "variant"), [("cortex-a72", 1), ("max", 0)])
def test_the_loader_looks_at_the_cpu(tmp_path: Path, builder: KernelBuilder, cpu: str, variant: int) -> None:
    path = write(["arm-dotprod", "arm-neon"], tmp_path / "m.edgeq", builder)
    command = [str(emulator("aarch64")), "-cpu", cpu, str(runner("aarch64")), str(path)]
    info = subprocess.run([*command, "--info"], capture_output=True, text=True, check=True).stdout
    assert f"variant {variant} of 2, program 0 of 1" in info
    checked = subprocess.run([*command, "--verify"], capture_output=True, text=True, check=True)
    vectors = len(artifact.read(path).image.golden)
    assert f"{vectors * (2 - variant)} golden vectors, every output value the same" in checked.stdout
    assert ("variant 0 is not run: this CPU has no dotprod" in checked.stderr) == (variant == 1)
    if variant == 1:
        refused = subprocess.run([*command, "--variant=0"], capture_output=True, text=True, check=False)
        assert refused.returncode == 2
        assert "this CPU has no dotprod" in refused.stderr


@pytest.mark.emulated
def test_an_emulated_model_selects_variants(tmp_path: Path, builder: KernelBuilder) -> None:
    model = runtime.load(write(["arm-dotprod", "arm-neon"], tmp_path / "m.edgeq", builder), emulate=True)
    assert isinstance(model, RunnerModel)
    golden = model.image.golden[0]
    assert model.verify() == 2 * len(model.image.golden)
    assert model.select(variant=1).verify() == len(model.image.golden)
    for variant in (0, 1):
        found = model.select(variant=variant).run(golden.inputs)
        for tensor, expected in zip(model.outputs, golden.outputs, strict=True):
            assert np.array_equal(found[tensor.name], expected)


def test_equal_constants_are_stored_once() -> None:
    pool = WeightPool()
    rng = np.random.default_rng(3)
    first, second = rng.integers(-128, 127, (3, 50), np.int8), rng.integers(0, 9, 7, np.int32)
    offsets = pool.add([first, second, first.copy()])
    assert offsets == [0, 192, 0]
    assert pool.add([second, first[:, :25]])[0] == 192
    blob = pool.blob()
    assert blob[192 : 192 + 28].tobytes() == second.tobytes()
    assert blob[:150].tobytes() == first.tobytes()
    assert len(blob) % 64 == 0


def test_a_single_program_is_what_compile_graph_makes(tmp_path: Path, builder: KernelBuilder) -> None:
    target = load_target("x86-avx2")
    alone = compile_graph(graph(), target, None, builder)
    artifact.write(alone.image, alone.objects, alone.arch, tmp_path / "alone.edgeq")
    write(["x86-avx2"], tmp_path / "model.edgeq", builder)
    assert (tmp_path / "alone.edgeq").read_bytes() == (tmp_path / "model.edgeq").read_bytes()
