"""Dense convolutions at every width of weights, a byte each and packed: exact at the very bound of each form."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgeq.compiler.isa import narrow
from edgeq.compiler.kernels.base import Epilogue, Image
from edgeq.compiler.kernels.dense.conv import ConvSpec
from edgeq.compiler.kernels.dense.weights import Storage, arranged
from edgeq.compiler.target import load_target
from edgeq.errors import CompileError
from tests.compiler.test_conv import EMULATED, NATIVE, SHAPES
from tests.support.convolutions import check, conv

BITS = (8, 7, 6, 5, 4, 3, 2, 1)
FEW = ["pointwise", "vector-matrix", "first-layer", "3x3-odd", "gaps"]


def weights_of(spec: ConvSpec, bits: int, seed: int = 0) -> np.ndarray:
    """Weights that use all of a width's values; columns of nothing but the largest and the least are among them."""
    rng = np.random.default_rng(seed)
    low, high = (-1, 1) if bits == 1 else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    if bits == 7:
        low, high = -64, 64  # what pmaddubsw holds: a pair of them makes 128
    shape = (spec.y.c, spec.x.c // spec.groups, spec.kh, spec.kw)
    w = rng.choice([low, high], shape) if bits == 1 else rng.integers(low, high, shape, endpoint=True)
    w[0], w[-1] = high, low
    return w.astype(np.int8)


def check_width(spec: ConvSpec, target: str, bits: int, storage: Storage, seed: int = 0) -> ConvSpec:
    """The kernel that the target makes for weights of this width, against NumPy."""
    w = weights_of(spec, bits, seed)
    fitted = spec.fitted(load_target(target), w, storage)
    check(fitted, target, seed, w)
    return fitted


@pytest.mark.parametrize("target", NATIVE)
@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("shape", FEW)
def test_every_width_natively(shape: str, bits: int, target: str) -> None:
    for storage in ("fast", "small") if bits <= 4 else ("fast",):
        check_width(conv(target, **SHAPES[shape]), target, bits, storage)


@pytest.mark.full
@pytest.mark.parametrize("target", NATIVE)
@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("shape", sorted(set(SHAPES) - set(FEW)))
def test_every_width_and_shape_natively(shape: str, bits: int, target: str) -> None:
    for storage in ("fast", "small"):
        check_width(conv(target, **SHAPES[shape]), target, bits, storage)


@pytest.mark.emulated
@pytest.mark.parametrize("target", EMULATED)
@pytest.mark.parametrize("bits", [4, 2])
@pytest.mark.parametrize("shape", ["pointwise", "3x3-odd"])
def test_packed_weights_on_arm(shape: str, bits: int, target: str) -> None:
    spec = check_width(conv(target, **SHAPES[shape]), target, bits, "small")
    assert spec.bits == bits


@pytest.mark.full
@pytest.mark.emulated
@pytest.mark.parametrize("target", EMULATED)
@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("shape", FEW)
def test_every_width_on_arm(shape: str, bits: int, target: str) -> None:
    for storage in ("fast", "small"):
        check_width(conv(target, **SHAPES[shape]), target, bits, storage)


@st.composite
def layers(draw: st.DrawFn) -> ConvSpec:
    """Tails of M, N and K: odd channels, odd columns, strides, groups."""
    groups = draw(st.sampled_from([1, 1, 1, 2]))
    c, n = draw(st.integers(1, 70)), draw(st.integers(1, 36))
    k = draw(st.sampled_from([(1, 1), (1, 1), (3, 3), (2, 3), (1, 5)]))
    size = draw(st.integers(5, 9))
    return conv(
        "x86-avx2",
        (1, size, size, c * groups),
        n * groups,
        k,
        stride=draw(st.integers(1, 2)),
        x_dtype=draw(st.sampled_from(["u8", "u8", "s8"])),
        groups=groups,
        zero_point=draw(st.sampled_from([0, 3, 127])),
    )


@pytest.mark.parametrize("target", NATIVE)
@settings(max_examples=12, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(spec=layers(), bits=st.sampled_from(BITS), storage=st.sampled_from(["fast", "small"]))
def test_random_layers(target: str, spec: ConvSpec, bits: int, storage: Storage) -> None:
    check_width(spec, target, bits, storage)


@pytest.mark.full
@pytest.mark.parametrize("target", NATIVE)
@settings(max_examples=250, deadline=None, suppress_health_check=list(HealthCheck))
@given(spec=layers(), bits=st.sampled_from(BITS), storage=st.sampled_from(["fast", "small"]))
def test_many_random_layers(target: str, spec: ConvSpec, bits: int, storage: Storage) -> None:
    check_width(spec, target, bits, storage, seed=5)


@pytest.mark.parametrize(("bits", "depth"), [(8, 0), (7, 1), (6, 2), (5, 3), (4, 12), (3, 24), (2, 44)])
def test_depth_of_the_worst_weights_of_a_width(bits: int, depth: int) -> None:
    spec = conv("x86-avx2", (1, 2, 2, 1024), 16)
    least = -64 if bits == 7 else -(2 ** (bits - 1))
    w = np.full((16, 1024, 1, 1), least, np.int8)
    assert spec.fitted(load_target("x86-avx2"), w).depth == depth


def test_depth_comes_from_the_real_weights() -> None:
    spec, target = conv("x86-avx2", (1, 2, 2, 1024), 16), load_target("x86-avx2")
    w = np.zeros((16, 1024, 1, 1), np.int8)
    w[:, ::64] = 127
    fitted = spec.fitted(target, w)
    assert (fitted.depth, fitted.centred) == (32, True)  # groups of 4: the second next one is in the next window
    check(fitted, "x86-avx2", weights=w)
    w[3, 64:66, 0, 0] = 64, 65  # a pair that saturates
    assert spec.fitted(target, w).depth == 0
    check(spec.fitted(target, w), "x86-avx2", weights=w)


@pytest.mark.parametrize("target", NATIVE)
@pytest.mark.parametrize("storage", ["fast", "small"])
@pytest.mark.parametrize("zero_point", [0, 128, 255])
def test_centred_windows_hold_up_to_their_bound(target: str, storage: Storage, zero_point: int) -> None:
    """Columns of one sign whose magnitudes add up to 245 in a window; the first pixel is all 255, the last all 0."""
    spec = conv(target, (1, 3, 3, 4 * 70), 24, zero_point=zero_point)
    w = np.zeros((24, 280, 1, 1), np.int8)
    w[:, : 4 * 36 : 2] = 7
    w[1], w[2, ::4], w[3] = -w[1], -w[2, ::4], -w[3] * (np.arange(280)[:, None, None] % 8 < 4)
    fitted = spec.fitted(load_target(target), w, storage)
    if target == "x86-avx2":
        assert fitted.centred
    check(fitted, target, weights=w)


def _largest_sum(weights: np.ndarray, low: int, high: int) -> tuple[int, int]:
    """Interval of the sum of products of these weights with activations in [low, high]."""
    products = np.stack([weights * low, weights * high])
    return int(products.min(0).sum()), int(products.max(0).sum())


@settings(max_examples=60, deadline=None)
@given(
    data=st.data(),
    groups=st.integers(1, 9),
    bound=st.sampled_from([3, 20, 64, 128]),
    interval=st.sampled_from([(0, 255), (-128, 127)]),
)
def test_a_safe_window_stays_in_16_bits_and_the_next_longer_one_does_not(
    data: st.DataObject, groups: int, bound: int, interval: tuple[int, int]
) -> None:
    seed = data.draw(st.integers(0, 10**6))
    w = np.random.default_rng(seed).integers(-bound, bound, (2, groups, 2, 2)).astype(np.int8)
    depths = range(groups, 0, -1)
    found = narrow.safe_depth(w, *interval, depths)

    def safe(depth: int) -> bool:
        sums = [
            _largest_sum(w[n, start : start + depth, lane].astype(np.int64), *interval)
            for n in range(2)
            for lane in range(2)
            for start in range(0, groups, depth)
        ]
        return all(low >= -(2**15) and high < 2**15 for low, high in sums)

    assert found == next((depth for depth in depths if safe(depth)), 0)


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_packed_bytes_hold_consecutive_groups(bits: int) -> None:
    rng = np.random.default_rng(bits)
    low, high = (-1, 1) if bits == 1 else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    w = (rng.choice([low, high], (11, 6)) if bits == 1 else rng.integers(low, high + 1, (11, 6))).astype(np.int8)
    per = 8 // bits
    packed = narrow.pack(w, bits).view(np.uint8).astype(np.int64)
    assert len(packed) == -(-11 // per)
    for group in range(11):
        code = packed[group // per] >> (bits * (group % per)) & (2**bits - 1)
        value = w[group] if bits == 8 else code * 2 - 1 if bits == 1 else code - 2 ** (bits - 1)
        np.testing.assert_array_equal(value, w[group])
    assert narrow.least_bits(w) == bits


def test_packed_weights_take_a_fraction_of_the_bytes() -> None:
    target, spec = load_target("x86-avx2"), conv("x86-avx2", (1, 3, 3, 64), 32)
    sizes = {}
    for bits in (8, 4, 2, 1):
        w = weights_of(spec, bits)
        sizes[bits] = spec.fitted(target, w, "small").weight_bytes(target)
    assert sizes == {8: 2048, 4: 1024, 2: 512, 1: 256}


def test_one_bit_cannot_say_the_zeros_that_fill_up_k() -> None:
    spec = conv("x86-avx2", (1, 3, 3, 30), 8)
    assert spec.fitted(load_target("x86-avx2"), weights_of(spec, 1), "small").bits == 2


def test_auto_packs_where_each_weight_is_read_once() -> None:
    target = load_target("x86-avx2")
    once, often = conv("x86-avx2", (1, 1, 1, 64), 64), conv("x86-avx2", (1, 8, 8, 64), 64)
    assert once.fitted(target, weights_of(once, 4)).bits == 4
    assert often.fitted(target, weights_of(often, 4)).bits == 8


def _constants(spec: ConvSpec, w: np.ndarray) -> dict[str, np.ndarray]:
    n = spec.y.c
    ones = np.ones(n, np.int32)
    return {"w": w, "bias": 0 * ones, "multiplier": ones * 2**14, "shift": ones}


def test_weights_that_were_not_planned_for_are_errors() -> None:
    target, spec = load_target("x86-avx2"), conv("x86-avx2", (1, 4, 4, 64), 16)
    small = weights_of(spec, 4)
    large = np.full_like(small, 100)
    with pytest.raises(CompileError, match="too large for sums in 16 bits"):
        spec.fitted(target, small, "fast").pack(target, _constants(spec, large))
    with pytest.raises(CompileError, match="doesn't fit the 4 bits"):
        spec.fitted(target, small, "small").pack(target, _constants(spec, large))


def test_a_width_no_product_expands_is_an_error() -> None:
    spec = replace(conv("x86-avx2", (1, 4, 4, 64), 16, x_dtype="s16"), bits=4)
    with pytest.raises(CompileError, match="expands weights of 4 bits"):
        spec.plan(load_target("x86-avx2"))


def test_arranged_weights_are_padded_with_zeros() -> None:
    target = load_target("x86-avx2")
    spec = conv("x86-avx2", (1, 6, 6, 3), 8, (3, 3))
    w = weights_of(spec, 7)
    plan = spec.fitted(target, w).plan(target)
    parts = arranged(w, plan.runs, plan.product.group)
    assert parts.shape == (8, 3, 3, 4)  # three rows of nine elements in groups of four
    assert not parts[:, :, 2, 1:].any()
    np.testing.assert_array_equal(parts.astype(int).sum((1, 2, 3)), w.astype(int).sum((1, 2, 3)))


@pytest.mark.parametrize("bits", [8, 4, 2])
@given(groups=st.integers(1, 600))
def test_windows_to_try_have_one_length(bits: int, groups: int) -> None:
    """Whole bytes of packed weights each, and no more windows than the longest of that number would need."""
    product = load_target("x86-avx2").inner.PRODUCTS["u8"][0].with_bits(bits)
    depths = product.depths(groups)
    assert list(depths) == sorted(set(depths), reverse=True)
    for depth in depths:
        assert depth == groups or depth % product.per_byte == 0
        assert depth <= narrow.LONGEST + product.per_byte
        windows = -(-groups // depth)
        assert windows * depth - groups < windows * product.per_byte
    assert depths[-1] <= product.per_byte or groups == depths[-1]


@given(pixels=st.integers(1, 4000), channels=st.integers(1, 70), outputs=st.integers(1, 70))
def test_four_threads_get_even_shares(pixels: int, channels: int, outputs: int) -> None:
    """Tasks divide by four where there are more, and no thread has many more pixels than the others."""
    x, y = Image.dense(1, 1, pixels, 4 * channels), Image.dense(1, 1, pixels, 8 * outputs)
    epilogue = Epilogue("none", "s32", 0, -(2**31), 2**31 - 1)
    spec = ConvSpec(x, y, "u8", 1, 1, epilogue, 1, 1)
    tasks, plan = spec.tasks(), spec.plan(load_target("x86-vnni"))
    assert tasks <= 4 or tasks % 4 == 0
    if tasks >= 4 and plan.tiling.column_splits == 1:
        cuts = [tasks * k // 4 * plan.units // tasks for k in range(5)]
        most = max(b - a for a, b in itertools.pairwise(cuts)) * plan.tiling.block_w
        assert most <= -(-pixels // 4) + 2 * plan.tiling.block_w
