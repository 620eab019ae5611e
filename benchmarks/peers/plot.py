"""Plots of `peers` results as SVG: how much faster than the fastest peer, and each network's times.

The same results give the same bytes; a plot needs nothing but the JSON file of earlier runs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from html import escape
from pathlib import Path
from statistics import geometric_mean
from typing import Any

from table import fastest

FONT = 'font-family="sans-serif" font-size="11"'
OURS, THEIRS, INK, LINE = "#1f6feb", "#8c959f", "#24292f", "#d0d7de"
SHADES = ("#9ec5fe", "#4d8df0", "#0b3d91", "#1a7f37", "#9a6700", "#8250df")
LEFT, WIDTH, BAR, GAP, TOP, RIGHT = 190, 680, 13, 3, 34, 90


def write(results: Sequence[dict[str, Any]], folder: Path) -> list[Path]:
    """An overview for each number of threads and kind of peer, and the times of each network."""
    folder.mkdir(parents=True, exist_ok=True)
    texts: dict[str, str] = {}
    for threads in sorted({result["threads"] for result in results}):
        same = [result for result in results if result["threads"] == threads]
        for held in (True, False):
            text = overview(same, threads, held)
            if text:
                texts[f"peers-{'avx2' if held else 'all'}-{threads}.svg"] = text
    for result in results:
        texts[f"peers-{result['model']}-{result['threads']}.svg"] = times(result)
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8")
    return [folder / name for name in texts]


def overview(results: Sequence[dict[str, Any]], threads: int, held: bool) -> str:
    """One group of bars for each network: the fastest peer's time over that of each of edgeq's targets.

    Args:
        held: against peers held to AVX2, edgeq's AVX2 targets; else against all, edgeq's VNNI targets.

    Returns:
        the SVG's text; empty where nothing of the kind was raced.
    """
    wanted = "avx2" if held else "vnni"
    found: list[tuple[str, str, dict[str, dict[str, float]]]] = []
    for result in results:
        best = fastest(result, held)
        if best:
            ratios = result["sides"][best]["ratios"]
            found.append((result["model"], best, {name: ratios[name] for name in ratios if wanted in name}))
    targets = list(dict.fromkeys(name for _, _, ratios in found for name in ratios))
    if not targets:
        return ""
    means = {name: geometric_mean([r[name]["median"] for _, _, r in found if name in r]) for name in targets}
    groups = [*found, ("geometric mean", "", {k: {"median": v, "q1": v, "q3": v} for k, v in means.items()})]
    title = f"How many times as fast as the fastest peer{' held to AVX2' if held else ''}, {_threads(threads)}"
    return _grouped(title, targets, groups)


def _grouped(title: str, targets: Sequence[str], groups: Sequence[tuple[str, str, dict[str, dict[str, float]]]]) -> str:
    longest = max(ratio["q3"] for _, _, ratios in groups for ratio in ratios.values())
    scale, depth = (WIDTH - LEFT - RIGHT) / longest, len(targets) * (BAR + GAP) + 14
    top = TOP + 20
    height = top + len(groups) * depth + 8
    parts = [*_head(title, height), *_key(targets)]
    for index, (model, peer, ratios) in enumerate(groups):
        y = top + index * depth
        middle = y + (depth - 14) / 2
        parts.append(_text(LEFT - 6, middle if peer else middle + 5, model, "end", bold=not peer))
        if peer:
            parts.append(_text(LEFT - 6, middle + 13, peer, "end", colour=THEIRS))
        for place, name in enumerate(targets):
            if name in ratios:
                parts += _bar(
                    y + place * (BAR + GAP), ratios[name], scale, SHADES[place % len(SHADES)], lambda v: f"{v:.2f}"
                )
    one = LEFT + scale
    parts.append(f'<path d="M{one:.1f} {top - 4}V{height - 8}" stroke="{INK}" stroke-dasharray="3 3"/>')
    return "\n".join([*parts, "</svg>"]) + "\n"


def times(result: dict[str, Any]) -> str:
    """Milliseconds a run of everybody who ran one network, the fastest first."""
    sides = {name: side["time"] for name, side in result["sides"].items() if "time" in side}
    names = sorted(sides, key=lambda name: sides[name]["median"])
    scale = (WIDTH - LEFT - RIGHT) / max(side["q3"] for side in sides.values())
    title = f"{result['model']}, {_threads(result['threads'])}: ms a run, whiskers are quartiles"
    parts = _head(title, TOP + len(names) * (BAR + GAP) + 10)
    for index, name in enumerate(names):
        y = TOP + index * (BAR + GAP)
        parts.append(_text(LEFT - 6, y + 10, name, "end"))
        parts += _bar(y, sides[name], scale, OURS if name in result["ours"] else THEIRS, _milliseconds)
    return "\n".join([*parts, "</svg>"]) + "\n"


def _milliseconds(seconds: float) -> str:
    return f"{seconds * 1e3:.3g}" if seconds < 1 else f"{seconds * 1e3:.0f}"


def _threads(count: int) -> str:
    return "one thread" if count == 1 else f"{count} threads"


def _head(title: str, height: int) -> list[str]:
    return [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img">',
        f'<title>{escape(title)}</title><rect width="{WIDTH}" height="{height}" fill="#ffffff"/>',
        _text(10, 18, title, "start", bold=True),
    ]


def _key(targets: Sequence[str]) -> list[str]:
    """One square and name for each target."""
    parts, x = [], LEFT
    for place, name in enumerate(targets):
        target, _, bits = name.removeprefix("edgeq ").partition(":w")
        label = f"{target}, {bits or 8}-bit weights"
        parts.append(f'<rect x="{x}" y="{TOP - 6}" width="10" height="10" fill="{SHADES[place % len(SHADES)]}"/>')
        parts.append(_text(x + 14, TOP + 3, label, "start"))
        x += 24 + 6 * len(label)
    return parts


def _bar(y: float, spread: dict[str, float], scale: float, colour: str, form: Callable[[float], str]) -> list[str]:
    """A bar up to the median, a whisker over the quartiles, the median in figures."""
    end, low, high = (LEFT + spread[key] * scale for key in ("median", "q1", "q3"))
    middle = y + BAR / 2
    return [
        f'<rect x="{LEFT}" y="{y}" width="{end - LEFT:.1f}" height="{BAR}" fill="{colour}"/>',
        f'<path d="M{low:.1f} {middle}H{high:.1f}" stroke="{INK}" stroke-width="2"/>',
        _text(max(end, high) + 6, y + 10, form(spread["median"]), "start"),
    ]


def _text(x: float, y: float, text: str, anchor: str, *, bold: bool = False, colour: str = INK) -> str:
    weight = ' font-weight="bold"' if bold else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" {FONT} text-anchor="{anchor}" fill="{colour}"{weight}>{escape(text)}</text>'
