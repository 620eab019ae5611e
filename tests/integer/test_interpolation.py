"""Resize positions against ONNX's own float formulas."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from edgeq.integer.interpolation import COORDINATE_MODES, axis_weights, nearest_indices, nearest_is_exact
from edgeq.integer.ops import resize_linear


@pytest.mark.parametrize("mode", COORDINATE_MODES)
@given(size_in=st.integers(1, 40), size_out=st.integers(1, 40))
def test_weights_are_taps_inside_the_image(mode: str, size_in: int, size_out: int) -> None:
    w = axis_weights(mode, size_in, size_out)
    for taps in (w.first, w.second):
        assert taps.min() >= 0
        assert taps.max() < size_in
    assert w.weight.min() >= 0
    assert w.weight.max() < 2048
    assert np.all(np.diff(w.first * 2048 + w.weight) >= 0)


@pytest.mark.parametrize("mode", COORDINATE_MODES)
@settings(max_examples=20, deadline=None)
@given(size=st.tuples(*[st.integers(2, 9)] * 4), seed=st.integers(0, 2**32 - 1))
def test_linear_resize_is_onnx_resize_rounded(mode: str, size: tuple[int, int, int, int], seed: int) -> None:
    x = np.random.default_rng(seed).integers(-128, 128, (1, 2, *size[:2])).astype(np.int8)
    node = helper.make_node("Resize", ["x", "", "", "s"], ["y"], mode="linear", coordinate_transformation_mode=mode)
    sizes = helper.make_tensor("s", TensorProto.INT64, [4], [1, 2, *size[2:]])
    graph = helper.make_graph(
        [node],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, x.shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 2, *size[2:]])],
        [sizes],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=9)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    real = session.run(None, {"x": x.astype(np.float32)})[0]
    found = resize_linear.reference(x, out_h=size[2], out_w=size[3], mode=mode)
    # Half a step of rounding, and 2^-12 of a pixel on each axis at a slope of up to 255.
    assert np.max(np.abs(found - real)) <= 0.5 + 2 * 255 / 4096 + 1e-3


def test_nearest_doubles_pixels() -> None:
    assert nearest_indices("asymmetric", "floor", 3, 6).tolist() == [0, 0, 1, 1, 2, 2]
    assert nearest_indices("half_pixel", "round_prefer_floor", 3, 6).tolist() == [0, 0, 1, 1, 2, 2]
    assert nearest_indices("align_corners", "ceil", 3, 1).tolist() == [0]


@given(st.integers(1, 64), st.integers(1, 8))
def test_nearest_by_powers_of_two_is_exact_everywhere(size: int, factor: int) -> None:
    for scale in (1, 2, 4):
        assert nearest_is_exact("asymmetric", "floor", size, size * scale)
        assert nearest_is_exact("half_pixel", "round_prefer_floor", size, size * scale)


def test_some_sizes_fall_between_pixels_in_float32() -> None:
    assert any(not nearest_is_exact("asymmetric", "floor", n, m) for n in range(1, 60) for m in range(1, 60))
