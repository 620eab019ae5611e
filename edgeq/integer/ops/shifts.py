"""What the shift-based ops share: checks of their grid and the exponential of the body."""

from __future__ import annotations

from edgeq.integer.body import Body
from edgeq.integer.registry import Call, check_range
from edgeq.integer.shift_exp import LEFT_MAX, OCTAVE_MAX, OCTAVE_MIN, OCTAVES, PRE_SHIFT_MAX


def check_grid(call: Call) -> None:
    """Ranges of left, pre_shift and octave."""
    check_range(call, "left", 0, LEFT_MAX)
    check_range(call, "pre_shift", 0, PRE_SHIFT_MAX)
    check_range(call, "octave", OCTAVE_MIN, OCTAVE_MAX)


def body_power(b: Body, p: str, bits: str) -> str:
    """`shift_exp.shifted_power`: rshift((2·octave − r) << bits, i), int64."""
    octave = b.attribute("octave")
    # Compared, not Min: p may pass 32 bits before the limit in a graph that isn't proven.
    limited = b.least(p, b("Mul", octave, b.constant(OCTAVES)))
    r = b("Mod", limited, octave)
    i = b("Div", b("Sub", limited, r), octave)
    line = b("Sub", b("Mul", octave, b.constant(2)), r)
    return b.round_shift(b("Mul", line, b.power(bits)), i)
