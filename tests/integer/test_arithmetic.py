"""Fixed-point arithmetic: rounding, constants from scales, quantize."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeq.errors import CompileError
from edgeq.integer import arithmetic as A


@given(st.integers(-(2**60), 2**60), st.integers(0, 60))
def test_round_shift_rounds_half_up(value: int, shift: int) -> None:
    exact = Fraction(value, 2**shift) + Fraction(1, 2)
    assert int(A.round_shift(value, shift)) == exact.numerator // exact.denominator


@given(st.floats(2.0**-31, 2.0**28))
def test_single_constants_are_exact_to_31_bits(scale: float) -> None:
    multiplier, shift = A.single_constants(scale)
    assert multiplier.dtype == shift.dtype == np.int32
    assert 2**30 <= multiplier < 2**31
    assert 2 <= shift <= 62
    assert abs(float(multiplier) * 2.0 ** -float(shift) / scale - 1) <= 2.0**-31


def test_single_constants_of_tiny_scales_give_zero() -> None:
    multiplier, shift = A.single_constants(1e-30)
    acc = np.array([-(2**31), 2**31 - 1], np.int32)
    assert A.requantize_single(acc, multiplier, shift, 3, -128, 127, np.int8).tolist() == [3, 3]


def test_single_constants_carry_into_the_next_power() -> None:
    multiplier, shift = A.single_constants(np.nextafter(1.0, 0))
    assert (int(multiplier), int(shift)) == (2**30, 30)


@given(st.floats(2.0**-30, 2.0**-4, exclude_max=True))
def test_narrow_constants_keep_six_fraction_bits(scale: float) -> None:
    multiplier, shift, post = A.narrow_constants(scale)
    assert 2**14 <= multiplier < 2**15
    assert 0 <= shift <= 30
    assert post == 6 or shift == 0
    assert abs(float(multiplier) * 2.0 ** -(15.0 + float(shift) + post) / scale - 1) <= 2.0**-15


def test_narrow_constants_share_the_post_shift_of_the_largest_scale() -> None:
    multiplier, shift, post = A.narrow_constants(np.array([0.06, 0.001]))
    assert post == 4
    assert np.allclose(multiplier * 2.0 ** -(15.0 + shift + post), [0.06, 0.001], rtol=2**-15)


@given(st.floats(2.0**-4, 1 - 2.0**-15), st.floats(2.0**-30, 1.0))
def test_large_scales_have_no_post_shift_and_leave_small_ones_six_bits(largest: float, part: float) -> None:
    scales = np.array([largest, largest * part])
    multiplier, shift, post = A.narrow_constants(scales)
    assert post == 0
    assert multiplier.min() >= 1
    assert multiplier.max() < 2**15
    assert np.all((shift == 0) | (scales * 2.0**shift < 2.0**-5) & (shift <= 30))
    assert np.allclose(multiplier * 2.0 ** -(15.0 + shift), scales, rtol=2.0**-10)
    # The first step saturates far outside any 8-bit range.
    assert np.all(32767 * scales * 2.0**shift > 2 * 255)


@given(st.floats(1 - 2.0**-16, A.NARROW_LIMIT), st.floats(2.0**-30, 1.0))
def test_scales_above_one_shift_to_the_left(largest: float, part: float) -> None:
    scales = np.array([largest, largest * part])
    multiplier, shift, post = A.narrow_constants(scales)
    left = A.narrow_left(shift)
    assert post == 0
    assert 2**14 - 1 <= multiplier[0] < 2**15
    assert shift[0] == -left
    assert -6 <= -left < 0
    assert shift.max() + left <= 30
    seen = scales * 2.0 ** (15.0 + shift) >= 2**9 - 1
    assert np.allclose(multiplier[seen] * 2.0 ** -(15.0 + shift[seen]), scales[seen], rtol=2.0**-10)


@given(st.integers(-(2**20), 2**20), st.floats(2.0**-4, A.NARROW_LIMIT))
def test_narrow_without_a_shift_to_the_right_rounds_like_its_multiplier(acc: int, scale: float) -> None:
    value = np.array([acc], np.int32)
    multiplier, shift, post = A.narrow_constants(scale)
    exact = np.floor(acc * float(multiplier) * 2.0 ** -(15.0 + float(shift)) + 0.5)
    assert A.requantize_narrow(value, multiplier, shift, post, 0, -128, 127, np.int8) == np.clip(exact, -128, 127)


def test_narrow_rounding_and_left_of_shifts() -> None:
    assert A.narrow_rounding(np.array([-3, 0, 1, 5])).tolist() == [0, 0, 1, 16]
    assert A.narrow_left(np.array([4, -3, 0])) == 3
    assert A.narrow_left(np.array([0, 9])) == 0


def test_narrow_constants_of_tiny_scales_give_zero() -> None:
    multiplier, shift, post = A.narrow_constants(1e-20)
    acc = np.array([-(2**31), 2**30], np.int32)
    assert A.requantize_narrow(acc, multiplier, shift, post, 0, -128, 127, np.int8).tolist() == [0, 0]


@given(st.integers(-(2**30), 2**30 - 1), st.floats(2.0**-23, 0.01))
def test_narrow_is_within_one_step_of_single(acc: int, scale: float) -> None:
    value = np.array([acc], np.int32)
    narrow = A.requantize_narrow(value, *A.narrow_constants(scale), 0, -128, 127, np.int8)
    single = A.requantize_single(value, *A.single_constants(scale), 0, -128, 127, np.int8)
    assert abs(int(narrow[0]) - int(single[0])) <= 1


def test_narrow_without_a_post_shift_rounds_like_single() -> None:
    """Next to no bias, and few steps beside it: what a second rounding of few bits would cost."""
    rng = np.random.default_rng(0)
    scales = np.append(rng.uniform(2.0**-4, 1, 64), 2.0 ** rng.uniform(-12, 0, 192))[:, None] * (1 - 2.0**-15)
    acc = np.rint(rng.normal(0, 60, (256, 4000)) / scales).astype(np.int32)
    narrow = A.requantize_narrow(acc, *A.narrow_constants(scales), 0, -128, 127, np.int8).astype(int)
    single = A.requantize_single(acc, *A.single_constants(scales), 0, -128, 127, np.int8)
    assert np.abs(narrow - single).max() <= 1
    assert abs((narrow - single).mean()) < 0.005
    assert (narrow != single).mean() < 0.03


@given(st.floats(2.0**-10, 100), st.floats(-100, 100), st.sampled_from([255, 32768]), st.sampled_from([255, 32768]))
def test_pair_constants_fit_32_bits(a: float, b: float, a_max: int, b_max: int) -> None:
    c = A.pair_constants(a, b, a_max, b_max)
    half = (1 << c.shift) >> 1
    assert abs(c.a_multiplier) * a_max + abs(c.b_multiplier) * b_max + half < 2**31
    assert max(abs(c.a_multiplier), abs(c.b_multiplier)) < 2**15
    assert abs(c.a_multiplier * 2.0**-c.shift - a) <= 2.0 ** -(c.shift + 1)


@given(st.floats(2.0**-15, 2.0**14), st.sampled_from([15, 31]))
def test_ratio_constants_use_their_bits(ratio: float, bits: int) -> None:
    multiplier, shift = A.ratio_constants(ratio, bits, max_shift=62)
    assert 1 <= multiplier < 2**bits
    assert abs(multiplier * 2.0**-shift / ratio - 1) <= 2.0 ** -(bits - 1)


def test_ratio_constants_of_tiny_ratios_stay_positive() -> None:
    assert A.ratio_constants(1e-12) == (1, 30)


@pytest.mark.parametrize("scale", [0.0, -1.0, float("nan"), float("inf")])
def test_unusable_scales_are_refused(scale: float) -> None:
    for function in (A.single_constants, A.narrow_constants, A.ratio_constants):
        with pytest.raises(CompileError, match=r"can't be turned into a fixed-point multiplier[\s\S]*hint"):
            function(scale)


def test_large_scales_are_refused() -> None:
    with pytest.raises(CompileError, match=r"requantize scale is too large[\s\S]*2\^29"):
        A.single_constants(2.0**29)
    with pytest.raises(CompileError, match=r"too large for the narrow form[\s\S]*single form"):
        A.narrow_constants(64.0)
    with pytest.raises(CompileError, match=r"ratio of scales is too large[\s\S]*2\^15"):
        A.ratio_constants(2.0**15)
    with pytest.raises(CompileError, match="can't be brought to one shift"):
        A.pair_constants(2.0**15, 1.0)
    with pytest.raises(CompileError, match="can't be brought to one shift"):
        A.pair_constants(0.0, 0.0)
    with pytest.raises(CompileError, match=r"don't fit 32 bits[\s\S]*65536"):
        A.pair_constants(32767.0, 32767.0, 65536, 65536)


def test_quantize_rounds_half_to_even_and_saturates() -> None:
    x = np.array([0.25, 0.75, -0.25, 1e9, -1e9, 0.0], np.float32)
    assert A.quantize(x, 0.5, 0, np.int8).tolist() == [0, 2, 0, 127, -128, 0]
    assert A.quantize(x, 0.5, 128, np.uint8).tolist() == [128, 130, 128, 255, 0, 128]


@given(st.integers(-128, 127), st.floats(2.0**-20, 2.0**10), st.integers(-128, 127))
def test_quantize_undoes_dequantize(q: int, scale: float, zero_point: int) -> None:
    value = np.array([q], np.int8)
    assert A.quantize(A.dequantize(value, scale, zero_point), scale, zero_point, np.int8)[0] == q
