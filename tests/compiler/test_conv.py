"""Dense convolutions: generated code against plain NumPy on every target."""

from __future__ import annotations

import ctypes
import mmap
import os
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgeq.compiler.kernels.base import SLACK_BYTES, Epilogue, Image
from edgeq.compiler.kernels.dense.conv import ConvSpec
from edgeq.compiler.kernels.dense.plan import Window, pixel_run, split_runs
from edgeq.compiler.kernels.epilogue.epilogue import NUMPY_DTYPE
from edgeq.compiler.kernels.windowed import accumulator_bounds
from edgeq.compiler.target import load_target
from edgeq.errors import CompileError
from tests.support import kernel_runner
from tests.support.convolutions import (
    check,
    conv,
    epilogues,
    make_constants,
    narrow,
    stored_dtype,
)
from tests.support.layers import Layer

NATIVE = ["x86-avx2", "x86-vnni"]
EMULATED = ["arm-neon", "arm-dotprod"]

SHAPES: dict[str, dict[str, Any]] = {
    "pointwise": {"x": (1, 5, 9, 24), "n": 40},
    "pointwise-batch": {"x": (3, 1, 1, 33), "n": 17},
    "vector-matrix": {"x": (1, 1, 1, 130), "n": 201},
    "first-layer": {"x": (1, 12, 12, 3), "n": 16, "k": (3, 3), "stride": 2},
    "one-channel": {"x": (1, 14, 8, 1), "n": 12, "k": (10, 4), "stride": 2},
    "3x3": {"x": (1, 10, 9, 16), "n": 16, "k": (3, 3)},
    "3x3-odd": {"x": (2, 8, 8, 5), "n": 19, "k": (3, 3)},
    "dilated": {"x": (1, 11, 11, 8), "n": 9, "k": (3, 3), "dilation": 2},
    "grouped": {"x": (1, 6, 7, 24), "n": 36, "k": (3, 3), "groups": 3},
    "gaps": {"x": (2, 6, 7, 12), "n": 20, "k": (3, 2), "x_gap": 3, "y_gap": 5},
    "pointwise-gaps": {"x": (1, 4, 13, 12), "n": 33, "x_gap": 1, "y_gap": 2},
    "strided-pointwise": {"x": (1, 9, 9, 10), "n": 8, "stride": 2},
}


@pytest.mark.parametrize("target", NATIVE)
@pytest.mark.parametrize("shape", SHAPES)
def test_shapes_natively(shape: str, target: str) -> None:
    check(conv(target, **SHAPES[shape]), target)


@pytest.mark.emulated
@pytest.mark.parametrize("target", EMULATED)
@pytest.mark.parametrize("shape", ["pointwise", "vector-matrix", "first-layer", "3x3-odd", "gaps"])
def test_shapes_on_arm(shape: str, target: str) -> None:
    check(conv(target, **SHAPES[shape]), target)


def check_epilogue(case: str, target: str, x_dtype: str | None = None) -> None:
    epilogue = epilogues(stored_dtype(target))[case]
    check(conv(target, (1, 9, 9, 11), 26, (3, 3), epilogue=epilogue, x_dtype=x_dtype), target)


@pytest.mark.parametrize("target", NATIVE)
@pytest.mark.parametrize("case", ["raw", "single-s16", "table", "residual", "table-residual"])
def test_epilogues_natively(case: str, target: str) -> None:
    check_epilogue(case, target)


@pytest.mark.emulated
@pytest.mark.parametrize("case", ["raw", "table-residual"])
def test_epilogues_on_arm(case: str) -> None:
    check_epilogue(case, "arm-neon")


@pytest.mark.parametrize("target", NATIVE)
@pytest.mark.parametrize("dtype", ["u8", "s8", "s16"])
def test_every_activation_dtype(dtype: str, target: str) -> None:
    check(conv(target, (1, 7, 8, 13), 21, (3, 3), x_dtype=dtype), target)
    check(conv(target, (1, 1, 19, 30), 10, x_dtype=dtype), target)


