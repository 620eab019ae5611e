"""Random convolutions: NumPy, AVX2, AVX-512 VNNI, Neon and Neon with dot products agree on every bit."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgeq.compiler.target import load_target
from tests.support.layers import Layer

TARGETS = ["x86-avx2", "x86-vnni", "arm-neon", "arm-dotprod"]
SWEEP = settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))

pytestmark = [pytest.mark.full, pytest.mark.emulated]

# Vector widths, their neighbours, and small primes.
CHANNELS = st.one_of(st.integers(1, 40), st.sampled_from([48, 63, 64, 65, 80, 96, 127, 128, 144]))
SMALL = st.integers(1, 3)


@st.composite
def epilogues(draw: st.DrawFn) -> dict[str, object]:
    """Epilogue, data types and the surroundings of a layer."""
    form = draw(st.sampled_from(["narrow", "narrow", "single", "none"]))
    wide = form == "single" and draw(st.booleans())
    x_dtype = draw(st.sampled_from(["s8", "s8", "s8", "s16"]))
    return {
        "x_dtype": x_dtype,
        "form": form,
        "dtype": "s16" if wide else "s8",
        "post_shift": draw(st.integers(0, 6)),
        "left": draw(st.sampled_from([0, 0, 0, 1, 6])) if x_dtype == "s8" else 0,
        "bits": draw(st.sampled_from([8, 8, 4])),
        "relu": draw(st.booleans()),
        "lut": form != "none" and not wide and draw(st.integers(0, 3)) == 0,
        "residual": form != "none" and draw(st.integers(0, 2)) == 0,
        "gap": draw(st.sampled_from([0, 0, 1, 5])),
        "extreme": draw(st.integers(0, 5)) == 0,
        "batch": draw(st.integers(1, 2)),
        "seed": draw(st.integers(0, 2**31)),
    }


@st.composite
def windows(draw: st.DrawFn, largest: int) -> dict[str, object]:
    """Output size, kernel, strides and dilations."""
    taps = st.integers(1, largest)
    kernel = draw(st.one_of(st.sampled_from([(1, 1), (3, 3), (5, 5), (1, 7), (7, 1)]), st.tuples(taps, taps)))
    strides = draw(st.one_of(st.sampled_from([(1, 1), (2, 2)]), st.tuples(SMALL, SMALL)))
    dilations = draw(st.one_of(st.just((1, 1)), st.tuples(SMALL, SMALL)))
    size = (draw(st.integers(1, 7)), draw(st.integers(1, 17)))
    return {"kernel": kernel, "strides": strides, "dilations": dilations, "size": size}


@st.composite
def depthwise_layers(draw: st.DrawFn) -> Layer:
    channels = draw(CHANNELS)
    multiplier = draw(st.sampled_from([1] * 6 + [2, 3, 4, 20])) if channels < 20 else 1
    common = draw(windows(largest=9)) | draw(epilogues())
    return Layer(channels=channels, outputs=channels * multiplier, groups=channels, depthwise=True, **common)  # type: ignore[arg-type]


@st.composite
def dense_layers(draw: st.DrawFn) -> Layer:
    groups = draw(st.sampled_from([1, 1, 1, 2, 3]))
    most = 144 if groups == 1 else 24
    channels, outputs = (min(draw(CHANNELS), most) * groups for _ in range(2))
    common = draw(windows(largest=5)) | draw(epilogues())
    return Layer(channels=channels, outputs=outputs, groups=groups, **common)  # type: ignore[arg-type]


def agree(layer: Layer) -> None:
    """No value differs from NumPy's on any target, whatever the split."""
    for name in TARGETS:
        target = load_target(name)
        tasks = layer.spec(target).tasks()
        splits = (layer.seed % tasks,) if tasks > 1 and layer.seed % tasks else ()
        np.testing.assert_array_equal(layer.run(target, splits), layer.expected, err_msg=f"{name}: {layer}")


@SWEEP
@given(depthwise_layers())
def test_depthwise(layer: Layer) -> None:
    agree(layer)


@SWEEP
@given(dense_layers())
def test_dense(layer: Layer) -> None:
    agree(layer)
