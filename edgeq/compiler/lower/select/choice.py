"""Which kernel computes a convolution: of the families that can, exactly, the one with the lowest estimated cost."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from edgeq.compiler.kernels.conv import ConvSpec, accumulator_bounds
from edgeq.compiler.kernels.winograd import MIN_CHANNELS, WinogradSpec, is_exact, word_product
from edgeq.compiler.target import Target

# A form with more memory traffic or a larger artifact has to be that much faster by estimate.
_WINOGRAD_GAIN = 1.1
_STORED_GAIN = 1.15
STORED_BYTES = 64 * 1024  # most that stored transforms may add to an artifact, a layer: small files come first


@dataclass(frozen=True)
class Candidate:
    """A kernel that computes the layer, and its cost times the gain it has to bring."""

    spec: ConvSpec | WinogradSpec
    cost: float


def candidates(direct: ConvSpec, constants: Mapping[str, np.ndarray], target: Target) -> list[Candidate]:
    """Every kernel that computes what `direct` computes, to the bit; the direct one first.

    Args:
        constants: of the layer, as `ConvSpec.pack` takes them.
    """
    found = [Candidate(direct, direct.cost(target))]
    if not _suits_winograd(direct, target):
        return found
    taps = constants["w"].astype(np.int64).reshape(direct.y.c, -1)
    bias = np.asarray(constants["bias"], np.int64).reshape(-1)
    low, high = accumulator_bounds(taps, bias, direct.x_dtype, direct.x_zero_point)
    for m in (2, 4):
        if min(direct.y.h, direct.y.w) < m or not is_exact(m, direct.epilogue, low, high, constants.get("shift")):
            continue
        for stored in (False, True):
            spec = WinogradSpec(
                direct.x, direct.y, direct.x_dtype, m, direct.epilogue, stored, direct.x_zero_point
            )  # fmt: skip
            if not stored or 2 * spec.weight_elements(target) - taps.size <= STORED_BYTES:
                gain = _WINOGRAD_GAIN * (_STORED_GAIN if stored else 1.0)
                found.append(Candidate(spec, spec.cost(target) * gain))
    return found


def _suits_winograd(direct: ConvSpec, target: Target) -> bool:
    window = direct.window
    return (
        (window.kh, window.kw, window.stride_h, window.stride_w) == (3, 3, 1, 1)
        and window.dilation_h == window.dilation_w == 1
        and direct.groups == 1
        and direct.x.c >= MIN_CHANNELS
        and direct.x_dtype in ("u8", "s8")
        and word_product(target) is not None
    )


def cheapest(direct: ConvSpec, constants: Mapping[str, np.ndarray], target: Target) -> ConvSpec | WinogradSpec:
    """The kernel with the lowest estimated cost."""
    return min(candidates(direct, constants, target), key=lambda candidate: candidate.cost).spec
