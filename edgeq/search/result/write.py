"""The policy file that a search ends with: readable, editable, every line with its reason."""

from __future__ import annotations

import json

from edgeq.quantize.policy import Policy
from edgeq.search.problem import layer_policy
from edgeq.search.result.found import Found
from edgeq.search.searcher import Candidate
from edgeq.search.solvers.milp import Table
from edgeq.search.space import Form

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
        "# Behind each layer: what its width gains against 8 bits, and the divergence it causes in the output.",
        "version: 1",
    ]
    defaults = base.defaults.model_dump(exclude_none=True)
    if defaults:
        lines.append(f"defaults: {json.dumps(defaults)}")
    lines.append("layers:")
    for pattern, choice in base.layers.items():
        if pattern not in best.forms:
            lines.append(f"  {json.dumps(pattern)}: {json.dumps(choice.model_dump(exclude_none=True))}")
    for name, form in best.forms.items():
        own = base.layers[name].model_dump(exclude_none=True) if name in base.layers else {}
        merged = {**own, **layer_policy(form).model_dump(exclude_none=True)}
        lines.append(f"  {json.dumps(name)}: {json.dumps(merged)}  # {_reason(found, cost, name, form)}")
    return "\n".join(lines) + "\n"


def _reason(found: Found, cost: Table, name: str, form: Form) -> str:
    row = cost[name]
    if len(row) == 1:
        return "fixed"
    widest = next(iter(row))
    gain = amount(found.objective, row[widest] - row[form])
    if form.bits < widest.bits:
        return f"gains {gain}, diverges by {found.sensitivity[name][form]:.2g}"
    cheapest = min(row, key=lambda other: row[other])
    if row[cheapest] >= row[widest]:
        return "fewer bits gain nothing here"
    missed = amount(found.objective, row[widest] - row[cheapest])
    return f"{cheapest.bits} bits would gain {missed} and diverge by {found.sensitivity[name][cheapest]:.2g}"
