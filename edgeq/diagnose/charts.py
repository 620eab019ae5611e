"""SVG for the page: SQNR layer by layer, and histograms. Colours are classes of the page's style."""

from __future__ import annotations

import math
from collections.abc import Sequence

from markupsafe import Markup, escape

from edgeq.report.plots import short, ticks

WIDTH, HEIGHT = 900, 280
LEFT, RIGHT, TOP, BOTTOM = 46, 12, 12, 30
#: dB above which nothing more can be told apart.
MOST = 80.0


def lines(series: Sequence[tuple[str, Sequence[float]]], names: Sequence[str], label: str) -> Markup:
    """One line for each series over the layers, in order.

    Args:
        series: (class, dB for each layer); infinite values are drawn at the upper end, −inf at the lower.
        names: of the layers, for tips. label: of the vertical axis.
    """
    finite = [min(v, MOST) for _, values in series for v in values if math.isfinite(v)] or [0.0]
    marks = ticks(min(0.0, *finite), max(finite))
    low, high = marks[0], marks[-1]
    across = (WIDTH - LEFT - RIGHT) / max(1, len(names) - 1)

    def height(value: float) -> float:
        inside = min(max(value, low), high)
        return HEIGHT - BOTTOM - (inside - low) / (high - low) * (HEIGHT - TOP - BOTTOM)

    parts = [f'<svg class="plot wide" viewBox="0 0 {WIDTH} {HEIGHT}" role="img"><title>{escape(label)}</title>']
    for mark in marks:
        y = height(mark)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{short(mark)}</text>')
    for kind, values in series:
        points = [(LEFT + i * across, height(v)) for i, v in enumerate(values)]
        line = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        parts.append(f'<polyline class="series {escape(kind)}" points="{line}"/>')
        for (x, y), value, name in zip(points, values, names, strict=True):
            tip = escape(f"{name}: {value:.1f} dB")
            parts.append(
                f'<circle class="{escape(kind)}" cx="{x:.1f}" cy="{y:.1f}" r="3"><title>{tip}</title></circle>'
            )
    parts.append(
        f'<text class="axis" x="{WIDTH / 2}" y="{HEIGHT - 8}" text-anchor="middle">'
        f"{len(names)} layers, first to last ({escape(label)})</text>"
    )
    return Markup("".join(parts) + "</svg>")


def histogram(bins: tuple[float, float, Sequence[int]], low: float, high: float) -> Markup:
    """Counts on a logarithmic height, with the range that the integers cover.

    Args:
        bins: lower end, width, counts. low, high: what the integers reach, in the same unit.
    """
    start, width, counts = bins
    if not counts:
        return Markup("")
    stop = start + width * len(counts)
    left, right = min(start, low), max(stop, high)
    span = (right - left) or 1.0
    tallest = math.log1p(max(counts)) or 1.0

    def place(value: float) -> float:
        return 8 + (value - left) / span * 384

    parts = ['<svg class="plot hist" viewBox="0 0 400 120" role="img"><title>values on the calibration data</title>']
    x, y = place(low), place(high)
    parts.append(f'<rect class="covered" x="{x:.1f}" y="8" width="{max(1.0, y - x):.1f}" height="84"/>')
    for index, count in enumerate(counts):
        tall = 84 * math.log1p(count) / tallest
        at, to = place(start + index * width), place(start + (index + 1) * width)
        outside = " outside" if start + (index + 0.5) * width < low or start + (index + 0.5) * width > high else ""
        parts.append(
            f'<rect class="count{outside}" x="{at:.1f}" y="{92 - tall:.1f}" width="{max(0.5, to - at - 0.5):.1f}" '
            f'height="{tall:.1f}"><title>{count} values from {start + index * width:.4g}</title></rect>'
        )
    for value, anchor in ((left, "start"), (right, "end")):
        parts.append(f'<text x="{place(value):.1f}" y="110" text-anchor="{anchor}">{short(value)}</text>')
    return Markup("".join(parts) + "</svg>")
