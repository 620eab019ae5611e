"""Rounding one layer: its weights, its inputs' moments, and how chosen integers become the layer's weights and bias."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgeq.quantize.integerize.weights import ACCUMULATOR_LIMIT, QuantizedWeights, admissible
from edgeq.quantize.plan import Plan
from edgeq.quantize.products import Product, extent_of, read_quant
from edgeq.quantize.rounding.gptq import DAMPING, DAMPING_NARROW, NARROW, damped
from edgeq.quantize.rounding.gram import Gram
from edgeq.quantize.topology import name_of

Float = NDArray[np.float64]


@dataclass(frozen=True)
class Problem:
    """A layer to round.

    Attributes:
        weights: [groups, rows, K], real units.
        targets: the same, what the integers approach: the weights, or what makes up for the input's own drift.
        covariance: [groups, K, K] of the input, damped. mean: [groups, K].
        bits: of the weights; qmax = 2^(bits−1) − 1.
        bias: [groups · rows], real units.
        x_scale, x_extent: of the input: real units per step, largest |q − zero point|.
        y_scale: of the output. power_of_two: scales lie on the grid of shifts.
    """

    weights: Float
    targets: Float
    covariance: Float
    mean: Float
    bits: int
    bias: Float
    x_scale: float
    x_extent: int
    y_scale: float
    power_of_two: bool = False

    @classmethod
    def of(cls, plan: Plan, product: Product, gram: Gram, bits: int) -> Problem:
        """The problem of a layer of a plan."""
        rows = product.rows.astype(np.float64)
        weights = rows.reshape(product.group, -1, rows.shape[1])
        covariance = damped(gram.covariance, DAMPING if bits >= NARROW else DAMPING_NARROW)
        x = read_quant(plan, product)
        return cls(
            weights=weights,
            targets=weights if gram.cross is None else _drifted(weights, covariance, gram.covariance, gram.cross),
            covariance=covariance,
            mean=gram.mean,
            bits=bits,
            bias=np.zeros(len(rows)) if product.bias is None else product.bias.astype(np.float64),
            x_scale=x.scale,
            x_extent=extent_of(x),
            y_scale=plan.quant(name_of(product.layer.output)).scale,
            power_of_two=plan.policy.layer(*product.layer.names).scale == "pow2",
        )

    @property
    def qmax(self) -> int:
        """Integers lie in ±qmax."""
        return int(2 ** (self.bits - 1) - 1)

    def usable(self, scale: Float) -> Float:
        """Scales [groups, rows] that the integer layer can have, near those wanted."""
        flat = admissible(
            scale.reshape(-1),
            self.bias,
            x_scale=self.x_scale,
            y_scale=self.y_scale,
            power_of_two=self.power_of_two,
        )
        return flat.reshape(scale.shape)

    def error(self, values: Float, scale: Float) -> Float:
        """Variance of the output's error per row, real units squared: [groups, rows]."""
        change = values * scale[:, :, None] - self.targets
        return np.asarray(np.sum((change @ self.covariance) * change, axis=-1))

    def finish(self, values: Float, scale: Float) -> QuantizedWeights | None:
        """Weights and bias of the layer; None if an accumulator could leave 32 bits.

        The bias takes up the mean change of the output. Args: whole numbers [groups, rows, K], scales [groups, rows].
        """
        flat = scale.reshape(-1)
        shift = np.einsum("grk,gk->gr", values * scale[:, :, None] - self.weights, self.mean).reshape(-1)
        bias = np.rint((self.bias - shift) / (self.x_scale * flat))
        integers = values.reshape(len(flat), -1)
        bound = np.abs(integers).sum(axis=1) * self.x_extent + np.abs(bias)
        if bound.max(initial=0) > ACCUMULATOR_LIMIT:
            return None
        return QuantizedWeights(integers.astype(np.int8), flat, bias.astype(np.int32), bound.astype(np.int64))


def _drifted(weights: Float, covariance: Float, plain: Float, cross: Float) -> Float:
    """Weights that give on the integer network's input x̂ what the originals give on the float network's x.

    Ridge regression: argmin over V of Var(W·x − V·x̂) + |V − W|² · λ, λ being the damping in `covariance`.
    """
    wanted = cross + (covariance - plain)
    return np.asarray(np.linalg.solve(covariance, (weights @ wanted).transpose(0, 2, 1)).transpose(0, 2, 1))
