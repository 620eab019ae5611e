"""ShiftGelu of s16 elements and the published form, against the arithmetic of edgeq.integer."""

from __future__ import annotations

import numpy as np
import pytest

from edgeq.compiler.kernels.base import DTYPE_RANGE
from edgeq.compiler.kernels.epilogue.epilogue import NUMPY_DTYPE
from edgeq.compiler.kernels.nonlinear.shift_gelu import ShiftGeluPaperSpec, ShiftGeluSpec, reciprocal_steps
from edgeq.compiler.target import load_target
from edgeq.errors import CompileError
from edgeq.integer.shift_exp import OCTAVE_MAX, OCTAVE_MIN, ShiftGeluConstants, shift_gelu, shift_gelu_constants
from edgeq.integer.shift_gelu_paper import ShiftGeluPaperConstants, shift_gelu_paper, shift_gelu_paper_constants
from tests.support.kernel_runner import run_kernel
from tests.support.views import NATIVE, noise, strided

ALL = [*NATIVE, *(pytest.param(name, marks=pytest.mark.emulated) for name in ("arm-neon", "arm-dotprod"))]


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize(
    ("scale", "dtype", "zero"), [(1e-4, "s16", 0), (3e-5, "u8", 30), (0.004, "s8", -100), (0.3, "s16", 0)]
)
def test_every_s16(name: str, scale: float, dtype: str, zero: int) -> None:
    """All 65536 inputs."""
    x = np.arange(-(2**15), 2**15).astype(np.int16)
    low, high = DTYPE_RANGE[dtype]
    constants = shift_gelu_constants(scale, scale * 2**15 / high, np.int16)
    spec = ShiftGeluSpec((2**16,), (1,), (1,), dtype, constants, zero, low, high)
    got = run_kernel(spec, load_target(name), {"x": x, "y": np.zeros(2**16, NUMPY_DTYPE[dtype])})["y"]
    np.testing.assert_array_equal(got, np.clip(shift_gelu(x, constants) + zero, low, high))


@pytest.mark.parametrize("part", range(8))
def test_reciprocals(part: int) -> None:
    """Every denominator of every octave; nothing on the way leaves 32 bits."""
    for octave in range(OCTAVE_MIN + part, OCTAVE_MAX + 1, 8):
        d = np.arange(16 * octave, 32 * octave + 1, dtype=np.int64)
        steps = reciprocal_steps(d, octave)
        np.testing.assert_array_equal(steps[-1], 2**30 // d)
        assert all(step.min() >= -(2**31) and step.max() < 2**31 for step in steps)


@pytest.mark.parametrize("name", NATIVE)
def test_strided_s16(name: str) -> None:
    x = noise(np.random.default_rng(0), 7 * 40, "s16")
    constants = shift_gelu_constants(1e-3, 1e-3, np.int16)
    spec = ShiftGeluSpec((7, 5), (40, 2), (1, 7), "s16", constants, 0, -32768, 32767)
    got = run_kernel(spec, load_target(name), {"x": x, "y": np.zeros(35, np.int16)}, splits=(1,))["y"]
    seen = strided(x, (7, 5), (40, 2))
    np.testing.assert_array_equal(strided(got, (7, 5), (1, 7)), np.clip(shift_gelu(seen, constants), -32768, 32767))


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("largest", [255, 100, 3])
def test_published_form(name: str, largest: int) -> None:
    """Rows of loud and of quiet tokens, some with nothing above zero."""
    rng = np.random.default_rng(largest)
    x = rng.integers(0, largest + 1, (9, 33)).astype(np.uint8)
    constants = shift_gelu_paper_constants(0.02, 0.01)
    spec = ShiftGeluPaperSpec.of((9, 33), (33, 1), (33, 1), "u8", "u8", constants, 120, 10, 0, 255)
    got = run_kernel(spec, load_target(name), {"x": x, "y": np.zeros((9, 33), np.uint8)}, splits=(4,))["y"]
    np.testing.assert_array_equal(got, np.clip(shift_gelu_paper(x.astype(np.int64) - 120, constants) + 10, 0, 255))


def test_errors() -> None:
    for constants in (
        ShiftGeluConstants(0, 0, 1024, 8, 1, 0),  # an 8-bit head
        ShiftGeluConstants(15, 0, 1024, 15, 1, 0),
        ShiftGeluConstants(0, 0, 1024, 15, 2**16, 0),
    ):
        with pytest.raises(CompileError, match="shift GELU could pass 32 bits"):
            ShiftGeluSpec((4,), (1,), (1,), "s8", constants, 0, -128, 127)
    with pytest.raises(CompileError, match="impossible octave"):
        ShiftGeluSpec((4,), (1,), (1,), "s8", ShiftGeluConstants(0, 0, 2**11, 15, 1, 0), 0, -128, 127)
    for dtype, multiplier in (("s16", 1), ("s8", 2**18)):
        paper = ShiftGeluPaperConstants(30, multiplier, 0)
        with pytest.raises(CompileError, match="shift GELU could pass 32 bits"):
            ShiftGeluPaperSpec.of((4, 4), (4, 1), (4, 1), dtype, "s8", paper, 0, 0, -128, 127)
