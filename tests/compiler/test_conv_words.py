"""Dense convolutions whose sums and epilogues have 16 bits (isa/x86/whole.py) against NumPy."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from edgeq.compiler.kernels.dense.conv import ConvSpec
from edgeq.compiler.lower.select.choice import candidates
from edgeq.compiler.target import load_target
from edgeq.errors import CompileError
from tests.support.layers import Layer

TARGET = "x86-avx2"
POINTWISE = {"kernel": (1, 1), "bits": 4, "post_shift": 0}
LAYERS = {
    "sixteen columns": Layer((5, 9), 16, 16, **POINTWISE),
    "eight more": Layer((7, 5), 24, 24, **POINTWISE),
    "part of a register": Layer((3, 7), 20, 43, gap=3, **POINTWISE),
    "few columns": Layer((4, 4), 8, 5, **POINTWISE),
    "windows": Layer((6, 5), 3, 16, bits=3, post_shift=0),
    "strides and batch": Layer((5, 4), 4, 24, strides=(2, 2), batch=2, bits=3, post_shift=0, relu=True),
    "shifts to the left": Layer((5, 5), 16, 40, left=3, **POINTWISE),
    "post shift": Layer((5, 5), 16, 40, kernel=(1, 1), bits=4, post_shift=3),
}


def words_of(layer: Layer) -> ConvSpec:
    """The layer's kernel of 16-bit sums; weights and shifts are made small enough."""
    numbers = layer.constants
    numbers["bias"] = numbers["bias"] // 20
    numbers["shift"] = np.minimum(numbers["shift"], 2)
    limit = 120 * 2 // numbers["w"][0].size  # of a column's magnitudes
    numbers["w"] = np.clip(numbers["w"], -limit, limit).astype(np.int8)
    spec = layer.spec(load_target(TARGET))
    assert isinstance(spec, ConvSpec)
    found = spec.in_words(load_target(TARGET), numbers)
    assert found is not None
    return found


@pytest.mark.parametrize("case", LAYERS)
def test_same_bits(case: str) -> None:
    layer, target = LAYERS[case], load_target(TARGET)
    spec = words_of(layer)
    assert "whole" in spec.describe(target)
    for choice in {spec.choices(target)[0][1], spec.choices(target)[-1][1]}:
        np.testing.assert_array_equal(layer.run(target, spec=replace(spec, choice=choice)), layer.expected)


def test_extreme_weights_and_activations() -> None:
    layer = Layer((6, 6), 16, 48, extreme=True, **POINTWISE)
    np.testing.assert_array_equal(layer.run(load_target(TARGET), spec=words_of(layer)), layer.expected)


def test_it_is_taken_where_k_is_short() -> None:
    target = load_target(TARGET)
    layer = Layer((28, 28), 16, 96, **POINTWISE)
    direct = replace(words_of(layer), epilogue=layer.epilogue(128, layer.spec(target).y)).fitted(
        target, layer.constants["w"]
    )
    assert candidates(direct, layer.constants, target)[0].label.startswith("16-bit sums")


@pytest.mark.parametrize(
    "layer",
    [
        Layer((4, 4), 64, 16, kernel=(1, 1), bits=8),  # sums pass 16 bits
        Layer((4, 4), 16, 16, residual=True, **POINTWISE),
        Layer((4, 4), 16, 16, lut=True, **POINTWISE),
        Layer((4, 4), 16, 16, form="single", **POINTWISE),
        Layer((4, 4), 16, 16, groups=2, **POINTWISE),
        Layer((4, 4), 16, 16, x_dtype="s16", **POINTWISE),
    ],
)
def test_others_are_left_alone(layer: Layer) -> None:
    spec = layer.spec(load_target(TARGET))
    assert isinstance(spec, ConvSpec)
    assert spec.in_words(load_target(TARGET), layer.constants) is None
    assert replace(spec, x_dtype="s8").in_words(load_target("arm-neon"), layer.constants) is None


def test_weights_that_were_not_planned_for() -> None:
    layer = Layer((4, 4), 16, 16, **POINTWISE)
    spec = words_of(layer)
    with pytest.raises(CompileError, match=r"too large for sums in 16 bits\n  why: a column's sum can pass them"):
        spec.pack(load_target(TARGET), layer.constants | {"w": np.full((16, 16, 1, 1), 9, np.int8)})
