"""Epilogues of sums that are s16 already: `narrow` in 16-bit lanes from end to end, where a layer's numbers allow it.

Per lane, v the sum of products, each step with a section of parameters of its name; a layer leaves out what it does not
need:

    bias            v = sat16(v + bias)
    low, high       v = clamp(v, low, high), so that what follows neither leaves 16 bits nor meets −2^15
    factor          v = v · 2^k                     channels whose shift is −k
    right           v = (v·f + 2^14) >> 15          f = 2^(15 − p) shifts by p; −2^15 (p = 0) leaves −v, and then the
                                                    multiplier has the other sign
    multiplier      t = (v·m + 2^14) >> 15          as ever

The operand `params` holds these sections, an s16 a lane. No tvm here.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from edgeq.compiler.kernels.base import DTYPE_RANGE, Epilogue
from edgeq.errors import CompileError
from edgeq.integer.arithmetic import round_shift

IntArray = np.ndarray[Any, np.dtype[Any]]
Words = tuple[str, ...]
_LOW, _HIGH = DTYPE_RANGE["s16"]


def words_for(
    epilogue: Epilogue, bias: IntArray, m: IntArray, s: IntArray, acc_low: IntArray, acc_high: IntArray
) -> Words:
    """The sections that the epilogue needs in 16 bits; (): its results would not be those of 32 bits.

    Args:
        bias: int64 [channels], what is added to the sums of products.
        m, s: multiplier and shift, [channels] or one element.
        acc_low, acc_high: interval of the finished accumulators, bias included.
    """
    if epilogue.form != "narrow" or epilogue.lut or epilogue.residual is not None or not bias.size:
        return ()
    m, s = (np.broadcast_to(np.asarray(v, np.int64).reshape(-1), bias.shape) for v in (m, s))
    left, right = bool(s.min() < 0), bool(s.max() > 0)
    least, most = _limits(s, right)
    inside = (acc_low >= least) & (acc_high <= most)
    # A shift to the right sees the sum as it is, so that must not saturate.
    if bias.min() < _LOW or bias.max() > _HIGH or np.any((s > 0) & ~inside):
        return ()
    k = np.maximum(-s, 0)
    for saturated, limit in ((_LOW, least), (_HIGH, most)):
        ends = _result(epilogue, m, np.full_like(m, saturated)), _result(epilogue, m, np.left_shift(limit, k))
        if np.any(~inside & (ends[0] != ends[1])):
            return ()
    limited = (left or right) and not np.all(inside | ((s == 0) & (not right)))
    optional = {"low": limited, "high": limited, "factor": left, "right": right}
    return ("bias", *(name for name, needed in optional.items() if needed), "multiplier")


def _limits(s: IntArray, right: bool) -> tuple[IntArray, IntArray]:
    """What a sum of this shift may be so that the steps are exact; −2^15 has no opposite."""
    most = _HIGH >> np.maximum(-s, 0)
    return np.where((s < 0) | right, -most, _LOW), most


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
    words, right = epilogue.words, "right" in epilogue.words
    planned = ("factor" in words or s.min() >= 0) and (right or s.max() <= 0)
    if not planned or bias.min() < _LOW or bias.max() > _HIGH:
        raise CompileError(
            "a requantize doesn't fit 16 bits as it was planned",
            why=f"shifts {s.min()} … {s.max()}, start values {bias.min()} … {bias.max()}, steps {', '.join(words)}",
            hint="`words_for` finds the steps of a layer",
        )
    keeps = right & (s <= 0)
    low, high = _limits(s, right)
    found = {
        "bias": bias,
        "low": low,
        "high": high,
        "factor": np.left_shift(np.int64(1), np.maximum(-s, 0)),
        "right": np.where(keeps, _LOW, np.left_shift(np.int64(1), np.maximum(15 - s, 0)) * (s <= 15)),
        "multiplier": np.where(keeps, -m, m),
    }
    sections: IntArray = np.concatenate([found[name] for name in words]).astype("<i2").view("<i4")
    return sections
