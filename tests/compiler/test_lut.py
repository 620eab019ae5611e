"""Table kernels against NumPy indexing."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeq.compiler.kernels.base import DTYPE_RANGE
from edgeq.compiler.kernels.nonlinear.lut import LutInterpSpec, LutSpec
from edgeq.compiler.target import load_target
from edgeq.errors import CompileError
from edgeq.integer.arithmetic import round_shift
from tests.support.kernel_runner import run_kernel
from tests.support.views import NATIVE, extent, noise, shapes, strided, strides_for


def check_lut(spec: LutSpec, name: str, seed: int = 0, splits: bool = True) -> None:
    rng = np.random.default_rng(seed)
    x = noise(rng, extent(spec.shape, spec.x_strides), spec.x_dtype)
    y = noise(rng, extent(spec.shape, spec.y_strides), spec.dtype)
    table = noise(rng, 256 * spec.rows, spec.dtype)
    rows = sum(
        np.arange(n).reshape([-1 if d == k else 1 for k in range(len(spec.shape))]) * s
        for d, (n, s) in enumerate(zip(spec.shape, spec.row_strides, strict=True))
    )
    index = strided(x, spec.shape, spec.x_strides).astype(np.int64) - DTYPE_RANGE[spec.x_dtype][0]
    wanted = y.copy()
    strided(wanted, spec.shape, spec.y_strides)[...] = table[rows * 256 + index]
    cuts = (spec.tasks() // 2,) if splits else ()
    got = run_kernel(spec, load_target(name), {"x": x, "y": y}, {"table": table.reshape(-1, 256)}, cuts)["y"]
    np.testing.assert_array_equal(got, wanted)


@st.composite
def luts(draw: st.DrawFn) -> LutSpec:
    shape = draw(shapes(3))
    strides = draw(strides_for(shape, broadcast=True, permute=True)), draw(strides_for(shape))
    axis = draw(st.one_of(st.none(), st.none(), st.integers(-len(shape), len(shape) - 1)))
    dtypes = draw(st.sampled_from(["u8", "s8"])), draw(st.sampled_from(["u8", "s8", "s16"]))
    return LutSpec.of(shape, *strides, *dtypes, axis)


@pytest.mark.parametrize("name", [*NATIVE, *(pytest.param(n, marks=pytest.mark.emulated) for n in ("arm-neon",))])
@pytest.mark.parametrize(("x_dtype", "dtype"), [("u8", "u8"), ("s8", "s8"), ("u8", "s16"), ("s8", "s16")])
def test_dense(name: str, x_dtype: str, dtype: str) -> None:
    check_lut(LutSpec.of((1003,), (1,), (1,), x_dtype, dtype), name)


@pytest.mark.parametrize("name", NATIVE)
def test_row_per_channel(name: str) -> None:
    check_lut(LutSpec.of((4, 5, 24), (120, 24, 1), (150, 30, 1), "u8", "u8", axis=-1), name)
    check_lut(LutSpec.of((3, 70), (70, 1), (70, 1), "s8", "s16", axis=0), name)


@settings(max_examples=20, deadline=None)
@given(luts(), st.sampled_from(NATIVE), st.integers(0, 99))
def test_any(spec: LutSpec, name: str, seed: int) -> None:
    check_lut(spec, name, seed)


@pytest.mark.full
@settings(max_examples=200, deadline=None)
@given(luts(), st.sampled_from(NATIVE), st.integers(0, 99))
def test_any_full(spec: LutSpec, name: str, seed: int) -> None:
    check_lut(spec, name, seed)


@pytest.mark.full
@pytest.mark.emulated
@settings(max_examples=50, deadline=None)
@given(luts(), st.integers(0, 99))
def test_any_full_arm(spec: LutSpec, seed: int) -> None:
    check_lut(spec, "arm-neon", seed, splits=False)


def check_interp(spec: LutInterpSpec, name: str, seed: int = 0) -> None:
    rng = np.random.default_rng(seed)
    x = noise(rng, extent(spec.shape, spec.x_strides), "s16")
    y = noise(rng, extent(spec.shape, spec.y_strides), spec.dtype)
    table = noise(rng, 513, "s16")
    position = strided(x, spec.shape, spec.x_strides).astype(np.int64) + 32768
    j, f, points = position >> 7, position & 127, table.astype(np.int64)
    value = round_shift(points[j] * (128 - f) + points[j + 1] * f, spec.shift) + spec.zero_point
    wanted = y.copy()
    strided(wanted, spec.shape, spec.y_strides)[...] = np.clip(value, spec.low, spec.high)
    got = run_kernel(spec, load_target(name), {"x": x, "y": y}, {"table": table}, (spec.tasks() // 2,))["y"]
    np.testing.assert_array_equal(got, wanted)


@st.composite
def interps(draw: st.DrawFn) -> LutInterpSpec:
    shape = draw(shapes(3))
    dtype = draw(st.sampled_from(["u8", "s8", "s16"]))
    low, high = DTYPE_RANGE[dtype]
    zero = draw(st.sampled_from([low, 0, high]))
    strides = draw(strides_for(shape, broadcast=True)), draw(strides_for(shape))
    return LutInterpSpec(shape, *strides, dtype, draw(st.integers(0, 30)), zero, low + draw(st.integers(0, 9)), high)


@settings(max_examples=10, deadline=None)
@given(interps(), st.sampled_from(NATIVE))
def test_interp(spec: LutInterpSpec, name: str) -> None:
    check_interp(spec, name)


@pytest.mark.full
@settings(max_examples=200, deadline=None)
@given(interps(), st.sampled_from(NATIVE))
def test_interp_full(spec: LutInterpSpec, name: str) -> None:
    check_interp(spec, name)


@pytest.mark.emulated
def test_interp_arm() -> None:
    check_interp(LutInterpSpec((2, 300), (310, 1), (300, 1), "s16", 7, 0, -32768, 32767), "arm-neon")


def test_errors() -> None:
    spec = LutSpec.of((4,), (1,), (1,), "u8", "u8")
    with pytest.raises(CompileError, match="wrong size"):
        spec.pack(load_target("arm-neon"), {"table": np.zeros(255, np.uint8)})
    with pytest.raises(CompileError, match="table kernel contradicts itself"):
        LutSpec((4,), (1,), (0,), (1,), "s16", "u8")
    with pytest.raises(CompileError, match="table kernel contradicts itself"):
        LutSpec((4,), (1,), (1,), (1,), "u8", "u8", rows=3)
    interp = LutInterpSpec((4,), (1,), (1,), "s8", 7, 0, -128, 127)
    with pytest.raises(CompileError, match="wrong size"):
        interp.pack(load_target("arm-neon"), {"table": np.zeros(512, np.int16)})
    with pytest.raises(CompileError, match="shift is out of range"):
        LutInterpSpec((4,), (1,), (1,), "s8", 31, 0, -128, 127)
