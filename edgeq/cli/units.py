"""Numbers as people read them."""

from __future__ import annotations

import math


def size(count: float) -> str:
    """Bytes: '512 B', '23.4 KiB', '3.41 MiB'."""
    if count < 1024:
        return f"{count:.0f} B"
    if count < 1024**2:
        return f"{count / 1024:.1f} KiB"
    return f"{count / 1024**2:.2f} MiB"


def amount(count: float) -> str:
    """A count of operations: '950', '12.5 k', '2.66 M', '0.30 G'."""
    for limit, divisor, suffix in ((1e3, 1, ""), (1e6, 1e3, " k"), (1e9, 1e6, " M"), (math.inf, 1e9, " G")):
        if count < limit:
            return f"{count / divisor:.0f}" if not suffix else f"{count / divisor:.3g}{suffix}"
    raise ValueError(f"not a finite count: {count}")


def duration(seconds: float) -> str:
    """'850 ns', '34.2 µs', '7.13 ms', '4.6 s'."""
    if seconds < 1e-6:
        return f"{seconds * 1e9:.0f} ns"
    if seconds < 1e-3:
        return f"{seconds * 1e6:.3g} µs"
    if seconds < 1:
        return f"{seconds * 1e3:.3g} ms"
    return f"{seconds:.1f} s"


def decibel(value: float | None) -> str:
    """A signal-to-noise ratio: '38.2 dB', 'exact' where there is no noise at all (reported as 999 or infinity)."""
    if value is None or math.isnan(value):
        return "–"
    return "exact" if value >= 999 else f"{value:.1f} dB"


def percent(fraction: float) -> str:
    """'99.22 %'."""
    return f"{100 * fraction:.2f} %"


def shape(dims: tuple[int, ...] | list[int]) -> str:
    """'1×3×224×224'; 'scalar' for rank 0."""
    return "×".join(str(d) for d in dims) or "scalar"


def layer(name: str, width: int = 40) -> str:
    """A layer's name in a column: converters join the names of all they fused by `;`, of which the last says most."""
    parts = name.split(";")
    last = parts[-1] if len(name) > width else name
    return last if len(last) <= width else "…" + last[1 - width :]
