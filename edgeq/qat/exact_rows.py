"""Softmax and normalization of the integer dialect in torch, int64 throughout: the steps of docs/integer-ops.md."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from edgeq.integer.exp2 import FRACTION_BITS, LINEAR, QUADRATIC, T_MAX
from edgeq.integer.shift_exp import OCTAVES, ONE_BITS
from edgeq.qat.node import Form, Node, Tensor


def round_shift(value: Tensor, shift: Tensor | int) -> Tensor:
    """(value + 2^(shift−1)) >> shift, round half up; int64."""
    half = (1 << shift) >> 1 if isinstance(shift, int) else (torch.ones_like(shift) << shift) >> 1
    return (value + half) >> shift


def finish(value: Tensor, attrs: Mapping[str, Any]) -> Tensor:
    """Zero point and clamp of an op's output."""
    return (value + int(attrs["zero_point"])).clamp(int(attrs["low"]), int(attrs["high"]))


def _distance(x: Tensor, mask: Tensor | None) -> Tensor:
    seen = x if mask is None else torch.where(mask != 0, x, -(2**31))
    return (seen.amax(-1, keepdim=True) - x).clamp(min=0)


def _reached(value: Tensor, thresholds: list[int]) -> Tensor:
    """How many of the thresholds each element reaches."""
    steps = torch.tensor(thresholds, dtype=torch.int64, device=value.device)
    return (value.unsqueeze(-1) >= steps).sum(-1)


def _normalise(e: Tensor, attrs: Mapping[str, Any]) -> Tensor:
    sum_bits, out_bits = int(attrs["sum_bits"]), int(attrs["out_bits"])
    total = e.sum(-1, keepdim=True).clamp(min=2**15)
    v = round_shift(e, sum_bits - FRACTION_BITS)
    z = _reached(total, [2**k for k in range(16, 31)])
    s = 45 + z - sum_bits - out_bits
    r = torch.div(torch.full_like(z, 2**30), round_shift(total, z), rounding_mode="floor") >> (s - 31).clamp(min=0)
    return round_shift(v * r, s.clamp(max=31))


def _exp2(x: Tensor, mask: Tensor | None, attrs: Mapping[str, Any]) -> Tensor:
    a = round_shift(_distance(x, mask).clamp(max=int(attrs["limit"])), int(attrs["pre_shift"]))
    t = round_shift(a * int(attrs["multiplier"]), int(attrs["shift"])).clamp(max=T_MAX)
    whole, f = t >> FRACTION_BITS, t & 32767
    g = 32768 - round_shift(f * (LINEAR - ((QUADRATIC * f) >> 15)), 15)
    return round_shift(g << (int(attrs["sum_bits"]) - FRACTION_BITS), whole)


def _shifted_power(p: Tensor, octave: int, bits: int) -> Tensor:
    p = p.clamp(max=OCTAVES * octave)
    i = torch.div(p, octave, rounding_mode="floor")
    return round_shift((2 * octave - (p - i * octave)) << bits, i)


def _shiftmax(x: Tensor, mask: Tensor | None, attrs: Mapping[str, Any]) -> Tensor:
    d = _distance(x, mask).clamp(max=int(attrs["limit"]))
    w = round_shift(d << int(attrs["left"]), int(attrs["pre_shift"]))
    return _shifted_power(w + (w >> 1) - (w >> 5), int(attrs["octave"]), int(attrs["sum_bits"]) - 12)


def _softmax(node: Node) -> Tensor:
    """Softmax, Shiftmax and their masked forms; the mask is the second input."""
    a, axis = node.attrs, int(node.attrs["axis"])
    x = node.x.movedim(axis, -1)
    mask = node.tensor(1).expand(node.x.shape).movedim(axis, -1) if node.has(1) else None
    e = _exp2(x, mask, a) if "multiplier" in a else _shiftmax(x, mask, a)
    if mask is not None:
        e = torch.where(mask != 0, e, 0)
    return finish(_normalise(e, a), a).movedim(-1, axis)


def _inverse_deviation(variance: Tensor, length: int, row_bits: int) -> Tensor:
    c = _reached(variance, [4**k for k in range(1, 31)])
    normal = (variance << (2 * (15 - c).clamp(min=0))) >> (2 * (c - 15).clamp(min=0))
    # Below 2^32 a float64 root, rounded correctly, never reaches the next integer.
    q = torch.div(torch.full_like(c, 2**31), normal.double().sqrt().floor().long(), rounding_mode="floor")
    count = 16 + c - row_bits
    return round_shift((q * length) << (-count).clamp(min=0), count.clamp(min=0))


def _channels(node: Node, p: Tensor, beta: Tensor | int) -> Tensor:
    a = node.attrs
    t = round_shift(p, int(a["row_bits"]) - int(a["fraction_bits"]))
    return finish(round_shift(t * node.tensor(1) + beta, int(a["shift"])), a)


def _layer_norm(node: Node) -> Tensor:
    x, n, a = node.x, node.x.shape[-1], node.attrs
    total = x.sum(-1, keepdim=True)
    variance = n * x.square().sum(-1, keepdim=True) - total * total + int(a["epsilon"])
    r = _inverse_deviation(variance.clamp(min=max(n - 1, 1)), n, int(a["row_bits"]))
    mean = torch.div(total * r + n // 2, n, rounding_mode="floor")
    return _channels(node, x * r - mean, node.tensor(2))


def _rms_norm(node: Node) -> Tensor:
    x, a = node.x - int(node.attrs["x_zero_point"]), node.attrs
    n = x.shape[-1]
    square = n * x.square().sum(-1, keepdim=True) + int(a["epsilon"])
    return _channels(node, x * _inverse_deviation(square.clamp(min=n), n, int(a["row_bits"])), 0)


def _shift_gelu(node: Node) -> Tensor:
    a, x = node.attrs, node.x - int(node.attrs["x_zero_point"])
    octave = int(a["octave"])
    w = round_shift(x.abs() << int(a["left"]), int(a["pre_shift"]))
    one = (2 * octave) << ONE_BITS
    e = _shifted_power(2 * w + (w >> 1) + (w >> 4), octave, ONE_BITS)
    reciprocal = torch.div(torch.full_like(e, 2**30), one + e, rounding_mode="floor")
    g = round_shift(torch.where(x < 0, e, one) * reciprocal, 15)
    h = round_shift(x * g, int(a["head"]))
    return finish(round_shift(h * int(a["multiplier"]), int(a["shift"])), a)


ROWS: dict[str, Form] = {
    "Softmax": _softmax,
    "MaskedSoftmax": _softmax,
    "Shiftmax": _softmax,
    "MaskedShiftmax": _softmax,
    "LayerNorm": _layer_norm,
    "RmsNorm": _rms_norm,
    "ShiftGelu": _shift_gelu,
}
