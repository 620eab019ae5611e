"""A made-up network for tests of searches: costs, harms, and a true accuracy that sums of harms only approach."""

from __future__ import annotations

import itertools
from collections.abc import Mapping

import numpy as np

from edgeq.search.space import Form, Place, Space

FORMS = tuple(Form(bits) for bits in (8, 6, 5, 4, 3, 2))


class Landscape:
    """`layers` layers; accuracy falls with the harm, and more where neighbours are both narrow."""

    def __init__(self, layers: int = 12, seed: int = 0) -> None:
        generator = np.random.default_rng(seed)
        self.space = Space(tuple(Place(f"l{i}", 10, 10, FORMS) for i in range(layers)))
        size = generator.lognormal(0, 1, layers)
        fragile = generator.lognormal(0, 1.2, layers)
        self.cost = {f"l{i}": {f: float(size[i] * f.bits) for f in FORMS} for i in range(layers)}
        self.harm = {
            f"l{i}": {f: float(fragile[i] * (4.0 ** (8 - f.bits) - 1) * 1e-4) for f in FORMS} for i in range(layers)
        }

    def accuracy(self, forms: Mapping[str, Form]) -> float:
        """The truth."""
        row = [self.harm[layer.name][forms[layer.name]] for layer in self.space.places]
        joint = sum((a * b) ** 0.5 for a, b in itertools.pairwise(row))
        return float(0.9 * np.exp(-sum(row) - 0.5 * joint))

    def judge(self, policies: list[dict[str, Form]]) -> list[float]:
        """Of several."""
        return [self.accuracy(forms) for forms in policies]
