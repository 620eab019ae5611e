"""Weights arranged for pmaddubsw: no 16-bit sum can saturate, every weight is used once, all bits are right."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeq.compiler.isa.x86.arrangement import MOST, WINDOW, arrange, steps_of
from edgeq.compiler.kernels.dense.conv import ConvSpec
from edgeq.compiler.target import load_target
from edgeq.errors import CompileError
from tests.support.convolutions import check, conv

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
    assert "arranged" in fitted.describe(target)
    check(fitted, TARGET, weights=w)


@pytest.mark.parametrize("bits", [6, 7])
@pytest.mark.parametrize(
    "layer",
    [
        {"x": (1, 5, 7, 192), "n": 40},
        {"x": (1, 9, 9, 24), "n": 21, "k": (3, 3), "stride": 2},
        {"x": (2, 5, 5, 70), "n": 8, "x_gap": 3, "y_gap": 2},
    ],
)
def test_narrow_weights_share_sums(layer: dict[str, Any], bits: int) -> None:
    spec, target = conv(TARGET, **layer), load_target(TARGET)
    limit = 2 ** (bits - 1)
    w = np.random.default_rng(bits).normal(0, limit / 3, (spec.y.c, spec.x.c, spec.kh, spec.kw))
    w = np.rint(w).clip(-limit, limit - 1).astype(np.int8)
    w[0], w[-1] = -limit, limit - 1
    w[:, : spec.x.c // 3] = 0
    fitted = spec.fitted(target, w)
    assert fitted.steps
    arranged = [choice for _, choice in fitted.choices(target) if _is_arranged(replace(fitted, choice=choice))]
    check(replace(fitted, choice=arranged[0]), TARGET, weights=w)


def _is_arranged(spec: ConvSpec) -> bool:
    return "arranged" in spec.describe(load_target(TARGET))


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


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    spread=st.sampled_from([3.0, 12.0, 25.0, 60.0]),
    columns=st.sampled_from([8, 16]),
    windows=st.integers(1, 9),
)
def test_arrangements_are_safe_and_use_every_weight_once(seed: int, spread: float, columns: int, windows: int) -> None:
    rng = np.random.default_rng(seed)
    w = np.rint(rng.normal(0, spread, (21, windows, WINDOW))).clip(-128, 127).astype(np.int8)
    w[:, -1, 5:] = 0  # the end of K
    blocks = arrange(w.tobytes(), w.shape, columns)
    assert len(blocks) == -(-len(w) // columns)
    for number, block in enumerate(blocks):
        own = w[number * columns : (number + 1) * columns].astype(np.int64).reshape(-1, windows * WINDOW)
        used: list[int] = []
        for members in (row for found in block.sets.values() for row in found):
            lanes = own.reshape(len(own), -1, 2, 2)[:, members]
            for part in (np.maximum(lanes, 0), np.maximum(-lanes, 0)):
                assert part.sum((1, 3)).max() <= MOST
            used += [4 * group + k for group in members for k in range(4)]
        for window, pairs in block.pairs:
            for a, b in pairs:
                both = own[:, [WINDOW * window + a, WINDOW * window + b]]
                assert a == b or max(np.maximum(both, 0).sum(1).max(), np.maximum(-both, 0).sum(1).max()) <= MOST
                used += [WINDOW * window + k for k in {a, b}]
        assert len(used) == len(set(used))
        assert set(np.flatnonzero(own.any(0))) <= set(used)


def test_weights_that_pair_badly_are_widened() -> None:
    spec, target = conv(TARGET, (1, 5, 5, 128), 16), load_target(TARGET)
    w = np.full((16, 128, 1, 1), 127, np.int8)
    fitted = spec.fitted(target, w)
    assert not _is_arranged(fitted)
    check(fitted, TARGET, weights=w)


def test_one_pixel_and_short_runs_are_not_arranged() -> None:
    target = load_target(TARGET)
    for spec in (conv(TARGET, (1, 1, 1, 256), 16), conv(TARGET, (1, 5, 5, 32), 16)):
        assert not any(spec.fitted(target, heavy_tailed(spec)).steps)


def test_other_weights_than_planned_for_are_an_error() -> None:
    spec, target = conv(TARGET, (1, 5, 5, 128), 16), load_target(TARGET)
    fitted = spec.fitted(target, heavy_tailed(spec))
    ones = np.ones(16, np.int32)
    constants = {"bias": ones, "multiplier": ones * 2**14, "shift": ones}
    with pytest.raises(CompileError, match="other steps than were planned"):
        fitted.pack(target, {"w": np.full((16, 128, 1, 1), 127, np.int8), **constants})
    fewer = replace(fitted, steps=(*fitted.steps[:2], 20, *fitted.steps[3:]))
    with pytest.raises(CompileError, match="other steps than were planned"):
        fewer.pack(target, {"w": heavy_tailed(spec), **constants})
