"""PackBits: activations of two values, a bit each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from edgeq.compiler.kernels.base import Image, KernelSpec, Operand
from edgeq.compiler.target import Target

WORD = 32  # channels that become one step of a product


@dataclass(frozen=True)
class PackBitsSpec(KernelSpec):
    """Bit c of a pixel of y, from the lowest of the first byte on, is 1 where channel c of x has the larger value.

    Attributes:
        x: u8, of `levels` only; channels are a multiple of WORD.
        y: the same pixels, an eighth of the elements.
        levels: the two values, as stored, the smaller one first.
    """

    family: ClassVar[str] = "bits"
    x: Image
    y: Image
    levels: tuple[int, int]

    @property
    def offset(self) -> int:
        """Added modulo 256 it sets the larger value's top bit and clears the smaller one's."""
        low, high = self.levels
        return 128 - high if high - low <= 128 else 255 - high

    def operands(self) -> list[Operand]:
        return [Operand("x", "input"), Operand("y", "output")]

    def tasks(self) -> int:
        return self.x.n * self.x.h

    def cost(self) -> float:
        """Estimated time of one run, in the unit of Product.step_cost: a load, an addition, a store for each word."""
        return 2.0 * self.x.n * self.x.h * self.x.w * (self.x.c // WORD) + 10.0

    def describe(self, target: Target) -> str:
        return "pack_bits"

    def pack(self, target: Target, constants: dict[str, Any]) -> dict[str, Any]:
        return {}

    def parameters(self, target: Target) -> list[tuple[str, str, int]]:
        return [("x", "u8", self.x.elements), ("y", "u8", self.y.elements)]

    def build(self, target: Target) -> Any:
        from edgeq.compiler.kernels.bits import pack_tir

        return pack_tir.pack_bits(self, target)
