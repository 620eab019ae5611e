"""LayerNorm and RMSNorm: accuracy against float, exact roots, bounds reached by the worst rows."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeq.errors import CompileError
from edgeq.integer.normalization import (
    MAX_LENGTH,
    apply_channels,
    centred_rows,
    factor_bound,
    inverse_deviation,
    norm_constants,
    row_bound,
    scaled_rows,
    widths,
)

ONES = np.ones(8)


def worst_rows(length: int, rng: np.random.Generator) -> np.ndarray:
    """Rows at the edges: constant, one outlier, two halves, a ramp, a quiet row, noise, all at full s16 range."""
    one, low = np.full(length, -32768), np.full(length, 32767)
    one[0] = 32767
    low[-1] = -32768
    quiet = np.zeros(length, int)
    quiet[rng.integers(length)] = 1
    rows = [
        np.full(length, 32767),
        one,
        low,
        quiet,
        quiet - 32768,
        32767 - quiet,
        np.where(np.arange(length) % 2, 32767, -32768),
        np.linspace(-32768, 32767, length).astype(int),
        rng.integers(-32768, 32768, length),
        rng.integers(-2, 3, length) + 30000,
    ]
    return np.array(rows).astype(np.int16)


@given(
    st.one_of(st.integers(1, 40), st.integers(1, MAX_LENGTH)), st.integers(0, 2**32 - 1), st.sampled_from([0, 1, 900])
)
def test_no_row_leaves_the_proven_bounds(length: int, seed: int, epsilon: int) -> None:
    row_bits, fraction_bits = widths(length)
    rows = worst_rows(length, np.random.default_rng(seed))
    for p in (centred_rows(rows, epsilon, row_bits), scaled_rows(rows, 0, epsilon, row_bits)):
        assert np.max(np.abs(p)) <= row_bound(length, row_bits)
        t = (p + (1 << (row_bits - fraction_bits) >> 1)) >> (row_bits - fraction_bits)
        assert np.max(np.abs(t)) <= factor_bound(length, row_bits, fraction_bits) <= 32767


@given(st.integers(1, 2**62 - 1), st.integers(1, MAX_LENGTH))
def test_inverse_deviation_follows_the_exact_root(variance: int, length: int) -> None:
    variance = max(variance >> (variance % 61), length)  # every magnitude; less than n can't come from unequal integers
    row_bits, _ = widths(length)
    octave = (variance.bit_length() - 1) // 2
    normal = variance << 2 * (15 - octave) if octave <= 15 else variance >> 2 * (octave - 15)
    product, count = 2**31 // math.isqrt(normal) * length, 16 + octave - row_bits
    expected = (product + (1 << count >> 1)) >> count if count >= 0 else product << -count
    found = int(inverse_deviation(np.array(variance), length, row_bits))
    assert found == expected
    real = 2.0**row_bits * length / math.sqrt(variance)
    assert abs(found - real) <= real * 2.0**-15 + 0.5


def layer_norm(x: np.ndarray, gamma: np.ndarray, beta: np.ndarray, epsilon: float) -> np.ndarray:
    centred = x - x.mean(axis=-1, keepdims=True)
    return gamma * centred / np.sqrt(np.square(centred).mean(axis=-1, keepdims=True) + epsilon) + beta


@pytest.mark.parametrize(("dtype", "spread"), [(np.int8, 25.0), (np.int16, 8000.0), (np.int16, 60.0)])
@pytest.mark.parametrize("out_scale", [4 / 127, 4 / 32767])
@pytest.mark.parametrize("length", [16, 64, 384, 1024])
def test_layer_norm_is_close_to_the_real_one(dtype: type, spread: float, out_scale: float, length: int) -> None:
    rng = np.random.default_rng(length)
    limits = np.iinfo(dtype)
    x = np.clip(rng.normal(spread / 3, spread, (64, length)).round(), limits.min, limits.max).astype(dtype)
    gamma, beta, scale, epsilon = rng.normal(1, 0.3, length), rng.normal(0, 0.3, length), 0.01, 1e-5
    c = norm_constants(gamma, beta, epsilon, scale, out_scale)
    drop = c.row_bits - c.fraction_bits
    found = apply_channels(centred_rows(x, c.epsilon, c.row_bits), c.gamma, c.beta, drop, c.shift) * out_scale
    worst = np.abs(found - layer_norm(x * scale, gamma, beta, epsilon)).max()
    assert worst <= out_scale * 0.5 + 2.0 ** -(c.fraction_bits + 1) * np.abs(gamma).max() * 1.6


@pytest.mark.parametrize("length", [16, 64, 384])
def test_rms_norm_is_close_to_the_real_one(length: int) -> None:
    rng = np.random.default_rng(length)
    x, scale, epsilon = rng.integers(-128, 128, (64, length)).astype(np.int8), 0.02, 1e-6
    gamma = rng.normal(1, 0.3, length)
    c = norm_constants(gamma, None, epsilon, scale, 4 / 127)
    p = scaled_rows(x, -30, c.epsilon, c.row_bits)
    found = apply_channels(p, c.gamma, 0, c.row_bits - c.fraction_bits, c.shift) * 4 / 127
    real = (x + 30.0) * scale
    real = gamma * real / np.sqrt(np.square(real).mean(axis=-1, keepdims=True) + epsilon)
    assert np.abs(found - real).max() <= 2 / 127 + 0.002


def test_a_quiet_row_is_not_shrunk() -> None:
    """One step of difference in 384 elements: x̂ is √383 there, −1/√383 elsewhere, as exactly as for a loud row."""
    quiet = np.zeros((1, 384), np.int16)
    quiet[0, 7] = 1
    row_bits, _ = widths(384)
    found = centred_rows(quiet, 0, row_bits) / 2.0**row_bits
    loud = centred_rows(quiet * np.int16(32767), 0, row_bits) / 2.0**row_bits
    np.testing.assert_allclose(found, layer_norm(quiet, 1, 0, 0), rtol=2e-5, atol=1e-7)
    # The loud row's r has 11 bits before the point; x·r still is within 2^−13 of the truth.
    np.testing.assert_allclose(loud, found, rtol=2.0**-11, atol=1e-5)


@pytest.mark.parametrize("scale", [1e-7, 1e-9, 1e-12, 1e-300])
def test_a_dead_input_gives_beta_and_a_whiff_of_gamma(scale: float) -> None:
    """Steps so small that ε leaves the op's range: the deviation is √ε."""
    rng = np.random.default_rng(5)
    x, gamma, beta = rng.integers(-32768, 32768, (20, 384)), rng.normal(1, 1, 384), rng.normal(0, 1, 384)
    c = norm_constants(gamma, beta, 1e-5, scale, 4 / 32767)
    drop = c.row_bits - c.fraction_bits
    found = apply_channels(centred_rows(x, c.epsilon, c.row_bits), c.gamma, c.beta, drop, c.shift) * 4 / 32767
    assert np.max(np.abs(found - layer_norm(x * scale, gamma, beta, 1e-5))) < 0.0007 * np.abs(gamma).max()


