"""The page of `edgeq debug`: one HTML file that asks the network for nothing."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from edgeq import __version__
from edgeq.cli import units
from edgeq.diagnose import charts
from edgeq.diagnose.diagnosis import Diagnosis
from edgeq.diagnose.formats import FORMATS, FormatRow, summary
from edgeq.diagnose.layers import CAUSES, LayerError
from edgeq.diagnose.remedies import Remedy
from edgeq.report.page import TEMPLATES as SHARED

TEMPLATES = Path(__file__).parent / "templates"
#: Layers in the list of the guilty, tensors whose details are drawn open.
MOST_GUILTY = 15


def page(model: str, found: Diagnosis, formats: Sequence[FormatRow] = ()) -> str:
    """The HTML text.

    Args:
        model: what to call it. found: the diagnosis. formats: rows of the formats study, if it was asked for.
    """
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    named = {guilt.output for guilt in found.cause}
    whole = sum(guilt.total for guilt in found.guilty)
    rest = found.guilty[MOST_GUILTY:]
    share = sum(g.total for g in rest) / whole if whole else 0.0
    style = (SHARED / "report.css").read_text(encoding="utf-8") + (TEMPLATES / "debug.css").read_text(encoding="utf-8")
    return environment.get_template("debug.html.j2").render(
        style=Markup(style),
        script=Markup((SHARED / "report.js").read_text(encoding="utf-8")),
        title=f"edgeq debug · {model}",
        status="pass" if found.outcome.error <= found.budget else "waived",
        headline=headline(found),
        summary=advice(found),
        facts=_facts(found),
        version=__version__,
        guilty=_guilty(found),
        guilty_rest=f"{len(rest)} more layers together: {100 * share:.1f} %" if rest else "",
        remedies=[_remedy(remedy, found) for remedy in found.remedies],
        chart=_chart(found.layers),
        layers=[_layer(layer, layer.output in named) for layer in found.layers],
        formats=_formats(formats) if formats else None,
        format_names=FORMATS,
    )


def headline(found: Diagnosis) -> str:
    """Who did it, in a sentence."""
    cause, whole = found.cause, sum(guilt.total for guilt in found.guilty)
    if not cause:
        return "No layer changes the output"
    share = 100 * sum(guilt.total for guilt in cause) / whole
    names = ", ".join(guilt.layer for guilt in cause)
    return f"{share:.0f} % of the error comes from {names}"


def advice(found: Diagnosis) -> str:
    """What to do, in a sentence or two."""
    helping = [remedy for remedy in found.remedies if remedy.helps]
    if not helping:
        return "No remedy lowers the error of the output by more than the noise of the samples."
    best = helping[0]
    text = f"Best remedy: {best.name}, error {found.outcome.error:.3g} → {best.outcome.error:.3g}."
    if found.cheapest is not None and found.cheapest is not best:
        cheapest = found.cheapest
        text += f" Cheapest that is enough: {cheapest.name} ({cheapest.outcome.error:.3g})."
    return text


def _facts(found: Diagnosis) -> str:
    parts = [
        f"error of the output {found.outcome.error:.3g} (16-bit tensors are chosen until {found.budget:g} is left)"
    ]
    if found.outcome.agreement is not None:
        parts.append(f"same choice on {units.percent(found.outcome.agreement)}")
    parts.append(f"observer {found.observer}, {found.samples} samples, judged on {found.judged}")
    parts.append(f"constants {units.size(found.cost.constants)}")
    if found.cost.arena is not None:
        parts.append(f"arena {units.size(found.cost.arena)} on {found.target}")
    return " · ".join(parts)


def _guilty(found: Diagnosis) -> list[dict[str, Any]]:
    most = max((guilt.total for guilt in found.guilty), default=1.0)
    whole = sum(guilt.total for guilt in found.guilty) or 1.0
    order = {layer.output: (index, layer.op) for index, layer in enumerate(found.layers)}
    rows = []
    for guilt in found.guilty[:MOST_GUILTY]:
        index, op = order.get(guilt.output, (0, ""))
        rows.append(
            {
                "layer": guilt.layer,
                "op": op,
                "anchor": index,
                "activation": f"{100 * guilt.activation / most:.2f}",
                "weight": f"{100 * guilt.weight / most:.2f}",
                "text": f"{guilt.total:.2g} · {100 * guilt.total / whole:.0f} %",
            }
        )
    return rows


def _remedy(remedy: Remedy, found: Diagnosis) -> dict[str, Any]:
    error, before = remedy.outcome.error, found.outcome.error
    if not remedy.helps:
        kind, word = ("fail", "makes it worse") if error > before * 1.1 else ("new", "changes nothing")
    else:
        small = before <= found.budget
        kind, word = ("improved", "helps" if small else "enough") if small or remedy.is_enough else ("waived", "helps")
    return {
        "name": remedy.name,
        "what": remedy.what,
        "flags": remedy.change.flags(),
        "policy": remedy.change.policy_text(),
        "kind": kind,
        "word": word,
        "order": error,
        "error": f"{error:.3g}",
        "change": f"{100 * (error / before - 1):+.0f} %" if before else "",
        "better": "better" if error < before else "worse",
        "agreement": "–" if remedy.outcome.agreement is None else units.percent(remedy.outcome.agreement),
        "constants": _bytes_more(remedy.cost.constants, found.cost.constants),
        "arena": _bytes_more(remedy.cost.arena, found.cost.arena),
        "time": time_change(remedy, found),
    }


def _bytes_more(now: int | None, before: int | None) -> str:
    if now is None or before is None:
        return "–"
    if now == before:
        return "="
    return ("+" if now > before else "−") + units.size(abs(now - before))


def time_change(remedy: Remedy, found: Diagnosis) -> str:
    """Estimated change of the time of all products: '+12 %', '=', '–' where the target has no table."""
    now, before = remedy.cost.products, found.cost.products
    if now is None or not before:
        return "–"
    return "=" if now == before else f"{100 * (now / before - 1):+.1f} %"


def _chart(layers: Sequence[LayerError]) -> Markup:
    series = [("alone", [e.sqnr for e in layers]), ("accumulated", [e.sqnr_accumulated for e in layers])]
    return charts.lines(series, [layer.name for layer in layers], "SQNR, dB")


def _layer(layer: LayerError, is_open: bool) -> dict[str, Any]:
    shares = {cause: f"{100 * layer.shares[cause]:.1f}" for cause in CAUSES}
    return {
        **shares,
        "name": layer.name,
        "op": layer.op,
        "tensor": layer.output,
        "sqnr": units.decibel(layer.sqnr),
        "sqnr_order": _order(layer.sqnr),
        "accumulated": units.decibel(layer.sqnr_accumulated),
        "accumulated_order": _order(layer.sqnr_accumulated),
        "cosine": f"{layer.cosine_accumulated:.4f}",
        "tip": ", ".join(f"{cause} {share} %" for cause, share in shares.items()),
        "used": f"{100 * layer.used:.0f} %",
        "clipped": f"{100 * layer.clipped:.3g} %",
        "clipped_order": layer.clipped,
        "dead": layer.dead,
        "channels": layer.channels,
        "dtype": layer.dtype,
        "seen": f"{layer.seen[0]:.4g} … {layer.seen[1]:.4g}",
        "reach": f"{layer.low:.4g} … {layer.high:.4g}",
        "step": f"{layer.scale:.4g}",
        "histogram": charts.histogram(layer.histogram, layer.low, layer.high),
        "worst": [
            {"channel": c.channel, "sqnr": units.decibel(c.sqnr), "largest": f"{c.largest:.4g}"} for c in layer.worst
        ],
        "is_open": is_open,
    }


def _order(value: float) -> float:
    """What a table sorts by: no text such as 'inf', which isn't a number there."""
    return value if math.isfinite(value) else math.copysign(999.0, value)


