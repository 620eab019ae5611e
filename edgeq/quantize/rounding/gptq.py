"""GPTQ: round column by column, each time moving the weights not yet rounded so that they make up for the error.

Frantar et al., "GPTQ: accurate post-training quantization for generative pre-trained transformers" (arXiv 2210.17323),
with columns in the order of falling input power and a sweep of coordinate descent behind (Behdin et al., "QuantEase",
arXiv 2309.01885), which only ever lowers the error. The second moments are those of the inputs the integer network
feeds the layer, about their mean: what a changed mean does goes into the bias.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float64]

#: Added to the diagonal, as a share of its mean: inputs that hardly vary in the samples may vary elsewhere. Coarse
#: steps make larger errors there, so that below NARROW bits it is more.
DAMPING, DAMPING_NARROW, NARROW = 0.01, 0.05, 7
#: Columns handled before the rest is updated: one product of matrices instead of many of vectors.
_BLOCK = 64
#: Sweeps of coordinate descent.
SWEEPS = 2


def damped(covariance: Float, damping: float = DAMPING) -> Float:
    """[groups, K, K] with a share of the mean of the diagonal added to it; identity where nothing varies."""
    diagonal = np.einsum("gkk->gk", covariance)
    level = diagonal.mean(axis=1)
    ridge = np.where(level > 0, damping * level, 1.0)
    return np.asarray(covariance + ridge[:, None, None] * np.eye(covariance.shape[-1]))


def gptq(weights: Float, scale: Float, covariance: Float, qmax: int) -> Float:
    """Integers of a layer.

    Args:
        weights: [groups, rows, K], real units. scale: [groups, rows], real units per step.
        covariance: [groups, K, K], damped (positive definite). qmax: integers lie in ±qmax.

    Returns:
        whole numbers, float64 [groups, rows, K].
    """
    order = np.argsort(-np.einsum("gkk->gk", covariance), axis=1, kind="stable")
    sorted_weights = np.take_along_axis(weights, order[:, None, :], axis=2) / scale[:, :, None]
    shuffled = np.take_along_axis(np.take_along_axis(covariance, order[:, :, None], 1), order[:, None, :], 2)
    # Upper factor U of the inverse, H⁻¹ = UᵀU: row k holds what column k's error asks of the columns behind it.
    factor = np.linalg.cholesky(np.linalg.inv(shuffled)).transpose(0, 2, 1)
    values = _by_columns(sorted_weights, factor, qmax)
    back = np.argsort(order, axis=1)
    result = np.take_along_axis(values, back[:, None, :], axis=2)
    return descend(result, weights / scale[:, :, None], covariance, qmax)


def _by_columns(weights: Float, factor: Float, qmax: int) -> Float:
    rest, values = weights.copy(), np.empty_like(weights)
    columns = weights.shape[2]
    for start in range(0, columns, _BLOCK):
        end = min(start + _BLOCK, columns)
        errors = np.empty((*weights.shape[:2], end - start))
        for k in range(start, end):
            values[:, :, k] = np.clip(np.rint(rest[:, :, k]), -qmax, qmax)
            error = (rest[:, :, k] - values[:, :, k]) / factor[:, k, k][:, None]
            rest[:, :, k:end] -= error[:, :, None] * factor[:, None, k, k:end]
            errors[:, :, k - start] = error
        rest[:, :, end:] -= errors @ factor[:, start:end, end:]
    return values


def descend(values: Float, targets: Float, covariance: Float, qmax: int, sweeps: int = SWEEPS) -> Float:
    """Coordinate descent: one column after the other takes the whole number that is best given all others.

    Args:
        values: whole numbers [groups, rows, K]. targets: real weights in steps, the same shape.
    """
    values = values.copy()
    diagonal = np.einsum("gkk->gk", covariance)
    gradient = (values - targets) @ covariance
    for _ in range(sweeps):
        for start in range(0, values.shape[2], _BLOCK):
            block = slice(start, start + _BLOCK)
            local, before = gradient[:, :, block].copy(), values[:, :, block].copy()
            inner = covariance[:, block, block]
            for k in range(local.shape[2]):
                column = values[:, :, start + k]
                best = np.clip(np.rint(column - local[:, :, k] / diagonal[:, start + k, None]), -qmax, qmax)
                local += (best - column)[:, :, None] * inner[:, None, k, :]
                values[:, :, start + k] = best
            moved = values[:, :, block] - before
            gradient += moved @ covariance[:, block, :]
    return values
