"""Add, Max, Min and Rescale kernels against the definition in 64-bit NumPy."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeq.compiler.kernels.base import DTYPE_RANGE
from edgeq.compiler.kernels.elementwise.binary import BinarySpec, RescaleSpec, largest_distance
from edgeq.compiler.kernels.epilogue.epilogue import NUMPY_DTYPE
from edgeq.compiler.target import load_target
from edgeq.errors import CompileError
from edgeq.integer.arithmetic import round_shift
from tests.support.kernel_runner import run_kernel
from tests.support.views import NATIVE, extent, noise, shapes, strided, strides_for

TYPES = st.sampled_from(["u8", "u8", "s8", "s16"])


def binary_reference(spec: BinarySpec, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    left = (a.astype(np.int64) - spec.a_zero_point) * spec.a_multiplier
    right = (b.astype(np.int64) - spec.b_zero_point) * spec.b_multiplier
    if spec.op == "add":
        value = round_shift(left + right, spec.shift)
    else:
        choose = np.maximum if spec.op == "max" else np.minimum
        value = choose(round_shift(left, spec.shift), round_shift(right, spec.shift))
    return np.clip(value + spec.zero_point, spec.low, spec.high)


def check_binary(spec: BinarySpec, name: str, seed: int = 0, splits: bool = True) -> None:
    rng = np.random.default_rng(seed)
    flat = {
        "a": noise(rng, extent(spec.shape, spec.a_strides), spec.a_dtype),
        "b": noise(rng, extent(spec.shape, spec.b_strides), spec.b_dtype),
        "y": noise(rng, extent(spec.shape, spec.y_strides), spec.dtype),
    }
    wanted = flat["y"].copy()
    views = [strided(flat[n], spec.shape, s) for n, s in (("a", spec.a_strides), ("b", spec.b_strides))]
    strided(wanted, spec.shape, spec.y_strides)[...] = binary_reference(spec, *views)
    constants = {"b": flat.pop("b")} if spec.b_constant else {}
    cuts = (spec.tasks() // 2,) if splits else ()
    got = run_kernel(spec, load_target(name), flat, constants, cuts)["y"]
    np.testing.assert_array_equal(got, wanted)


@st.composite
def outputs(draw: st.DrawFn, dtype: str) -> tuple[int, int, int]:
    """(zero point, low, high) in a dtype, extremes included."""
    lowest, highest = DTYPE_RANGE[dtype]
    zero = draw(st.sampled_from([lowest, highest, 0 if dtype != "u8" else 128, draw(st.integers(lowest, highest))]))
    if draw(st.booleans()):
        return zero, lowest, highest
    low, high = sorted(draw(st.tuples(st.integers(lowest, highest), st.integers(lowest, highest))))
    return zero, low, high


@st.composite
def binaries(draw: st.DrawFn) -> BinarySpec:
    shape = draw(shapes())
    a_dtype, b_dtype, dtype = draw(TYPES), draw(TYPES), draw(TYPES)
    zeros = [0 if d == "s16" else draw(st.integers(*DTYPE_RANGE[d])) for d in (a_dtype, b_dtype)]
    zero, low, high = draw(outputs(dtype))
    shift = draw(st.integers(0, 30))
    room = 2**31 - 1 - (1 << shift >> 1)
    share = draw(st.floats(0, 1))
    limits = [min(32767, int(room * f) // largest_distance(d, z))
              for f, d, z in zip((share, 1 - share), (a_dtype, b_dtype), zeros, strict=True)]  # fmt: skip
    a_multiplier, b_multiplier = (
        draw(st.one_of(st.sampled_from([-limit, limit]), st.integers(-limit, limit))) for limit in limits
    )
    return BinarySpec(
        draw(st.sampled_from(["add", "add", "max", "min"])), shape, draw(strides_for(shape, broadcast=True)),
        draw(strides_for(shape, broadcast=True, permute=True)), draw(strides_for(shape)), a_dtype, b_dtype, dtype,
        zeros[0], zeros[1], a_multiplier, b_multiplier, shift, zero, low, high, draw(st.booleans()),
    )  # fmt: skip


def residual(op: str = "add", dtype: str = "u8", n: int = 4000) -> BinarySpec:
    """What a residual block asks for: dense, two scales, about unit ratio."""
    low, high = DTYPE_RANGE[dtype]
    zero = 0 if dtype == "s16" else (low + high) // 2
    return BinarySpec(op, (n,), (1,), (1,), (1,), dtype, dtype, dtype, zero, zero - (dtype != "s16"), 23170, 14211,
                      15, zero, low, high)  # fmt: skip


@pytest.mark.parametrize("name", [*NATIVE, pytest.param("arm-neon", marks=pytest.mark.emulated)])
@pytest.mark.parametrize(("op", "dtype"), [("add", "u8"), ("add", "s16"), ("max", "u8"), ("min", "s8")])
def test_dense(name: str, op: str, dtype: str) -> None:
    check_binary(residual(op, dtype, 1003), name)


@pytest.mark.parametrize("name", NATIVE)
def test_channel_vector_and_scalar(name: str) -> None:
    spec = replace(residual(), shape=(3, 10, 24), a_strides=(240, 24, 1), y_strides=(240, 24, 1))
    check_binary(replace(spec, b_strides=(24, 0, 1)), name)
    check_binary(replace(spec, b_strides=(0, 0, 0), b_constant=True), name)


@settings(max_examples=25, deadline=None)
@given(binaries(), st.sampled_from(NATIVE), st.integers(0, 99))
def test_any(spec: BinarySpec, name: str, seed: int) -> None:
    check_binary(spec, name, seed)


@pytest.mark.full
@settings(max_examples=250, deadline=None)
@given(binaries(), st.sampled_from(NATIVE), st.integers(0, 99))
def test_any_full(spec: BinarySpec, name: str, seed: int) -> None:
    check_binary(spec, name, seed)


@pytest.mark.full
@pytest.mark.emulated
@settings(max_examples=60, deadline=None)
@given(binaries(), st.integers(0, 99))
def test_any_full_arm(spec: BinarySpec, seed: int) -> None:
    check_binary(spec, "arm-neon", seed, splits=False)


def check_rescale(spec: RescaleSpec, name: str, seed: int = 0) -> None:
    rng = np.random.default_rng(seed)
    x = noise(rng, extent(spec.shape, spec.x_strides), spec.x_dtype)
    y = noise(rng, extent(spec.shape, spec.y_strides), spec.dtype)
    wanted = y.copy()
    distance = strided(x, spec.shape, spec.x_strides).astype(object) - spec.x_zero_point
    half = (1 << spec.shift) >> 1
    value = np.vectorize(lambda d: ((d * spec.multiplier + half) >> spec.shift) + spec.zero_point, otypes=[object])
    clipped = np.clip(value(distance), spec.low, spec.high).astype(NUMPY_DTYPE[spec.dtype])
    strided(wanted, spec.shape, spec.y_strides)[...] = clipped
    got = run_kernel(spec, load_target(name), {"x": x, "y": y}, splits=(spec.tasks() // 2,))["y"]
    np.testing.assert_array_equal(got, wanted)


@st.composite
def rescales(draw: st.DrawFn) -> RescaleSpec:
    shape = draw(shapes(2))
    x_dtype, dtype = draw(TYPES), draw(TYPES)
    x_zero = 0 if x_dtype == "s16" else draw(st.integers(*DTYPE_RANGE[x_dtype]))
    bits = draw(st.sampled_from([8, 14, 15, 15, 20, 31]))
    multiplier = draw(st.integers(1, 2**bits - 1))
    shift = draw(st.one_of(st.integers(0, 20), st.integers(0, 62)))
    strides = draw(strides_for(shape, broadcast=True)), draw(strides_for(shape))
    return RescaleSpec(shape, *strides, x_dtype, dtype, x_zero, multiplier, shift, *draw(outputs(dtype)))


@settings(max_examples=25, deadline=None)
@given(rescales(), st.sampled_from(NATIVE))
def test_rescale(spec: RescaleSpec, name: str) -> None:
    check_rescale(spec, name)


@pytest.mark.full
@settings(max_examples=200, deadline=None)
@given(rescales(), st.sampled_from(NATIVE))
def test_rescale_full(spec: RescaleSpec, name: str) -> None:
    check_rescale(spec, name)


@pytest.mark.emulated
@pytest.mark.parametrize(("bits", "shift"), [(15, 14), (31, 30), (31, 0)])
def test_rescale_arm(bits: int, shift: int) -> None:
    check_rescale(RescaleSpec((70,), (1,), (1,), "s8", "s16", -5, 2**bits - 3, shift, 100, -32768, 32767), "arm-neon")


def test_errors() -> None:
    with pytest.raises(CompileError, match="add could pass 32 bits"):
        replace(residual(dtype="s16"), a_multiplier=32767, b_multiplier=32767, shift=30)
    with pytest.raises(CompileError, match="add could pass 32 bits"):
        replace(residual(), a_multiplier=32768)
    with pytest.raises(CompileError, match="output contradicts itself"):
        replace(residual(), low=-1)
    with pytest.raises(CompileError, match="rescale constants"):
        RescaleSpec((4,), (1,), (1,), "s8", "s8", 0, 0, 3, 0, -128, 127)
