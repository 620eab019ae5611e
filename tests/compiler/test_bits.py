"""Weights of ±a and activations of two values, a bit each: packing, counting, who chooses them, a whole network."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import edgeq
from edgeq.compiler.kernels.base import Image
from edgeq.compiler.kernels.bits.conv import BitConvSpec
from edgeq.compiler.kernels.bits.pack import PackBitsSpec
from edgeq.compiler.kernels.dense.conv import ConvSpec
from edgeq.compiler.kernels.epilogue.epilogue import reference
from edgeq.compiler.lower.lower import lower
from edgeq.compiler.target import load_target
from edgeq.errors import CompileError
from edgeq.integer import IntegerGraph
from edgeq.integer import reference as graph_reference
from tests.frontend.models import model, save
from tests.support.convolutions import FILL, conv, convolve, epilogues, make_constants, view
from tests.support.kernel_runner import run_kernel

TARGETS = ["x86-avx2", "x86-vnni"]
SHAPES: dict[str, dict[str, Any]] = {
    "rows": {"x": (1, 1, 19, 64), "n": 70},
    "one-row": {"x": (1, 1, 1, 1056), "n": 10},
    "3x3": {"x": (1, 9, 7, 32), "n": 40, "k": (3, 3)},
    "3x3-long": {"x": (1, 5, 6, 512), "n": 24, "k": (3, 3)},
    "strided": {"x": (2, 9, 8, 96), "n": 17, "k": (3, 3), "stride": 2, "x_gap": 3, "y_gap": 5},
    "many-tasks": {"x": (1, 35, 37, 64), "n": 72, "k": (3, 3)},
}


def over_bits(direct: ConvSpec, levels: tuple[int, int]) -> BitConvSpec:
    """The same layer over bits."""
    own = {field.name: getattr(direct, field.name) for field in fields(direct)}
    x = direct.x
    return BitConvSpec(**own | {"x": Image.dense(x.n, x.h, x.w, x.c // 8), "levels": levels})


def check(direct: ConvSpec, target_name: str, levels: tuple[int, int], seed: int = 0, scaled: bool = False) -> None:
    """Packs and multiplies; all bits right, nothing written outside the view, any split the same."""
    target, rng = load_target(target_name), np.random.default_rng(seed)
    spec = over_bits(direct, levels)
    constants = make_constants(rng, direct)
    constants["w"] = rng.choice(np.array([-1, 1], np.int8), constants["w"].shape)
    constants["w"][0] = 1
    if scaled:
        constants["w"] *= rng.integers(1, 128, (direct.y.c, 1, 1, 1)).astype(np.int8)
    x = rng.choice(np.array(levels, np.uint8), direct.x.elements)
    packing = PackBitsSpec(direct.x, spec.x, levels)
    cuts = (packing.tasks() // 2,) if packing.tasks() > 1 else ()
    bits = run_kernel(packing, target, {"x": x, "y": np.zeros(spec.x.elements, np.uint8)}, {}, cuts)["y"]
    larger = view(x, direct.x) == levels[1]
    np.testing.assert_array_equal(view(bits, spec.x), np.packbits(larger, axis=-1, bitorder="little"))
    operands = {"x": bits, "y": np.full(direct.y.elements, FILL, np.int32 if direct.y_dtype == "s32" else np.uint8)}
    tasks = spec.tasks()
    got = run_kernel(spec, target, operands, constants, (tasks // 3, tasks // 2) if tasks > 2 else ())["y"]
    acc = convolve(direct, view(x, direct.x), constants["w"], constants["bias"])
    expected = np.full_like(operands["y"], FILL)
    e, scales = direct.epilogue, (constants.get("multiplier"), constants.get("shift"))
    view(expected, direct.y)[...] = reference(e, acc, *scales, constants.get("table"))
    np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("shape", SHAPES)
def test_shapes(shape: str, target: str) -> None:
    check(conv(target, **SHAPES[shape]), target, (1, 255))


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("case", ["raw", "single-s8", "table"])
@pytest.mark.parametrize("levels", [(127, 128), (0, 1), (0, 255), (3, 131)])
def test_epilogues_and_levels(levels: tuple[int, int], case: str, target: str) -> None:
    known = epilogues("u8")
    epilogue = known.get(case) or known["raw"]
    check(conv(target, (1, 4, 5, 64), 26, epilogue=epilogue, zero_point=levels[0]), target, levels)


@pytest.mark.parametrize("target", TARGETS)
def test_a_magnitude_for_each_channel(target: str) -> None:
    check(conv(target, (1, 6, 5, 64), 40, (3, 3)), target, (1, 255), scaled=True)
    raw = epilogues("u8")["raw"]
    check(conv(target, (1, 1, 9, 96), 33, epilogue=raw), target, (0, 1), scaled=True)


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    words=st.integers(1, 40),
    n=st.integers(1, 70),
    rows=st.integers(1, 40),
    low=st.integers(0, 254),
    gap=st.integers(1, 255),
    seed=st.integers(0, 9),
)
def test_random_products(words: int, n: int, rows: int, low: int, gap: int, seed: int) -> None:
    check(conv("x86-avx2", (1, 1, rows, 32 * words), n), "x86-avx2", (low, min(255, low + gap)), seed)


@given(low=st.integers(0, 254), gap=st.integers(1, 255))
def test_the_offset_tells_the_levels_apart(low: int, gap: int) -> None:
    image, levels = Image.dense(1, 1, 1, 32), (low, min(255, low + gap))
    offset = PackBitsSpec(image, image, levels).offset
    assert [(level + offset) % 256 >= 128 for level in levels] == [False, True]


def test_refused() -> None:
    target = load_target("x86-avx2")
    direct = conv("x86-avx2", (1, 4, 4, 64), 8)
    with pytest.raises(CompileError, match="bits contradicts itself"):
        replace(over_bits(direct, (3, 3))).plan(target)
    constants = make_constants(np.random.default_rng(0), direct)
    with pytest.raises(CompileError, match="don't fit a convolution of bits"):
        over_bits(direct, (0, 1)).pack(target, constants)


# --- networks ---------------------------------------------------------------------------------------------------------

Q = "qonnx.custom_op.general"


def binary_network(path: Path, pad: int = 0) -> Path:
    """As FINN's CNV and TFC have it: a first layer of bytes, then convolutions and products of ±1 by ±1."""
    rng = np.random.default_rng(7)

    def values(*shape: int) -> np.ndarray:
        return rng.normal(0, 1, shape).astype(np.float32)

    text = f"""
        c1 = Conv(x, k1) b1 = {Q}.BipolarQuant(c1, one)
        w2 = {Q}.BipolarQuant(k2, tenth) c2 = Conv<pads = [{pad}, {pad}, {pad}, {pad}]>(b1, w2)
        n2 = Mul(c2, g2) m2 = Add(n2, h2) b2 = {Q}.BipolarQuant(m2, half)
        p2 = MaxPool<kernel_shape = [2, 2], strides = [2, 2]>(b2)
        w3 = {Q}.BipolarQuant(k3, tenth) c3 = Conv(p2, w3) b3 = {Q}.BipolarQuant(c3, one)
        f3 = Flatten(b3) w4 = {Q}.BipolarQuant(k4, tenth) c4 = MatMul(f3, w4) b4 = {Q}.BipolarQuant(c4, one)
        y = MatMul(b4, k5)
    """
    size = (4 + pad) ** 2 * 64
    arrays = {
        "k1": values(64, 3, 3, 3), "k2": values(96, 64, 3, 3), "k3": values(64, 96, 1, 1), "k4": values(size, 64),
        "k5": values(64, 10), "g2": values(1, 96, 1, 1), "h2": values(1, 96, 1, 1),
        "one": np.float32(1), "half": np.float32(0.5), "tenth": np.float32(0.1),
    }  # fmt: skip
    arrays = {name: np.asarray(value, np.float32) for name, value in arrays.items()}
    domains = f', "{Q}": 1'
    proto = model(f"g (float[1,3,12,12] x) => (float[1,10] y) {{ {text} }}", domains=domains, **arrays)
    return Path(save(proto, path))


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> IntegerGraph:
    folder = tmp_path_factory.mktemp("bits")
    samples = np.random.default_rng(1).normal(0, 1, (8, 3, 12, 12)).astype(np.float32)
    return edgeq.quantize(binary_network(folder), {"x": samples}).graph


