"""Integers of every (layer, bits) a search may try, each solved once with GPTQ and kept in the cache.

They are fitted to the inputs of the network with all weights at their planned width. `edgeq compile` fits them again
to the inputs of the mixed network; what is returned in the end is judged with those.
"""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

import numpy as np

from edgeq.cache import cached_file, content_key
from edgeq.quantize.data import CalibrationData
from edgeq.quantize.integerize.weights import QuantizedWeights
from edgeq.quantize.judge import split
from edgeq.quantize.plan import Plan
from edgeq.quantize.products import Product, brought_along, products
from edgeq.quantize.rounding.gram import Gram
from edgeq.quantize.rounding.sequential import moments
from edgeq.quantize.rounding.solve import solve

ROUNDING = "gptq"


class Rounder:
    """Chooses the integers of a layer; usable as the `rounding` of `edgeq.quantize.sensitivity`.

    Args:
        plan: of the network. data: calibration data. digest: names both, for the cache.
    """

    def __init__(self, plan: Plan, data: CalibrationData, digest: str) -> None:
        self._plan, self._data, self._digest = plan, data, digest
        self._known: dict[tuple[str, int], QuantizedWeights] = {}

    def __call__(self, plan: Plan, product: Product, bits: int) -> QuantizedWeights:
        """Integers of `bits` bits; those that a model brings along stay."""
        kept = brought_along(plan, product, bits)
        if kept is not None:
            return kept
        key = (product.layer.name, bits)
        if key not in self._known:
            name = content_key([self._digest, *map(str, key)])
            path = cached_file("rounded", "weights.npz", name, lambda path: self._write(product, bits, path))
            with np.load(path) as archive:
                self._known[key] = QuantizedWeights(**{field: archive[field] for field in archive.files})
        return self._known[key]

    def _write(self, product: Product, bits: int, path: Path) -> None:
        policy = self._plan.policy.layer(*product.layer.names)
        gram = self._grams[product.layer.name]
        found = solve(self._plan, product, gram, bits, policy.rounding or ROUNDING, policy.clip)
        with path.open("wb") as file:
            np.savez(file, values=found.values, scale=found.scale, bias=found.bias, bound=found.bound)

    @cached_property
    def _grams(self) -> dict[str, Gram]:
        return moments(self._plan, split(self._data)[0], products(self._plan.topology))
