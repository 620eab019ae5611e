"""A proxy for the energy of a run: what multiplying and fetching the weights takes, by their bits.

Figures of 45 nm, M. Horowitz, "Computing's energy problem", ISSCC 2014: an 8-bit multiplication .2 pJ, a 32-bit
addition .1 pJ, 64 bits from a cache of 1 MiB 100 pJ. A multiplier's energy goes with the product of its widths. Each
byte of weights is fetched once a run. Good for comparing policies, not for a battery's life: activations and
instructions are left out, which no choice of weights changes much.
"""

from __future__ import annotations

from edgeq.search.solvers.milp import Table
from edgeq.search.space import Form, Space

#: Joules of an 8-bit by 8-bit multiplication, of adding its product, of fetching a byte of weights.
MULTIPLY, ADD, BYTE = 0.2e-12, 0.1e-12, 100e-12 / 8


def energy_table(space: Space, weights: Table) -> dict[str, dict[Form, float]]:
    """Layer → {form: joules}.

    Args:
        space: layers. weights: layer → {form: bytes in the artifact}.
    """
    return {
        layer.name: {
            form: layer.macs * (MULTIPLY * form.bits / 8 + ADD) + weights[layer.name][form] * BYTE
            for form in layer.forms
        }
        for layer in space.layers
    }
