"""The front end: read an ONNX file or a torch module, check it, simplify it to a float graph."""

from __future__ import annotations

from edgeq.frontend.graph import FLOAT_DOMAIN, FloatGraph
from edgeq.frontend.loader import load
from edgeq.frontend.torch_import import is_torch, load_module
from edgeq.frontend.unary import UnaryFunction

__all__ = ["FLOAT_DOMAIN", "FloatGraph", "UnaryFunction", "is_torch", "load", "load_module"]
