"""AdaRound: learn for each weight whether it goes up or down.

Nagel et al., "Up or down? Adaptive rounding for post-training quantization" (arXiv 2004.10568): a rectified sigmoid per
weight, pushed to 0 or 1 by a regularizer whose exponent falls. The loss is the exact second moment of the output's
error instead of samples of it, so that no step is noisy; its gradient is one product of matrices, and Adam needs no
framework. Starts from given integers (GPTQ's): a weight moves by at most one step from there.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float64]
Single = NDArray[np.float32]

#: Steps, learning rate, weight of the regularizer, share of the steps without it, exponents from and to.
STEPS, RATE, REGULARIZER, WARM_UP, EXPONENTS = 400, 0.03, 0.05, 0.2, (20.0, 2.0)
#: The sigmoid is stretched to (LOW, HIGH) and cut to [0, 1], as in the paper.
LOW, HIGH = -0.1, 1.1
_MOMENTS, _TINY = (0.9, 0.999), 1e-8


def adaround(targets: Float, covariance: Float, qmax: int, steps: int = STEPS) -> Float:
    """Integers of a layer: each the floor or the ceiling of its real value.

    Args:
        targets: real weights in steps, [groups, rows, K]. covariance: [groups, K, K], damped.
        qmax: integers lie in ±qmax. steps: of the optimizer.

    Returns:
        whole numbers, float64 [groups, rows, K].
    """
    inside = np.clip(targets, -qmax, qmax).astype(np.float32)
    floor = np.minimum(np.floor(inside), qmax - 1)
    power = np.einsum("gkk->gk", covariance).mean(axis=1)
    moments = (covariance / power[:, None, None]).astype(np.float32)
    upward = np.clip(inside - floor, 0.01, 0.99)
    state = _Adam(-np.log((HIGH - LOW) / (upward - LOW) - 1))
    for step in range(steps):
        sigmoid = 1 / (1 + np.exp(-state.value))
        gate = np.clip(sigmoid * (HIGH - LOW) + LOW, 0, 1)
        gradient = 2 * ((floor + gate - targets.astype(np.float32)) @ moments)
        if step >= WARM_UP * steps:
            gradient += REGULARIZER * _push(gate, _exponent(step / steps))
        slope = np.where((gate > 0) & (gate < 1), sigmoid * (1 - sigmoid) * (HIGH - LOW), 0)
        state.move(gradient * slope)
    return np.asarray(floor + (state.value > 0), dtype=np.float64)


def _exponent(progress: float) -> float:
    start, end = EXPONENTS
    share = (progress - WARM_UP) / (1 - WARM_UP)
    return end + (start - end) * 0.5 * (1 + math.cos(share * math.pi))


def _push(gate: NDArray[np.floating], exponent: float) -> Single:
    """Gradient of 1 − |2h − 1|^exponent."""
    centred = 2 * gate - 1
    return np.asarray(-2 * exponent * np.sign(centred) * np.abs(centred) ** (exponent - 1), dtype=np.float32)


class _Adam:
    """Adam (Kingma and Ba, arXiv 1412.6980) on one array."""

    def __init__(self, value: Single) -> None:
        self.value = value
        self._first, self._second, self._steps = np.zeros_like(value), np.zeros_like(value), 0

    def move(self, gradient: Single) -> None:
        self._steps += 1
        self._first = _MOMENTS[0] * self._first + (1 - _MOMENTS[0]) * gradient
        self._second = _MOMENTS[1] * self._second + (1 - _MOMENTS[1]) * gradient**2
        first = self._first / (1 - _MOMENTS[0] ** self._steps)
        second = self._second / (1 - _MOMENTS[1] ** self._steps)
        self.value = self.value - RATE * first / (np.sqrt(second) + _TINY)
