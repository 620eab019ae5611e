"""A module that is imported when first used: packing weights needs an instruction set's layout but not tvm."""

from __future__ import annotations

import importlib
from typing import Any


class LazyModule:
    """Stands for a module until one of its names is asked for."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, attribute: str) -> Any:
        return getattr(importlib.import_module(self._name), attribute)


tir: Any = LazyModule("edgeq.compiler.kernels.tir")
