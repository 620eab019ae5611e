"""Two economies of small weights: sums of products that stay in 16 bits for a while, and several weights a byte.

**Sums in 16 bits.** A lane of 16 bits that has added up the products of weights w with activations in [lo, hi] holds
between P·lo − N·hi and P·hi − N·lo, P and N being the sums of its positive and of its negative weights' magnitudes.
Where that interval lies inside 16 bits for every lane of a window of K, no order of additions can change the result:
additions wrap and come back, and a saturating pair is a part of the window, so its interval is too. The weights are
known when a layer is compiled, so the window is as long as they allow, not as long as their width would allow.

**Packed weights.** A weight of `bits` bits is stored as w + 2^(bits−1); one bit stores (w + 1) / 2, for w = ±1. Each
byte of a packed register holds the same place of 8 / bits consecutive groups of K, the first in the lowest bits.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edgeq.compiler.isa.base import Expr, IntArray, lanes_of
from edgeq.compiler.isa.lazy import tir

LIMITS = -(2**15), 2**15 - 1
# Groups of a window that are tried, longest first.
LONGEST = 64  # groups of a run that may be one window
DEPTHS = (48, 40, 32, 24, 16, 12, 8, 6, 4, 3, 2, 1)


def safe_depth(lanes: IntArray, low: int, high: int, depths: Sequence[int]) -> int:
    """The first of `depths`, numbers of groups, whose products may be summed in 16 bits; 0: none.

    Args:
        lanes: int [..., groups, lanes of 16 bits, weights that a lane sums in one group]; windows start at group 0.
        low, high: interval of the activations as the instruction reads them.
    """
    groups = lanes.shape[-3]
    totals = []
    for part in (np.maximum(lanes, 0), np.minimum(lanes, 0)):
        sums = np.zeros((*lanes.shape[:-3], groups + 1, lanes.shape[-2]), np.int32)
        np.cumsum(part.sum(-1, dtype=np.int32), axis=-2, out=sums[..., 1:, :])
        totals.append(sums)
    for depth in depths:
        edges = np.unique(np.append(np.arange(0, groups, depth), groups))
        positive, negative = (np.diff(sums[..., edges, :], axis=-2) for sums in totals)
        if not positive.size:
            return depth
        most, least = positive * high + negative * low, positive * low + negative * high
        if most.max() <= LIMITS[1] and least.min() >= LIMITS[0]:
            return depth
    return 0


def least_bits(weights: IntArray) -> int:
    """Narrowest of 1, 2, 4 and 8 bits that hold these weights as the packed form has them."""
    low, high = int(weights.min(initial=0)), int(weights.max(initial=0))
    if weights.size and np.all(np.abs(weights) == 1):
        return 1
    return next(bits for bits in (2, 4, 8) if -(1 << (bits - 1)) <= low and high < 1 << (bits - 1))


def pack(weights: IntArray, bits: int) -> IntArray:
    """int8 [groups, ...] of `bits` bits -> int8 [⌈groups / per byte⌉, ...]; missing groups are stored as 0 bits."""
    if bits == 8:
        return weights
    per = 8 // bits
    codes = (weights.astype(np.int16) + 1) // 2 if bits == 1 else weights.astype(np.int16) + (1 << (bits - 1))
    padded = np.zeros((-(-len(codes) // per) * per, *codes.shape[1:]), np.uint8)
    padded[: len(codes)] = codes
    parts = padded.reshape(-1, per, *codes.shape[1:])
    shifted = [parts[:, j] << np.uint8(bits * j) for j in range(per)]
    packed: IntArray = np.bitwise_or.reduce(shifted).view(np.int8)
    return packed


def unpack(packed: Expr, bits: int, part: int) -> Expr:
    """Group `part` of packed bytes (u8 lanes, bound to a name) as s8 lanes."""
    op, lanes = tir.tirx.op, lanes_of(packed)

    def splat(value: int) -> Expr:
        return tir.broadcast(tir.const(value, "uint8"), lanes)

    value = packed
    if bits == 1:  # twice the bit, minus one
        value = op.shift_right(value, splat(part - 1)) if part > 1 else value if part else value + value
        value = (value & splat(2)) - splat(1)
        return tir.reinterpret(f"int8x{lanes}", value)
    value = op.shift_right(value, splat(bits * part)) if part else value
    if part < 8 // bits - 1:
        value = value & splat((1 << bits) - 1)
    return tir.reinterpret(f"int8x{lanes}", value - splat(1 << (bits - 1)))
