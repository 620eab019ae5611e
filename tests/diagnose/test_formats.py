"""Number formats: their numbers, and what is known about them."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeq.diagnose.formats import FORMATS, compare_formats, magnitudes, sqnr_in, summary
from edgeq.frontend import FloatGraph
from edgeq.quantize.topology import Topology
from tests.diagnose.conftest import samples_for

TYPES = {"fp8 e4m3": ml_dtypes.float8_e4m3fn, "fp8 e5m2": ml_dtypes.float8_e5m2, "fp4 e2m1": ml_dtypes.float4_e2m1fn}


@pytest.mark.parametrize("name", TYPES)
def test_numbers_are_those_of_the_format(name: str) -> None:
    bits = 4 if "4 " in name else 8
    every = np.arange(2 ** (bits - 1), dtype=np.uint8).view(TYPES[name]).astype(np.float64)
    assert np.array_equal(magnitudes(name), every[np.isfinite(every)])


@given(st.sampled_from(sorted(TYPES)), st.integers(0, 2**32 - 1), st.integers(-20, 20))
def test_numbers_of_a_format_lose_nothing(name: str, seed: int, exponent: int) -> None:
    random = np.random.default_rng(seed)
    values = random.choice(magnitudes(name), 32) * random.choice([-1, 1], 32)
    values[0] = magnitudes(name)[-1]
    assert sqnr_in(values[None] * 2.0**exponent, name) == np.inf


@given(st.integers(0, 2**32 - 1))
def test_finer_scales_never_lose(seed: int) -> None:
    rows = np.random.default_rng(seed).standard_normal((4, 64)) * np.array([[1], [10], [0.1], [3]])
    for name in ("s8", "s4"):
        assert sqnr_in(rows, name) >= sqnr_in(rows.reshape(1, -1), name) - 1.5
    assert sqnr_in(rows, "s8") > sqnr_in(rows, "s4")


def test_uniform_values_suit_integers_and_wide_ones_floats() -> None:
    random = np.random.default_rng(0)
    uniform = random.uniform(-1, 1, (1, 20000))
    assert sqnr_in(uniform, "s8") == pytest.approx(20 * np.log10(254 / 2 * 2), abs=0.3)
    assert sqnr_in(uniform, "s8") > sqnr_in(uniform, "fp8 e4m3") + 10
    wide = np.exp(random.standard_normal((1, 20000)) * 3)
    assert sqnr_in(wide, "fp8 e4m3") > sqnr_in(wide, "s4")


def test_zero_rows_are_exact() -> None:
    for name in FORMATS:
        assert sqnr_in(np.zeros((2, 5)), name) == np.inf


def test_every_layer_is_there(outliers: FloatGraph) -> None:
    feeds = list(samples_for(outliers).feeds(3))
    rows = compare_formats(Topology(outliers), feeds, threads=1)
    assert [(row.layer, row.kind) for row in rows if row.layer == "node_second"] == [
        ("node_second", "weights"),
        ("node_second", "activations"),
    ]
    # The large channel takes the range of the others where all share a scale.
    row = next(row for row in rows if row.layer == "node_second" and row.kind == "weights")
    assert row.per_channel["s8"] > row.per_tensor["s8"]
    assert summary(rows, "weights", "per_channel")["s8"]["of"] == 3
