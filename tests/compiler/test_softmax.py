"""Softmax and Shiftmax kernels against the row arithmetic of edgeq.integer.exp2 and shift_exp."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeq.compiler.kernels.base import DTYPE_RANGE
from edgeq.compiler.kernels.epilogue.epilogue import NUMPY_DTYPE
from edgeq.compiler.kernels.nonlinear.softmax import SoftmaxSpec
from edgeq.compiler.target import load_target
from edgeq.errors import CompileError
from edgeq.integer.exp2 import SoftmaxConstants, softmax_constants, softmax_rows
from edgeq.integer.shift_exp import ShiftmaxConstants, shiftmax_constants, shiftmax_rows
from tests.support.kernel_runner import run_kernel
from tests.support.views import NATIVE, extent, noise, shapes, strided, strides_for

OUTPUTS = {"u8": (8, 0), "s8": (8, -128), "s16": (15, 0)}
MASK_ZERO = 128  # what an s8 mask's 0 is where int8 is stored as u8


def check(shape, axis, strides, x_dtype, dtype, scale, form, name, seed=0, splits=True, masked=False) -> None:
    """strides: of x, y and, where `masked`, the mask."""
    rng = np.random.default_rng(seed)
    out_bits, zero = OUTPUTS[dtype]
    low, high = DTYPE_RANGE[dtype]
    make, rows_of = {"exp2": (softmax_constants, softmax_rows), "shift": (shiftmax_constants, shiftmax_rows)}[form]
    constants = make(scale, shape[axis], out_bits)
    x, y = noise(rng, extent(shape, strides[0]), x_dtype), noise(rng, extent(shape, strides[1]), dtype)
    if rng.integers(2):  # near each other, as logits are
        x = (x >> {"s8": 2, "u8": 2, "s16": 8, "s32": 20}[x_dtype]).astype(x.dtype)
    arrays, mask, keep = {"x": x, "y": y}, None, None
    if masked:
        flat = rng.choice(np.array([MASK_ZERO, MASK_ZERO, 1, 255], NUMPY_DTYPE["u8"]), extent(shape, strides[2]))
        arrays["mask"], mask = flat, (strides[2], "u8", MASK_ZERO)
        keep = np.moveaxis(strided(flat, shape, strides[2]) != MASK_ZERO, axis, -1)
    spec = SoftmaxSpec.of(shape, axis, strides[0], strides[1], x_dtype, dtype, constants, zero, low, high, mask)
    rows = rows_of(np.moveaxis(strided(x, shape, strides[0]), axis, -1), constants, keep)
    wanted = y.copy()
    strided(wanted, shape, strides[1])[...] = np.moveaxis(np.clip(rows + zero, low, high), -1, axis)
    cuts = (spec.tasks() // 2,) if splits else ()
    got = run_kernel(spec, load_target(name), arrays, splits=cuts)["y"]
    np.testing.assert_array_equal(got, wanted)


ALL = [*NATIVE, *(pytest.param(name, marks=pytest.mark.emulated) for name in ("arm-neon", "arm-dotprod"))]
DENSE = ((101, 1), (104, 1))


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("form", ["exp2", "shift"])
@pytest.mark.parametrize(("x_dtype", "dtype", "scale"), [("u8", "u8", 0.1), ("s8", "s8", 0.02), ("s32", "s16", 1e-6)])
def test_rows(name: str, form: str, x_dtype: str, dtype: str, scale: float) -> None:
    check((13, 101), 1, DENSE, x_dtype, dtype, scale, form, name)


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("form", ["exp2", "shift"])
def test_masks(name: str, form: str) -> None:
    """One mask for all rows, one number a row, one of its own for every element."""
    for strides in ((0, 1), (1, 0), (101, 1), (101, 2)):
        check((9, 101), 1, (*DENSE, strides), "s32", "u8", 1e-8, form, name, masked=True)


@pytest.mark.parametrize("dtype", ["u8", "s16"])
def test_rows_that_are_masked_away(dtype: str) -> None:
    constants = softmax_constants(0.1, 20, OUTPUTS[dtype][0])
    spec = SoftmaxSpec.of((3, 20), 1, (20, 1), (20, 1), "s8", dtype, constants, 7, 0, 200, ((0, 1), "s8", 0))
    arrays = {"x": np.arange(60).astype(np.int8), "mask": np.zeros(20, np.int8), "y": np.zeros(60, NUMPY_DTYPE[dtype])}
    assert (run_kernel(spec, load_target("x86-avx2"), arrays)["y"] == 7).all()


@pytest.mark.parametrize("name", NATIVE)
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("scale", [1.2e-8, 1e-4, 3.0])
def test_the_ends_of_32_bits(name: str, masked: bool, scale: float) -> None:
    """Rows at the ends of s32, where maximum minus limit leaves it; steps of more than an octave."""
    length, (low, high) = 41, DTYPE_RANGE["s32"]
    rng = np.random.default_rng(0)
    near = rng.integers(0, 2**17, length)
    rows = [
        np.full(length, low),
        low + near,
        high - near,
        np.where(near % 2, low, high),
        rng.integers(low, high, length),
    ]
    x, keep = np.stack(rows).astype(np.int32), rng.integers(0, 2, length).astype(np.uint8)
    constants = softmax_constants(scale, length, 15)
    dense, mask = ((length, 1), (length, 1)), ((0, 1), "u8", 0) if masked else None
    spec = SoftmaxSpec.of(x.shape, 1, *dense, "s32", "s16", constants, 0, *DTYPE_RANGE["s16"], mask)
    arrays = {"x": x.reshape(-1), "y": np.zeros(x.size, np.int16)} | ({"mask": keep} if masked else {})
    got = run_kernel(spec, load_target(name), arrays)["y"].reshape(x.shape)
    wanted = softmax_rows(x, constants, keep[None] if masked else None)
    np.testing.assert_array_equal(got, np.minimum(wanted, 32767))


@pytest.mark.parametrize("name", NATIVE)
def test_strided_axis(name: str) -> None:
    check((2, 7, 5), 1, ((35, 5, 1), (35, 1, 7)), "s16", "u8", 0.001, "exp2", name)
    check((1, 1), 1, ((1, 1), (1, 1)), "u8", "s8", 0.1, "shift", name)


def draw(data: st.DataObject) -> tuple:
    shape = data.draw(shapes(3))
    axis = data.draw(st.integers(0, len(shape) - 1))
    scale = 10.0 ** data.draw(st.floats(-8, 2))
    types = data.draw(st.sampled_from(["u8", "s8", "s16", "s32"])), data.draw(st.sampled_from(sorted(OUTPUTS)))
    strides = [data.draw(strides_for(shape, broadcast=k == 2, permute=True)) for k in range(3)]
    return shape, axis, strides, *types, scale, data.draw(st.sampled_from(["exp2", "shift"]))


@settings(max_examples=15, deadline=None)
@given(st.data(), st.sampled_from(NATIVE), st.integers(0, 99), st.booleans())
def test_any(data: st.DataObject, name: str, seed: int, masked: bool) -> None:
    check(*draw(data), name, seed, masked=masked)


@pytest.mark.full
@settings(max_examples=250, deadline=None)
@given(st.data(), st.sampled_from(NATIVE), st.integers(0, 99), st.booleans())
def test_any_full(data: st.DataObject, name: str, seed: int, masked: bool) -> None:
    check(*draw(data), name, seed, masked=masked)


@pytest.mark.full
@pytest.mark.emulated
@settings(max_examples=60, deadline=None)
@given(st.data(), st.integers(0, 99), st.booleans())
def test_any_full_arm(data: st.DataObject, seed: int, masked: bool) -> None:
    check(*draw(data), "arm-neon", seed, splits=False, masked=masked)


@pytest.mark.parametrize(
    "broken", [SoftmaxConstants(2**20, 0, 2**20, 0, 24, 8), ShiftmaxConstants(2**30, 4, 0, 1024, 16, 8)]
)
def test_errors(broken: SoftmaxConstants | ShiftmaxConstants) -> None:
    with pytest.raises(CompileError, match="softmax could pass 32 bits"):
        SoftmaxSpec.of((4, 4), 1, (4, 1), (4, 1), "s8", "u8", broken, 0, 0, 255)
