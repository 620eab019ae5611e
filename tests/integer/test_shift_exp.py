"""Shift-based softmax and GELU: accuracy, widths, exact division by the octave, masks, what the paper's form does."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeq.errors import CompileError
from edgeq.integer.exp2 import softmax_constants, softmax_rows
from edgeq.integer.shift_exp import (
    MAX_LENGTH,
    OCTAVE_MAX,
    OCTAVE_MIN,
    OCTAVES,
    grid,
    shift_gelu,
    shift_gelu_constants,
    shiftmax_constants,
    shiftmax_powers,
    shiftmax_rows,
)
from edgeq.integer.shift_gelu_paper import shift_gelu_paper, shift_gelu_paper_constants

Array = np.ndarray


def gelu(x: Array) -> Array:
    return x * (1 + np.vectorize(math.erf)(x / math.sqrt(2))) / 2


def softmax(x: Array) -> Array:
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def test_the_octave_divides_by_one_unsigned_product() -> None:
    for octave in (*range(OCTAVE_MIN, OCTAVE_MIN + 40), 1365, 1707, *range(OCTAVE_MAX - 40, OCTAVE_MAX + 1)):
        p, factor = np.arange(OCTAVES * octave + 1), -(-(2**27) // octave)
        assert int(p[-1]) * factor < 2**32
        assert np.array_equal((p * factor) >> 27, p // octave)


@given(st.floats(2.0**-30, 2.0**10))
def test_grid_has_one_octave_per_real_unit(scale: float) -> None:
    left, pre_shift, octave = grid(scale)
    assert OCTAVE_MIN <= octave <= OCTAVE_MAX
    assert not (left and pre_shift)
    assert octave == round(2.0 ** (left - pre_shift) / min(scale, 20.0))


@given(st.floats(2.0**-20, 2.0**6), st.integers(1, MAX_LENGTH))
def test_powers_vanish_at_the_limit_and_start_high(scale: float, length: int) -> None:
    c = shiftmax_constants(scale, length, 8)
    x = np.array([0, -c.limit, -(2**31)], np.int64).astype(np.int32)
    first, at_limit, beyond = shiftmax_powers(x, c).tolist()
    assert 2**15 <= 2 ** (c.sum_bits - 1) <= first < 2**c.sum_bits
    assert at_limit == beyond == 0
    assert length * 2**c.sum_bits <= 2**30 or length == 1


@pytest.mark.parametrize(("dtype", "spread"), [(np.int8, 127), (np.int16, 32767), (np.int32, 2**27)])
@pytest.mark.parametrize(("sigma", "worst"), [(1.0, 0.006), (3.0, 0.016)])
def test_shiftmax_is_close_to_the_real_one(dtype: type, spread: int, sigma: float, worst: float) -> None:
    rng, scale = np.random.default_rng(1), 4 * sigma / spread
    x = np.clip(rng.normal(0, sigma / scale, (50, 197)).round(), -spread, spread).astype(dtype)
    found = shiftmax_rows(x, shiftmax_constants(scale, 197, 15)) / 2.0**15
    assert np.max(np.abs(found - softmax(x * scale))) < worst


def test_flat_rows_keep_their_mass() -> None:
    for length in (2, 3, 5, 197, 1000):
        rows = np.zeros((1, length), np.int8)
        assert abs(shiftmax_rows(rows, shiftmax_constants(0.1, length, 15)).sum() / 2**15 - 1) < 0.005 * max(
            1, length / 64
        )


@pytest.mark.parametrize(
    ("constants", "rows"), [(softmax_constants, softmax_rows), (shiftmax_constants, shiftmax_rows)]
)
def test_masked_elements_are_as_if_they_were_not_there(constants: object, rows: object) -> None:
    rng = np.random.default_rng(0)
    x, c = rng.integers(-(2**20), 2**20, (20, 64)).astype(np.int32), constants(1e-5, 64, 15)
    mask = np.zeros(64, np.uint8)
    mask[:23] = 3
    found = rows(x, c, mask)
    assert not found[:, 23:].any()
    assert np.array_equal(found[:, :23], rows(x[:, :23], c))
    assert not rows(x, c, np.zeros(64, np.uint8)).any()


@pytest.mark.parametrize("reach", [2, 3, 4, 6, 8, 12, 16])
def test_shift_gelu_is_within_a_step_or_so(reach: float) -> None:
    x = np.arange(-128, 128)
    scale = 2 * reach / 255
    found = shift_gelu(x, shift_gelu_constants(scale, scale, np.int8))
    assert np.max(np.abs(found - gelu(x * scale) / scale)) < 1.2


def test_shift_gelu_of_s16_follows_the_8_bit_one() -> None:
    x = np.arange(-32768, 32768)
    found = shift_gelu(x, shift_gelu_constants(8 / 32768, 8 / 32768, np.int16)) * 8 / 32768
    assert np.max(np.abs(found - gelu(x * 8 / 32768))) < 0.016
    assert found[32768] == 0


def test_paper_form_depends_on_the_token() -> None:
    scale = 4 / 127
    c = shift_gelu_paper_constants(scale, scale)
    x = np.arange(-60, 60)[None]
    quiet, loud = (shift_gelu_paper(np.append(x, [[m]], axis=1), c)[:, :-1] for m in (60, 127))
    assert np.max(np.abs(quiet - loud)) >= 2


def test_paper_form_of_rows_below_zero_stays_finite() -> None:
    found = shift_gelu_paper(np.full((1, 3), -255), shift_gelu_paper_constants(1.0, 1.0))
    assert found.tolist() == [[0, 0, 0]]


@pytest.mark.parametrize("scale", [0.0, -1.0, math.nan, math.inf, 2.0**-31])
def test_unusable_scales(scale: float) -> None:
    with pytest.raises(CompileError, match="no usable input scale"):
        shiftmax_constants(scale, 10, 8)
    with pytest.raises(CompileError, match="no usable input scale"):
        shift_gelu_constants(scale, 1.0, np.int8)


@pytest.mark.parametrize("scale", [0.0, math.nan, math.inf, 1 / 256 / 1.702, 0.0001])
def test_paper_form_refuses_fine_scales(scale: float) -> None:
    with pytest.raises(CompileError, match="published ShiftGELU can't take so fine a scale"):
        shift_gelu_paper_constants(scale, 1.0)


def test_rows_too_long() -> None:
    with pytest.raises(CompileError, match="shiftmax over too many elements"):
        shiftmax_constants(0.1, MAX_LENGTH + 1, 8)
