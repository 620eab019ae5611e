"""Matrix products of two computed tensors against NumPy."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeq.compiler.kernels.base import DTYPE_RANGE, Epilogue
from edgeq.compiler.kernels.epilogue.epilogue import reference
from edgeq.compiler.kernels.matmul.matmul import MatMulSpec
from edgeq.compiler.kernels.nest import dense_strides
from edgeq.compiler.target import load_target
from edgeq.errors import CompileError
from edgeq.integer.ops.probabilities import mass
from tests.support.kernel_runner import run_kernel
from tests.support.views import NATIVE, constants_for, epilogues, extent, noise, strided, strides_for

ALL = [*NATIVE, *(pytest.param(name, marks=pytest.mark.emulated) for name in ("arm-neon", "arm-dotprod"))]


def check(shape, k, strides, dtypes, zeros, epilogue, by_column, name, seed=0, splits=True) -> MatMulSpec:
    rng = np.random.default_rng(seed)
    *batch, m, n = shape
    shapes = ((*batch, m, k), (*batch, k, n), shape)
    constants = constants_for(rng, epilogue, n if by_column else 1, accumulator=k * 2**14)
    spec = MatMulSpec.of(shape, k, *strides, *dtypes, *zeros, epilogue)
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


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("a_dtype", ["u8", "s8", "s16"])
@pytest.mark.parametrize(("along_k", "by_column"), [(False, True), (True, False)])
def test_walks(name: str, a_dtype: str, along_k: bool, by_column: bool) -> None:
    """Rows and columns that fill no tile, several blocks of columns, K that fills no group."""
    m, k, n = 15, 39, 150
    b = (k * n, 1, k) if along_k else (k * n, n, 1)
    strides = ((m * k, k, 1), b, (m * n, n, 1))
    zero = 0 if a_dtype == "s16" else 100
    for b_dtype, b_zero in (("s8", -3), ("u8", 128)):
        spec = check((2, m, n), k, strides, (a_dtype, b_dtype), (zero, b_zero), simple("narrow"), by_column, name)
        assert spec.along_k == along_k


@pytest.mark.parametrize("name", ALL)
def test_attention_reads_heads_where_they_lie(name: str) -> None:
    """Q·Kᵀ and P·V over [token, head, channel] memory; the result lies like that too."""
    heads, tokens, width = 3, 21, 16
    token, channel = heads * width, 1
    q, k = (width, token, channel), (width, channel, token)
    none = Epilogue("none", "s32", 0, -(2**31), 2**31 - 1)
    check((heads, tokens, tokens), width, (q, k, (441, 21, 1)), ("s8", "s8"), (0, 0), none, False, name)
    strides = ((441, 21, 1), q, q)
    check((heads, tokens, width), tokens, strides, ("u8", "s8"), (0, 0), simple("single", "s8"), False, name)


def test_logits_stay_wide() -> None:
    shape, k = (2, 3, 5, 6), 4
    strides = (dense_strides((2, 3, 5, k)), (0, 24, 6, 1), dense_strides(shape))
    check(shape, k, strides, ("s8", "s8"), (0, 5), Epilogue("none", "s32", 0, -(2**31), 2**31 - 1), False, "x86-vnni")


@pytest.mark.parametrize("name", ["x86-avx2", "x86-sse4"])
@pytest.mark.parametrize(("extent", "bounded"), [(127, True), (128, False)])
def test_probabilities_bound_sums_in_16_bits(name: str, extent: int, bounded: bool) -> None:
    """As many bytes of P and as large ones of V as there can be, and windows that end inside the row."""
    target, m, k, n = load_target(name), 7, 21, 32
    epilogue = Epilogue("none", "s32", 0, -(2**31), 2**31 - 1)
    strides = ((m * k, k, 1), (k * n, n, 1), (m * n, n, 1))
    known = {"probability_bits": 8, "b_extent": extent}
    spec = MatMulSpec.of((1, m, n), k, *strides, "u8", "u8", 0, 118, epilogue, **known)
    depth = spec.plan(target).product.depth
    assert bool(depth) == bounded
    a, b = np.zeros((m, k), np.uint8), np.full((k, n), 255, np.uint8)
    b[:, ::2] = 128 - extent
    a[0, [0, 1, 4, 5]] = a[1, [8, 9, 12, 13]] = a[2, [2, 3, 6, 7]] = 65, 65, 64, 64
    a[3] = 12
    a[4, 2:4], a[5, 6:8], a[6, 20] = (129, 128), (255, 1), 255
    wanted = a.astype(np.int32) @ (b.astype(np.int32) - 118)
    given = {"a": a.ravel(), "b": b.ravel(), "y": np.zeros(m * n, np.int32)}
    np.testing.assert_array_equal(run_kernel(spec, target, given, {}, ())["y"].reshape(m, n), wanted)
    assert all(mass(8, 2 * d) * extent <= 2**15 - 1 for d in range(1, depth + 1))


@pytest.mark.parametrize("name", ["x86-avx2", "x86-sse4"])
@pytest.mark.parametrize(("extent", "depth"), [(64, 1), (65, 0)])
def test_any_bytes_times_7_bits(name: str, extent: int, depth: int) -> None:
    """The largest bytes times the largest numbers of either sign, with a zero point on either side."""
    target, m, k, n = load_target(name), 9, 22, 37
    epilogue = Epilogue("none", "s32", 0, -(2**31), 2**31 - 1)
    strides = ((m * k, k, 1), (k * n, n, 1), (m * n, n, 1))
    spec = MatMulSpec.of((1, m, n), k, *strides, "u8", "u8", 131, 120, epilogue, b_extent=extent)
    assert spec.plan(target).product.depth == depth
    rng = np.random.default_rng(0)
    a = np.where(rng.random((m, k)) < 0.7, 255, rng.integers(0, 256, (m, k))).astype(np.uint8)
    b = np.where(rng.random((k, n)) < 0.5, 128 - extent, 127 + extent).astype(np.uint8)
    b[:, 0], b[:, 1] = 128 - extent, 128 + min(extent, 127)
    wanted = (a.astype(np.int32) - 131) @ (b.astype(np.int32) - 120)
    given = {"a": a.ravel(), "b": b.ravel(), "y": np.zeros(m * n, np.int32)}
    np.testing.assert_array_equal(run_kernel(spec, target, given, {}, ())["y"].reshape(m, n), wanted)


@pytest.mark.parametrize("name", ["x86-avx2", "x86-sse4"])
@pytest.mark.parametrize("k", [21, 197])
def test_probabilities_times_7_bits_stay_in_16_bits_for_whole_rows(name: str, k: int) -> None:
    """Rows that add up to their mass, all of it in one lane or spread, times the largest numbers of one sign."""
    target, m, n, extent = load_target(name), 8, 24, 64
    epilogue = Epilogue("none", "s32", 0, -(2**31), 2**31 - 1)
    strides = ((m * k, k, 1), (k * n, n, 1), (m * n, n, 1))
    spec = MatMulSpec.of((1, m, n), k, *strides, "u8", "u8", 0, 128, epilogue, probability_bits=8, b_extent=extent)
    depth = spec.plan(target).product.depth
    assert depth == -(-k // 4)
    assert mass(8, 2 * depth) * extent <= 2**15 - 1
    a, b = np.zeros((m, k), np.uint8), np.full((k, n), 128 + extent, np.uint8)
    b[:, ::2] = 128 - extent
    lane = [i for i in range(k) if i % 4 < 2]
    a[0, 0], a[1, lane[1]], a[2, lane[-1]], a[3] = 255, 255, 255, 256 // k
    a[4, lane] = (mass(8, len(lane)) + len(lane) - 1) // len(lane) - 1
    wanted = a.astype(np.int32) @ (b.astype(np.int32) - 128)
    given = {"a": a.ravel(), "b": b.ravel(), "y": np.zeros(m * n, np.int32)}
    np.testing.assert_array_equal(run_kernel(spec, target, given, {}, ())["y"].reshape(m, n), wanted)


def draw(data: st.DataObject) -> tuple:
    batch = data.draw(st.lists(st.integers(1, 3), max_size=2))
    m, k, n = (data.draw(st.sampled_from([1, 2, 4, 5, 9, 17, 33, 50, 65, 100])) for _ in range(3))
    shapes = ((*batch, m, k), (*batch, k, n), (*batch, m, n))
    strides = []
    for form in shapes:
        turned = form is shapes[1] and data.draw(st.booleans())
        one = list(data.draw(strides_for((*form[:-2], form[-1], form[-2]) if turned else form)))
        if turned:
            one[-2:] = one[:-3:-1]
        if form is not shapes[2] and batch and data.draw(st.booleans()):
            one[0] = 0
        strides.append(tuple(one))
    dtypes = data.draw(st.sampled_from(["u8", "s8", "s16"])), data.draw(st.sampled_from(["u8", "s8"]))
    zeros = tuple(0 if d == "s16" else data.draw(st.integers(*DTYPE_RANGE[d])) for d in dtypes)
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
    check(*draw(data), epilogue, by_column, "arm-neon", seed, splits=False)


def test_errors() -> None:
    none = Epilogue("none", "s32", 0, 0, 0)

    def of(dtypes=("s8", "s8"), zero=0, k=2, a=(2, 1), b=(2, 1), y=(2, 1), n=2) -> MatMulSpec:
        return MatMulSpec.of((2, n), k, a, b, y, *dtypes, zero, 0, none)

    for dtypes, zero in ((("s32", "s8"), 0), (("s8", "s16"), 0), (("s16", "s8"), 3)):
        with pytest.raises(CompileError, match="impossible form"):
            of(dtypes, zero)
    with pytest.raises(CompileError, match="rows aren't contiguous"):
        of(a=(1, 2))
    with pytest.raises(CompileError, match="rows aren't contiguous"):
        of(y=(1, 2))
    with pytest.raises(CompileError, match="no contiguous axis"):
        of(b=(4, 2))
    with pytest.raises(CompileError, match="could pass 32 bits"):
        of(k=2**18, b=(2, 1)).pack(load_target("arm-neon"), {})