def families(graph: IntegerGraph, target: str) -> list[str]:
    return [step.spec.family for step in lower(graph, load_target(target)).steps]


@pytest.mark.parametrize("target", TARGETS)
def test_layers_where_it_pays_are_counted(network: IntegerGraph, target: str) -> None:
    found = families(network, target)
    assert found.count("bitconv") == found.count("bits") == 2  # the third has three words a pixel only
    assert "lut_interp" not in found  # what is compared with a threshold needs no 16 bits


def test_other_targets_multiply(network: IntegerGraph) -> None:
    assert "bitconv" not in families(network, "arm-neon")


@pytest.mark.parametrize("target", TARGETS)
def test_the_network_is_exact(network: IntegerGraph, target: str, tmp_path: Path) -> None:
    path = tmp_path / "binary.edgeq"
    edgeq.compile(network, target=target, output=path)
    artifact = edgeq.load(path)
    rng = np.random.default_rng(3)
    for threads in (1, 3):
        x = rng.integers(-128, 128, (1, 3, 12, 12)).astype(artifact.inputs[0].numpy_dtype)
        wanted = graph_reference.run(network, {"x": x})
        for name, value in artifact.run({"x": x}, threads=threads).items():
            np.testing.assert_array_equal(value, wanted[name])


def test_padding_that_is_neither_value_keeps_bytes(tmp_path: Path) -> None:
    samples = np.random.default_rng(1).normal(0, 1, (4, 3, 12, 12)).astype(np.float32)
    graph = edgeq.quantize(binary_network(tmp_path, pad=1), {"x": samples}).graph
    assert families(graph, "x86-avx2").count("bitconv") == 1


def test_weights_of_zero_keep_bytes(network: IntegerGraph) -> None:
    changed = IntegerGraph(network.model.clone())
    for node in changed.model.graph:
        if node.op_type == "Conv" and node.inputs[1].shape[0] == 96:
            array = node.inputs[1].const_value.numpy().copy()
            array[0, 0] = 0
            node.inputs[1].const_value = ir.tensor(array)
    assert families(changed, "x86-avx2").count("bitconv") == 1
