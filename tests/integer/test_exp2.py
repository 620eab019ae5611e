"""Softmax constants and arithmetic: accuracy and widths."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeq.errors import CompileError
from edgeq.integer.exp2 import MAX_LENGTH, power_of_two, softmax_constants, softmax_rows
from edgeq.integer.ops.probabilities import mass
from edgeq.integer.shift_exp import shiftmax_constants, shiftmax_rows


def test_power_of_two_is_exact_at_whole_octaves_and_close_between() -> None:
    t = np.arange(0, 12 << 15)
    found = power_of_two(t, 24) / 2.0**24
    assert np.array_equal(found[:: 1 << 15], 2.0 ** -np.arange(12.0))
    assert np.max(np.abs(found / 2.0 ** -(t / 2.0**15) - 1)) < 0.0028
    assert np.max(np.diff(found)) <= 2.0**-15  # nested rounding may lift a value by one Q15 step, never more


def test_power_of_two_vanishes() -> None:
    assert power_of_two(np.array([2**31 - 1]), 24).tolist() == [0]


@pytest.mark.parametrize(("dtype", "spread"), [(np.int8, 127), (np.int16, 32767), (np.int32, 2**27)])
@pytest.mark.parametrize("sigma", [1.0, 3.0])
def test_softmax_is_close_to_the_real_one(dtype: type, spread: int, sigma: float) -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(0, sigma, (50, 197))
    scale = np.abs(logits).max() / spread
    q = np.rint(logits / scale).astype(dtype)
    real = np.exp(q * scale - (q * scale).max(axis=-1, keepdims=True))
    real /= real.sum(axis=-1, keepdims=True)
    found = softmax_rows(q, softmax_constants(scale, 197, 15)) / 2.0**15
    assert np.max(np.abs(found - real)) < 0.0016


@given(st.floats(1e-8, 1e6), st.integers(1, MAX_LENGTH), st.sampled_from([8, 15]))
def test_constants_keep_every_intermediate_in_32_bits(scale: float, length: int, out_bits: int) -> None:
    c = softmax_constants(scale, length, out_bits)
    assert 1 <= c.limit < 2**31
    widest = (c.limit + ((1 << c.pre_shift) >> 1)) >> c.pre_shift
    assert widest < 2**16
    assert widest * c.multiplier + ((1 << c.shift) >> 1) < 2**31
    assert length << c.sum_bits <= 2**30
    assert c.sum_bits >= 15
    assert c.attributes()["out_bits"] == out_bits


@given(st.integers(1, 600), st.floats(1e-4, 2.0), st.integers(0, 2**32 - 1), st.sampled_from([8, 15]))
def test_rows_stay_between_zero_and_one(length: int, scale: float, seed: int, out_bits: int) -> None:
    q = np.random.default_rng(seed).integers(-128, 128, (3, length))
    rows = softmax_rows(q, softmax_constants(scale, length, out_bits))
    assert rows.min() >= 0
    assert rows.max() <= 2**out_bits


@given(st.integers(1, 300), st.floats(1e-3, 10.0), st.integers(0, 99), st.sampled_from([8, 15]), st.integers(0, 40))
def test_no_part_of_a_row_passes_its_mass(length: int, scale: float, seed: int, out_bits: int, step: int) -> None:
    """Few distinct logits make rows of equal probabilities, which round the same way."""
    x = np.random.default_rng(seed).integers(-step, step + 1, (20, length))
    for rows in (
        softmax_rows(x, softmax_constants(scale, length, out_bits)),
        shiftmax_rows(x, shiftmax_constants(scale, length, out_bits)),
    ):
        most = np.cumsum(-np.sort(-rows, axis=-1), axis=-1).max(axis=0)
        assert all(found <= mass(out_bits, n) for n, found in enumerate(most.tolist(), 1))


def test_masses_that_kernels_count_on() -> None:
    assert [mass(8, n) for n in (1, 2, 4, 6)] == [256, 257, 258, 259]
    assert 127 * mass(8, 4) == 2**15 - 2


def test_a_row_of_one_is_certain() -> None:
    assert softmax_rows(np.array([[-7]]), softmax_constants(0.1, 1, 15)).tolist() == [[2**15]]


@pytest.mark.parametrize("scale", [0.0, -1.0, float("nan"), float("inf")])
def test_unusable_scales_are_refused(scale: float) -> None:
    with pytest.raises(CompileError, match="softmax has no usable input scale"):
        softmax_constants(scale, 10, 8)


def test_limits_are_refused() -> None:
    with pytest.raises(CompileError, match="too small for 32-bit inputs"):
        softmax_constants(1e-12, 10, 8)
    with pytest.raises(CompileError, match=r"too many elements for 32-bit sums[\s\S]*32769"):
        softmax_constants(0.1, MAX_LENGTH + 1, 8)


@pytest.mark.parametrize(("length", "mass"), [(128, 1.0), (197, 0.77), (512, 2.0), (600, 0.0)])
def test_mass_of_flat_rows_in_8_bits_is_what_the_page_says(length: int, mass: float) -> None:
    found = [
        softmax_rows(np.zeros((1, length), np.int8), softmax_constants(0.1, length, b)).sum() / 2**b for b in (8, 15)
    ]
    assert abs(found[0] - mass) < 0.005
    assert abs(found[1] - 1) < 0.02
