"""What the families share that walk strided views by a loop nest: how work is cut, operands, one-sided shapes.

Plain data, no tvm.
"""

from __future__ import annotations

from dataclasses import dataclass

from edgeq.compiler.kernels.base import KernelSpec, Operand
from edgeq.compiler.kernels.nest import Nest, Split

ROWS = 8  # rows of a RowsSpec that are done together


@dataclass(frozen=True)
class NestedSpec(KernelSpec):
    """A family whose tasks are pieces of a loop nest; by default from one input `x` to `y`, without constants."""

    @property
    def nest(self) -> Nest:
        """The canonical loop nest, one tuple of strides for each operand that moves, the output's last."""
        raise NotImplementedError

    @property
    def element_work(self) -> int:
        """What an element of the nest takes, in bytes of a plain copy: rows aren't cut into too small pieces."""
        raise NotImplementedError

    def split(self) -> Split:
        """How the work is cut into tasks."""
        return self.nest.split(self.element_work)

    def operands(self) -> list[Operand]:
        return [Operand("x", "input"), Operand("y", "output")]

    def tasks(self) -> int:
        return self.split().tasks


@dataclass(frozen=True)
class UnarySpec(NestedSpec):
    """One tensor, element by element.

    Attributes:
        shape: extents of the output; x_strides, y_strides: elements, 0 broadcasts.
    """

    shape: tuple[int, ...]
    x_strides: tuple[int, ...]
    y_strides: tuple[int, ...]

    @property
    def nest(self) -> Nest:
        """The canonical loop nest: x, y."""
        return Nest.of(self.shape, self.x_strides, self.y_strides)


@dataclass(frozen=True)
class RowsSpec(NestedSpec):
    """Whole rows, ROWS of them together pass by pass: one row's serial steps hide behind the next row's."""

    @property
    def blocks(self) -> Nest:
        """Blocks of ROWS rows (and a last dimension of 1)."""
        return self.nest.blocked(ROWS)

    def split(self) -> Split:
        """How the work is cut into tasks: a block is never cut."""
        return self.blocks.split(1)
