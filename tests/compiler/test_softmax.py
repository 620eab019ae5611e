"""Softmax kernels against the row arithmetic of edgeq.integer.exp2."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeq.compiler.kernels.base import DTYPE_RANGE
from edgeq.compiler.kernels.softmax import SoftmaxSpec
from edgeq.compiler.target import load_target
from edgeq.errors import CompileError
from edgeq.integer.exp2 import SoftmaxConstants, softmax_constants, softmax_rows
from tests.support.kernel_runner import run_kernel
from tests.support.views import NATIVE, extent, noise, shapes, strided, strides_for

OUTPUTS = {"u8": (8, 0), "s8": (8, -128), "s16": (15, 0)}


def check(shape, axis, x_strides, y_strides, x_dtype, dtype, scale, name, seed=0, splits=True) -> None:
    rng = np.random.default_rng(seed)
    out_bits, zero = OUTPUTS[dtype]
    low, high = DTYPE_RANGE[dtype]
    constants = softmax_constants(scale, shape[axis], out_bits)
    spec = SoftmaxSpec.of(shape, axis, x_strides, y_strides, x_dtype, dtype, constants, zero, low, high)
    x, y = noise(rng, extent(shape, x_strides), x_dtype), noise(rng, extent(shape, y_strides), dtype)
    if rng.integers(2):  # near each other, as logits are
        x = (x >> {"s8": 2, "u8": 2, "s16": 8, "s32": 20}[x_dtype]).astype(x.dtype)
    rows = softmax_rows(np.moveaxis(strided(x, shape, x_strides), axis, -1), constants)
    wanted = y.copy()
    strided(wanted, shape, y_strides)[...] = np.moveaxis(np.clip(rows + zero, low, high), -1, axis)
    cuts = (spec.tasks() // 2,) if splits else ()
    got = run_kernel(spec, load_target(name), {"x": x, "y": y}, splits=cuts)["y"]
    np.testing.assert_array_equal(got, wanted)


ALL = [*NATIVE, pytest.param("arm", marks=pytest.mark.emulated)]


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize(("x_dtype", "dtype", "scale"), [("u8", "u8", 0.1), ("s8", "s8", 0.02), ("s32", "s16", 1e-6)])
def test_rows(name: str, x_dtype: str, dtype: str, scale: float) -> None:
    check((3, 101), 1, (101, 1), (104, 1), x_dtype, dtype, scale, name)


@pytest.mark.parametrize("name", NATIVE)
def test_strided_axis(name: str) -> None:
    check((2, 7, 5), 1, (35, 5, 1), (35, 1, 7), "s16", "u8", 0.001, name)
    check((1, 1), 1, (1, 1), (1, 1), "u8", "s8", 0.1, name)


def draw(data: st.DataObject) -> tuple:
    shape = data.draw(shapes(3))
    axis = data.draw(st.integers(0, len(shape) - 1))
    scale = 10.0 ** data.draw(st.floats(-8, 2))
    types = data.draw(st.sampled_from(["u8", "s8", "s16", "s32"])), data.draw(st.sampled_from(sorted(OUTPUTS)))
    strides = data.draw(strides_for(shape, permute=True)), data.draw(strides_for(shape, permute=True))
    return shape, axis, *strides, *types, scale


@settings(max_examples=15, deadline=None)
@given(st.data(), st.sampled_from(NATIVE), st.integers(0, 99))
def test_any(data: st.DataObject, name: str, seed: int) -> None:
    check(*draw(data), name, seed)


@pytest.mark.full
@settings(max_examples=250, deadline=None)
@given(st.data(), st.sampled_from(NATIVE), st.integers(0, 99))
def test_any_full(data: st.DataObject, name: str, seed: int) -> None:
    check(*draw(data), name, seed)


@pytest.mark.full
@pytest.mark.emulated
@settings(max_examples=60, deadline=None)
@given(st.data(), st.integers(0, 99))
def test_any_full_arm(data: st.DataObject, seed: int) -> None:
    check(*draw(data), "arm", seed, splits=False)


def test_errors() -> None:
    broken = SoftmaxConstants(2**20, 0, 2**20, 0, 24, 8)
    with pytest.raises(CompileError, match="softmax could pass 32 bits"):
        SoftmaxSpec.of((4, 4), 1, (4, 1), (4, 1), "s8", "u8", broken, 0, 0, 255)
