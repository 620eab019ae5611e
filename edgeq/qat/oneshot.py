"""Bits of every layer found while the network trains: one run, no training afterwards.

After FLIQS (arXiv 2308.03290). One set of weights trains under a grid per layer that is drawn anew for each batch, at
first evenly, then by a controller that policy gradients move towards less loss at the wanted cost

    reward = −loss − pressure · |cost / most − 1|

and for the last part of the same run under the likeliest assignment that costs no more than `most`, an integer
programme over the controller's log-probabilities.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch.nn import functional

from edgeq.errors import UsageError
from edgeq.qat.controller import Controller, Places
from edgeq.qat.grids import Grid, SearchedWeights, grid_of
from edgeq.qat.module import QatModule, key_of
from edgeq.qat.node import Tensor
from edgeq.qat.oneshot_cost import Table, cost_table
from edgeq.qat.quantizers import ProductLayer
from edgeq.qat.training import SCALE_RATE, Loss, TrainingError
from edgeq.quantize.policy import LayerPolicy, Policy
from edgeq.quantize.products import Product, products

if TYPE_CHECKING:
    from collections.abc import Mapping

#: Shares of the epochs in which grids are drawn evenly, and at whose end the controller has decided.
EVENLY, DECIDED = 0.3, 0.7
WIDTHS: tuple[int | str, ...] = (8, 6, 5, 4, 3, 2)


@dataclass(frozen=True)
class SearchProgress:
    """Where a one-shot search is.

    Attributes:
        epoch, epochs: finished and wanted. phase: shared, search or chosen.
        loss: mean over the epoch. share: cost of what was drawn, over that of 8 bits.
        certainty: mean probability of the likeliest choice.
    """

    epoch: int
    epochs: int
    phase: str
    loss: float
    share: float
    certainty: float

    def __str__(self) -> str:
        return (
            f"epoch {self.epoch}/{self.epochs} ({self.phase}): loss {self.loss:.4f}, "
            f"cost {self.share:.1%}, certainty {self.certainty:.0%}"
        )


@dataclass(frozen=True)
class OneShot:
    """Result of a one-shot search.

    Attributes:
        module: trained, in evaluation mode; `edgeq.qat.convert` takes it. grids: layer → name of its grid.
        cost: of the layers that were searched, in the unit that was asked for. share: of the same at 8 bits.
        history: one entry an epoch.
    """

    module: QatModule
    grids: Mapping[str, str]
    cost: float
    share: float
    history: Sequence[SearchProgress]

    def policy(self) -> Policy:
        """Bits by layer, for reading; grids of floats by the bits of their kernels."""
        return Policy(layers={name: LayerPolicy(weight_bits=grid_of(grid).bits) for name, grid in self.grids.items()})


def search(
    module: QatModule,
    batches: Iterable[tuple[Tensor, Tensor]],
    epochs: int,
    *,
    most: float,
    cost: str = "bitops",
    widths: Sequence[int | str] = WIDTHS,
    edge_bits: int = 2,
    lr: float = 1e-3,
    pressure: float = 1.0,
    phases: tuple[float, float] = (EVENLY, DECIDED),
    loss: Loss = functional.cross_entropy,
    device: str | torch.device = "cpu",
    seed: int = 0,
    progress: Callable[[SearchProgress], None] | None = None,
) -> OneShot:
    """Train a prepared module and choose the grid of each layer's weights on the way.

    Args:
        module: from `edgeq.qat.prepare`; its layers are replaced. Layers that its policy gives bits by name keep them.
        batches: (inputs, labels), read from the start in every epoch. epochs: of the whole run.
        most: hard limit: share of the cost at 8 bits, of the layers that are searched.
        cost: bitops (multiply-accumulates × bits), weights (bytes, if packed), or a target whose table of costs
            (`edgeq targets NAME --costs`) says what a multiply-accumulate takes there.
        widths: bits to choose from, and 'fp4 e2m1'. edge_bits: fewest of the first and the last layer.
        lr: of the weights at the beginning; scales learn with a tenth of it. pressure: how much a cost off the limit
            weighs against loss. loss: of (outputs, labels); with a teacher see `qat.taught`.
        phases: shares of the epochs in which grids are drawn evenly, and at whose end the controller has decided.
        device: cpu, cuda …. seed: of what is drawn. progress: called after each epoch.

    Returns:
        the trained module and its grids.

    Raises:
        UsageError: unknown grids or cost, phases out of order, or a limit that the narrowest grids don't keep to.
            TrainingError: the loss is NaN or infinite.
    """
    if not 0 <= phases[0] < phases[1] < 1:
        raise UsageError("phases are two rising shares of the epochs below 1", where="phases", why=str(phases))
    if epochs < 3 or iter(batches) is batches:
        raise UsageError("a search needs three epochs or more, and batches that can be read again in every epoch")
    module.to(device)
    layers = _replace(module, [grid_of(width) for width in widths], edge_bits)
    table, wide = cost_table(module, layers, cost)
    run = _Run(module, layers, table, wide, most, pressure, loss, torch.device(device), seed)
    return run.train(batches, epochs, lr, phases, progress)


def _replace(module: QatModule, grids: Sequence[Grid], edge_bits: int) -> dict[str, SearchedWeights]:
    """Every layer that may choose gets weights with all its grids."""
    found = products(module.topology)
    edges = {found[0].layer.name, found[-1].layer.name} if found else set()
    layers = {}
    for product in found:
        if module.plan.policy.named(*product.layer.names).weight_bits is not None:
            continue
        allowed = [grid for grid in grids if product.layer.name not in edges or grid.bits >= edge_bits]
        layers[product.layer.name] = _searched(module, product, allowed)
    if not layers:
        raise UsageError("nothing to search", why="the policy names the bits of every layer with weights")
    for name, layer in layers.items():
        module.products[key_of(name)] = layer
    return layers


def _searched(module: QatModule, product: Product, grids: Sequence[Grid]) -> SearchedWeights:
    if not grids:
        raise UsageError("no grid is left for a layer", where=f"layer {product.layer.name!r}", hint="lower edge_bits")
    old = module.products[key_of(product.layer.name)]
    ordered = tuple(sorted(set(grids), key=lambda grid: (-grid.bits, -len(grid.levels))))
    if isinstance(old, SearchedWeights):
        return SearchedWeights(product, ordered, old.rows, old.bias)
    assert isinstance(old, ProductLayer)
    rows = old.layer.weight.detach()
    return SearchedWeights(product, ordered, rows.reshape(len(rows), -1), old.bias)


class _Run:
    """State of one search."""

    def __init__(
        self,
        module: QatModule,
        layers: dict[str, SearchedWeights],
        table: Table,
        wide: float,
        most: float,
        pressure: float,
        loss: Loss,
        device: torch.device,
        seed: int,
    ) -> None:
        self.module, self.layers, self.table, self.wide = module, layers, table, wide
        self.most, self.pressure, self.loss, self.device = most, pressure, loss, device
        least = sum(min(row) for row in table.values())
        if least > most * wide * (1 + 1e-9):
            raise UsageError(
                "no choice of grids keeps to the limit",
                where=f"most={most}",
                why=f"the narrowest ones cost {least / wide:.4f} of 8 bits",
                hint=f"allow {least / wide:.4f}, or give narrower grids",
            )
        self.controller = Controller({name: len(layer.grids) for name, layer in layers.items()}, seed)

    def train(
        self,
        batches: Iterable[tuple[Tensor, Tensor]],
        epochs: int,
        lr: float,
        phases: tuple[float, float],
        progress: Callable[[SearchProgress], None] | None,
    ) -> OneShot:
        """The three phases of one run."""
        module, exact = self.module, self.module.exact
        optimizer = torch.optim.AdamW(module.parameter_groups(lr, lr * SCALE_RATE), lr=lr, weight_decay=0.0)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)
        evenly = round(phases[0] * epochs)
        decided = max(evenly + 1, round(phases[1] * epochs))
        history = []
        for epoch in range(1, epochs + 1):
            phase = "shared" if epoch <= evenly else "search" if epoch <= decided else "chosen"
            if epoch == decided + 1:
                self.choose(self.best())
            # Exact values cost an integer graph a step: only for the grids that stay.
            module.exact = exact and phase == "chosen"
            module.train()
            share = (epoch - evenly) / (decided - evenly)
            mean, cost = self._epoch(batches, optimizer, phase, share)
            schedule.step()
            history.append(SearchProgress(epoch, epochs, phase, mean, cost, self.controller.certainty()))
            if progress:
                progress(history[-1])
        module.exact = exact
        module.eval()
        grids = {name: layer.grid.name for name, layer in self.layers.items()}
        places = {name: layer.variant for name, layer in self.layers.items()}
        return OneShot(module, grids, self.cost(places), self.cost(places) / self.wide, history)

    def _epoch(
        self, batches: Iterable[tuple[Tensor, Tensor]], optimizer: torch.optim.Optimizer, phase: str, progress: float
    ) -> tuple[float, float]:
        """Mean loss and mean cost over an epoch, the latter as a share of 8 bits."""
        losses, costs = [], []
        for x, y in self._moved(batches):
            if phase == "search":
                self.controller.learn(lambda places, x=x, y=y: self.reward(places, x, y), progress)  # type: ignore[misc]
            if phase != "chosen":
                self.choose(self.controller.draw(evenly=phase == "shared"))
            value = self.loss(self.module(x), y)
            if not torch.isfinite(value):
                raise TrainingError(
                    "the loss is not finite", why=str(float(value)), hint="lower the learning rate, or allow more bits"
                )
            optimizer.zero_grad()
            value.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            losses.append(float(value.detach()))
            costs.append(self.cost({name: layer.variant for name, layer in self.layers.items()}))
        if not losses:
            raise UsageError("there are no batches to train on")
        return sum(losses) / len(losses), sum(costs) / len(costs) / self.wide

    def _moved(self, batches: Iterable[tuple[Tensor, Tensor]]) -> Iterator[tuple[Tensor, Tensor]]:
        for x, y in batches:
            yield x.to(self.device), y.to(self.device)

    def choose(self, places: Places) -> None:
        """Put an assignment in force."""
        for name, layer in self.layers.items():
            layer.choose(places[name])

    def cost(self, places: Places) -> float:
        """Of an assignment."""
        return sum(self.table[name][place] for name, place in places.items())

    def reward(self, places: Places, x: Tensor, y: Tensor) -> float:
        """Less loss is better, and so is a cost at the limit."""
        self.choose(places)
        with torch.no_grad():
            value = float(self.loss(self.module(x), y))
        off = abs(self.cost(places) / (self.most * self.wide) - 1)
        return -value - self.pressure * off

    def best(self) -> Places:
        """The likeliest assignment within the limit."""
        from edgeq.search.solvers.milp import Line, cheapest

        logs = {name: (-torch.log(row.clamp_min(1e-9))).tolist() for name, row in self.controller.chances().items()}
        found = cheapest(logs, [Line(self.table, self.most * self.wide)])
        assert found is not None, "the narrowest grids keep to the limit"
        return found
