"""Every float op that the quantizer knows, in 8 and 16 bits, down to machine code: the reference's bits everywhere."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgeq import artifact, runtime
from edgeq.compiler import CompileOptions, KernelBuilder, compile_graph, load_target
from edgeq.quantize import Policy, QuantizeOptions, quantize
from edgeq.quantize.report import quantize_inputs
from edgeq.quantize.samples.data import from_arrays
from edgeq.quantize.session import input_specs
from tests.quantize.models import ModelMaker, samples
from tests.quantize.test_ops import CASES

POLICIES = {"s8": "", "s16": "defaults: {activation: s16}\n"}
TARGETS = [name for name in ("x86-avx2", "x86-vnni", "arm-neon", "arm-dotprod") if load_target(name).runs_here()]


@pytest.fixture(scope="module")
def builder():
    with KernelBuilder(2) as pool:
        yield pool


def agrees(name: str, policy: str, targets: list[str], folder: Path, pool: KernelBuilder) -> None:
    """Quantize one op, compile it, and hold the golden vectors of three samples against every target."""
    m = ModelMaker()
    graph = m.graph(folder, CASES[name](m))
    data = from_arrays(input_specs(graph.graph), samples(graph))
    options = QuantizeOptions(policy=Policy.parse(POLICIES[policy]), promote=False, compare_samples=0)
    integer = quantize(graph, data, options).graph
    golden = [quantize_inputs(integer, feed) for feed in data.feeds(3)]
    for target in targets:
        compiled = compile_graph(integer, load_target(target), CompileOptions(golden_inputs=golden), pool)
        path = folder / f"{target}.edgeq"
        artifact.write(compiled.image, compiled.objects, compiled.arch, path)
        assert runtime.load(path).verify(threads=2) == 3, target


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("name", CASES)
def test_native(name, policy, tmp_path, builder):
    agrees(name, policy, TARGETS, tmp_path, builder)


@pytest.mark.full
@pytest.mark.emulated
@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("name", CASES)
def test_emulated(name, policy, tmp_path, builder):
    agrees(name, policy, ["arm-neon", "arm-dotprod"], tmp_path, builder)
