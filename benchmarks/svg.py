"""Small line plots as SVG text: two axes, some curves, a legend. No dependency, the same bytes each time."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape

COLOURS = ("#1f6feb", "#d1242f", "#1a7f37", "#9a6700", "#8250df", "#57606a")
WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 560, 300, 62, 150, 30, 44
FONT = 'font-family="sans-serif" font-size="11"'


@dataclass
class Axis:
    """One axis: its label, its limits, and whether it is logarithmic."""

    label: str
    low: float
    high: float
    log: bool = False

    def place(self, value: float) -> float:
        """Position in [0, 1]; values outside the limits stay at the edge."""
        v = min(max(value, self.low), self.high)
        if self.log:
            return math.log(v / self.low) / math.log(self.high / self.low)
        return (v - self.low) / (self.high - self.low)

    def ticks(self) -> list[float]:
        """Powers of ten, or four to eight round numbers."""
        if self.log:
            first, last = math.ceil(math.log10(self.low) - 1e-9), math.floor(math.log10(self.high) + 1e-9)
            return [10.0**k for k in range(first, last + 1)]
        rough = (self.high - self.low) / 5
        unit = 10.0 ** math.floor(math.log10(rough))
        step = next(unit * m for m in (1, 2, 5, 10) if unit * m >= rough)
        return [step * k for k in range(math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9) + 1)]


@dataclass
class Plot:
    """A titled plot; `add` curves, then `text()`."""

    title: str
    x: Axis
    y: Axis
    curves: list[tuple[str, list[tuple[float, float]]]] = field(default_factory=list)

    def add(self, name: str, xs: Sequence[float], ys: Sequence[float]) -> None:
        """One curve."""
        self.curves.append((name, [(float(a), float(b)) for a, b in zip(xs, ys, strict=True)]))

    def _point(self, x: float, y: float) -> tuple[float, float]:
        across, down = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM
        return LEFT + across * self.x.place(x), TOP + down * (1 - self.y.place(y))

    def text(self) -> str:
        """The SVG file's content."""
        parts = [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img">',
            f"<title>{escape(self.title)}</title>",
            f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>',
            f'<text x="{LEFT}" y="18" {FONT} font-weight="bold">{escape(self.title)}</text>',
            *self._grid(),
            *self._curves(),
            "</svg>",
        ]
        return "\n".join(parts) + "\n"

    def _grid(self) -> list[str]:
        right, bottom = WIDTH - RIGHT, HEIGHT - BOTTOM
        parts = []
        for value in self.x.ticks():
            x, _ = self._point(value, self.y.low)
            parts.append(f'<path d="M{x:.1f} {TOP}V{bottom}" stroke="#d0d7de"/>')
            parts.append(f'<text x="{x:.1f}" y="{bottom + 14}" {FONT} text-anchor="middle">{value:g}</text>')
        for value in self.y.ticks():
            _, y = self._point(self.x.low, value)
            parts.append(f'<path d="M{LEFT} {y:.1f}H{right}" stroke="#d0d7de"/>')
            parts.append(f'<text x="{LEFT - 5}" y="{y + 4:.1f}" {FONT} text-anchor="end">{value:g}</text>')
        middle, centre = (TOP + bottom) / 2, (LEFT + right) / 2
        parts.append(f'<path d="M{LEFT} {TOP}V{bottom}H{right}" stroke="#24292f" fill="none"/>')
        parts.append(
            f'<text x="{centre:.0f}" y="{HEIGHT - 8}" {FONT} text-anchor="middle">{escape(self.x.label)}</text>'
        )
        turned = f'transform="rotate(-90 14 {middle:.0f})"'
        parts.append(
            f'<text x="14" y="{middle:.0f}" {FONT} text-anchor="middle" {turned}>{escape(self.y.label)}</text>'
        )
        return parts

    def _curves(self) -> list[str]:
        parts = []
        for index, (name, points) in enumerate(self.curves):
            colour = COLOURS[index % len(COLOURS)]
            path = "L".join("{:.1f} {:.1f}".format(*self._point(*p)) for p in points)
            parts.append(f'<path d="M{path}" fill="none" stroke="{colour}" stroke-width="1.5"/>')
            x, y = WIDTH - RIGHT + 12, TOP + 10 + 17 * index
            parts.append(f'<path d="M{x} {y}h16" stroke="{colour}" stroke-width="2.5"/>')
            parts.append(f'<text x="{x + 21}" y="{y + 4}" {FONT}>{escape(name)}</text>')
        return parts
