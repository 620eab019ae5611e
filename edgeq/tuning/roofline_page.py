"""A roofline as one HTML file that loads nothing: where time goes, and how much of it the machine doesn't ask for."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from edgeq.cli import units
from edgeq.tuning.ceilings import Ceilings
from edgeq.tuning.roofline import Point

_SHOWN = 40  # bars; the table has all steps
_WIDTH, _BAR, _LABEL, _NAME = 900, 18, 300, 44  # the last: characters of a name

_STYLE = """
body{font:14px/1.5 system-ui,sans-serif;margin:2em auto;max-width:1120px;padding:0 1em;color:#1b1f24;background:#fff}
table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}
th,td{padding:.2em .5em;text-align:right;white-space:nowrap;border-bottom:1px solid #d8dee4}
th:first-child,td:first-child,th:nth-child(2),td:nth-child(2){text-align:left}
.steps{overflow-x:auto}
svg{width:100%;height:auto}text{fill:currentColor;font-size:11px}.bound{fill:#2f6f9f}.gap{fill:#e0a458}
.key span{display:inline-block;width:1em;height:1em;vertical-align:-.15em;margin:0 .4em 0 1em}
@media (prefers-color-scheme:dark){body{color:#e6edf3;background:#0d1117}th,td{border-color:#30363d}}
"""


def page(title: str, points: Sequence[Point], ceilings: Ceilings) -> str:
    """The whole page."""
    total, gap = sum(p.seconds for p in points), sum(p.gap for p in points)
    known = sum(p.seconds for p in points if p.ceiling)
    facts = (
        f"{units.duration(total)} in {len(points)} steps on one thread; {_percent(known / total if total else 0)} of "
        f"it in steps whose instructions have a measured ceiling. {units.duration(gap)} lie above what the "
        f"machine asks for."
    )
    ceiling = (
        "The least time of a step is what its multiplications take at the ceiling of its own instruction mix, measured "
        "on this machine with all data in the first-level cache, or what its bytes take at the speed of a copy "
        f"({ceilings.bytes / 1e9:.0f} GB/s, read and written), whichever is longer. Percentages are least time over "
        "measured time; caches may be faster than the copy, so that a step bound by bytes can pass 100 %."
    )
    return (
        "<!doctype html><html lang=en><meta charset=utf-8>"
        '<meta name=viewport content="width=device-width,initial-scale=1">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style><h1>{escape(title)}</h1><p>{escape(facts)}</p><p>{escape(ceiling)}</p>"
        "<h2>Efficiency gap</h2>"
        '<p class=key><span style="background:#2f6f9f"></span>least time for its multiplications or bytes'
        '<span style="background:#e0a458"></span>above that</p>'
        f"{_bars(points)}<h2>Steps</h2>{_table(points)}"
    )


def _bars(points: Sequence[Point]) -> str:
    """The slowest steps: bound and gap side by side."""
    shown = sorted(points, key=lambda p: -p.seconds)[:_SHOWN]
    longest = max((p.seconds for p in shown), default=0.0) or 1.0
    scale = (_WIDTH - _LABEL - 90) / longest
    rows = []
    for number, p in enumerate(shown):
        y = number * _BAR
        inside = min(p.bound, p.seconds) * scale
        rows.append(
            f'<text x="{_LABEL - 6}" y="{y + 12}" text-anchor="end">{escape(units.layer(p.name, _NAME))}'
            f"<title>{escape(p.name)}</title></text>"
            f'<rect class="bound" x="{_LABEL}" y="{y + 2}" width="{inside:.1f}" height="{_BAR - 4}"/>'
            f'<rect class="gap" x="{_LABEL + inside:.1f}" y="{y + 2}" width="{p.seconds * scale - inside:.1f}" '
            f'height="{_BAR - 4}"><title>{escape(p.kernel)}</title></rect>'
            f'<text x="{_LABEL + p.seconds * scale + 5:.1f}" y="{y + 12}">{_percent(p.efficiency)}</text>'
        )
    head = f'<svg viewBox="0 0 {_WIDTH} {len(shown) * _BAR}" role="img" aria-label="time and least time of each step">'
    return head + "".join(rows) + "</svg>"


def _table(points: Sequence[Point]) -> str:
    titles = ("step", "kernel", "time", "share", "MACs", "GMAC/s", "ceiling", "bytes", "of bound", "limit")
    body = []
    for p in points:
        cells = (
            p.kernel,
            units.duration(p.seconds),
            _percent(p.share),
            units.amount(p.macs) if p.macs else "",
            f"{p.macs / p.seconds / 1e9:.1f}" if p.macs and p.seconds else "",
            f"{p.layer_ceiling / 1e9:.0f}" if p.layer_ceiling else "",
            units.size(p.bytes),
            _percent(p.efficiency),
            "MACs" if p.limit == "multiplications" else p.limit,
        )
        name = f'<td title="{escape(p.name)}">{escape(units.layer(p.name, _NAME))}</td>'
        body.append(f"<tr>{name}" + "".join(f"<td>{escape(cell)}</td>" for cell in cells) + "</tr>")
    head = "<tr>" + "".join(f"<th>{title}</th>" for title in titles) + "</tr>"
    return f"<div class=steps><table>{head}{''.join(body)}</table></div>"


def _percent(part: float) -> str:
    return f"{100 * part:.0f} %"
