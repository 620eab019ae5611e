"""Winograd convolutions: the algebra, the limit of exactness, generated code against plain NumPy, who picks them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgeq.compiler.kernels.base import DTYPE_RANGE, Epilogue, Image
from edgeq.compiler.kernels.dense.conv import ConvSpec
from edgeq.compiler.kernels.dense.weights import Storage
from edgeq.compiler.kernels.winograd.transforms import PLAIN, TRANSFORMS
from edgeq.compiler.kernels.winograd.winograd import WinogradSpec, is_exact
from edgeq.compiler.lower.select.choice import STORED_BYTES, candidates
from edgeq.compiler.target import load_target
from edgeq.errors import CompileError
from tests.support import convolutions
from tests.support.convolutions import conv, epilogues, make_constants, stored_dtype
from tests.support.kernel_runner import run_kernel

NATIVE = ["x86-avx2", "x86-vnni"]
EMULATED = ["arm-neon", "arm-dotprod"]


# --- algebra ----------------------------------------------------------------------------------------------------------


def recover(m: int, w: np.ndarray, x: np.ndarray, start: int = 0) -> np.ndarray:
    """One tile in 32-bit arithmetic: w [3, 3], x [m + 2, m + 2] -> m × m accumulators that began at `start`."""
    t = TRANSFORMS[m]
    b, a = t.matrix(t.inputs, t.taps), t.matrix(t.outputs, t.taps)
    products = t.transform_weights(w).reshape(t.taps, t.taps) * (b @ x @ b.T)
    products[1, 1] += start * t.start
    sums = a @ products @ a.T
    factors = np.array([[t.factor(i, j) for j in range(m)] for i in range(m)])
    return (sums * factors % 2**32).astype(np.uint32).view(np.int32) >> t.lift


def direct(m: int, w: np.ndarray, x: np.ndarray) -> np.ndarray:
    return np.array([[int((x[i : i + 3, j : j + 3] * w).sum()) for j in range(m)] for i in range(m)])


@pytest.mark.parametrize("m", [2, 4])
def test_a_tile_is_the_convolution(m: int) -> None:
    rng = np.random.default_rng(0)
    for _ in range(200):
        w, x = rng.integers(-128, 128, (3, 3)), rng.integers(-128, 256, (m + 2, m + 2))
        start = int(rng.integers(-(2**20), 2**20))
        np.testing.assert_array_equal(recover(m, w, x, start), direct(m, w, x) + start)


@pytest.mark.parametrize("m", [2, 4])
def test_transformed_numbers_fit_s16(m: int) -> None:
    t = TRANSFORMS[m]
    assert t.weight_bound() == {2: 1152, 4: 6272}[m]
    lows, highs = zip(*(t.input_bounds(*limits) for limits in (DTYPE_RANGE["u8"], DTYPE_RANGE["s8"])), strict=True)
    assert min(lows) >= -(2**15)
    assert max(highs) < 2**15
    assert {2: 1020, 4: 17340}[m] == highs[0]
    extreme = t.transform_weights(np.full((3, 3), -128))
    assert np.abs(extreme).max() == t.weight_bound()


@pytest.mark.parametrize("m", [2, 4])
def test_intermediate_sums_of_both_passes_fit_s16_too(m: int) -> None:
    t = TRANSFORMS[m]
    seen: list[int] = []

    def keep(value: np.ndarray) -> np.ndarray:
        seen.append(int(np.abs(value).max()))
        return value

    watching = replace(PLAIN, keep=keep, times=lambda value, factor: keep(value * factor))
    rows = t.matrix(t.inputs, t.taps)
    for i in range(t.taps):  # inputs that drive row i as far as it goes, either way
        for sign in (-1, 1):
            x = np.where(np.sign(rows[i]) * sign > 0, 255, 0)
            for line in t.inputs(list(np.add.outer(x, np.zeros(t.taps, np.int64)).astype(np.int64)), watching):
                keep(line)
                for value in t.inputs(list(line), watching):
                    keep(value)
    assert max(seen) < 2**15


@pytest.mark.parametrize("m", [2, 4])
def test_the_limit_is_where_it_stops_being_exact(m: int) -> None:
    limit = TRANSFORMS[m].exact_limit
    assert limit == {2: 2**29, 4: 2**25}[m]
    zeros, x = np.zeros((3, 3), np.int64), np.zeros((m + 2, m + 2), np.int64)
    for good in (limit - 1, -limit):
        assert (recover(m, zeros, x, good) == good).all()
    for bad in (limit, -limit - 1):
        assert (recover(m, zeros, x, bad) != bad).any()


def test_the_check_counts_the_rounding_term() -> None:
    limit = TRANSFORMS[4].exact_limit
    top, shift = np.array([limit - 17]), np.array([5])
    plain, rounds = Epilogue("single", "u8", 0, 0, 255), Epilogue("narrow", "u8", 0, 0, 255, 6)
    assert is_exact(4, rounds, -top, top, shift)
    assert not is_exact(4, rounds, -top, top + 1, shift)
    assert is_exact(4, plain, -top, top + 1, shift)
    assert not is_exact(4, plain, np.array([-limit - 1]), top, shift)


# --- generated code ---------------------------------------------------------------------------------------------------


def winograd(spec: ConvSpec, m: int, stored: bool = False) -> WinogradSpec:
    return WinogradSpec(spec.x, spec.y, spec.x_dtype, m, spec.epilogue, stored, spec.x_zero_point)  # type: ignore[arg-type]


def check(direct: ConvSpec, target: str, m: int, stored: bool = False, seed: int = 0, divisor: int = 1) -> None:
    convolutions.check(direct, target, seed, kernel=winograd(direct, m, stored), divisor=divisor)


SHAPES: dict[str, dict[str, Any]] = {
    "even": {"x": (1, 10, 10, 16), "n": 16},
    "edges-overlap": {"x": (1, 9, 11, 24), "n": 40},
    "one-tile": {"x": (1, 6, 6, 8), "n": 5},
    "batch-odd": {"x": (2, 8, 9, 33), "n": 19},
    "gaps": {"x": (2, 7, 8, 12), "n": 20, "x_gap": 3, "y_gap": 5},
    "blocks": {"x": (1, 38, 70, 16), "n": 24},
}


@pytest.mark.parametrize("stored", [False, True], ids=["transformed", "stored"])
@pytest.mark.parametrize("m", [2, 4])
@pytest.mark.parametrize("target", NATIVE)
@pytest.mark.parametrize("shape", SHAPES)
def test_shapes_natively(shape: str, target: str, m: int, stored: bool) -> None:
    check(conv(target, k=(3, 3), **SHAPES[shape]), target, m, stored)


@pytest.mark.parametrize("target", NATIVE)
def test_tasks_that_share_a_block_and_weights_in_chunks(target: str) -> None:
    spec = conv(target, (1, 9, 9, 160), 272, (3, 3))
    plan = winograd(spec, 4).plan(load_target(target))
    assert plan.chunks > 1
    assert plan.column_splits > 1
    check(spec, target, 4, divisor=2)


@pytest.mark.emulated
@pytest.mark.parametrize("m", [2, 4])
@pytest.mark.parametrize("target", EMULATED)
@pytest.mark.parametrize("shape", ["edges-overlap", "batch-odd", "gaps"])
def test_shapes_on_arm(shape: str, target: str, m: int) -> None:
    check(conv(target, k=(3, 3), **SHAPES[shape]), target, m, stored=shape == "gaps")


@pytest.mark.parametrize("x_dtype", ["u8", "s8"])
@pytest.mark.parametrize("m", [2, 4])
@pytest.mark.parametrize("target", NATIVE)
@pytest.mark.parametrize("case", ["raw", "single-s16", "table", "residual", "table-residual"])
def test_epilogues_natively(case: str, target: str, m: int, x_dtype: str) -> None:
    epilogue = epilogues(stored_dtype(target))[case]
    check(conv(target, (1, 9, 9, 11), 26, (3, 3), epilogue=epilogue, x_dtype=x_dtype), target, m)


@pytest.mark.emulated
@pytest.mark.parametrize("case", ["raw", "single-s16", "table-residual"])
def test_epilogues_on_arm(case: str) -> None:
    check(conv("arm-neon", (1, 9, 9, 11), 26, (3, 3), epilogue=epilogues("s8")[case]), "arm-neon", 4)


@pytest.mark.parametrize("target", NATIVE)
@pytest.mark.parametrize("size", [28, 27])
@pytest.mark.parametrize("stored", [False, True])
def test_several_bands_of_a_block(stored: bool, size: int, target: str) -> None:
    spec = conv(target, (1, size, size, 24), 40, (3, 3))
    plan = winograd(spec, 4, stored).plan(load_target(target))
    assert plan.band * plan.rows < plan.padded_tiles
    check(spec, target, 4, stored)


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    h=st.integers(4, 17),
    w=st.integers(4, 17),
    c=st.integers(8, 70),
    n=st.integers(1, 50),
    m=st.sampled_from([2, 4]),
    stored=st.booleans(),
    seed=st.integers(0, 9),
)
def test_random_shapes(h: int, w: int, c: int, n: int, m: int, stored: bool, seed: int) -> None:
    check(conv("x86-avx2", (1, h + 2, w + 2, c), n, (3, 3)), "x86-avx2", m, stored, seed)


@pytest.mark.parametrize("value", [-128, 127])
@pytest.mark.parametrize("m", [2, 4])
def test_weights_of_minus_128_and_full_activations(m: int, value: int) -> None:
    direct = conv("x86-avx2", (1, 8, 8, 40), 16, (3, 3), epilogue=Epilogue("none", "s32", 0, 0, 0), zero_point=0)
    constants = {"w": np.full((16, 40, 3, 3), value, np.int8), "bias": np.zeros(16, np.int32)}
    x = np.full(direct.x.elements, 255, np.uint8)
    operands = {"x": x, "y": np.zeros(direct.y.elements, np.int32)}
    got = run_kernel(winograd(direct, m), load_target("x86-avx2"), operands, constants)["y"]
    assert (got == 255 * value * 360).all()


def test_an_accumulator_just_below_the_limit_is_right_and_one_at_it_is_refused() -> None:
    direct = conv("x86-avx2", (1, 6, 6, 8), 8, (3, 3), epilogue=Epilogue("none", "s32", 0, 0, 0), zero_point=0)
    target, limit = load_target("x86-avx2"), TRANSFORMS[4].exact_limit
    weights = np.ones((8, 8, 3, 3), np.int8)
    bias = np.full(8, limit - 1 - 255 * 72, np.int32)
    operands = {"x": np.full(direct.x.elements, 255, np.uint8), "y": np.zeros(direct.y.elements, np.int32)}
    got = run_kernel(winograd(direct, 4), target, operands, {"w": weights, "bias": bias})["y"]
    assert (got == limit - 1).all()
    with pytest.raises(CompileError, match="is not exact") as caught:
        winograd(direct, 4).pack(target, {"w": weights, "bias": bias + 1})
    assert str(limit) in str(caught.value.why)
    winograd(direct, 2).pack(target, {"w": weights, "bias": bias + 1})


# --- errors and selection ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"x": Image.dense(1, 9, 10, 16)}, "too small"),
        ({"y": Image.dense(1, 3, 8, 16)}, "no tile"),
        ({"x": Image.dense(1, 10, 10, 4)}, "fewer than 8"),
        ({"x": Image.dense(2, 10, 10, 16)}, "batch"),
        ({"x_dtype": "s16"}, "activations of s16"),
    ],
)
def test_contradictions_are_named(change: dict[str, Any], why: str) -> None:
    spec = replace(winograd(conv("x86-avx2", (1, 10, 10, 16), 16, (3, 3)), 4), **change)
    with pytest.raises(CompileError) as caught:
        spec.plan(load_target("x86-avx2"))
    assert why in str(caught.value.why)


def test_wrong_weights_are_named() -> None:
    direct = conv("x86-avx2", (1, 10, 10, 16), 16, (3, 3))
    constants = make_constants(np.random.default_rng(0), direct) | {"w": np.zeros((16, 16, 3, 2), np.int8)}
    with pytest.raises(CompileError, match="don't fit"):
        winograd(direct, 4).pack(load_target("x86-avx2"), constants)


def kinds(direct: ConvSpec, target: str, **changes: Any) -> set[tuple[int, bool]]:
    """(m, stored) of the Winograd forms that may compute a layer; (0, False) for the direct one."""
    constants = make_constants(np.random.default_rng(0), direct) | changes
    specs = [candidate.spec for candidate in candidates(direct, constants, load_target(target))]
    return {(spec.m, spec.stored) if isinstance(spec, WinogradSpec) else (0, False) for spec in specs}


def test_candidates() -> None:
    layer = conv("x86-avx2", (1, 18, 18, 24), 24, (3, 3))
    assert kinds(layer, "x86-avx2") == {(0, False), (2, False), (2, True), (4, False), (4, True)}
    direct_only = {(0, False)}
    assert kinds(conv("x86-avx2", (1, 18, 18, 32), 32, (3, 3), stride=2), "x86-avx2") == direct_only
    assert kinds(conv("x86-avx2", (1, 18, 18, 32), 32, (3, 3), dilation=2), "x86-avx2") == direct_only
    assert kinds(conv("x86-avx2", (1, 18, 18, 32), 32, (3, 3), groups=2), "x86-avx2") == direct_only
    assert kinds(conv("x86-avx2", (1, 18, 18, 32), 32, (3, 3), x_dtype="s16"), "x86-avx2") == direct_only
    assert kinds(conv("x86-avx2", (1, 18, 18, 3), 32, (3, 3)), "x86-avx2") == direct_only
    assert kinds(conv("x86-avx2", (1, 5, 5, 24), 24, (3, 3)), "x86-avx2") == {(0, False), (2, False), (2, True)}


def test_a_layer_beyond_the_limit_of_m_4_takes_smaller_tiles() -> None:
    layer = conv("x86-avx2", (1, 18, 18, 24), 24, (3, 3))
    bias = np.full(24, TRANSFORMS[4].exact_limit, np.int32)
    assert kinds(layer, "x86-avx2", bias=bias) == {(0, False), (2, False), (2, True)}


def test_stored_transforms_are_limited_by_size() -> None:
    layer = conv("x86-avx2", (1, 9, 9, 256), 256, (3, 3))
    assert STORED_BYTES < 256 * 256 * 36 * 2
    assert (4, True) not in kinds(layer, "x86-avx2")


def test_stored_transforms_are_a_matter_of_storage() -> None:
    layer = conv("x86-avx2", (1, 10, 10, 16), 16, (3, 3))
    constants, target = make_constants(np.random.default_rng(0), layer), load_target("x86-avx2")

    def stored(storage: Storage) -> list[float]:
        found = candidates(layer, constants, target, storage)
        return [c.cost for c in found if isinstance(c.spec, WinogradSpec) and c.spec.stored]

    assert stored("small") == []
    assert all(fast < auto for fast, auto in zip(stored("fast"), stored("auto"), strict=True))


def test_the_cheapest_is_winograd_where_it_pays() -> None:
    layer = conv("x86-avx2", (1, 58, 58, 64), 64, (3, 3))
    constants = make_constants(np.random.default_rng(0), layer)
    chosen = candidates(layer, constants, load_target("x86-avx2"))[0].spec
    assert isinstance(chosen, WinogradSpec)
    assert chosen.m == 4
    dot = conv("arm-dotprod", (1, 58, 58, 64), 64, (3, 3))
    assert isinstance(candidates(dot, constants, load_target("arm-dotprod"))[0].spec, ConvSpec)
