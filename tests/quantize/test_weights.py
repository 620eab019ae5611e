from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from edgeq.errors import ModelError
from edgeq.quantize.integerize.weights import ACCUMULATOR_LIMIT, keep_integers, quantize_weights
from edgeq.quantize.topology import StoredIntegers

FIXED = {"x_scale": 0.05, "x_extent": 255, "y_scale": 0.1}


@given(
    hnp.arrays(np.float32, st.tuples(st.integers(1, 5), st.integers(1, 30)), elements=st.floats(-100, 100, width=32)),
    st.integers(2, 8),
)
@settings(max_examples=80, deadline=None)
def test_rounds_to_half_a_step_and_stays_symmetric(weights: np.ndarray, bits: int) -> None:
    found = quantize_weights(weights, None, bits=bits, **FIXED)
    qmax = 2 ** (bits - 1) - 1
    assert np.abs(found.values.astype(int)).max() <= qmax
    assert (found.bound <= ACCUMULATOR_LIMIT).all()
    if bits >= 7:
        error = np.abs(found.values * found.scale[:, None] - weights)
        assert (error <= found.scale[:, None] * 0.501).all()


def test_few_bits_clip_where_it_pays() -> None:
    weights = np.random.default_rng(0).standard_t(3, (4, 2000))

    def error(bits: int, scale: np.ndarray, values: np.ndarray) -> float:
        return float(((values * scale[:, None] - weights) ** 2).sum())

    found = quantize_weights(weights, None, bits=4, **FIXED)
    plain = np.abs(weights).max(1) / 7
    assert (found.scale < plain).all()
    rounded = np.rint(weights / plain[:, None])
    assert error(4, found.scale, found.values) < error(4, plain, rounded)


def test_bias_is_in_the_accumulators_scale() -> None:
    found = quantize_weights(np.ones((2, 3)), np.array([1.0, -2.0]), bits=8, **FIXED)
    assert found.bias * found.scale * 0.05 == pytest.approx([1.0, -2.0], abs=1e-3)
    assert found.bound.tolist() == [3 * 127 * 255 + abs(int(b)) for b in found.bias]


def test_dead_channel_keeps_its_bias() -> None:
    found = quantize_weights(np.zeros((1, 9)), np.array([0.7]), bits=8, **FIXED)
    assert not found.values.any()
    assert found.bias[0] * found.scale[0] * 0.05 == pytest.approx(0.7, rel=1e-2)


def test_huge_bias_coarsens_the_scale() -> None:
    found = quantize_weights(np.full((1, 4), 1e-6), np.array([1e6]), bits=8, **FIXED)
    assert found.bias.dtype == np.int32
    assert found.bias[0] * found.scale[0] * 0.05 == pytest.approx(1e6, rel=1e-6)


def test_accumulator_of_16_bit_inputs_is_kept_in_32_bits() -> None:
    """1200 full weights times 32768 would need 33 bits: the scale of that channel doubles, the other's doesn't."""
    weights = np.ones((2, 1200))
    weights[1, 1:] = 0.01
    found = quantize_weights(weights, None, bits=8, x_scale=1e-3, x_extent=32768, y_scale=1.0)
    assert (found.bound <= ACCUMULATOR_LIMIT).all()
    assert np.abs(found.values).max(1).tolist() == [32, 127]
    assert found.values[0] * found.scale[0] == pytest.approx(1.0, rel=0.02)


def test_powers_of_two_never_clip() -> None:
    weights = np.random.default_rng(0).standard_normal((16, 20))
    found = quantize_weights(weights, None, bits=8, power_of_two=True, **FIXED)
    exponent = np.log2(found.scale * 0.05 / 0.1)
    assert exponent == pytest.approx(np.rint(exponent), abs=1e-9)
    assert np.abs(found.values * found.scale[:, None] - weights).max() <= found.scale.max() / 2


def test_stored_integers_stay() -> None:
    values = np.arange(-128, 128, dtype=np.int8).reshape(2, 128)
    stored = StoredIntegers(values, np.array([[0.5], [0.25]], np.float32), np.zeros((1, 1), np.int64))
    found = keep_integers(stored, np.array([1.0, 2.0]), x_scale=0.1, x_extent=255)
    assert found is not None
    assert found.values is values
    assert found.bias.tolist() == [20, 80]


@pytest.mark.parametrize(
    "stored",
    [
        StoredIntegers(np.ones((1, 2), np.uint8), np.ones((1, 1)), np.zeros((1, 1), np.int64)),
        StoredIntegers(np.ones((1, 2), np.int8), np.ones((1, 1)), np.ones((1, 1), np.int64)),
        StoredIntegers(np.ones((1, 2), np.int8), np.array([[1.0, 2.0]]), np.zeros((1, 1), np.int64)),
        StoredIntegers(np.full((1, 100_000), 127, np.int8), np.ones((1, 1)), np.zeros((1, 1), np.int64)),
    ],
)
def test_stored_integers_that_cant_stay(stored: StoredIntegers) -> None:
    assert keep_integers(stored, None, x_scale=0.1, x_extent=255) is None


def test_absurd_constants_are_refused() -> None:
    for weights, bias in (([[np.inf]], None), ([[1.0]], [np.nan])):
        with pytest.raises(ModelError, match="NaN or infinite"):
            quantize_weights(np.array(weights), None if bias is None else np.array(bias), bits=8, **FIXED)
