"""The bound that decides between float32 and float64 in the reference's products."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from edgeq.integer.products import conv2d, exact_float, reach

WEIGHTS = st.lists(st.integers(-128, 127), min_size=1, max_size=6)


@given(WEIGHTS, st.integers(-255, 255), st.integers(0, 255))
def test_no_part_of_any_sum_leaves_the_reach(weights: list[int], low: int, width: int) -> None:
    high = low + width
    bound = reach(np.array([weights]), np.array([low, high]))
    up = down = 0
    for weight in weights:
        up += max(0, weight * low, weight * high)
        down += min(0, weight * low, weight * high)
    assert max(up, -down) <= bound


def test_the_reach_is_met() -> None:
    assert reach(np.array([[3, -5]]), np.array([0, 10])) == 50
    assert reach(np.array([[3, -5]]), np.array([-2, 10])) == 56
    assert reach(np.array([[3, -5], [9, 0]]), np.array([-10, -10])) == 90
    assert reach(np.zeros((0, 4), np.int8), np.zeros(0, np.int8)) == 0


def test_float32_exactly_up_to_its_bound() -> None:
    assert exact_float(2**24) == np.float32
    assert exact_float(2**24 + 1) == np.float64


def test_sums_beyond_float32_are_exact() -> None:
    channels = 4096
    x = np.full((1, channels, 1, 1), 127, np.int8)
    x[0, 0] = 126
    w = np.full((1, channels, 1, 1), 127, np.int8)
    bias = np.zeros((1, 1, 1, 1), np.int32)
    found = conv2d(x, w, bias, -128, (1, 1), (0, 0, 0, 0), (1, 1), 1)
    assert found.item() == 127 * (255 * channels - 1)
