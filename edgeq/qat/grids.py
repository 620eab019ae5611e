"""Sets of integers that weights may take, of which a one-shot search chooses one for each layer.

Integers of 2 … 8 bits, and floating point of 4 bits: its numbers are small multiples of its smallest one, so a layer
with such weights runs on the integer kernels as it is, `fp4 e2m1` on those of 5 bits (0, 1, 2, 3, 4, 6, 8, 12).
Floating point of 8 bits spans more than int8 holds.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from edgeq.errors import UsageError
from edgeq.qat.node import Tensor
from edgeq.qat.quantizers import LARGEST_DECIDES, WeightLayer, arrangement
from edgeq.quantize.products import Product

FLOATS = ("fp4 e2m1",)
#: Shares of a row's largest weight that are tried for the largest number, by squared error.
SHARES = np.linspace(0.3, 1.0, 36)
_TINY = 1e-12


@dataclass(frozen=True)
class Grid:
    """A set of integers, symmetric around zero.

    Attributes:
        name: '4' for integers of 4 bits, 'fp4 e2m1'. levels: those from zero up.
        bits: of the kernels that multiply them. stored: bits that telling them apart takes.
        evenly: every integer up to the largest.
    """

    name: str
    levels: tuple[int, ...]
    bits: int
    stored: int

    @property
    def evenly(self) -> bool:
        """Every integer up to the largest is in it."""
        return len(self.levels) == self.levels[-1] + 1

    @property
    def learns_scale(self) -> bool:
        """False: the largest weight decides, as for any layer of 7 bits and more."""
        return self.bits < LARGEST_DECIDES

    def nearest(self, x: Tensor) -> Tensor:
        """Each value's nearest number, |x| ≤ the largest."""
        if self.evenly:
            return torch.round(x)
        levels = torch.tensor(self.levels, dtype=x.dtype, device=x.device)
        found = levels[torch.bucketize(x.abs(), (levels[1:] + levels[:-1]) / 2)]
        return torch.where(x < 0, -found, found)


def grid_of(choice: int | str) -> Grid:
    """The grid of 4, '4' or 'fp4 e2m1'.

    Raises:
        UsageError: no such grid.
    """
    name = str(choice)
    if name in {str(bits) for bits in range(2, 9)}:
        bits = int(name)
        return Grid(name, tuple(range(2 ** (bits - 1))), bits, bits)
    if name in FLOATS:
        from edgeq.diagnose.formats import magnitudes

        numbers = magnitudes(name)
        levels = tuple(int(value) for value in np.rint(numbers / numbers[1]))
        return Grid(name, levels, levels[-1].bit_length() + 1, 4)
    raise UsageError(
        "no such weight grid", where="widths", why=repr(choice), hint=f"2 … 8 bits, or {' or '.join(FLOATS)}"
    )


class SearchedWeights(WeightLayer):
    """One set of float weights seen through several grids, of which one is in force; each has scales of its own.

    Args:
        product: layer of the float graph. grids: to choose from, the first one is in force.
        rows: float weights to start from [output channels, fan-in]. bias: [output channels] or None.
    """

    index: Tensor
    chosen: Tensor

    def __init__(self, product: Product, grids: tuple[Grid, ...], rows: Tensor, bias: Tensor | None) -> None:
        super().__init__()
        self.grids = grids
        self.rows = nn.Parameter(rows.detach().clone())
        self._bias = None if bias is None else nn.Parameter(bias.detach().clone())
        self.log_scales = nn.ParameterDict(
            {
                _key(grid): nn.Parameter(torch.log2(_start(self.rows.detach(), grid)))
                for grid in grids
                if grid.learns_scale
            }
        )
        self.register_buffer("index", arrangement(product).to(rows.device), persistent=False)
        self.register_buffer("chosen", torch.zeros((), dtype=torch.int64))
        self._place = 0

    def choose(self, place: int) -> None:
        """Put a grid in force."""
        self._place = place
        self.chosen.fill_(place)

    @property
    def variant(self) -> int:
        """Place of the grid in force."""
        return self._place

    @property
    def grid(self) -> Grid:
        """In force."""
        return self.grids[self._place]

    @property
    def bias(self) -> Tensor | None:
        """float32 [output channels]."""
        return self._bias

    def weight(self) -> Tensor:
        """Real units, in the layout of the float graph's node; straight through the rounding."""
        scale = self._scale()
        top = float(self.grid.levels[-1])
        steps = (self.rows / scale).clamp(-top, top)
        rounded = steps + (self.grid.nearest(steps) - steps).detach()
        return (rounded * scale).reshape(-1)[self.index]

    def integers(self) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
        """Integers and scales, both [output channels, fan-in]."""
        with torch.no_grad():
            scale = self._scale()
            top = float(self.grid.levels[-1])
            values = self.grid.nearest((self.rows / scale).clamp(-top, top)).to(torch.int8)
            scales = scale.expand(values.shape).contiguous()
        return values.cpu().numpy(), scales.cpu().numpy()

    def _scale(self) -> Tensor:
        """Real units a step, [output channels, 1]."""
        if self.grid.learns_scale:
            return torch.exp2(self.log_scales[_key(self.grid)])
        return _or_one(self.rows.abs().amax(dim=1, keepdim=True)) / self.grid.levels[-1]

    def _load_from_state_dict(self, *args: object, **kwargs: object) -> None:
        super()._load_from_state_dict(*args, **kwargs)
        self._place = int(self.chosen)


def _key(grid: Grid) -> str:
    return f"s{grid.name}" if grid.evenly else grid.name.replace(" ", "_")


def _start(rows: Tensor, grid: Grid) -> Tensor:
    """The scale with the least squared error of each row, [output channels, 1]."""
    largest, top = _or_one(rows.abs().amax(dim=1, keepdim=True)), float(grid.levels[-1])
    best, least = largest / top, torch.full_like(largest, torch.inf)
    for share in SHARES:
        scale = largest * float(share) / top
        error = ((grid.nearest((rows / scale).clamp(-top, top)) * scale - rows) ** 2).sum(dim=1, keepdim=True)
        best = torch.where(error < least, scale, best)
        least = torch.minimum(error, least)
    return best


def _or_one(largest: Tensor) -> Tensor:
    """A row of zeros has no scale: any will do."""
    return torch.where(largest > _TINY, largest, torch.ones_like(largest))
