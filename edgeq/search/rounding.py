"""Integers of every (layer, bits) a search may try, each solved once with GPTQ and kept in the cache.

They are fitted to the inputs of the network with all weights at their planned width. `edgeq compile` fits them again
to the inputs of the mixed network; what is returned in the end is judged with those.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path

import numpy as np
from threadpoolctl import threadpool_limits

from edgeq.cache import cache_dir, cached_file, content_key
from edgeq.quantize.calibrate import Progress
from edgeq.quantize.error.judge import split
from edgeq.quantize.integerize.weights import QuantizedWeights
from edgeq.quantize.plan import Plan
from edgeq.quantize.products import Product, brought_along, extent_of, products, read_quant
from edgeq.quantize.rounding.gram import Gram
from edgeq.quantize.rounding.sequential import moments
from edgeq.quantize.rounding.solve import solve
from edgeq.quantize.samples.data import CalibrationData
from edgeq.quantize.session import default_threads
from edgeq.quantize.topology import name_of

ROUNDING = "gptq"
FOLDER, FILE = "rounded", "weights.npz"


class Rounder:
    """Chooses the integers of a layer; usable as the `rounding` of `edgeq.quantize.error.sensitivity`.

    Args:
        plan: of the network. data: calibration data. digest: names both, for the cache.
    """

    def __init__(self, plan: Plan, data: CalibrationData, digest: str) -> None:
        self._plan, self._data, self._digest = plan, data, digest
        self._known: dict[str, QuantizedWeights] = {}
        self._surroundings = {p.layer.name: _surroundings(plan, p) for p in products(plan.topology)}

    def __call__(self, plan: Plan, product: Product, bits: int) -> QuantizedWeights:
        """Integers of `bits` bits; those that a model brings along stay.

        Args:
            plan: of the same network; what it says of the layer's input and scale counts.
        """
        kept = brought_along(plan, product, bits)
        if kept is not None:
            return kept
        key = self._name(plan, product, bits)
        if key not in self._known:
            self._known[key] = self._load(plan, product, bits)
        return self._known[key]

    def solve_all(
        self, wanted: Sequence[tuple[Product, int]], progress: Progress | None = None, plan: Plan | None = None
    ) -> None:
        """Solve (layer, bits) side by side, so that they are known when they are asked for. plan: None: the own."""
        plan = plan or self._plan
        names = {self._name(plan, product, bits): (product, bits) for product, bits in wanted}
        missing = {name: pair for name, pair in names.items() if name not in self._known}
        if not missing:
            return
        if not all(self._path(name).is_file() for name in missing):
            _ = self._grams  # before the threads begin: each would collect them
        # A library's own threads inside these would only wait for one another.
        with threadpool_limits(1, "blas"), ThreadPoolExecutor(default_threads()) as pool:
            for done, _ in enumerate(pool.map(lambda pair: self(plan, *pair), missing.values()), start=1):
                if progress:
                    progress("rounding", done, len(missing))

    def _name(self, plan: Plan, product: Product, bits: int) -> str:
        """Names a solution; what surrounds the layer in another plan, too, where that differs."""
        around, own = _surroundings(plan, product), self._surroundings[product.layer.name]
        return content_key([self._digest, product.layer.name, str(bits), *([] if around == own else [around])])

    def _path(self, name: str) -> Path:
        return cache_dir(FOLDER, name) / FILE

    def _load(self, plan: Plan, product: Product, bits: int) -> QuantizedWeights:
        name = self._name(plan, product, bits)
        path = cached_file(FOLDER, FILE, name, lambda path: self._write(plan, product, bits, path))
        with np.load(path) as archive:
            return QuantizedWeights(**{field: archive[field] for field in archive.files})

    def _write(self, plan: Plan, product: Product, bits: int, path: Path) -> None:
        policy = plan.policy.layer(*product.layer.names)
        gram = self._grams[product.layer.name]
        found = solve(plan, product, gram, bits, policy.rounding or ROUNDING, policy.clip)
        with path.open("wb") as file:
            np.savez(file, values=found.values, scale=found.scale, bias=found.bias, bound=found.bound)

    @cached_property
    def _grams(self) -> dict[str, Gram]:
        return moments(self._plan, split(self._data)[0], products(self._plan.topology))


def _surroundings(plan: Plan, product: Product) -> str:
    """What integers of a layer depend on besides its weights and the real values of its input."""
    x, y = read_quant(plan, product), plan.quant(name_of(product.layer.output))
    shifts = plan.policy.layer(*product.layer.names).scale == "pow2"
    return f"{x.scale!r} {extent_of(x)} {y.scale!r} {shifts}"
