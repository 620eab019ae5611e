"""What each grid of each layer costs, known before anything is compiled."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from edgeq.compiler.costs import Kind
from edgeq.compiler.target import load_target
from edgeq.errors import UsageError
from edgeq.qat.grids import Grid, SearchedWeights, grid_of
from edgeq.qat.module import QatModule
from edgeq.quantize.products import Product, products
from edgeq.search.space import macs_of

#: Layer → cost of each of its grids, in their order.
Table = dict[str, list[float]]
CostOf = Callable[[Product, Grid], float]
COSTS = ("bitops", "weights")
#: Bits of what every product reads.
_READ = 8


def cost_table(module: QatModule, layers: Mapping[str, SearchedWeights], cost: str) -> tuple[Table, float]:
    """Bit operations, bytes of packed weights, or what a target's table of costs gives; and their sum at 8 bits.

    Raises:
        UsageError: the target has no such table. TargetError: no such target.
    """
    found = {product.layer.name: product for product in products(module.topology)}
    of = _counted(module, cost) if cost in COSTS else _tabled(module, cost)
    table = {name: [of(found[name], grid) for grid in layer.grids] for name, layer in layers.items()}
    return table, sum(of(found[name], grid_of(8)) for name in layers)


def _counted(module: QatModule, cost: str) -> CostOf:
    def of(product: Product, grid: Grid) -> float:
        if cost == "weights":
            return product.weights.size * grid.stored / 8
        return float(macs_of(module.plan, product) * grid.bits * _READ)

    return of


def _tabled(module: QatModule, target: str) -> CostOf:
    loaded = load_target(target)
    costs = loaded.costs
    if costs is None:
        raise UsageError(
            "the target has no table of costs",
            where=str(loaded.folder / "costs.toml"),
            hint=f"search for {' or '.join(COSTS)}; docs/new-target.md says how a table is made",
        )

    def of(product: Product, grid: Grid) -> float:
        kind: Kind = "depthwise" if product.is_depthwise else "gemm" if product.layer.op == "MatMul" else "conv"
        each = costs.of(kind, grid.bits)
        if each is None:
            raise UsageError("the table of costs doesn't say what a layer takes", where=product.layer.name, why=kind)
        return each * macs_of(module.plan, product)

    return of
