"""Div kernels against the op's reference."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeq.compiler.kernels.base import DTYPE_RANGE
from edgeq.compiler.kernels.elementwise.div import DivSpec
from edgeq.compiler.kernels.epilogue.epilogue import NUMPY_DTYPE
from edgeq.compiler.target import load_target
from edgeq.errors import CompileError
from edgeq.integer.ops.div import reference
from tests.support.kernel_runner import run_kernel
from tests.support.views import NATIVE, extent, noise, shapes, strided, strides_for


def check(spec: DivSpec, name: str, seed: int = 0, splits: bool = True) -> None:
    rng = np.random.default_rng(seed)
    sides = ((spec.a_strides, spec.a_dtype), (spec.b_strides, spec.b_dtype))
    a, b = (noise(rng, extent(spec.shape, strides), dtype) for strides, dtype in sides)
    b[rng.random(b.size) < 0.1] = spec.b_zero_point  # division by zero
    y = noise(rng, extent(spec.shape, spec.y_strides), spec.dtype)
    wanted = y.copy()
    names = ("a_zero_point", "b_zero_point", "multiplier", "shift", "zero_point", "low", "high")
    attributes = {n: getattr(spec, n) for n in names} | {"to": np.dtype(NUMPY_DTYPE[spec.dtype])}
    result = reference(strided(a, spec.shape, spec.a_strides), strided(b, spec.shape, spec.b_strides), **attributes)
    strided(wanted, spec.shape, spec.y_strides)[...] = result
    cuts = (spec.tasks() // 2,) if splits else ()
    got = run_kernel(spec, load_target(name), {"a": a, "b": b, "y": y}, splits=cuts)["y"]
    np.testing.assert_array_equal(got, wanted)


@pytest.mark.parametrize("name", [*NATIVE, pytest.param("arm-neon", marks=pytest.mark.emulated)])
def test_dense(name: str) -> None:
    dense = ((3, 100), (100, 1), (100, 1), (100, 1))
    check(DivSpec(*dense, "u8", "u8", "u8", 128, 90, 20000, 9, 128, 0, 255), name)
    check(DivSpec(*dense, "s8", "s16", "s16", -7, 0, 32767, 0, 0, -32768, 32767), name)


@st.composite
def divisions(draw: st.DrawFn) -> DivSpec:
    shape = draw(shapes(3))
    types = [draw(st.sampled_from(["u8", "s8", "s16"])) for _ in range(3)]
    zeros = [0 if d == "s16" else draw(st.integers(*DTYPE_RANGE[d])) for d in types]
    strides = [draw(strides_for(shape, broadcast=k < 2, permute=k < 2)) for k in range(3)]
    low, high = DTYPE_RANGE[types[2]]
    constants = draw(st.integers(1, 2**15 - 1)), draw(st.integers(0, 30))
    return DivSpec(shape, *strides, *types, zeros[0], zeros[1], *constants, zeros[2], low, high)


@settings(max_examples=10, deadline=None)
@given(divisions(), st.sampled_from(NATIVE), st.integers(0, 99))
def test_any(spec: DivSpec, name: str, seed: int) -> None:
    check(spec, name, seed)


@pytest.mark.full
@settings(max_examples=200, deadline=None)
@given(divisions(), st.sampled_from(NATIVE), st.integers(0, 99))
def test_any_full(spec: DivSpec, name: str, seed: int) -> None:
    check(spec, name, seed)


@pytest.mark.full
@pytest.mark.emulated
@settings(max_examples=50, deadline=None)
@given(divisions(), st.integers(0, 99))
def test_any_full_arm(spec: DivSpec, seed: int) -> None:
    check(spec, "arm-neon", seed, splits=False)


def test_errors() -> None:
    with pytest.raises(CompileError, match="division constants"):
        DivSpec((4,), (1,), (1,), (1,), "s8", "s8", "s8", 0, 0, 2**15, 0, 0, -128, 127)
