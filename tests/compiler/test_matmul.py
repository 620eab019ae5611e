"""Matrix products of two computed tensors against NumPy."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeq.compiler.kernels.base import DTYPE_RANGE, Epilogue
from edgeq.compiler.kernels.epilogue import reference
from edgeq.compiler.kernels.matmul import MatMulSpec
from edgeq.compiler.kernels.nest import dense_strides
from edgeq.compiler.target import load_target
from edgeq.errors import CompileError
from tests.support.kernel_runner import run_kernel
from tests.support.views import NATIVE, constants_for, epilogues, extent, noise, strided, strides_for


def check(shape, k, strides, dtypes, zeros, epilogue, by_column, name, seed=0, splits=True) -> MatMulSpec:
    rng = np.random.default_rng(seed)
    *batch, m, n = shape
    shapes = ((*batch, m, k), (*batch, k, n), shape)
    constants = constants_for(rng, epilogue, n if by_column else 1, accumulator=k * 2**14)
    spec = MatMulSpec.of(shape, k, *strides, *dtypes, *zeros, epilogue, constants)
    a, b, y = (noise(rng, extent(f, s), d) for f, s, d in zip(shapes, strides, (*dtypes, epilogue.dtype), strict=True))
    left, right = (
        strided(v, f, s).astype(np.int64) - z for v, f, s, z in zip((a, b), shapes, strides, zeros, strict=False)
    )
    pair = [constants.get(c) for c in ("multiplier", "shift")]
    wanted = y.copy()
    strided(wanted, shape, strides[2])[...] = reference(epilogue, left @ right, *pair, constants.get("table"))
    cuts = (spec.tasks() // 2,) if splits else ()
    got = run_kernel(spec, load_target(name), {"a": a, "b": b, "y": y}, constants, cuts)["y"]
    np.testing.assert_array_equal(got, wanted)
    return spec


def simple(form: str = "single", dtype: str = "u8") -> Epilogue:
    low, high = DTYPE_RANGE[dtype]
    return Epilogue(form, dtype, 0, low, high, 3 if form == "narrow" else 0)


@pytest.mark.parametrize("name", [*NATIVE, pytest.param("arm", marks=pytest.mark.emulated)])
@pytest.mark.parametrize(
    ("walk", "by_column"), [("columns", False), ("columns", True), ("dots", False), ("dots", True)]
)
def test_walks(name: str, walk: str, by_column: bool) -> None:
    m, k, n = 7, 35, 41
    b = (k * n, n, 1) if walk == "columns" else (k * n, 1, k)
    strides = ((m * k, k, 1), b, (m * n, n, 1))
    spec = check((2, m, n), k, strides, ("u8", "s8"), (130, -3), simple("narrow"), by_column, name)
    assert spec.walk == walk


def test_logits_stay_wide() -> None:
    shape, k = (2, 3, 5, 6), 4
    strides = (dense_strides((2, 3, 5, k)), (0, 24, 6, 1), dense_strides(shape))
    check(shape, k, strides, ("s8", "s8"), (0, 5), Epilogue("none", "s32", 0, -(2**31), 2**31 - 1), False, "x86-vnni")


def draw(data: st.DataObject) -> tuple:
    batch = data.draw(st.lists(st.integers(1, 3), max_size=2))
    m, k, n = (data.draw(st.sampled_from([1, 2, 4, 5, 9, 17, 33, 50])) for _ in range(3))
    shapes = ((*batch, m, k), (*batch, k, n), (*batch, m, n))
    strides = []
    for form in shapes:
        one = list(data.draw(strides_for(form, permute=True)))
        if form is not shapes[2] and batch and data.draw(st.booleans()):
            one[0] = 0
        strides.append(tuple(one))
    dtypes = tuple(data.draw(st.sampled_from(["u8", "s8"])) for _ in range(2))
    zeros = tuple(data.draw(st.integers(*DTYPE_RANGE[d])) for d in dtypes)
    return shapes[2], k, tuple(strides), dtypes, zeros


@settings(max_examples=15, deadline=None)
@given(st.data(), epilogues(), st.booleans(), st.sampled_from(NATIVE), st.integers(0, 99))
def test_any(data: st.DataObject, epilogue: Epilogue, by_column: bool, name: str, seed: int) -> None:
    check(*draw(data), epilogue, by_column, name, seed)


@pytest.mark.full
@settings(max_examples=250, deadline=None)
@given(st.data(), epilogues(), st.booleans(), st.sampled_from(NATIVE), st.integers(0, 99))
def test_any_full(data: st.DataObject, epilogue: Epilogue, by_column: bool, name: str, seed: int) -> None:
    check(*draw(data), epilogue, by_column, name, seed)


@pytest.mark.full
@pytest.mark.emulated
@settings(max_examples=60, deadline=None)
@given(st.data(), epilogues(), st.booleans(), st.integers(0, 99))
def test_any_full_arm(data: st.DataObject, epilogue: Epilogue, by_column: bool, seed: int) -> None:
    check(*draw(data), epilogue, by_column, "arm", seed, splits=False)


def test_errors() -> None:
    none = Epilogue("none", "s32", 0, 0, 0)
    with pytest.raises(CompileError, match="8-bit inputs"):
        MatMulSpec.of((2, 2), 2, (2, 1), (2, 1), (2, 1), "s16", "s8", 0, 0, none, {})
    wide = MatMulSpec.of((1, 1), 2**18, (1, 1), (1, 1), (1, 1), "s8", "s8", 0, 0, none, {})
    with pytest.raises(CompileError, match="could pass 32 bits"):
        wide.pack(load_target("arm"), {})
