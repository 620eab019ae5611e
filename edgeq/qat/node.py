"""What a torch form of an op gets: tensors, attributes, constants."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import torch
from numpy.typing import NDArray

Tensor: TypeAlias = torch.Tensor
Result: TypeAlias = "Tensor | tuple[Tensor, ...]"


@dataclass(frozen=True)
class Node:
    """One call of an op, in shapes of a single sample.

    Attributes:
        inputs: tensors in order, constants among them; None where an optional input is left out.
        attrs: attributes as plain values.
        constants: the constant inputs as NumPy arrays (shapes, axes and indices are read from these), None for others.
        outputs: how many values the op makes.
    """

    inputs: Sequence[Tensor | None]
    attrs: Mapping[str, Any]
    constants: Sequence[NDArray[Any] | None] = field(default=())
    outputs: int = 1

    @property
    def x(self) -> Tensor:
        """The first input."""
        return self.tensor(0)

    def tensor(self, index: int) -> Tensor:
        """An input that must be there."""
        found = self.inputs[index]
        if found is None:
            raise IndexError(f"input {index} is missing")
        return found

    def ints(self, index: int) -> list[int]:
        """A constant input as a list of integers."""
        found = self.constants[index]
        if found is None:
            raise IndexError(f"input {index} is no constant")
        return [int(item) for item in found.reshape(-1)]

    def has(self, index: int) -> bool:
        """Whether an optional input is given."""
        return index < len(self.inputs) and self.inputs[index] is not None


Form: TypeAlias = Callable[[Node], Result]
