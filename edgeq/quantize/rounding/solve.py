"""The integers of a layer by a named algorithm: the best scale for each row, then the report of what was gained."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from edgeq.quantize.integerize.weights import QuantizedWeights
from edgeq.quantize.plan import Plan
from edgeq.quantize.products import Product, plain_weights
from edgeq.quantize.rounding.adaround import adaround
from edgeq.quantize.rounding.clip import NO_CLIPPING_FROM, candidates
from edgeq.quantize.rounding.gptq import descend, gptq
from edgeq.quantize.rounding.gram import Gram
from edgeq.quantize.rounding.problem import Problem
from edgeq.quantize.rounding.rescale import rescale
from edgeq.quantize.session import default_threads

Float = NDArray[np.float64]


def nearest(problem: Problem, scale: Float) -> Float:
    """Whole numbers nearest to the weights: [groups, rows, K]."""
    return np.asarray(np.clip(np.rint(problem.targets / scale[:, :, None]), -problem.qmax, problem.qmax))


def by_columns(problem: Problem, scale: Float) -> Float:
    """GPTQ and coordinate descent."""
    return gptq(problem.targets, scale, problem.covariance, problem.qmax)


def learned(problem: Problem, scale: Float) -> Float:
    """AdaRound, then coordinate descent."""
    targets = problem.targets / scale[:, :, None]
    return descend(adaround(targets, problem.covariance, problem.qmax), targets, problem.covariance, problem.qmax)


ROUNDINGS: dict[str, Callable[[Problem, Float], Float]] = {
    "nearest": nearest,
    "gptq": by_columns,
    "adaround": learned,
}


def solve(plan: Plan, product: Product, gram: Gram, bits: int, rounding: str, clip: str | None) -> QuantizedWeights:
    """Integers of one layer.

    Args:
        plan: what surrounds the layer. gram: moments of its integer input.
        bits: 2 … 8. rounding: one of ROUNDINGS. clip: see `clip.candidates`.

    Returns:
        the rows whose output errs least over the scales tried, below 7 bits with a scale fitted to the integers
        (`rescale.py`) where the caller leaves it open; plain rounding where an accumulator could overflow.
    """
    problem = Problem.of(plan, product, gram, bits)
    best_values, best_scale = np.zeros_like(problem.targets), np.ones(problem.targets.shape[:2])
    least = np.full(best_scale.shape, np.inf)
    for scale in candidates(problem, clip):
        values = ROUNDINGS[rounding](problem, scale)
        error = problem.error(values, scale)
        better = error < least
        best_values = np.where(better[:, :, None], values, best_values)
        best_scale, least = np.where(better, scale, best_scale), np.where(better, error, least)
    if bits < NO_CLIPPING_FROM and clip is None and rounding != "nearest":
        best_values, best_scale = rescale(problem, best_values, best_scale)
    return problem.finish(best_values, best_scale) or plain_weights(plan, product, bits)


def solve_all(
    plan: Plan,
    layers: Sequence[Product],
    grams: Mapping[str, Gram],
    bits: Mapping[str, int],
    rounding: Mapping[str, str],
    clip: Mapping[str, str | None],
    threads: int | None = None,
) -> dict[str, QuantizedWeights]:
    """Integers of several layers, by layer name; the mappings are by layer name as well."""

    def one(product: Product) -> QuantizedWeights:
        name = product.layer.name
        return solve(plan, product, grams[name], bits[name], rounding[name], clip[name])

    # Layers run side by side; a library's own threads inside them would only wait for one another.
    with threadpool_limits(1, "blas"), ThreadPoolExecutor(threads or default_threads()) as pool:
        # The longest first, so that none is left over when all others are done: each takes about rows · K².
        first = sorted(layers, key=lambda p: -p.rows.size * p.rows.shape[1])
        done = {p.layer.name: weights for p, weights in zip(first, pool.map(one, first), strict=True)}
    return {p.layer.name: done[p.layer.name] for p in layers}
