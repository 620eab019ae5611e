from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from edgeq.quantize.histogram import MAX_BINS, TensorStatistics

floats = hnp.arrays(np.float32, st.integers(1, 200), elements=st.floats(-1e6, 1e6, width=32))


def stats(*pieces: np.ndarray) -> TensorStatistics:
    found = TensorStatistics()
    for piece in pieces:
        found.observe(piece.astype(np.float32))
    return found


@given(st.lists(floats, min_size=1, max_size=5))
@settings(max_examples=60, deadline=None)
def test_counts_everything_once(pieces: list[np.ndarray]) -> None:
    found = stats(*pieces)
    values = np.concatenate(pieces)
    assert found.total == values.size
    assert found.zeros == int((values == 0).sum())
    assert (found.low, found.high) == (values.min(), values.max())
    assert len(found.counts) <= MAX_BINS
    assert found.sample_lows == [piece.min() for piece in pieces]


@given(floats)
@settings(max_examples=60, deadline=None)
def test_values_lie_in_their_bins(values: np.ndarray) -> None:
    found = stats(values)
    nonzero = values[values != 0].astype(np.float64)
    for value in nonzero[:20]:
        index = math.floor(value / found.width) - found.first
        # A value within float32 rounding of an edge may be counted next door.
        assert found.counts[max(0, index - 1) : index + 2].sum() > 0
    if nonzero.size:
        assert math.log2(found.width) == round(math.log2(found.width))


@given(st.lists(floats, min_size=2, max_size=4))
@settings(max_examples=60, deadline=None)
def test_merge_is_what_one_histogram_would_have_counted(pieces: list[np.ndarray]) -> None:
    merged = TensorStatistics()
    for piece in pieces:
        merged.merge(stats(piece))
    assert merged.total == sum(piece.size for piece in pieces)
    assert merged.low == min(piece.min() for piece in pieces)
    again = TensorStatistics()
    for piece in reversed(pieces):
        again.merge(stats(piece))
    assert again.width == merged.width
    dense = {merged.first + i: n for i, n in enumerate(merged.counts.tolist()) if n}
    assert dense == {again.first + i: n for i, n in enumerate(again.counts.tolist()) if n}


def test_merging_keeps_the_extremes_of_each_sample() -> None:
    a, b = stats(np.array([1.0]), np.array([5.0])), stats(np.array([-2.0]), np.array([3.0]), np.array([4.0]))
    a.merge(b)
    assert a.sample_lows == [-2, 3, 4]
    assert a.sample_highs == [1, 5, 4]


def test_stride_counts_for_what_it_skips() -> None:
    found = TensorStatistics()
    found.observe(np.arange(9, dtype=np.float32), stride=3)
    assert (found.total, found.zeros, found.high) == (9, 3, 8)


def test_all_zero_and_empty() -> None:
    assert stats(np.zeros(7)).zeros == 7
    assert stats(np.zeros(0)).total == 0


@pytest.mark.parametrize("scale", [1e-30, 1e-6, 1.0, 1e20])
def test_any_magnitude(scale: float) -> None:
    values = np.random.default_rng(0).standard_normal(1000) * scale
    found = stats(values, values * 1000)
    assert found.total == 2000
    assert found.centres[0] >= found.low - found.width
