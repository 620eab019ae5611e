"""Two weights in a halfword: where it is exact, and layers at the ends of its range."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from edgeq.compiler.kernels.base import Epilogue, Image
from edgeq.compiler.kernels.dense.conv import ConvSpec
from edgeq.compiler.kernels.micro.paired_conv import PairedConvSpec, pairable, settled

NARROW = Epilogue("narrow", "s8", -3, -128, 127, 6)


def convolution(channels: int, outputs: int, epilogue: Epilogue = NARROW) -> ConvSpec:
    return ConvSpec(Image.dense(1, 4, 4, channels), Image.dense(1, 4, 4, outputs), "s8", 1, 1, epilogue)


def constants(weights: np.ndarray, shift: int = 8, bias: int = 0) -> dict[str, np.ndarray]:
    n = len(weights)
    filled = {"bias": bias, "multiplier": 20000, "shift": shift}
    return {"w": weights.astype(np.int8)[:, :, None, None]} | {k: np.full(n, v, np.int32) for k, v in filled.items()}


def test_odd_channels_have_24_bits() -> None:
    weights = np.full((2, 513), 127)  # 127 · 513 · 128 = 8 339 328, with the rounding still below 2^23
    assert pairable(convolution(513, 2), constants(weights))
    weights = np.full((2, 520), 127)
    assert not pairable(convolution(520, 2), constants(weights))
    weights[1] = 1  # the even channel may be as large as it likes
    assert pairable(convolution(520, 2), constants(weights))


def test_only_even_channels_may_hold_the_lowest_weight() -> None:
    weights = np.full((2, 4), -1)
    weights[0] = -128
    assert pairable(convolution(4, 2), constants(weights))
    assert not pairable(convolution(4, 2), constants(weights[::-1]))


def test_dead_channels_keep_the_family() -> None:
    weights = np.zeros((2, 4), np.int64)
    assert pairable(convolution(4, 2), constants(weights, shift=21, bias=2**30))
    assert pairable(convolution(4, 2), constants(weights + 5, shift=28))


@pytest.mark.parametrize(("low", "high", "shift", "fixed"), [
    (2**30, 2**30, 21, True),
    (-1000, 1000, 20, True),
    (-1000, 1000, 10, False),
    (5000, 5001, 12, False),
])  # fmt: skip
def test_settled(low: int, high: int, shift: int, fixed: bool) -> None:
    same, value = settled(np.array([low]), np.array([high]), np.array([shift]))
    assert bool(same[0]) is fixed
    assert value[0] == np.clip((low + 2 ** (shift - 1)) >> shift, -(2**15), 2**15 - 1)


def test_packed_words_hold_both_channels() -> None:
    rng = np.random.default_rng(3)
    weights = rng.integers(-127, 128, (6, 16))
    spec = PairedConvSpec(convolution(16, 6))
    packed = spec.pack(None, constants(weights))  # type: ignore[arg-type] - nothing here depends on the target
    halves = packed["w"].view("<i2").astype(np.int64).reshape(3, 16)
    order = np.arange(16).reshape(-1, 4)[:, [0, 2, 1, 3]].reshape(-1)
    assert np.array_equal(halves, 256 * weights[1::2, order] + weights[0::2, order])


def test_equal_pixels_fill_rows() -> None:
    spec = PairedConvSpec(convolution(8, 8))
    assert spec.tasks() == 1  # pointwise and dense: one row of 16 pixels
    gap = replace(spec.conv, y=Image(1, 4, 3, 8, 200, 40, 8), x=Image.dense(1, 4, 3, 8))
    assert PairedConvSpec(gap).raster
