"""edgeq: from a trained model to an integer-only artifact that a small runtime executes with the same bits everywhere.

The public functions bear the names of the commands. They are imported when they are used: `import edgeq` costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from edgeq.api import CompileResult, compile, load, quantize
    from edgeq.debug_api import debug
    from edgeq.environment import doctor, targets
    from edgeq.evaluate.compare import compare
    from edgeq.evaluate.execute import bench, profile, run, verify
    from edgeq.evaluate.score import evaluate as eval
    from edgeq.inspect_api import inspect
    from edgeq.report.api import regress, report
    from edgeq.search.api import search
    from edgeq.tuning.api import tune

# Public name -> (module, name there).
_PUBLIC = {
    "CompileResult": ("edgeq.api", "CompileResult"),
    "bench": ("edgeq.evaluate.execute", "bench"),
    "compare": ("edgeq.evaluate.compare", "compare"),
    "compile": ("edgeq.api", "compile"),
    "debug": ("edgeq.debug_api", "debug"),
    "doctor": ("edgeq.environment", "doctor"),
    "eval": ("edgeq.evaluate.score", "evaluate"),
    "inspect": ("edgeq.inspect_api", "inspect"),
    "load": ("edgeq.api", "load"),
    "profile": ("edgeq.evaluate.execute", "profile"),
    "quantize": ("edgeq.api", "quantize"),
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
