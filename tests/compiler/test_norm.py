"""LayerNorm and RmsNorm kernels against the row arithmetic of edgeq.integer.normalization."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeq.compiler.kernels.base import DTYPE_RANGE
from edgeq.compiler.kernels.epilogue.epilogue import NUMPY_DTYPE
from edgeq.compiler.kernels.nonlinear.norm import NormSpec
from edgeq.compiler.target import load_target
from edgeq.errors import CompileError
from edgeq.integer.normalization import apply_channels, centred_rows, norm_constants, scaled_rows
from tests.support.kernel_runner import run_kernel
from tests.support.views import NATIVE, extent, noise, strided

ALL = [*NATIVE, *(pytest.param(name, marks=pytest.mark.emulated) for name in ("arm-neon", "arm-dotprod"))]


def check(kind, shape, gap, x_dtype, dtype, epsilon, name, seed=0, splits=True, form="noise") -> None:
    """`gap` elements lie between rows; `form` of the rows: noise, quiet (near each other), constant, extreme."""
    rng = np.random.default_rng(seed)
    n, rows = shape[-1], int(np.prod(shape[:-1]))
    strides = (*((n + gap) * int(np.prod(shape[d + 1 : -1])) for d in range(len(shape) - 1)), 1)
    gamma = rng.normal(1, 0.5, n)
    beta = rng.normal(0, 0.5, n) if kind == "layer" else None
    constants = norm_constants(gamma, beta, epsilon, 0.05, 0.05 if dtype != "s16" else 2e-4)
    low, high = DTYPE_RANGE[dtype]
    zero = {"u8": 120, "s8": -5, "s16": 0}[dtype]
    x_zero = 0 if kind == "layer" or x_dtype == "s16" else {"u8": 133, "s8": 7}[x_dtype]
    numbers = {**constants.attributes(), "zero_point": zero, "low": low, "high": high}
    spec = NormSpec.of(kind, shape, strides, strides, x_dtype, dtype, x_zero, **numbers)
    x, y = noise(rng, extent(shape, strides), x_dtype), noise(rng, extent(shape, strides), dtype)
    if form == "quiet":
        x = (x >> (7 if x_dtype != "s16" else 13)).astype(x.dtype)
    elif form == "constant":
        x[:] = x[0]
    elif form == "extreme":
        x = rng.choice(np.array(DTYPE_RANGE[x_dtype]), x.shape).astype(NUMPY_DTYPE[x_dtype])
    seen = strided(x, shape, strides)
    drop = constants.row_bits - constants.fraction_bits
    if kind == "layer":
        p = centred_rows(seen, constants.epsilon, constants.row_bits)
    else:
        p = scaled_rows(seen, x_zero, constants.epsilon, constants.row_bits)
    wanted = y.copy()
    result = apply_channels(p, constants.gamma, constants.beta if kind == "layer" else 0, drop, constants.shift) + zero
    strided(wanted, shape, strides)[...] = np.clip(result, low, high)
    cuts = (spec.tasks() // 2,) if splits else ()
    arrays = {"gamma": constants.gamma, "beta": constants.beta}
    got = run_kernel(spec, load_target(name), {"x": x, "y": y}, arrays, cuts)["y"]
    np.testing.assert_array_equal(got, wanted)
    assert spec.tasks() <= rows


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("form", ["noise", "quiet", "constant", "extreme"])
@pytest.mark.parametrize(("x_dtype", "dtype"), [("u8", "u8"), ("s16", "s8")])
def test_layer_norm(name: str, form: str, x_dtype: str, dtype: str) -> None:
    check("layer", (3, 7, 83), 5, x_dtype, dtype, 1e-5, name, form=form)


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize(("x_dtype", "dtype"), [("u8", "s8"), ("s16", "s16")])
def test_rms_norm(name: str, x_dtype: str, dtype: str) -> None:
    check("rms", (11, 64), 0, x_dtype, dtype, 1e-6, name)


def draw(data: st.DataObject) -> tuple:
    length = data.draw(st.sampled_from([1, 2, 3, 15, 16, 17, 33, 64, 100, 193]))
    rows = data.draw(st.sampled_from([(), (1,), (9,), (2, 3), (3, 8), (2, 1, 17)]))
    types = data.draw(st.sampled_from(["u8", "s8", "s16"])), data.draw(st.sampled_from(["u8", "s8", "s16"]))
    kind = data.draw(st.sampled_from(["layer", "rms"]))
    epsilon = data.draw(st.sampled_from([0.0, 1e-12, 1e-5, 1.0]))
    return kind, (*rows, length), data.draw(st.integers(0, 3)), *types, epsilon


FORMS = st.sampled_from(["noise", "quiet", "constant", "extreme"])


@settings(max_examples=10, deadline=None)
@given(st.data(), st.sampled_from(NATIVE), st.integers(0, 99), FORMS)
def test_any(data: st.DataObject, name: str, seed: int, form: str) -> None:
    check(*draw(data), name, seed, form=form)


@pytest.mark.full
@settings(max_examples=250, deadline=None)
@given(st.data(), st.sampled_from(NATIVE), st.integers(0, 99), FORMS)
def test_any_full(data: st.DataObject, name: str, seed: int, form: str) -> None:
    check(*draw(data), name, seed, form=form)


@pytest.mark.full
@pytest.mark.emulated
@settings(max_examples=60, deadline=None)
@given(st.data(), st.integers(0, 99), FORMS)
def test_any_full_arm(data: st.DataObject, seed: int, form: str) -> None:
    check(*draw(data), "arm-neon", seed, splits=False, form=form)


def test_errors() -> None:
    good = norm_constants(np.ones(8), np.zeros(8), 1e-5, 0.1, 0.1).attributes() | {
        "zero_point": 0, "low": -128, "high": 127,
    }  # fmt: skip
    dense = ((4, 8), (8, 1), (8, 1))
    with pytest.raises(CompileError, match="normalisation could pass 32 bits"):
        NormSpec.of("layer", *dense, "s8", "s8", **{**good, "row_bits": 31})
    with pytest.raises(CompileError, match="impossible form"):
        NormSpec.of("layer", *dense, "s32", "s8", **good)
    with pytest.raises(CompileError, match="impossible form"):
        NormSpec.of("layer", *dense, "s8", "s8", 3, **good)
    with pytest.raises(CompileError, match="isn't contiguous"):
        NormSpec.of("layer", (4, 8), (1, 4), (8, 1), "s8", "s8", **good)
    spec, arm = NormSpec.of("layer", *dense, "s8", "s8", **good), load_target("arm-neon")
    ones = np.ones(8, np.int32)
    with pytest.raises(CompileError, match="don't fit the normalised axis"):
        spec.pack(arm, {"gamma": ones[:3], "beta": ones})
    with pytest.raises(CompileError, match="gamma and beta of a normalisation could pass 32 bits"):
        spec.pack(arm, {"gamma": ones * 2**15, "beta": ones})
