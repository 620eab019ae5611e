"""The integer dialect: arithmetic, graph, op table, NumPy reference, oracles and interval proofs.

Importing this package is cheap: `arithmetic`, `exp2` and `interpolation` need NumPy only, the rest brings in onnx.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edgeq.integer.graph import IntegerGraph, Quant
    from edgeq.integer.proof import prove

__all__ = ["IntegerGraph", "Quant", "prove"]


def __getattr__(name: str) -> Any:
    if name in ("IntegerGraph", "Quant"):
        from edgeq.integer import graph

        return getattr(graph, name)
    if name == "prove":
        from edgeq.integer.proof import prove

        return prove
    raise AttributeError(f"module 'edgeq.integer' has no attribute {name!r}")
