"""edgeq: from a trained model to an integer-only artifact that a small runtime executes with the same bits everywhere."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = ["__version__", "compile", "load", "quantize"]

if TYPE_CHECKING:
    from edgeq.api import compile, load, quantize


def __getattr__(name: str) -> Any:
    # The public functions live in edgeq.api; heavy imports wait until one of them is used.
    if name in ("compile", "load", "quantize"):
        from edgeq import api

        return getattr(api, name)
    raise AttributeError(f"module 'edgeq' has no attribute {name!r}")
