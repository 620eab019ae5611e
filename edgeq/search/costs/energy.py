"""A proxy for the energy of a run: what multiplying and fetching the weights takes, by their bits.

Figures of 45 nm, M. Horowitz, "Computing's energy problem", ISSCC 2014: an 8-bit multiplication .2 pJ, a 32-bit
addition .1 pJ, 64 bits from a cache of 1 MiB 100 pJ. A multiplier's energy goes with the product of its widths. Each
byte of weights is fetched once a run. Good for comparing policies, not for a battery's life: activations and
instructions are left out, which no choice of weights changes much.
"""

from __future__ import annotations

from edgeq.search.solvers.milp import Table
from edgeq.search.space import WIDEST, Choice, Form, Space

#: Joules of an 8-bit by 8-bit multiplication, of adding its product, of fetching a byte of weights.
MULTIPLY, ADD, BYTE = 0.2e-12, 0.1e-12, 100e-12 / 8


def energy_table(space: Space, weights: Table) -> dict[str, dict[Choice, float]]:
    """Place → {form: joules}.

    Args:
        space: places. weights: place → {form: bytes in the artifact}.
    """
    return {
        place.name: {
            form: place.macs * (MULTIPLY * bits_of(form) / 8 + ADD) + weights[place.name][form] * BYTE
            for form in place.forms
        }
        for place in space.places
    }


def bitops_table(space: Space) -> dict[str, dict[Choice, float]]:
    """Place → {form: multiplications · bits of weights · 8}: what isn't weights has no part in it."""
    return {
        place.name: {form: float(place.macs * bits_of(form) * WIDEST) for form in place.forms} for place in space.places
    }


def bits_of(form: Choice) -> int:
    """Bits of weights; 8 where there is nothing to multiply."""
    return form.bits if isinstance(form, Form) else WIDEST
