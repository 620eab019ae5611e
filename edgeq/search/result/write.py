"""The policy file that a search ends with: readable, editable, every line with its reason."""

from __future__ import annotations

import json

from edgeq.quantize.policy import LayerPolicy, Policy
from edgeq.search.result.found import Found
from edgeq.search.searcher import Candidate
from edgeq.search.solvers.milp import Table
from edgeq.search.space import Choice, Form, layer_of

AMOUNTS = {"latency": 1e6, "instructions": 1e-3, "weights": 1.0, "bitops": 1e-6, "energy": 1e6}
UNITS = {
    "latency": "µs",
    "instructions": "k instructions",
    "weights": "bytes",
    "bitops": "M bit operations",
    "energy": "µJ",
}


def amount(resource: str, value: float) -> str:
    """'123.4 µs', '12 bytes'."""
    scaled = value * AMOUNTS[resource]
    return f"{scaled:.0f} {UNITS[resource]}" if abs(scaled) >= 100 else f"{scaled:.3g} {UNITS[resource]}"


def policy_text(found: Found, base: Policy, source: str, target: str, candidate: Candidate | None = None) -> str:
    """YAML with comments.

    Args:
        found: of `search`. base: the user's policy, whose other choices are kept.
        source: the model's file name. target: its name. candidate: the policy to write; None: the best.
    """
    best, uniform = candidate or found.best, found.uniform
    cost = found.costs.tables[found.objective]
    lines = [
        # Names come from outside: a line break in them must not end the comment.
        f"# Found by edgeq search for {' '.join(source.split())} on {' '.join(target.split())}.",
        f"# accuracy {best.accuracy:.4f} (float {found.reference:.4f}, 8 bits {uniform.accuracy:.4f}); "
        f"{found.objective} {amount(found.objective, best.predicted[found.objective])} predicted, "
        f"8 bits {amount(found.objective, uniform.predicted[found.objective])}",
        "# Behind each layer: what its form gains against the finest (8 bits), and what the output diverges by.",
        "version: 1",
    ]
    defaults = base.defaults.model_dump(exclude_none=True)
    if defaults:
        lines.append(f"defaults: {json.dumps(defaults)}")
    lines.append("layers:")
    entries: dict[str, list[tuple[str, Choice]]] = {}
    for name, choice in best.forms.items():
        entries.setdefault(layer_of(name, choice), []).append((name, choice))
    for pattern, given in base.layers.items():
        if pattern not in entries:
            lines.append(f"  {json.dumps(pattern)}: {json.dumps(given.model_dump(exclude_none=True))}")
    for layer, chosen in entries.items():
        merged = base.layers.get(layer, LayerPolicy())
        for _, choice in chosen:
            merged = choice.change.over(merged)
        reasons = "; ".join(_reason(found, cost, name, choice) for name, choice in chosen)
        lines.append(f"  {json.dumps(layer)}: {json.dumps(merged.model_dump(exclude_none=True))}  # {reasons}")
    return "\n".join(lines) + "\n"


def _reason(found: Found, cost: Table, name: str, choice: Choice) -> str:
    """Why a place has its form."""
    row, harm = cost[name], found.sensitivity[name]
    label = "" if isinstance(choice, Form) else f"{choice.value}: "
    forms = list(row)
    if len(forms) == 1:
        return f"{label}fixed"
    finest = forms[0]
    coarser = [form for form in forms[forms.index(choice) + 1 :] if not _same_width(form, choice)]
    parts = []
    if not _same_width(choice, finest):
        parts.append(_change(found, row[finest] - row[choice]) + f", diverges by {harm[choice]:.2g}")
    cheapest = min(coarser, key=lambda form: row[form], default=None)
    if not parts and (cheapest is None or row[cheapest] >= row[choice]):
        return f"{label}{'fewer bits' if isinstance(choice, Form) else 'other forms'} gain nothing here"
    if not parts and cheapest is not None:
        other = f"{cheapest.bits} bits" if isinstance(cheapest, Form) else str(cheapest.value)
        missed = amount(found.objective, row[choice] - row[cheapest])
        parts.append(f"{other} would gain {missed} and diverge by {harm[cheapest]:.2g}")
    return label + ", ".join(parts)


def _change(found: Found, saved: float) -> str:
    return f"gains {amount(found.objective, saved)}" if saved >= 0 else f"costs {amount(found.objective, -saved)}"


def _same_width(one: Choice, other: Choice) -> bool:
    """Whether two forms give the same bits in the output."""
    return one == other or (isinstance(one, Form) and isinstance(other, Form) and one.bits == other.bits)
