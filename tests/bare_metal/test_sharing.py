"""Kernels for any size: layers that differ in numbers only share one, and the bits stay the reference's."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

import edgeq
from edgeq.compiler import CompileOptions, compile_graph, load_target
from edgeq.compiler.kernels.base import Epilogue, Image, KernelSpec
from edgeq.compiler.kernels.dense.conv import ConvSpec
from edgeq.compiler.kernels.depthwise.depthwise import DepthwiseSpec
from edgeq.compiler.kernels.micro.dsp_depthwise import DspDepthwiseSpec
from edgeq.compiler.kernels.micro.paired_conv import PairedConvSpec
from edgeq.compiler.kernels.shared import SharedSpec
from edgeq.compiler.lower.lower import lower
from edgeq.compiler.sharing import WORTH_SHARING
from edgeq.evaluate.firmware import run_firmware
from edgeq.integer.graph import IntegerGraph

CHANNELS = (4, 8, 12, 16, 20)
SIZES = st.integers(2, 9)


def separable(folder: Path, channels: tuple[int, ...], height: int = 9, width: int = 10) -> IntegerGraph:
    """Depthwise 3×3 and pointwise by turns, every second depthwise with stride 2."""
    rng = np.random.default_rng(5)
    nodes: list[onnx.NodeProto] = []
    constants: list[onnx.TensorProto] = []

    def conv(source: str, out: int, per_group: int, size: int, stride: int, group: int) -> str:
        name = f"c{len(nodes)}"
        w = rng.normal(0, 0.4, (out, per_group, size, size)).astype(np.float32)
        b = rng.normal(0, 0.2, out).astype(np.float32)
        constants.extend([numpy_helper.from_array(w, f"{name}_w"), numpy_helper.from_array(b, f"{name}_b")])
        facts = {"kernel_shape": [size, size], "strides": [stride, stride], "group": group, "pads": [size // 2] * 4}
        nodes.append(helper.make_node("Conv", [source, f"{name}_w", f"{name}_b"], [f"{name}_y"], name, **facts))
        nodes.append(helper.make_node("Relu", [f"{name}_y"], [name], f"{name}_relu"))
        return name

    value = "x"
    for k, (c, following) in enumerate(itertools.pairwise(channels)):
        value = conv(conv(value, c, 1, 3, 1 + k % 2, c), following, c, 1, 1, 1)
    shape = [1, channels[0], height, width]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)
    y = helper.make_tensor_value_info(value, TensorProto.FLOAT, None)
    graph = helper.make_graph(nodes, "separable", [x], [y], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    onnx.save(onnx.shape_inference.infer_shapes(model), folder / "net.onnx")
    np.savez(folder / "calib.npz", x=rng.normal(0, 1, (3, *shape[1:])).astype(np.float32))
    edgeq.quantize(folder / "net.onnx", folder / "calib.npz", output=folder / "net.int.onnx")
    return IntegerGraph.load(folder / "net.int.onnx")


def epilogue(form: str, post_shift: int, zero_point: int) -> Epilogue:
    return Epilogue(form, "s8", zero_point, -128, 127, post_shift if form == "narrow" else 0)  # type: ignore[arg-type]


def image(h: int, w: int, c: int, gap: int) -> Image:
    pixel = c + gap
    row = w * pixel + gap
    return Image(1, h, w, c, h * row, row, pixel)


def depthwise(h: int, w: int, quads: int, gap: int, e: Epilogue, stride: int) -> KernelSpec:
    x = image((h - 1) * stride + 3, (w - 1) * stride + 3, 4 * quads, gap)
    return DspDepthwiseSpec(DepthwiseSpec(x, image(h, w, 4 * quads, gap), "s8", 3, 3, e, stride, stride))


def pointwise(h: int, w: int, quads: int, gap: int, e: Epilogue, stride: int) -> KernelSpec:
    x = image((h - 1) * stride + 1, (w - 1) * stride + 1, 4 * quads, gap)
    return PairedConvSpec(ConvSpec(x, image(h, w, 2 * quads, gap), "s8", 1, 1, e, stride, stride))


LAYER = st.tuples(SIZES, SIZES, st.integers(1, 5), st.sampled_from((0, 4)), st.integers(1, 6), st.integers(-128, 127))


@pytest.mark.parametrize("make", [depthwise, pointwise])
@pytest.mark.parametrize("form", ["narrow", "single"])
@given(first=LAYER, second=LAYER, stride=st.sampled_from((1, 2)))
@settings(max_examples=8, deadline=None)
def test_equal_forms_are_equal_code(make, form, first, second, stride) -> None:
    target = load_target("cortex-m4")

    def spec(layer) -> SharedSpec | None:
        h, w, quads, gap, shift, zero_point = layer
        zero_point = zero_point if form == "narrow" else 0
        return make(h, w, quads, gap, epilogue(form, shift, zero_point), stride).shareable()

    a, b = spec(first), spec(second)
    if a is not None and b is not None and a.form == b.form:
        assert a.symbol(target) == b.symbol(target)
        assert a.build(target).script() == b.build(target).script()


def test_what_cannot_be_shared() -> None:
    e = epilogue("narrow", 3, 0)
    assert depthwise(3, 1, 2, 0, e, 1).shareable() is None  # a row is less than a tile
    assert pointwise(1, 3, 2, 0, e, 1).shareable() is None
    assert isinstance(pointwise(1, 4, 2, 0, e, 1).shareable(), SharedSpec)


def test_few_kernels_stay_as_they_are(tmp_path: Path) -> None:
    program = lower(separable(tmp_path, CHANNELS[:WORTH_SHARING]), load_target("cortex-m4"), 1)
    assert not any(isinstance(step.spec, SharedSpec) for step in program.steps)


def test_a_linux_target_shares_nothing(tmp_path: Path) -> None:
    program = lower(separable(tmp_path, CHANNELS), load_target("arm-neon"), 1)
    assert not any(isinstance(step.spec, SharedSpec) for step in program.steps)


@pytest.mark.firmware
@pytest.mark.parametrize(("target", "height", "width"), [("cortex-m4", 9, 10), ("cortex-m33", 16, 16)])
def test_the_board_gives_the_references_bits(target: str, height: int, width: int, tmp_path: Path) -> None:
    graph = separable(tmp_path, (*CHANNELS, 24, 28, 32), height, width)
    compiled = compile_graph(graph, load_target(target), CompileOptions(1))
    shared = [step.spec.symbol(compiled.target) for step in compiled.program.steps if isinstance(step.spec, SharedSpec)]
    assert len(shared) > 2 * len(set(shared)) > 0
    run = run_firmware(compiled)
    assert run.different == 0
    assert run.stack <= run.sizes.stack
