"""The phases of a transposed convolution against the integer op's reference, in NumPy and in real kernels."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeq.compiler.kernels.base import Epilogue, Image
from edgeq.compiler.kernels.dense.conv import ConvSpec
from edgeq.compiler.kernels.dense.transpose import as_convolution, input_padding, phases
from edgeq.compiler.kernels.depthwise.depthwise import DepthwiseSpec
from edgeq.compiler.target import Target, load_target
from edgeq.errors import CompileError
from edgeq.integer.ops.conv_transpose import reference
from tests.support.kernel_runner import run_kernel


@st.composite
def cases(draw: st.DrawFn) -> dict[str, Any]:
    """Geometry of a transposed convolution with at least one output."""
    group = draw(st.integers(1, 3))
    case: dict[str, Any] = {
        "group": group,
        "channels": (group * draw(st.integers(1, 3)), draw(st.integers(1, 3))),
        "size": (draw(st.integers(1, 5)), draw(st.integers(1, 5))),
        "kernel": (draw(st.integers(1, 5)), draw(st.integers(1, 5))),
        "strides": (draw(st.integers(1, 4)), draw(st.integers(1, 4))),
        "dilations": (draw(st.integers(1, 4)), draw(st.integers(1, 4))),
        "x_zero_point": draw(st.integers(-128, 127)),
        "seed": draw(st.integers(0, 2**32 - 1)),
    }
    spans = [
        (case["size"][i] - 1) * case["strides"][i] + (case["kernel"][i] - 1) * case["dilations"][i] + 1 for i in (0, 1)
    ]
    pads = [draw(st.integers(0, (spans[i % 2] - 1) // 2)) for i in range(4)]
    extra = [draw(st.integers(0, max(case["strides"][i], case["dilations"][i]) - 1)) for i in (0, 1)]
    case |= {"pads": pads, "output_padding": extra}
    case["y_size"] = [spans[i] + extra[i] - pads[i] - pads[2 + i] for i in (0, 1)]
    return case


def convolve(image: np.ndarray, weights: np.ndarray, dilations: tuple[int, int], group: int) -> np.ndarray:
    """Stride-1 convolution of an NHWC image by [N, C/group, kh, kw], plain loops over taps."""
    outputs, per_group, kh, kw = weights.shape
    rows, columns = image.shape[1] - (kh - 1) * dilations[0], image.shape[2] - (kw - 1) * dilations[1]
    result = np.zeros((image.shape[0], rows, columns, outputs), np.int64)
    for n in range(outputs):
        start = n // (outputs // group) * per_group
        for r in range(kh):
            for c in range(kw):
                top, left = r * dilations[0], c * dilations[1]
                part = image[:, top : top + rows, left : left + columns, start : start + per_group]
                result[..., n] += (part * weights[n, :, r, c].astype(np.int64)).sum(axis=-1)
    return result


def strided(flat: np.ndarray, image: Image, offset: int) -> np.ndarray:
    """The view that an Image describes."""
    item = flat.itemsize
    return np.lib.stride_tricks.as_strided(
        flat[offset:],
        (image.n, image.h, image.w, image.c),
        [item * s for s in (image.image_stride, image.row_stride, image.pixel_stride, 1)],
    )


@settings(max_examples=60, deadline=None)
@given(cases())
def test_phases_compute_the_op(case: dict[str, Any]) -> None:
    """Every output is written once, and holds what the op's reference gives."""
    rng = np.random.default_rng(case["seed"])
    channels, per_group = case["channels"]
    x = rng.integers(-128, 128, (2, channels, *case["size"])).astype(np.int8)
    w = rng.integers(-127, 128, (channels, per_group, *case["kernel"])).astype(np.int8)
    outputs = per_group * case["group"]
    bias = rng.integers(-1000, 1000, (1, outputs, 1, 1)).astype(np.int32)
    geometry = {k: case[k] for k in ("strides", "pads", "dilations", "group")}
    expected = reference(
        x, w, bias, **geometry, output_padding=case["output_padding"], x_zero_point=case["x_zero_point"]
    )

    found = phases(w, case["y_size"], **geometry)
    pads = input_padding(found, case["size"])
    top, left, bottom, right = pads
    centred = x.transpose(0, 2, 3, 1).astype(np.int64) - case["x_zero_point"]
    padded = np.pad(centred, ((0, 0), (top, bottom), (left, right), (0, 0)))
    y = Image.dense(2, *case["y_size"], outputs)
    result = np.zeros(y.elements, np.int64)
    written = np.zeros(y.elements, np.int64)
    for phase in found:
        image, offset = phase.input_image(Image.dense(*padded.shape), pads)
        source = strided(padded.reshape(-1), image, offset)
        grid, start = phase.output_image(y)
        dilations = (phase.rows.dilation, phase.columns.dilation)
        strided(result, grid, start)[:] = convolve(source, phase.weights, dilations, case["group"]) + bias.reshape(-1)
        strided(written, grid, start)[:] += 1
    assert (written == 1).all()
    np.testing.assert_array_equal(result.reshape(2, *case["y_size"], outputs).transpose(0, 3, 1, 2), expected)


