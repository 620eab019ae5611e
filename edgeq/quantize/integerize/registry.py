"""Which function emits which op of the float graph."""

from __future__ import annotations

from collections.abc import Callable

from edgeq.quantize.integerize.emitter import Emitter
from edgeq.quantize.topology import Layer

EmitLayer = Callable[[Emitter, Layer], None]

_TABLE: dict[str, EmitLayer] = {}


def emits(*ops: str) -> Callable[[EmitLayer], EmitLayer]:
    """Decorator: the function emits layers of these op types."""

    def enter(function: EmitLayer) -> EmitLayer:
        for op in ops:
            if op in _TABLE:
                raise ValueError(f"two emitters for {op}")
            _TABLE[op] = function
        return function

    return enter


def emitter_of(op: str) -> EmitLayer | None:
    """The function for an op type, or None."""
    # The modules enter their functions when they are imported.
    from edgeq.quantize.integerize import (  # noqa: F401
        activation,
        conv,
        elementwise,
        embedding,
        matmul,
        movement,
        norm,
        pooling,
        resize,
        softmax,
    )

    return _TABLE.get(op)


def supported() -> list[str]:
    """Op types that have an integer form, sorted."""
    emitter_of("")
    return sorted(_TABLE)
