"""From an integer graph to kernels, a memory plan and an artifact for one target."""

from edgeq.compiler.build import KernelBuilder
from edgeq.compiler.pipeline import Compiled, CompileOptions, compile_graph
from edgeq.compiler.target import Target, list_targets, load_target

__all__ = ["CompileOptions", "Compiled", "KernelBuilder", "Target", "compile_graph", "list_targets", "load_target"]