def _formats(rows: Sequence[FormatRow]) -> dict[str, Any]:
    totals, plots = [], []
    for kind in ("weights", "activations"):
        chosen = [row for row in rows if row.kind == kind]
        if not chosen:
            continue
        for scale in ("per tensor", "per channel"):
            attribute = scale.replace(" ", "_")
            found = summary(rows, kind, attribute)
            cells = [f"{units.decibel(one['median'])} ({one['best']} of {one['of']})" for one in found.values()]
            totals.append({"kind": kind, "scale": scale, "cells": cells})
        by = "per_channel" if kind == "weights" else "per_tensor"
        series = [(f"f{i}", [getattr(row, by)[name] for row in chosen]) for i, name in enumerate(FORMATS, start=1)]
        title = f"{kind}, scale {by.replace('_', ' ')}"
        plots.append((title, charts.lines(series, [row.layer for row in chosen], "SQNR, dB")))
    listed = [
        {
            "layer": row.layer,
            "kind": row.kind,
            "cells": [(units.decibel(value), _order(value)) for value in _usual(row).values()],
        }
        for row in rows
    ]
    return {"summary": totals, "plots": plots, "rows": listed}


def _usual(row: FormatRow) -> dict[str, float]:
    """Weights by channel, activations by tensor: as integer networks have them."""
    return dict(row.per_channel if row.kind == "weights" else row.per_tensor)
