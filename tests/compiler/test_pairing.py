"""Full 8-bit weights through pmaddubsw: chosen pairs never saturate, every weight is used once, all bits are right."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeq.compiler.isa.x86_pairing import MOST, steps_of
from edgeq.compiler.kernels.conv import ConvSpec
from edgeq.compiler.target import load_target
from edgeq.errors import CompileError
from tests.compiler.test_conv import check, conv

TARGET = "x86-avx2"


def heavy_tailed(spec: ConvSpec, seed: int = 0, spread: float = 18.0) -> np.ndarray:
    """Weights of which few are large, some of them -128 and 127: int8 [N, C/groups, kh, kw]."""
    rng = np.random.default_rng(seed)
    shape = (spec.y.c, spec.x.c // spec.groups, spec.kh, spec.kw)
    w = np.rint(rng.normal(0, spread, shape)).clip(-128, 127).astype(np.int8)
    large = rng.random(shape) < 0.004
    w[large] = rng.choice([-128, 127, 100], int(large.sum()))
    return w


@pytest.mark.parametrize(
    "layer",
    [
        {"x": (1, 5, 7, 128), "n": 16},
        {"x": (1, 3, 11, 200), "n": 41},
        {"x": (2, 4, 4, 131), "n": 9},
        {"x": (1, 7, 6, 64), "n": 24, "k": (3, 3)},
        {"x": (1, 9, 9, 160), "n": 20, "k": (3, 3), "stride": 2},
        {"x": (1, 6, 6, 144), "n": 7, "x_gap": 3, "y_gap": 2},
    ],
)
def test_layers_whose_weights_pair(layer: dict[str, Any]) -> None:
    spec, target = conv(TARGET, **layer), load_target(TARGET)
    w = heavy_tailed(spec)
    fitted = spec.fitted(target, w)
    assert fitted.depth == 0
    assert any(fitted.steps)
    assert "paired" in fitted.describe(target)
    check(fitted, TARGET, weights=w)


@pytest.mark.full
@settings(max_examples=60, deadline=None)
@given(c=st.integers(128, 300), n=st.integers(1, 50), size=st.integers(2, 6), seed=st.integers(0, 10**6))
def test_many_layers_whose_weights_pair(c: int, n: int, size: int, seed: int) -> None:
    spec = conv(TARGET, (1, size, size, c), n)
    w = heavy_tailed(spec, seed)
    check(spec.fitted(load_target(TARGET), w), TARGET, seed, w)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10**6), spread=st.sampled_from([5.0, 25.0, 60.0, 120.0]), columns=st.sampled_from([1, 8, 16])
)
def test_pairs_are_safe_and_use_every_weight_once(seed: int, spread: float, columns: int) -> None:
    rng = np.random.default_rng(seed)
    w = np.rint(rng.normal(0, spread, (3, columns, 16))).clip(-128, 127).astype(np.int8)
    w[1, :, 5:] = 0  # the end of K
    for window, steps in zip(w.astype(np.int64), steps_of(w), strict=True):
        quads = [(first + k, first + k + 1) for first in steps.plain for k in (0, 2)]
        for a, b in [*quads, *(pair for pair in steps.pairs if pair[0] != pair[1])]:
            for part in (np.maximum(window, 0), np.maximum(-window, 0)):
                assert (part[:, a] + part[:, b]).max() <= MOST
        used = [k for pair in [*quads, *steps.pairs] for k in set(pair)]
        assert len(used) == len(set(used))
        assert {k for k in range(16) if window[:, k].any()} <= set(used)


def test_weights_that_pair_badly_are_widened() -> None:
    spec, target = conv(TARGET, (1, 5, 5, 128), 16), load_target(TARGET)
    w = np.full((16, 128, 1, 1), 127, np.int8)
    fitted = spec.fitted(target, w)
    assert not any(fitted.steps)
    check(fitted, TARGET, weights=w)


def test_one_pixel_and_short_runs_are_not_paired() -> None:
    target = load_target(TARGET)
    for spec in (conv(TARGET, (1, 1, 1, 256), 16), conv(TARGET, (1, 5, 5, 64), 16)):
        assert not any(spec.fitted(target, heavy_tailed(spec)).steps)


def test_other_weights_than_planned_for_are_an_error() -> None:
    spec, target = conv(TARGET, (1, 5, 5, 128), 16), load_target(TARGET)
    fitted = spec.fitted(target, heavy_tailed(spec))
    ones = np.ones(16, np.int32)
    constants = {"bias": ones, "multiplier": ones * 2**14, "shift": ones}
    with pytest.raises(CompileError, match="other steps than were planned"):
        fitted.pack(target, {"w": np.full((16, 128, 1, 1), 127, np.int8), **constants})
    fewer = replace(fitted, steps=(fitted.steps[0], 0))
    with pytest.raises(CompileError, match="other steps than were planned"):
        fewer.pack(target, {"w": heavy_tailed(spec), **constants})
