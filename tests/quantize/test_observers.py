from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeq.errors import UsageError
from edgeq.quantize.histogram import TensorStatistics
from edgeq.quantize.observers import DEFAULT, OBSERVERS, get
from edgeq.quantize.observers.norm import NormError
from edgeq.quantize.plan import quant_s8


def stats(*samples: np.ndarray) -> TensorStatistics:
    found = TensorStatistics()
    for sample in samples:
        found.observe(sample.astype(np.float32))
    return found


def normal(count: int = 20000, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(count)


@pytest.mark.parametrize("name", OBSERVERS)
@given(seed=st.integers(0, 1000), shift=st.floats(-3, 3), scale=st.floats(1e-3, 1e3))
@settings(max_examples=15, deadline=None)
def test_range_lies_inside_what_was_seen(name: str, seed: int, shift: float, scale: float) -> None:
    found = stats((normal(500, seed) + shift) * scale)
    low, high = get(name)(found, 256)
    assert min(found.low, 0) - found.width <= low <= high <= max(found.high, 0) + found.width


@pytest.mark.parametrize("name", OBSERVERS)
def test_constant_and_zero_tensors(name: str) -> None:
    for value in (0.0, 2.5, -1.0):
        low, high = get(name)(stats(np.full(100, value)), 256)
        quant = quant_s8(low, high)
        assert np.isfinite(quant.scale)
        assert quant.scale > 0
        if name in ("minmax", "moving-average"):
            assert min(low, 0) <= value <= max(high, 0)


def test_minmax_clips_nothing() -> None:
    values = normal()
    assert get("minmax")(stats(values), 256) == (np.float32(values.min()), np.float32(values.max()))


def test_moving_average_follows_the_samples() -> None:
    low, high = get("moving-average")(stats(np.array([-1.0, 1.0]), np.array([-2.0, 3.0])), 256)
    assert (low, high) == pytest.approx((-1.1, 1.2))


def test_percentile_leaves_out_the_tail() -> None:
    values = np.concatenate([normal(1_000_000), [1000.0]])
    low, high = get("percentile")(stats(values), 256)
    assert 4 < high < 6
    assert -6 < low < -4


def test_percentile_counts_zeros() -> None:
    """A ReLU's zeros are values too: the share that is left out is one of all values."""
    values = np.maximum(normal(100_000) - 3.5, 0)
    low, high = get("percentile")(stats(values), 256)
    assert low == pytest.approx(0, abs=1e-3)
    assert high > np.quantile(values, 1 - 1e-4)


def test_mse_clips_an_outlier_and_l24_less() -> None:
    found = stats(np.concatenate([normal(100_000), [30.0]]))
    ranges = {name: get(name)(found, 256) for name in ("minmax", "mse", "l2.4")}
    assert ranges["mse"][1] < ranges["minmax"][1]
    assert ranges["mse"][1] <= ranges["l2.4"][1] <= ranges["minmax"][1]


@pytest.mark.parametrize(("name", "exponent"), [("mse", 2.0), ("l2.4", 2.4)])
def test_norm_observers_beat_the_others_in_their_own_norm(name: str, exponent: float) -> None:
    found = stats(np.random.default_rng(0).standard_t(3, 50_000))
    error = NormError.of(found, 256, exponent)
    own = error(*get(name)(found, 256))
    assert all(own <= error(*get(other)(found, 256)) * 1.001 for other in OBSERVERS)


def test_norm_error_is_the_error_of_the_quantizer() -> None:
    values = normal(50_000)
    found = stats(values)
    low, high = -2.0, 2.5
    quant = quant_s8(low, high)
    steps = np.clip(np.rint(values / quant.scale) + quant.zero_point, -128, 127) - quant.zero_point
    truth = np.sum(np.abs(steps * quant.scale - values) ** 2)
    assert NormError.of(found, 256, 2.0)(low, high) == pytest.approx(truth, rel=0.1)


def test_entropy_keeps_the_body_of_a_relu_tensor() -> None:
    """With the zeros in, the divergence is least at an absurdly small range."""
    values = np.maximum(normal(100_000), 0)
    high = get("entropy")(stats(values), 256)[1]
    assert high > 2


def test_unknown_observer_names_a_near_one() -> None:
    with pytest.raises(UsageError, match="unknown observer 'min-max'") as caught:
        get("min-max")
    assert "minmax" in str(caught.value)
    assert DEFAULT in OBSERVERS