@pytest.mark.emulated
@pytest.mark.parametrize("target", EMULATED)
@pytest.mark.parametrize("dtype", ["u8", "s16"])
def test_other_activation_dtypes_on_arm(dtype: str, target: str) -> None:
    check(conv(target, (1, 7, 8, 13), 21, (3, 3), x_dtype=dtype), target)


# Enough multiplications for many tasks: blocks that end early, shares of blocks and channels.
LARGE: dict[str, dict[str, Any]] = {
    "pointwise-large": {"x": (1, 61, 67, 24), "n": 40},
    "pointwise-wide-rows": {"x": (1, 3, 1531, 8), "n": 72, "x_gap": 2},
    "3x3-large": {"x": (1, 35, 37, 24), "n": 24, "k": (3, 3)},
    "3x3-strided-large": {"x": (2, 47, 51, 12), "n": 40, "k": (3, 3), "stride": 2},
    "3x3-small-rows": {"x": (2, 21, 9, 40), "n": 56, "k": (3, 3)},
    "grouped-large": {"x": (1, 25, 27, 48), "n": 96, "k": (3, 3), "groups": 2},
    "vector-matrix-large": {"x": (1, 1, 1, 1030), "n": 999},
    "few-rows": {"x": (1, 1, 5, 700), "n": 333},
}
# More weights than pixels: threads share out the channels too.
HEAVY: dict[str, dict[str, Any]] = {
    "pointwise-heavy": {"x": (1, 7, 7, 310), "n": 520},
    "3x3-heavy": {"x": (1, 9, 9, 136), "n": 200, "k": (3, 3)},
    "batch-heavy": {"x": (3, 1, 21, 256), "n": 333},
}


@pytest.mark.parametrize("target", NATIVE)
@pytest.mark.parametrize("shape", LARGE)
def test_many_tasks_natively(shape: str, target: str) -> None:
    spec = conv(target, **LARGE[shape])
    assert spec.tasks() > 1
    check(spec, target)


@pytest.mark.parametrize("target", NATIVE)
@pytest.mark.parametrize("shape", HEAVY)
def test_shares_of_channels(shape: str, target: str) -> None:
    spec = conv(target, **HEAVY[shape])
    plan = spec.plan(load_target(target))
    assert plan.tiling.column_splits > 1 or plan.product.stages
    check(spec, target)


@pytest.mark.full
@pytest.mark.emulated
@pytest.mark.parametrize("target", EMULATED)
@pytest.mark.parametrize("shape", [*SHAPES, *LARGE])
def test_all_shapes_on_arm(shape: str, target: str) -> None:
    check(conv(target, **(SHAPES | LARGE)[shape]), target)


@pytest.mark.full
@pytest.mark.emulated
@pytest.mark.parametrize("target", EMULATED)
@pytest.mark.parametrize("case", ["raw", "single-s16", "table", "residual", "table-residual"])
@pytest.mark.parametrize("x_dtype", ["u8", "s8", "s16"])
def test_all_epilogues_on_arm(case: str, target: str, x_dtype: str) -> None:
    check_epilogue(case, target, x_dtype)


@st.composite
def specs(draw: st.DrawFn, target: str) -> ConvSpec:
    """Any small convolution."""
    groups = draw(st.sampled_from([1, 1, 1, 2, 3]))
    kernel = (draw(st.integers(1, 5)), draw(st.integers(1, 5)))
    dilation = draw(st.integers(1, 2))
    h, w = ((k - 1) * dilation + draw(st.integers(1, 12)) for k in kernel)
    dtype = stored_dtype(target)
    forms = [narrow(dtype), narrow(dtype, post_shift=3), Epilogue("none", "s32", 0, 0, 0)]
    return conv(
        target,
        (draw(st.integers(1, 2)), h, w, groups * draw(st.integers(1, 33))),
        groups * draw(st.integers(1, 70)),
        kernel,
        stride=draw(st.integers(1, 3)),
        dilation=dilation,
        x_dtype=draw(st.sampled_from([dtype, dtype, "s8", "u8", "s16"])),
        x_gap=draw(st.sampled_from([0, 0, 1, 4])),
        y_gap=draw(st.sampled_from([0, 0, 3])),
        epilogue=draw(st.sampled_from(forms)),
        zero_point=draw(st.sampled_from([0, 3, 127])),
        groups=groups,
    )


