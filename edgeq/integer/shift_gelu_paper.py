"""ShiftGELU as published with I-ViT (arXiv 2207.01405), for comparison only: constants and row arithmetic.

It depends on the largest value of the token (the last axis), and errs by many output steps where that is far from the
element: `ShiftGelu` is the form to use. With real step σ, n = 23 and X = ceil(1/(1.702·σ)) input steps per octave:

    ShiftExp of z (z <= 0 for elements, any sign for −max):
        p = z + (z >> 1) − (z >> 4)                       floors, as published
        p = max(p, −n·X)
        k = floor(−p / X);  ρ = −p − k·X                  k may be negative for z > 0
        E = ((2·X − ρ) << min(n − k, 40)) >> 1            the published floor((X − ρ/2)·2^(n − k)); 40: see below
    E  = ShiftExp(x − max),  E0 = ShiftExp(−max)          e^(x − max) and e^(−max) in one unit
    D  = min(E + E0, 2^31 − 1)                            the published clamp
    g  = (E·((2^31 − 1) // D)) >> 24                      σ in Q7, 0 … 127
    y  = clamp(zero_point + rshift(x·g·multiplier, shift))

Widths: X < 256 (published: 1.702·σ > 1/256, or the exponential leaves 32 bits), so E of an element is below 2^31; E0 of
a row whose values are all negative isn't bounded as published: its shift is limited to 40, which D's clamp can't tell
from any larger one, and it takes **64 bits** (under 2^50). E <= D, so E·((2^31 − 1) // D) < 2^31.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeq.errors import CompileError
from edgeq.integer.arithmetic import ratio_constants, round_shift

DEPTH = 23
"""n: fraction bits of the published exponential."""
OCTAVE_MAX = 255
SHIFT_MAX = 40
CEILING = 2**31 - 1
OUT_BITS = 7

IntArray = NDArray[Any]


@dataclass(frozen=True)
class ShiftGeluPaperConstants:
    """Attributes of `ShiftGeluPaper` that depend on the scales."""

    octave: int
    multiplier: int
    shift: int

    def attributes(self) -> dict[str, int]:
        """As keyword arguments for `builder.emit(…, "ShiftGeluPaper", …)`."""
        return asdict(self)


def shift_gelu_paper_constants(scale: float, out_scale: float) -> ShiftGeluPaperConstants:
    """Constants for 8-bit x of real step `scale` and an output step `out_scale`.

    Raises:
        CompileError: 1.702·scale is not above 1/256, as the published form needs.
    """
    if not (math.isfinite(scale) and 1.702 * scale * 256 > 1 and math.ceil(1 / (1.702 * scale)) <= OCTAVE_MAX):
        raise CompileError(
            "the published ShiftGELU can't take so fine a scale",
            why=f"1.702·{scale} must be above 1/256, or its exponential leaves 32 bits",
            hint="use shiftgelu or lut for this layer",
        )
    multiplier, shift = ratio_constants(scale / out_scale / 2**OUT_BITS, bits=15)
    return ShiftGeluPaperConstants(math.ceil(1 / (1.702 * scale)), multiplier, shift)


def _exponential(z: IntArray, octave: int) -> IntArray:
    p = np.maximum(z + (z >> 1) - (z >> 4), -DEPTH * octave)
    k = (-p) // octave
    result: IntArray = ((2 * octave + p + k * octave) << np.minimum(DEPTH - k, SHIFT_MAX)) >> 1
    return result


def shift_gelu_paper(x: IntArray, constants: ShiftGeluPaperConstants) -> IntArray:
    """GELU in steps of the output, before zero point and clamp, int64.

    Args:
        x: integers [..., n], zero point taken off, |x| <= 255.
    """
    c, x = constants, x.astype(np.int64)
    largest = x.max(axis=-1, keepdims=True)
    e = _exponential(x - largest, c.octave)
    total = np.minimum(e + _exponential(-largest, c.octave), CEILING)
    g = (e * (CEILING // total)) >> (31 - OUT_BITS)
    return round_shift(x * g * c.multiplier, c.shift)
