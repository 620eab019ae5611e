"""Minimal filtering F(m×m, 3×3) in integers, m = 2 and 4: matrices, their addition chains, and the exactness bounds.

Winograd's algorithm computes m × m outputs of a 3×3 convolution as Y = Aᵀ·[(G·w·Gᵀ) ∘ (Bᵀ·x·B)]·A, with (m + 2)²
products in place of 9·m². Here every row of G is scaled to integers, so that Y holds multiples of the convolution:

    m = 2    4 · acc                            (2·G; Lavin & Gray, arXiv 1509.09308, have G, B and A)
    m = 4    9 · 2^(s_i + s_j) · acc            s = (3, 2, 1, 1) by output row and column

All additions may wrap modulo 2^32. 9 is odd, so a multiplication by 9⁻¹ · 2^(6 − s_i − s_j) modulo 2^32 gives 64 · acc
in every position, and an arithmetic shift gives acc itself if and only if −2^25 <= acc < 2^25 (2^29 for m = 2). Whoever
compiles a layer checks this for each of its channels (`exact_limit`).

The transformed weights and inputs are s16: `weight_bound` and `input_bounds` prove it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

IntArray = np.ndarray[Any, np.dtype[Any]]
Vector = Any  # a NumPy array or a TIR vector: both know + and −

_INVERSE_OF_9 = 954437177  # 9 · 954437177 = 1 modulo 2^32


@dataclass(frozen=True)
class Arithmetic:
    """What the chains need beside + and −.

    Attributes:
        keep: names a value that is used more than once.
        times: product with a small constant.
    """

    keep: Callable[[Vector], Vector]
    times: Callable[[Vector, int], Vector]


PLAIN = Arithmetic(lambda value: value, lambda value, factor: value * factor)

Chain = Callable[[Sequence[Vector], Arithmetic], list[Vector]]


def _weights_2(g: Sequence[Vector], a: Arithmetic) -> list[Vector]:
    ends = a.keep(g[0] + g[2])
    return [a.times(g[0], 2), ends + g[1], ends - g[1], a.times(g[2], 2)]


def _weights_4(g: Sequence[Vector], a: Arithmetic) -> list[Vector]:
    ends, outer, middle = a.keep(g[0] + g[2]), a.keep(g[0] + a.times(g[2], 4)), a.keep(a.times(g[1], 2))
    # The first and the last row could stay as they are; times 6 the outputs needn't multiply them.
    return [a.times(g[0], 6), ends + g[1], ends - g[1], outer + middle, outer - middle, a.times(g[2], 6)]


def _inputs_2(d: Sequence[Vector], a: Arithmetic) -> list[Vector]:
    return [d[0] - d[2], d[1] + d[2], d[2] - d[1], d[1] - d[3]]


def _inputs_4(d: Sequence[Vector], a: Arithmetic) -> list[Vector]:
    even, odd = a.keep(d[4] - d[2]), a.keep(a.times(d[3] - d[1], 2))
    far, near = a.keep(d[4] - a.times(d[2], 4)), a.keep(d[3] - a.times(d[1], 4))
    return [
        a.times(d[0] - d[2], 4) + even,
        far + near,
        far - near,
        even + odd,
        even - odd,
        (d[5] - d[3]) - a.times(odd, 2),
    ]


def _outputs_2(m: Sequence[Vector], a: Arithmetic) -> list[Vector]:
    return [m[0] + m[1] + m[2], m[1] - m[2] - m[3]]


def _outputs_4(m: Sequence[Vector], a: Arithmetic) -> list[Vector]:
    sum1, difference1 = a.keep(m[1] + m[2]), a.keep(m[1] - m[2])
    sum2, difference2 = a.keep(m[3] + m[4]), a.keep(m[3] - m[4])
    return [
        m[0] + (sum2 - a.times(sum1, 4)),
        difference2 - a.times(difference1, 2),
        sum2 - sum1,
        a.times(difference2, 2) + (m[5] - difference1),
    ]


@dataclass(frozen=True, eq=False)
class Transform:
    """One F(m×m, 3×3).

    Attributes:
        m: outputs along one axis.
        weights, inputs, outputs: addition chains along one axis: 3 -> m + 2, m + 2 -> m + 2, m + 2 -> m.
        scales: log2 of the even part of each output's factor, along one axis.
        inverse: of the odd part of the factor, modulo 2^32.
        start: what an initial value at position (1, 1) is to be multiplied by to be added to every accumulator.
        lift: the common factor of all outputs after `factor` is 2^lift.
    """

    m: int
    weights: Chain
    inputs: Chain
    outputs: Chain
    scales: tuple[int, ...]
    inverse: int
    start: int
    lift: int

    @property
    def taps(self) -> int:
        """Inputs along one axis of a tile."""
        return self.m + 2

    @property
    def positions(self) -> int:
        """Products a tile, an input channel and an output channel take."""
        return self.taps**2

    @property
    def center(self) -> int:
        """Number of position (1, 1), whose products reach every output."""
        return self.taps + 1

    @property
    def exact_limit(self) -> int:
        """Every accumulator, start value included, must lie in [−limit, limit)."""
        limit: int = 2 ** (31 - self.lift)
        return limit

    def factor(self, row: int, column: int) -> int:
        """What output (row, column) is multiplied by, modulo 2^32 and as a signed number, to be 2^lift · acc."""
        value: int = (self.inverse << (self.lift - self.scales[row] - self.scales[column])) % 2**32
        return value - 2**32 if value >= 2**31 else value

    def transform_weights(self, w: IntArray) -> IntArray:
        """int [..., 3, 3] -> int64 [..., positions]."""
        rows = self.weights(list(np.moveaxis(np.asarray(w, np.int64), -2, 0)), PLAIN)
        both = [self.weights(list(np.moveaxis(row, -1, 0)), PLAIN) for row in rows]
        return np.stack([value for line in both for value in line], axis=-1)

    def matrix(self, chain: Chain, size: int) -> IntArray:
        """The matrix of a chain that takes `size` values."""
        return np.stack(chain(list(np.eye(size, dtype=np.int64)), PLAIN))

    def weight_bound(self) -> int:
        """Largest |transformed weight| for weights of −128 … 127."""
        sums = np.abs(self.matrix(self.weights, 3)).sum(1)
        return int(sums.max()) ** 2 * 128

    def input_bounds(self, low: int, high: int) -> tuple[int, int]:
        """Interval of transformed inputs for inputs of low … high, all intermediate sums of both passes included."""
        rows = self.matrix(self.inputs, self.taps)
        both = np.einsum("ik,jl->ijkl", rows, rows).reshape(self.positions, -1)
        positive, negative = np.maximum(both, 0).sum(1), np.minimum(both, 0).sum(1)
        return int((positive * low + negative * high).min()), int((positive * high + negative * low).max())


TRANSFORMS: dict[int, Transform] = {
    2: Transform(2, _weights_2, _inputs_2, _outputs_2, (1, 1), 1, 4, 2),
    4: Transform(4, _weights_4, _inputs_4, _outputs_4, (3, 2, 1, 1), _INVERSE_OF_9, 36, 6),
}