@pytest.mark.parametrize("target", NATIVE)
@settings(max_examples=8, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_random_specs_natively(target: str, data: st.DataObject) -> None:
    check(data.draw(specs(target)), target, seed=1)


@pytest.mark.full
@pytest.mark.parametrize("target", NATIVE)
@settings(max_examples=250, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_many_random_specs_natively(target: str, data: st.DataObject) -> None:
    check(data.draw(specs(target)), target, seed=2)


@pytest.mark.full
@pytest.mark.emulated
@pytest.mark.parametrize("target", EMULATED)
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_many_random_specs_on_arm(target: str, data: st.DataObject) -> None:
    check(data.draw(specs(target)), target, seed=3)


def _before_a_wall(array: np.ndarray, slack: int) -> tuple[mmap.mmap, int]:
    """A copy of the array in memory whose last readable byte is `slack` bytes behind it; (owner, address)."""
    page = mmap.PAGESIZE
    whole = -(-(array.nbytes + slack) // page) * page
    memory = mmap.mmap(-1, whole + page)
    base = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.mprotect(ctypes.c_void_p(base + whole), page, 0) == 0
    start = base + whole - slack - array.nbytes
    ctypes.memmove(start, np.ascontiguousarray(array).ctypes.data, array.nbytes)
    return memory, start


@pytest.mark.parametrize("target_name", NATIVE)
@pytest.mark.parametrize("shape", ["first-layer", "3x3-odd", "gaps", "vector-matrix", "pointwise-large"])
def test_touches_nothing_behind_the_slack(shape: str, target_name: str) -> None:
    """Inputs have 64 readable bytes behind them, outputs none: anything more is a segmentation fault, in a child."""
    spec, target = conv(target_name, **(SHAPES | LARGE)[shape]), load_target(target_name)
    rng = np.random.default_rng(0)
    arrays = spec.pack(target, make_constants(rng, spec))
    arrays["x"] = np.zeros(spec.x.elements, NUMPY_DTYPE[spec.x_dtype])
    arrays["y"] = np.zeros(spec.y.elements, NUMPY_DTYPE[spec.epilogue.dtype])
    arrays["scratch"] = np.zeros(spec.scratch_bytes(target), np.uint8)
    slack = {"input": SLACK_BYTES, "weight": SLACK_BYTES, "output": 0, "scratch": 0}
    placed = [_before_a_wall(arrays[o.name], slack[o.role]) for o in spec.operands()]
    function = getattr(kernel_runner._shared(spec, target), spec.symbol(target))
    child = os.fork()
    if child == 0:
        function(0, spec.tasks(), *[ctypes.c_void_p(address) for _, address in placed])
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0


FULL_RANGE = {
    "pointwise": Layer((5, 6), 24, 20, kernel=(1, 1), form="single", extreme=True, lowest_weight=-128),
    "long": Layer((1, 1), 200, 5, kernel=(1, 1), form="single", extreme=True, lowest_weight=-128),
    "grouped": Layer((4, 5), 12, 18, groups=2, extreme=True, lowest_weight=-128),
}


@pytest.mark.parametrize("name", NATIVE)
@pytest.mark.parametrize("layer", FULL_RANGE)
def test_weights_of_minus_128_natively(layer: str, name: str) -> None:
    np.testing.assert_array_equal(FULL_RANGE[layer].run(load_target(name)), FULL_RANGE[layer].expected)


@pytest.mark.emulated
@pytest.mark.parametrize("name", EMULATED)
@pytest.mark.parametrize("layer", FULL_RANGE)
def test_weights_of_minus_128_on_arm(layer: str, name: str) -> None:
    np.testing.assert_array_equal(FULL_RANGE[layer].run(load_target(name)), FULL_RANGE[layer].expected)


def test_weights_that_no_product_takes() -> None:
    with pytest.raises(CompileError, match="no product of u8 activations is exact for weights of -129"):
        conv("x86-avx2", (1, 4, 4, 8), 8, lowest_weight=-129).plan(load_target("x86-avx2"))


def test_weights_below_what_neon_multiplies() -> None:
    spec = conv("arm-neon", (1, 4, 4, 8), 8)
    constants = make_constants(np.random.default_rng(0), spec)
    constants["w"][2] = -128
    with pytest.raises(CompileError, match=r"outside what this target multiplies exactly\n  why: -128 is below -127"):
        spec.pack(load_target("arm-neon"), constants)


def test_weights_of_another_shape() -> None:
    spec = conv("arm-neon", (1, 4, 4, 8), 8)
    constants = make_constants(np.random.default_rng(0), spec) | {"w": np.zeros((8, 8, 3, 3), np.int8)}
    with pytest.raises(CompileError, match=r"int8 \(8, 8, 3, 3\) instead of int8 \(8, 8, 1, 1\)"):
        spec.pack(load_target("arm-neon"), constants)


def test_accumulators_are_proved() -> None:
    spec = conv("x86-avx2", (1, 1, 1, 70000), 8)
    with pytest.raises(CompileError, match="an accumulator could pass 32 bits"):
        spec.pack(load_target("x86-avx2"), make_constants(np.random.default_rng(0), spec))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"groups": 3}, "3 groups over 8 -> 8 channels"),
        ({"kh": 3}, "height 4 is too small for 4"),
        ({"kw": 2}, "width 4 is too small for 4"),
        ({"x_dtype": "s32"}, "activations of s32"),
        ({"y": Image.dense(2, 4, 4, 8)}, "batch 1 -> 2"),
    ],
)
def test_contradictions_are_named(change: dict[str, Any], message: str) -> None:
    spec = replace(conv("arm-neon", (1, 4, 4, 8), 8), **change)
    with pytest.raises(CompileError, match=f"a convolution contradicts itself\n  why: {message}"):
        spec.symbol(load_target("arm-neon"))


