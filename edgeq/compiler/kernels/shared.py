"""One kernel for many sizes: where flash is dear, layers that differ in their numbers only run the same code.

A family that can do so describes a layer twice: by a *form*, everything that decides which instructions there are, and
by *sizes*, the numbers that those instructions read at run time. Equal forms are one kernel. The sizes are int32 words
behind the layer's other constants: the operand `sizes`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import numpy as np

from edgeq.compiler.kernels.base import KernelSpec, Operand

if TYPE_CHECKING:
    from edgeq.compiler.target import Target

# Buffers of any size: nothing depends on it, as all operands are plain pointers.
ANY_ELEMENTS = 1 << 30


class Form(Protocol):
    """A frozen dataclass; its repr names the kernel."""

    def build(self, symbol: str, parameters: list[tuple[str, str, int]]) -> Any:
        """The tvm PrimFunc; reads everything else from the operand `sizes`. Imports tvm."""
        ...


@dataclass(frozen=True)
class SharedSpec(KernelSpec):
    """A layer on a kernel that it shares with others.

    Attributes:
        layer: what is computed; packs the constants.
        form: which code does it.
        sizes: what that code reads at run time, int32.
    """

    family: ClassVar[str] = "shared"
    layer: KernelSpec
    form: Form
    sizes: tuple[int, ...]

    @property
    def macs(self) -> int:
        """Multiply-accumulates of the layer."""
        return int(getattr(self.layer, "macs", 0))

    def operands(self) -> list[Operand]:
        return [*self.layer.operands(), Operand("sizes", "weight")]

    def tasks(self) -> int:
        return self.layer.tasks()

    def describe(self, target: Target) -> str:
        return f"{self.layer.describe(target)}_any"

    def pack(self, target: Target, constants: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The layer's weight operands and `sizes`.

        Raises:
            CompileError: what the layer's own `pack` raises.
        """
        return {**self.layer.pack(target, constants), "sizes": np.array(self.sizes, np.int32)}

    def mix(self, target: Target) -> dict[str, Any] | None:
        return self.layer.mix(target)

    def stored_bits(self, target: Target) -> int | None:
        return self.layer.stored_bits(target)

    def scratch_bytes(self, target: Target) -> int:
        return self.layer.scratch_bytes(target)

    def parameters(self, target: Target) -> list[tuple[str, str, int]]:
        """(name, dtype, elements) of every operand in order."""
        own = [(name, dtype, ANY_ELEMENTS) for name, dtype, _ in self.layer.parameters(target)]
        return [*own, ("sizes", "s32", len(self.sizes))]

    def identity(self) -> str:
        return repr(self.form)

    def build(self, target: Target) -> Any:
        return self.form.build(self.symbol(target), self.parameters(target))
