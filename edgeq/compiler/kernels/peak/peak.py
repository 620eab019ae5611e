"""The ceiling of an instruction mix: a product's inner loop on its best register tile, everything in the first cache.

Not a part of any model: `edgeq profile --roofline` runs it to say how close a layer's kernel comes to what its
instructions allow.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from edgeq.compiler.kernels.base import DType, KernelSpec, Operand

if TYPE_CHECKING:
    import numpy as np

    from edgeq.compiler.isa.products import Product
    from edgeq.compiler.target import Target

GROUPS = 64  # of K: a loop long enough to hide its start, data that stays in the first cache
PASSES = 200


@dataclass(frozen=True)
class Mix:
    """A product as a kernel uses it.

    Attributes:
        x_dtype, number: its place in the target's PRODUCTS.
        depth, bits: as the layer's weights allow them (Product).
        word_weights: weights lie in memory as s16.
    """

    x_dtype: DType
    number: int
    depth: int = 0
    bits: int = 8
    word_weights: bool = False

    def product(self, target: Target) -> Product:
        """The product itself."""
        found: Product = target.inner.PRODUCTS[self.x_dtype][self.number].with_depth(self.depth)
        if self.bits < 8:
            found = found.with_bits(self.bits)
        return found.with_word_weights() if self.word_weights else found

    def kernel(self, target: Target) -> PeakSpec:
        """What is timed."""
        return PeakSpec(self)

    def macs(self, target: Target) -> int:
        """Multiplications of one call."""
        return PeakSpec(self).macs(target)

    def constants(self) -> dict[str, np.ndarray]:
        """What the kernel's `pack` takes: its values don't matter, so nothing."""
        return {}

    @classmethod
    def of(cls, product: Product, target: Target, word_weights: bool = False) -> Mix | None:
        """The mix of a plan's product, None if the target doesn't list it."""
        for x_dtype, products in target.inner.PRODUCTS.items():
            for number, listed in enumerate(products):
                if product.whole and x_dtype == product.x_dtype and listed.bounded and not listed.whole:
                    return cls(x_dtype, number, product.peer_depth)
                mix = cls(x_dtype, number, product.depth, product.bits, word_weights)
                if mix.bits not in (8, *listed.packings):
                    continue
                if mix.product(target) == product:
                    return mix
        return None


def mix_entry(
    product: Product, target: Target, multiplications: int, *, word_weights: bool = False
) -> dict[str, Any] | None:
    """A manifest's entry: the mix of a plan's product, and how many multiplications the kernel performs."""
    mix = Mix.of(product, target, word_weights)
    return None if mix is None else {**asdict(mix), "multiplications": multiplications}


@dataclass(frozen=True)
class PeakSpec(KernelSpec):
    """PASSES times GROUPS steps of a product on one register tile; operands `x`, `w`, `y`, values don't matter."""

    family: ClassVar[str] = "peak"
    product_mix: Mix

    def tile(self, target: Target) -> tuple[int, int]:
        """(rows, registers) that multiply most in a unit of time, by the product's own estimate."""
        product = self.product_mix.product(target)
        shapes = [
            (rows, vectors)
            for vectors in range(1, product.widest + 1)
            for rows in range(1, product.registers + 1)
            if product.fits(rows, vectors)
        ]
        return max(shapes, key=lambda shape: shape[0] * shape[1] / product.step_cost(*shape))

    def macs(self, target: Target) -> int:
        """Multiplications of one call."""
        rows, vectors = self.tile(target)
        product = self.product_mix.product(target)
        return PASSES * GROUPS * rows * vectors * product.lanes * product.group

    def operands(self) -> list[Operand]:
        return [Operand("x", "input"), Operand("w", "input"), Operand("y", "output")]

    def tasks(self) -> int:
        return 1

    def describe(self, target: Target) -> str:
        rows, vectors = self.tile(target)
        mix, columns = self.product_mix, vectors * self.product_mix.product(target).lanes
        return f"peak_{mix.x_dtype}_{mix.number}_{rows}x{columns}"

    def parameters(self, target: Target) -> list[tuple[str, str, int]]:
        product, (rows, vectors) = self.product_mix.product(target), self.tile(target)
        weights = GROUPS * vectors * product.lanes * product.group // product.per_byte
        return [
            ("x", "s16" if product.words else self.product_mix.x_dtype, rows * GROUPS * product.group),
            ("w", "s16" if self.product_mix.word_weights else "s8", weights),
            ("y", "s32", rows * vectors * product.lanes),
        ]

    def build(self, target: Target) -> Any:
        from edgeq.compiler.kernels.peak.peak_tir import emit_peak

        return emit_peak(self, target)
