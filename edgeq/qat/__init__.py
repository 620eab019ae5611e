"""Quantization-aware training on the integer arithmetic itself.

    prepared = edgeq.qat.prepare(module, samples, {"defaults": {"weight_bits": 4, "activation_bits": 4}})
    edgeq.qat.fit(prepared, loader, epochs=10)
    edgeq.compile(edgeq.qat.convert(prepared), target="host", output="model.edgeq")

Needs Brevitas (`pip install 'edgeq[qat]'`). Names are imported when they are used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edgeq.qat.conversion import convert, prepare
    from edgeq.qat.module import QatModule
    from edgeq.qat.oneshot import OneShot, SearchProgress, search
    from edgeq.qat.teaching import imitation, taught
    from edgeq.qat.training import Progress, fit

_HOME = {
    "OneShot": "oneshot",
    "Progress": "training",
    "QatModule": "module",
    "SearchProgress": "oneshot",
    "convert": "conversion",
    "fit": "training",
    "imitation": "teaching",
    "prepare": "conversion",
    "search": "oneshot",
    "taught": "teaching",
}

__all__ = [
    "OneShot",
    "Progress",
    "QatModule",
    "SearchProgress",
    "convert",
    "fit",
    "imitation",
    "prepare",
    "search",
    "taught",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
    globals()[name] = found
    return found