def test_accumulator_bounds_are_tight() -> None:
    taps, bias = np.array([[3, -2], [0, 5]]), np.array([10, -1])
    low, high = accumulator_bounds(taps, bias, "u8", 3)
    np.testing.assert_array_equal(low, [10 + 3 * -3 - 2 * 252, -1 + 5 * -3])
    np.testing.assert_array_equal(high, [10 + 3 * 252 - 2 * -3, -1 + 5 * 252])


def test_runs_merge_contiguous_taps() -> None:
    window = Window(3, 3, 1, 1, 1, 1)
    assert split_runs(window, 4, True, 40, 4, 4).total_groups == 3 * 3
    whole = split_runs(window, 4, True, 12, 4, 4)  # an image as wide as the kernel
    assert (whole.rows, whole.columns, whole.length) == (1, 1, 36)
    assert split_runs(window, 4, False, 60, 6, 4).columns == 3
    assert split_runs(replace(window, dilation_w=2), 4, True, 40, 4, 4).columns == 3


def test_pixels_are_renumbered_only_where_strides_allow() -> None:
    dense = Image.dense(2, 3, 5, 8)
    flat = pixel_run([dense])
    assert flat is not None
    assert (flat[0].w, flat[0].pixel_stride) == (30, 8)
    assert pixel_run([dense, replace(dense, row_stride=48)]) is None
    column = pixel_run([Image(4, 1, 1, 8, 32, 8, 8)])
    assert column is not None
    assert (column[0].w, column[0].pixel_stride) == (4, 32)