def test_upsampling_by_two_needs_four_small_kernels() -> None:
    """A 4×4 kernel with stride 2 and pad 1 becomes four 2×2 kernels; nothing is multiplied by a gap."""
    found = phases(
        np.ones((8, 3, 4, 4), np.int8), (16, 16), strides=(2, 2), pads=(1, 1, 1, 1), dilations=(1, 1), group=1
    )
    assert [p.weights.shape for p in found] == [(3, 8, 2, 2)] * 4
    assert input_padding(found, (8, 8)) == (1, 1, 1, 1)


def test_wrong_groups_are_explained() -> None:
    with pytest.raises(CompileError, match="groups don't go together"):
        as_convolution(np.zeros((5, 1, 3, 3), np.int8), 2)


def run_phases(case: dict[str, Any], target: Target, *, depthwise: bool) -> tuple[np.ndarray, np.ndarray]:
    """(raw accumulators by the target's kernels, the op's reference), both NCHW."""
    rng = np.random.default_rng(case["seed"])
    channels, per_group = case["channels"]
    outputs, stored = per_group * case["group"], 128 if target.stores_u8 else 0
    x = rng.integers(-128, 128, (1, channels, *case["size"])).astype(np.int8)
    w = rng.integers(-127, 128, (channels, per_group, *case["kernel"])).astype(np.int8)
    bias = rng.integers(-1000, 1000, (1, outputs, 1, 1)).astype(np.int32)
    geometry = {k: case[k] for k in ("strides", "pads", "dilations", "group")}
    zero = case["x_zero_point"]
    expected = reference(x, w, bias, **geometry, output_padding=case["output_padding"], x_zero_point=zero)

    found = phases(w, case["y_size"], **geometry)
    pads = input_padding(found, case["size"])
    top, left, bottom, right = pads
    image = np.pad(x.transpose(0, 2, 3, 1), ((0, 0), (top, bottom), (left, right), (0, 0)), constant_values=zero)
    flat = (image.astype(np.int16) + stored).astype(np.uint8 if stored else np.int8).reshape(-1)
    y = Image.dense(1, *case["y_size"], outputs)
    result = np.zeros(y.elements, np.int32)
    for phase in found:
        source, offset = phase.input_image(Image.dense(*image.shape), pads)
        grid, start = phase.output_image(y)
        common: dict[str, Any] = {
            "x": source,
            "y": grid,
            "x_dtype": "u8" if stored else "s8",
            "kh": phase.rows.kernel,
            "kw": phase.columns.kernel,
            "dilation_h": phase.rows.dilation,
            "dilation_w": phase.columns.dilation,
            "epilogue": Epilogue("none", "s32", 0, -(2**31), 2**31 - 1),
            "x_zero_point": zero + stored,
        }
        spec = DepthwiseSpec(**common) if depthwise else ConvSpec(**common, groups=case["group"])
        operands = {"x": flat[offset:], "y": result[start:]}
        result[start:] = run_kernel(spec, target, operands, {"w": phase.weights, "bias": bias.reshape(-1)})["y"]
    return result.reshape(1, *case["y_size"], outputs).transpose(0, 3, 1, 2), expected


UPSAMPLE: dict[str, Any] = {
    "group": 1, "channels": (12, 10), "size": (4, 5), "kernel": (3, 4), "strides": (2, 2), "dilations": (1, 1),
    "pads": (1, 0, 0, 1), "output_padding": (1, 0), "y_size": (9, 11), "x_zero_point": -37, "seed": 3,
}  # fmt: skip
GROUPED = UPSAMPLE | {
    "group": 3, "channels": (12, 5), "strides": (3, 2), "dilations": (2, 1), "pads": (0, 1, 2, 1),
    "output_padding": (0, 1), "y_size": (12, 11),
}  # fmt: skip
DEPTHWISE = UPSAMPLE | {"group": 12, "channels": (12, 1)}
# Stride 4 with a 2×2 kernel: some phases meet no tap at all, and hold only the bias.
SPARSE = UPSAMPLE | {
    "kernel": (2, 2), "strides": (4, 4), "pads": (0, 0, 0, 0), "output_padding": (3, 2), "y_size": (17, 20),
}  # fmt: skip


@pytest.mark.parametrize("name", ["x86-avx2", "x86-vnni"])
@pytest.mark.parametrize(
    ("case", "depthwise"),
    [(UPSAMPLE, False), (GROUPED, False), (DEPTHWISE, True), (SPARSE, False)],
    ids=["upsample", "grouped", "depthwise", "sparse"],
)
def test_kernels_of_phases(name: str, case: dict[str, Any], depthwise: bool) -> None:
    result, expected = run_phases(case, load_target(name), depthwise=depthwise)
    np.testing.assert_array_equal(result, expected)


@pytest.mark.emulated
@pytest.mark.parametrize("name", ["arm-neon", "arm-dotprod"])
def test_kernels_of_phases_on_arm(name: str) -> None:
    for case, depthwise in ((UPSAMPLE, False), (DEPTHWISE, True)):
        result, expected = run_phases(case, load_target(name), depthwise=depthwise)
        np.testing.assert_array_equal(result, expected)
