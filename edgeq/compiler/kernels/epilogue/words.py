"""Epilogues of sums that are s16 already: `narrow` in 16-bit lanes from end to end, where a layer's numbers allow it.

Per lane, v the sum of products:

    v = sat16(v + bias)
    left     v = clamp(v, low, high) · 2^k        channels whose shift is −k; the limits keep the product in 16 bits
    right    v = (v·f + 2^14) >> 15               f = 2^(15 − p) shifts by p; −2^15 (p = 0) leaves −v, and then the
                                                  multiplier has the other sign
    t = (v·m + 2^14) >> 15                        as ever

The operand `params` holds s16 sections in the order of lanes: bias | low, high, 2^k | f | m. No tvm here.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from edgeq.compiler.kernels.base import DTYPE_RANGE, Epilogue
from edgeq.errors import CompileError
from edgeq.integer.arithmetic import round_shift

IntArray = np.ndarray[Any, np.dtype[Any]]
Words = Literal["", "plain", "left", "right", "both"]
_LOW, _HIGH = DTYPE_RANGE["s16"]


def section_names(words: Words) -> list[str]:
    """What `params` holds, one s16 a lane each."""
    left = ["low", "high", "factor"] if words in ("left", "both") else []
    return ["bias", *left, *(["right"] if words in ("right", "both") else []), "multiplier"]


def words_for(
    epilogue: Epilogue, bias: IntArray, m: IntArray, s: IntArray, acc_low: IntArray, acc_high: IntArray
) -> Words:
    """Which steps the epilogue needs in 16 bits; "": its results would not be those of 32 bits.

    Args:
        bias: int64 [channels], what is added to the sums of products.
        m, s: multiplier and shift, [channels] or one element.
        acc_low, acc_high: interval of the finished accumulators, bias included.
    """
    if epilogue.form != "narrow" or epilogue.lut or epilogue.residual is not None or not bias.size:
        return ""
    m, s = (np.broadcast_to(np.asarray(v, np.int64).reshape(-1), bias.shape) for v in (m, s))
    left, right = bool(s.min() < 0), bool(s.max() > 0)
    left = left or (right and bool(np.min(acc_low) < -_HIGH))  # the limits keep −2^15 away from f
    words: Words = "both" if left and right else "left" if left else "right" if right else "plain"
    fits = bias.min() >= _LOW and bias.max() <= _HIGH and _unchanged(epilogue, m, s, acc_low, acc_high, right)
    return words if fits else ""


def _unchanged(epilogue: Epilogue, m: IntArray, s: IntArray, low: IntArray, high: IntArray, right: bool) -> bool:
    """Whether what the steps limit early makes no difference to any stored value."""
    k = np.maximum(-s, 0)
    most = _HIGH >> k
    least = np.where(right, -most, np.where(k > 0, -most, _LOW))  # −2^15 has no opposite
    # A shift to the right sees the sum as it is, so that must not saturate.
    inside = (low >= least) & (high <= most)
    if np.any((s > 0) & ~inside):
        return False
    ends = [
        np.all(inside | (_result(epilogue, m, end) == _result(epilogue, m, np.left_shift(limit, k))))
        for end, limit in ((np.full_like(m, _LOW), least), (np.full_like(m, _HIGH), most))
    ]
    return bool(all(ends))


def _result(epilogue: Epilogue, m: IntArray, a: IntArray) -> IntArray:
    """What is stored for `a`, the sum behind its first shift."""
    value = round_shift(round_shift(a * m, 15), epilogue.post_shift) + epilogue.zero_point
    result: IntArray = np.clip(value, epilogue.low, epilogue.high)
    return result


def pack_words(epilogue: Epilogue, bias: IntArray, m: IntArray, s: IntArray) -> IntArray:
    """The operand `params` as int32, two lanes a word.

    Args:
        bias, m, s: int64 [lanes], an even number.

    Raises:
        CompileError: the lanes need steps that the kernel was not planned with.
    """
    words = epilogue.words
    left, right = words in ("left", "both"), words in ("right", "both")
    if (s.min() < 0 and not left) or (s.max() > 0 and not right) or bias.min() < _LOW or bias.max() > _HIGH:
        raise CompileError(
            "a requantize doesn't fit 16 bits as it was planned",
            why=f"shifts {s.min()} … {s.max()}, start values {bias.min()} … {bias.max()}, steps {words!r}",
            hint="`words_for` finds the steps of a layer",
        )
    k = np.maximum(-s, 0)
    most = _HIGH >> k
    keeps = right & (s <= 0)
    found = {
        "bias": bias,
        "low": np.where((k > 0) | right, -most, _LOW),
        "high": most,
        "factor": np.left_shift(np.int64(1), k),
        "right": np.where(keeps, _LOW, np.left_shift(np.int64(1), np.maximum(15 - s, 0)) * (s <= 15)),
        "multiplier": np.where(keeps, -m, m),
    }
    sections: IntArray = np.concatenate([found[name] for name in section_names(words)]).astype("<i2").view("<i4")
    return sections
