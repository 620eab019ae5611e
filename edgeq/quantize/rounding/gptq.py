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
    for start in range(0, weights.shape[2], _BLOCK):
        block = slice(start, min(start + _BLOCK, weights.shape[2]))
        columns, inner = _columns(rest[:, :, block]), factor[:, block, block]
        errors = np.empty_like(columns)
        for k, column in enumerate(columns):
            whole = _nearest(column, qmax)
            values[:, :, start + k] = whole
            np.divide(column - whole, inner[:, k, k, None], out=errors[k])
            columns[k:] -= errors[k] * inner[:, k, k:].T[:, :, None]
        rest[:, :, block.stop :] -= _rows(errors) @ factor[:, block, block.stop :]
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
            block = slice(start, min(start + _BLOCK, values.shape[2]))
            local, columns = _columns(gradient[:, :, block]), _columns(values[:, :, block])
            inner, before = covariance[:, block, block], columns.copy()
            for k, column in enumerate(columns):
                best = _nearest(column - local[k] / diagonal[:, start + k, None], qmax)
                moved = best - column
                if moved.any():
                    local += moved * inner[:, k].T[:, :, None]
                    columns[k] = best
            columns -= before
            if columns.any():
                change = _rows(columns)
                values[:, :, block] += change
                gradient += change @ covariance[:, block, :]
    return values


def _columns(block: Float) -> Float:
    """[groups, rows, columns] -> a copy [columns, groups, rows]: what a step works on lies together."""
    return np.array(block.transpose(2, 0, 1), order="C")


def _rows(columns: Float) -> Float:
    """The way back."""
    return np.ascontiguousarray(columns.transpose(1, 2, 0))


def _nearest(column: Float, qmax: int) -> Float:
    """The whole number nearest to each value, within ±qmax."""
    whole = np.rint(column)
    np.maximum(whole, -qmax, out=whole)
    return np.asarray(np.minimum(whole, qmax, out=whole))
