"""The policy file that a search ends with: readable, editable, every line with its reason."""

from __future__ import annotations

import json
from collections.abc import Mapping

from edgeq.quantize.policy import Policy
from edgeq.search.run import Found

AMOUNTS = {"latency": 1e6, "instructions": 1e-3, "weights": 1.0, "bitops": 1e-6}
UNITS = {"latency": "µs", "instructions": "k instructions", "weights": "bytes", "bitops": "M bit operations"}


def amount(resource: str, value: float) -> str:
    """'123.4 µs', '12 bytes'."""
    scaled = value * AMOUNTS[resource]
    return f"{scaled:.0f} {UNITS[resource]}" if abs(scaled) >= 100 else f"{scaled:.3g} {UNITS[resource]}"


def policy_text(found: Found, base: Policy, source: str, target: str) -> str:
    """YAML with comments.

    Args:
        found: of `search`. base: the user's policy, whose other choices are kept.
        source: the model's file name. target: its name.
    """
    best, uniform = found.best, found.uniform
    cost = found.costs.tables[found.objective]
    lines = [
        f"# Found by edgeq search for {source} on {target}.",
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
        if pattern not in best.bits:
            lines.append(f"  {json.dumps(pattern)}: {json.dumps(choice.model_dump(exclude_none=True))}")
    for name, bits in best.bits.items():
        own = base.layers[name].model_dump(exclude_none=True) if name in base.layers else {}
        lines.append(
            f"  {json.dumps(name)}: {json.dumps({**own, 'weight_bits': bits})}  # {_reason(found, cost, name, bits)}"
        )
    return "\n".join(lines) + "\n"


def _reason(found: Found, cost: Mapping[str, Mapping[int, float]], name: str, bits: int) -> str:
    widest = max(cost[name])
    if len(cost[name]) == 1:
        return "fixed"
    gain = amount(found.objective, cost[name][widest] - cost[name][bits])
    if bits < widest:
        return f"gains {gain}, diverges by {found.sensitivity[name][bits]:.2g}"
    cheapest = min(cost[name], key=lambda width: cost[name][width])
    if cost[name][cheapest] >= cost[name][widest]:
        return "fewer bits gain nothing here"
    missed = amount(found.objective, cost[name][widest] - cost[name][cheapest])
    return f"{cheapest} bits would gain {missed} and diverge by {found.sensitivity[name][cheapest]:.2g}"
