"""Layers run row-wise: the same bits whatever the region and the chunks, and an arena below the limit."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import edgeq
from edgeq import artifact, runtime
from edgeq.artifact.format import Golden
from edgeq.compiler import CompileOptions, KernelBuilder, compile_graph, load_target
from edgeq.compiler.kernels.winograd.winograd import WinogradSpec
from edgeq.compiler.lower.lower import lower
from edgeq.compiler.rows.search import place_within
from edgeq.compiler.rows.stream import Region, stream, streamable
from edgeq.compiler.rows.windows import RowWindow, row_windows
from edgeq.errors import CompileError, UsageError
from edgeq.evaluate.firmware import run_firmware
from edgeq.integer import IntegerGraph, reference
from edgeq.integer.builder import GraphBuilder, emit
from edgeq.integer.graph import Quant
from tests.cli.helpers import edgeq as edgeq_command
from tests.support.random_layers import RandomLayers

NATIVE = [name for name in ("x86-avx2", "arm-neon") if load_target(name).runs_here()]


def inputs_of(graph: IntegerGraph, seed: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {str(v.name): rng.integers(-128, 128, tuple(int(n) for n in v.shape)).astype(np.int8) for v in graph.inputs}


def regions(graph: IntegerGraph, rng: np.random.Generator) -> list[Region]:
    """A region of each run of layers that can be run row-wise."""
    found, start = [], 0
    for able, run in itertools.groupby(streamable(graph)):
        count = len(list(run))
        if able:
            begin = start + int(rng.integers(0, count))
            stop = int(rng.integers(begin, start + count)) + 1
            found.append(Region(begin, stop, int(rng.choice([1, 60, 300, 2000])), bool(rng.integers(0, 2))))
        start += count
    return found


def assert_same(graph: IntegerGraph, other: IntegerGraph, seed: int = 0) -> None:
    inputs = inputs_of(graph, seed)
    expected, got = reference.run(graph, inputs), reference.run(other, inputs)
    assert list(expected) == list(got)
    for name, value in expected.items():
        np.testing.assert_array_equal(got[name], value)


class Chain:
    """A network of convolutions, pools and residual blocks, larger at the start than at the end."""

    def __init__(self, seed: int, size: tuple[int, int] = (14, 9), layers: int = 5) -> None:
        self.rng, self.b = np.random.default_rng(seed), GraphBuilder()
        value = self.b.input("x", np.int8, (1, 3, *size), Quant(np.dtype(np.int8), 0.05, 3))
        value = self.conv(value, 8, 3, 1)
        for _ in range(layers):
            layer = (self.dense, self.depthwise, self.block, self.pool, self.table)[self.rng.integers(0, 5)]
            value = layer(value)
        self.b.output(value, "y")
        self.graph = self.b.finish()

    def conv(self, x, channels: int, kernel: int, stride: int, group: int = 1, zero_point: int = 3):
        """With padding on any side, or with none."""
        rng, each = self.rng, int(x.shape[1]) // group
        pads = [int(n) for n in rng.integers(0, kernel // 2 + 1, 4)]
        w = rng.integers(-40, 41, (channels, each, kernel, kernel)).astype(np.int8)
        bias = rng.integers(-500, 500, (1, channels, 1, 1)).astype(np.int32)
        acc = emit(
            self.b, "Conv", [x, w, bias], strides=(stride, stride), pads=pads, group=group, x_zero_point=zero_point
        )
        return self.rounded(acc, channels, 22 * 60 * (each * kernel**2) ** 0.5)

    def rounded(self, acc, channels: int, spread: float):
        fraction, exponent = np.frexp(60 / spread * self.rng.uniform(0.5, 1.5, (1, channels, 1, 1)))
        multiplier, shift = (fraction * 2**31).astype(np.int64).astype(np.int32), (31 - exponent).astype(np.int32)
        return emit(self.b, "Requantize", [acc, multiplier, shift], to=np.int8, zero_point=3)

    def dense(self, x):
        kernel, stride = int(self.rng.choice([1, 3, 5])), int(self.rng.integers(1, 3))
        return self.conv(x, 8, kernel, stride) if min(x.shape[2:]) > 7 else self.table(x)

    def depthwise(self, x):
        channels = int(x.shape[1])
        return self.conv(x, channels, 3, int(self.rng.integers(1, 3)), channels) if min(x.shape[2:]) > 4 else x

    def block(self, x):
        """Two paths of different reach that meet again."""
        inner, outer = (self.padded(x, kernel) for kernel in (1, 3))
        outer = self.padded(outer, 3)
        return self.add(inner if self.rng.integers(0, 2) else x, outer)

    def padded(self, x, kernel: int):
        c, pad = int(x.shape[1]), kernel // 2
        w = self.rng.integers(-40, 41, (c, c, kernel, kernel)).astype(np.int8)
        acc = emit(self.b, "Conv", [x, w, np.zeros((1, c, 1, 1), np.int32)], pads=(pad,) * 4, x_zero_point=3)
        return self.rounded(acc, c, 22 * 60 * (c * kernel**2) ** 0.5)

    def add(self, a, b):
        numbers = {"a_multiplier": 900, "b_multiplier": 1100, "shift": 11}
        return emit(self.b, "Add", [a, b], a_zero_point=3, b_zero_point=3, zero_point=3, to=np.int8, **numbers)

    def pool(self, x):
        if min(x.shape[2:]) < 6:
            return x
        if self.rng.integers(0, 2):
            return emit(self.b, "MaxPool", [x], kernel_shape=(3, 3), strides=(2, 2), pads=(1, 1, 1, 1))
        acc = emit(self.b, "SumPool", [x], kernel_shape=(3, 2), strides=(1, 2), pads=(1, 0, 1, 0), x_zero_point=3)
        rows = int(acc.shape[2])
        count = np.full((1, 1, rows, 1), 6.0)
        count[:, :, [0, -1]] = 4.0  # the padding doesn't count
        fraction, exponent = np.frexp(1 / count)
        multiplier, shift = (fraction * 2**31).astype(np.int64).astype(np.int32), (31 - exponent).astype(np.int32)
        return emit(self.b, "Requantize", [acc, multiplier, shift], to=np.int8, zero_point=3)

    def table(self, x):
        return emit(self.b, "Lut", [x, self.rng.integers(-128, 128, 256).astype(np.int8)])


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**20))
def test_chains_keep_their_bits(seed: int) -> None:
    graph = Chain(seed).graph
    for region in regions(graph, np.random.default_rng(seed)):
        rows = stream(graph, region)
        rows.check()
        assert_same(graph, rows, seed)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**20))
def test_any_graph_keeps_its_bits(seed: int) -> None:
    """Branches, joins, several outputs, values that are read inside and outside of a region."""
    graph = RandomLayers(seed).graph()
    for region in regions(graph, np.random.default_rng(seed)):
        rows = stream(graph, region)
        rows.check()
        assert_same(graph, rows, seed)


def test_nothing_is_computed_twice() -> None:
    graph, target = Chain(3, layers=4).graph, load_target("cortex-m4")
    whole = sum(step.macs for step in lower(graph, target, 1).steps)
    count = len(streamable(graph))
    for kept in (False, True):
        rows = stream(graph, Region(0, count, 1, kept))
        assert sum(step.macs for step in lower(rows, target, 1).steps) == whole


@pytest.mark.parametrize("pads", [(0, 0), (1, 1), (0, 2)])
@pytest.mark.parametrize("stride", [1, 2, 3])
def test_windows_reach_as_far_as_the_op(stride: int, pads: tuple[int, int]) -> None:
    b = GraphBuilder()
    x = b.input("x", np.int8, (1, 2, 13, 5), Quant(np.dtype(np.int8), 1.0, 0))
    w, bias = np.ones((2, 2, 2, 3), np.int8), np.zeros((1, 2, 1, 1), np.int32)
    attributes = {"strides": (stride, 1), "pads": (pads[0], 1, pads[1], 1), "dilations": (2, 1)}
    node = emit(b, "Conv", [x, w, bias], **attributes).producer()
    assert row_windows(node) == {0: RowWindow(stride, 3, pads[0])}
    assert row_windows(node)[0].needed(1, 3) == (stride - pads[0], 2 * stride - pads[0] + 3)


def test_the_limit_decides() -> None:
    graph, target = Chain(11, (40, 32), 5).graph, load_target("cortex-m4")

    def lowered(g):
        return lower(g, target, 1)

    whole = place_within(graph, lowered, None)
    assert whole.row_wise is None
    assert place_within(graph, lowered, whole.placed.arena).row_wise is None
    limit = whole.placed.arena * 3 // 4
    found = place_within(graph, lowered, limit)
    assert found.row_wise is not None
    assert found.placed.arena <= limit
    assert found.row_wise.arena == (whole.placed.arena, found.placed.arena)
    assert found.row_wise.macs[0] == found.row_wise.macs[1]
    none = place_within(graph, lowered, 100)
    assert none.row_wise is None
    assert 100 < none.nearest <= found.placed.arena


def test_winograd_gives_way_first(tmp_path: Path) -> None:
    """Its scratch memory is the cheaper thing to save: nothing runs row-wise where that is enough."""
    chain = Chain(1, (24, 24), 0)
    chain.b = GraphBuilder()
    value = chain.b.input("x", np.int8, (1, 32, 24, 24), Quant(np.dtype(np.int8), 0.05, 3))
    chain.b.output(chain.padded(value, 3), "y")
    graph, target = chain.b.finish(), load_target(NATIVE[0])
    whole = place_within(graph, lambda g: lower(g, target), None).placed
    assert any(isinstance(step.spec, WinogradSpec) for step in whole.program.steps)
    found = place_within(graph, lambda g: lower(g, target), whole.arena - 1, lambda g: lower(g, target, lean=True))
    assert found.lean == (whole.arena, found.placed.arena)
    assert found.row_wise is None
    assert not any(isinstance(step.spec, WinogradSpec) for step in found.placed.program.steps)
    result = edgeq.compile(graph, target=NATIVE[0], output=tmp_path / "m.edgeq", ram=whole.arena - 1)
    assert result.report["checked"] == "native"
    assert result.report["lean"][1] < whole.arena


@pytest.mark.parametrize("target", NATIVE)
@pytest.mark.parametrize("seed", [11, 12])
def test_artifacts_for_this_machine(seed: int, target: str, tmp_path: Path) -> None:
    graph = Chain(seed, (40, 32), 5).graph
    with KernelBuilder(2) as pool:
        whole = compile_graph(graph, load_target(target), CompileOptions(), pool)
        options = CompileOptions(golden_inputs=[inputs_of(graph, 5)], arena_limit=whole.image.arena_size * 4 // 5)
        compiled = compile_graph(graph, load_target(target), options, pool)
    assert compiled.row_wise is not None
    artifact.write(compiled.image, compiled.objects, compiled.arch, tmp_path / "m.edgeq")
    model = runtime.load(tmp_path / "m.edgeq")
    assert [model.verify(threads=count) for count in (1, 3)] == [1, 1]


def conforms(graph: IntegerGraph, seed: int, target: str, path: Path, pool: KernelBuilder) -> None:
    """Every region of a graph, executed: the bits of the graph as it was."""
    for region in regions(graph, np.random.default_rng(seed)):
        inputs = inputs_of(graph, seed)
        expected = Golden(list(inputs.values()), list(reference.run(graph, inputs).values()))
        rows = compile_graph(stream(graph, region), load_target(target), CompileOptions(golden=[expected]), pool)
        artifact.write(rows.image, rows.objects, rows.arch, path)
        model = runtime.load(path)
        assert [model.verify(threads=count) for count in (1, 3)] == [1, 1]


@pytest.mark.parametrize("target", NATIVE)
def test_executed_rows(target: str, tmp_path: Path) -> None:
    with KernelBuilder(2) as pool:
        for seed in (1, 2):
            conforms(Chain(seed, (24, 12)).graph, seed, target, tmp_path / "m.edgeq", pool)


@pytest.mark.full
@pytest.mark.parametrize("target", NATIVE)
def test_executed_rows_sweep(target: str, tmp_path: Path) -> None:
    with KernelBuilder(2) as pool:
        for seed in range(100, 120):
            conforms(Chain(seed, (24, 12)).graph, seed, target, tmp_path / "m.edgeq", pool)
            conforms(RandomLayers(seed).graph(), seed, target, tmp_path / "m.edgeq", pool)


@pytest.mark.firmware
@pytest.mark.full
@pytest.mark.parametrize("seed", range(200, 210))
def test_firmware_sweep(seed: int) -> None:
    """Small buffers without gaps between them: a row that dies too early shows."""
    graph = Chain(seed, (24, 12)).graph
    for region in regions(graph, np.random.default_rng(seed)):
        assert run_firmware(compile_graph(stream(graph, region), load_target("cortex-m4"))).different == 0


@pytest.mark.firmware
@pytest.mark.parametrize("target", ["cortex-m4", "cortex-m55"])
def test_firmware(target: str, tmp_path: Path) -> None:
    graph = Chain(11, (40, 32), 5).graph
    whole = edgeq.compile(graph, target=target, output=tmp_path / "whole", name="net").report
    assert whole["row_wise"] is None
    ram = whole["fit"]["ram_needed"] * 3 // 4
    rows = edgeq.compile(graph, target=target, output=tmp_path / "rows", name="net", ram=ram).report
    assert rows["checked"] == "emulated"
    assert rows["fit"]["ram_needed"] <= ram
    assert tuple(rows["row_wise"]["macs"]) == (whole["macs"],) * 2
    before, after = rows["row_wise"]["code"]
    assert abs(before - whole["sizes"]["code"]) < 16  # the names of the libraries differ in length
    assert after == rows["sizes"]["code"]
    assert 0 < rows["row_wise"]["instructions"][1] < 2 * rows["row_wise"]["instructions"][0]


def test_calls_of_a_layer_are_listed_as_one(tmp_path: Path) -> None:
    Chain(11, (40, 32), 5).graph.save(tmp_path / "net.onnx")
    whole = edgeq_command("inspect", tmp_path / "net.onnx", "--target", "cortex-m4", "--json").json["fit"]
    ram = whole["ram_needed"] * 3 // 4
    done = edgeq_command("inspect", tmp_path / "net.onnx", "--target", "cortex-m4", "--ram", ram)
    assert done.code == 0, done.err
    assert "calls)" in done.out
    assert "[0:" not in done.out.split("fullest layer")[0]


def test_what_could_be_had_is_said(tmp_path: Path) -> None:
    graph = Chain(11, (40, 32), 5).graph
    with pytest.raises(CompileError, match="more RAM than there are") as caught:
        edgeq.compile(graph, target="cortex-m4", output=tmp_path / "net", name="net", ram=3000)
    assert "with layers run row-wise it would need" in str(caught.value.hint)
    with pytest.raises(CompileError, match="more RAM than there are") as caught:
        edgeq.compile(graph, target=NATIVE[0], output=tmp_path / "net.edgeq", ram=3000)
    assert "the least that running layers row-wise could reach is" in str(caught.value.hint)
    with pytest.raises(UsageError, match="takes no limit of RAM"):
        edgeq.compile(graph, target="wasm-simd128", output=tmp_path / "net.wasm", ram=3000)