def test_a_constant_row_gives_beta() -> None:
    for value in (-32768, 0, 32767):
        row_bits, _ = widths(100)
        assert not centred_rows(np.full((2, 100), value, np.int16), 0, row_bits).any()


@pytest.mark.parametrize("length", [1, 2, 5, 192, 384, 768, MAX_LENGTH])
def test_p_can_be_computed_modulo_2_to_the_32(length: int) -> None:
    rows = worst_rows(length, np.random.default_rng(0))
    row_bits, _ = widths(length)
    p = centred_rows(rows, 3, row_bits)
    assert np.array_equal(p, p.astype(np.int32))


def test_zero_point_cancels_in_layer_norm() -> None:
    x = np.random.default_rng(0).integers(-128, 128, (9, 50))
    assert np.array_equal(centred_rows(x, 7, 20), centred_rows(x + 128, 7, 20))


@pytest.mark.parametrize(
    ("gamma", "beta", "epsilon", "scale", "out_scale", "message"),
    [
        (np.ones(MAX_LENGTH + 1), None, 0.0, 1.0, 1.0, "too long to be normalised"),
        (np.ones(0), None, 0.0, 1.0, 1.0, "too long to be normalised"),
        (ONES * np.nan, None, 0.0, 1.0, 1.0, "parameters that are not finite"),
        (ONES, ONES * np.inf, 0.0, 1.0, 1.0, "parameters that are not finite"),
        (ONES, None, 0.0, 0.0, 1.0, "no usable scales"),
        (ONES, None, 0.0, 1.0, math.nan, "no usable scales"),
        (ONES, None, -1e-5, 1.0, 1.0, "epsilon must be a number >= 0"),
        (ONES, None, 1e-5, 1.0, 1e-9, "too large for the output's scale"),
        (ONES, ONES, 1e-5, 1.0, 1e-10, "too large for the output's scale"),
    ],
)
def test_unusable_parameters(
    gamma: np.ndarray, beta: np.ndarray | None, epsilon: float, scale: float, out_scale: float, message: str
) -> None:
    with pytest.raises(CompileError, match=message):
        norm_constants(gamma, beta, epsilon, scale, out_scale)
