"""edgeq: from a trained model to an integer-only artifact that a small runtime executes with the same bits everywhere.

The public functions bear the names of the commands. They are imported when they are used: `import edgeq` costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from edgeq.api.artifact import compile, load
    from edgeq.api.debug import debug
    from edgeq.api.graphs import quantize
    from edgeq.api.inspect import inspect
    from edgeq.api.result import CompileResult
    from edgeq.environment import doctor, targets
    from edgeq.evaluate.compare import compare
    from edgeq.evaluate.execute import bench, profile, run, verify
    from edgeq.evaluate.score import evaluate as eval
    from edgeq.report.api import regress, report
    from edgeq.search.api import search
    from edgeq.tuning.api import tune

# Public name -> (module, name there).
_PUBLIC = {
    "CompileResult": ("edgeq.api.result", "CompileResult"),
    "bench": ("edgeq.evaluate.execute", "bench"),
    "compare": ("edgeq.evaluate.compare", "compare"),
    "compile": ("edgeq.api.artifact", "compile"),
    "debug": ("edgeq.api.debug", "debug"),
    "doctor": ("edgeq.environment", "doctor"),
    "eval": ("edgeq.evaluate.score", "evaluate"),
    "inspect": ("edgeq.api.inspect", "inspect"),
    "load": ("edgeq.api.artifact", "load"),
    "profile": ("edgeq.evaluate.execute", "profile"),
    "quantize": ("edgeq.api.graphs", "quantize"),
    "regress": ("edgeq.report.api", "regress"),
    "report": ("edgeq.report.api", "report"),
    "search": ("edgeq.search.api", "search"),
    "run": ("edgeq.evaluate.execute", "run"),
    "targets": ("edgeq.environment", "targets"),
    "tune": ("edgeq.tuning.api", "tune"),
    "verify": ("edgeq.evaluate.execute", "verify"),
}
__all__ = [
    "CompileResult",
    "__version__",
    "bench",
    "compare",
    "compile",
    "debug",
    "doctor",
    "eval",
    "inspect",
    "load",
    "profile",
    "quantize",
    "regress",
    "report",
    "run",
    "search",
    "targets",
    "tune",
    "verify",
]


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        module, function = _PUBLIC[name]
        return getattr(import_module(module), function)
    raise AttributeError(f"module 'edgeq' has no attribute {name!r}")
