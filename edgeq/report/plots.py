"""SVG plots for the page: sparkline, accuracy against cost, arena over time. Colours: the page's CSS."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

from edgeq.report.results import Place

SPARK_WIDTH, SPARK_HEIGHT = 96, 22
WIDTH, HEIGHT = 430, 270
LEFT, RIGHT, TOP, BOTTOM = 64, 24, 16, 44
MAP_WIDTH, MAP_HEIGHT = 720, 300
# A label is drawn where a rectangle has room for it, in units of the view box.
LABEL_HEIGHT, LETTER_WIDTH = 12, 6.2
# Costs that span more than this factor are drawn on a logarithmic axis.
LOG_FROM = 20
# Data to coordinates of the view box.
Placer = Callable[[float, float], tuple[float, float]]


@dataclass(frozen=True)
class Point:
    """One model: cost (x), accuracy (y), and the baseline's, None where there is none."""

    label: str
    x: float
    y: float
    old: tuple[float, float] | None = None


def sparkline(values: Sequence[float]) -> Markup:
    """A small line over the history, the newest value marked; empty for fewer than two values."""
    if len(values) < 2:
        return Markup("")
    low, high = min(values), max(values)
    span = (high - low) or 1.0
    step = (SPARK_WIDTH - 6) / (len(values) - 1)
    points = [(3 + i * step, SPARK_HEIGHT - 3 - (v - low) / span * (SPARK_HEIGHT - 6)) for i, v in enumerate(values)]
    if high == low:
        points = [(x, SPARK_HEIGHT / 2) for x, _ in points]
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    x, y = points[-1]
    title = escape(f"{len(values)} runs, from {low:.6g} to {high:.6g}")
    return Markup(
        f'<svg class="spark" viewBox="0 0 {SPARK_WIDTH} {SPARK_HEIGHT}" role="img"><title>{title}</title>'
        f'<polyline points="{line}"/><circle cx="{x:.1f}" cy="{y:.1f}" r="2.5"/></svg>'
    )


def front(points: Sequence[Point]) -> list[Point]:
    """The points that no other beats in both cost and accuracy, by cost."""
    best, kept = -math.inf, []
    for point in sorted(points, key=lambda p: (p.x, -p.y)):
        if point.y > best:
            kept.append(point)
            best = point.y
    return kept


def ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Round numbers that cover [low, high]."""
    # Far below what a figure can mean, but what a float can hold.
    span = max(high - low or abs(high), 1e-9)
    raw = span / count
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * m for m in (1, 2, 2.5, 5, 10) if power * m >= raw)
    first = math.floor(low / step)
    return [i * step for i in range(first, math.ceil(high / step) + 1)]


def scatter(
    points: Sequence[Point], x_label: str, y_label: str, higher_is_better: bool = True, most: float = math.inf
) -> Markup:
    """Accuracy against cost with the front; the baseline's points are hollow and joined to today's.

    Args:
        points: at least one. x_label, y_label: what the axes show, with units.
        higher_is_better: of y; decides which points are on the front. most: largest y there can be.
    """
    olds = [p.old for p in points if p.old]
    costs = [p.x for p in points] + [x for x, _ in olds]
    is_log = min(costs) > 0 and max(costs) > LOG_FROM * min(costs)
    if is_log:
        points = [
            Point(p.label, math.log10(p.x), p.y, (math.log10(p.old[0]), p.old[1]) if p.old else None) for p in points
        ]
        olds = [p.old for p in points if p.old]
    xs, ys = _ticks_of([p.x for p in points] + [x for x, _ in olds], [p.y for p in points] + [y for _, y in olds])
    ys = [y for y in ys if y <= most]

    def place(x: float, y: float) -> tuple[float, float]:
        across = (x - xs[0]) / (xs[-1] - xs[0]) * (WIDTH - LEFT - RIGHT)
        up = (y - ys[0]) / (ys[-1] - ys[0]) * (HEIGHT - TOP - BOTTOM)
        return LEFT + across, HEIGHT - BOTTOM - up

    parts = [f'<svg class="plot" viewBox="0 0 {WIDTH} {HEIGHT}" role="img"><title>{escape(y_label)}</title>']
    parts += _axes(xs, ys, place, (x_label, y_label), is_log)
    sign = 1 if higher_is_better else -1
    on_front = front([Point(p.label, p.x, sign * p.y) for p in points])
    if len(on_front) > 1:
        line = " ".join("{:.1f},{:.1f}".format(*place(p.x, sign * p.y)) for p in on_front)
        parts.append(f'<polyline class="front" points="{line}"/>')
    taken: list[tuple[float, float]] = []
    for point in points:
        parts += _point(point, place, taken)
    return Markup("".join(parts) + "</svg>")


def _ticks_of(xs: list[float], ys: list[float]) -> tuple[list[float], list[float]]:
    """Ticks with some air around the points."""

    def padded(values: list[float], least: float) -> list[float]:
        low, high = min(values), max(values)
        air = max((high - low) * 0.08, abs(high) * least)
        found = ticks(max(0.0, low - air) if low >= 0 else low - air, high + air)
        return found if len(found) > 1 else [found[0], found[0] + 1]

    return padded(xs, 0.1), padded(ys, 0.01)


def _axes(xs: list[float], ys: list[float], place: Placer, labels: tuple[str, str], is_log: bool) -> list[str]:
    parts, (x_label, y_label) = [], labels
    for y in ys:
        _, v = place(xs[0], y)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{v:.1f}" y2="{v:.1f}"/>')
        parts.append(f'<text x="{LEFT - 8}" y="{v + 4:.1f}" text-anchor="end">{short(y)}</text>')
    for x in xs:
        h, _ = place(x, ys[0])
        parts.append(
            f'<text x="{h:.1f}" y="{HEIGHT - BOTTOM + 16}" text-anchor="middle">{short(10**x if is_log else x)}</text>'
        )
    middle = (LEFT + WIDTH - RIGHT) / 2
    parts.append(f'<text class="axis" x="{middle}" y="{HEIGHT - 8}" text-anchor="middle">{escape(x_label)}</text>')
    parts.append(
        f'<text class="axis" x="14" y="{(TOP + HEIGHT - BOTTOM) / 2}" text-anchor="middle" '
        f'transform="rotate(-90 14 {(TOP + HEIGHT - BOTTOM) / 2})">{escape(y_label)}</text>'
    )
    return parts


def _point(point: Point, place: Placer, taken: list[tuple[float, float]]) -> list[str]:
    x, y = place(point.x, point.y)
    parts = []
    if point.old:
        a, b = place(*point.old)
        parts.append(f'<line class="moved" x1="{a:.1f}" y1="{b:.1f}" x2="{x:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<circle class="old" cx="{a:.1f}" cy="{b:.1f}" r="6"><title>baseline</title></circle>')
    text = escape(point.label)
    parts.append(f'<circle class="dot" cx="{x:.1f}" cy="{y:.1f}" r="4"><title>{text}</title></circle>')
    # Labels go to the side with room, and below one that is already there.
    at_end = x > WIDTH * 0.6
    v = y - 8
    while any(abs(v - other) < LABEL_HEIGHT and abs(x - h) < 110 for h, other in taken):
        v += LABEL_HEIGHT
    taken.append((x, v))
    anchor, h = ("end", x - 7) if at_end else ("start", x + 7)
    parts.append(f'<text class="name" x="{h:.1f}" y="{v:.1f}" text-anchor="{anchor}">{text}</text>')
    return parts


def short(value: float) -> str:
    """An axis number: '0.25', '40', '250k', '1.5M'."""
    for limit, suffix in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if abs(value) >= limit:
            divisor = 1e3 if suffix == "k" else limit
            return f"{value / divisor:.3g}{suffix}"
    return f"{value:.4g}"


def memory_map(places: Sequence[Place], steps: Sequence[str], arena: int) -> Markup:
    """Every buffer as a rectangle: when it lives (across, in steps) and where it lies (up, in bytes).

    Args:
        places: buffers. steps: names of the steps, for tips. arena: bytes.
    """
    columns = len(steps) + 2
    across = (MAP_WIDTH - LEFT - RIGHT) / columns
    up = (MAP_HEIGHT - TOP - BOTTOM) / max(arena, 1)
    base = MAP_HEIGHT - BOTTOM
    parts = [f'<svg class="map" viewBox="0 0 {MAP_WIDTH} {MAP_HEIGHT}" role="img"><title>arena over time</title>']
    for tick in (0, arena // 2, arena):
        y = base - tick * up
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{MAP_WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{short(tick)} B</text>')
    for place in places:
        x, w = LEFT + (place.first + 1) * across, (place.last - place.first + 1) * across
        y, h = base - (place.offset + place.size) * up, place.size * up
        span = f"{_step(steps, place.first)} to {_step(steps, place.last)}"
        tip = escape(f"{place.name} ({place.role}): {place.size} B at {place.offset}, {span}")
        parts.append(
            f'<rect class="{escape(place.role)}" x="{x:.1f}" y="{y:.1f}" width="{max(w - 1, 0.5):.1f}" '
            f'height="{max(h - 0.5, 0.5):.1f}"><title>{tip}</title></rect>'
        )
        room = int((w - 6) / LETTER_WIDTH)
        if h >= LABEL_HEIGHT and room >= 3:
            name = place.name if len(place.name) <= room else place.name[: room - 1] + "…"
            parts.append(f'<text class="inside" x="{x + 3:.1f}" y="{y + h / 2 + 4:.1f}">{escape(name)}</text>')
    parts.append(
        f'<text class="axis" x="{MAP_WIDTH / 2}" y="{MAP_HEIGHT - 10}" text-anchor="middle">'
        f"{len(steps)} steps, first to last</text>"
    )
    return Markup("".join(parts) + "</svg>")


def _step(steps: Sequence[str], index: int) -> str:
    if index < 0:
        return "before the first step"
    return f"step {index} ({steps[index]})" if index < len(steps) else "behind the last step"
