"""The integer dialect: arithmetic, graph, op table, NumPy reference, oracles and interval proofs.

Importing this package is cheap; `arithmetic`, `exp2` and `interpolation` need NumPy only, the rest brings in onnx on first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edgeq.integer.graph import IntegerGraph, Quant

__all__ = ["IntegerGraph", "Quant"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        from edgeq.integer import graph

        return getattr(graph, name)
    raise AttributeError(f"module 'edgeq.integer' has no attribute {name!r}")
