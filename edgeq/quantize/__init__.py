"""Post-training quantization: from a float graph and calibration data to an integer graph.

    from edgeq import frontend
    from edgeq.quantize import QuantizeOptions, quantize

    graph = frontend.load("model.onnx")
    result = quantize(graph, {"input": samples}, QuantizeOptions())
    result.graph.save("model.int.onnx")

Names are imported when they are used: importing this package costs nothing.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edgeq.quantize.calibrate import Ranges, calibrate
    from edgeq.quantize.error.sensitivity import Sensitivity, sensitivity
    from edgeq.quantize.integerize import integerize
    from edgeq.quantize.pipeline import Prepared, QuantizeOptions, QuantizeResult, prepare, quantize
    from edgeq.quantize.policy import LayerPolicy, Policy
    from edgeq.quantize.report import QuantizeReport
    from edgeq.quantize.samples.data import CalibrationData, InputSpec, from_arrays, random_data
    from edgeq.quantize.samples.data import load as load_data
    from edgeq.quantize.samples.preprocess import Preprocess
    from edgeq.quantize.session import input_specs

_HOME = {
    "CalibrationData": "samples.data",
    "InputSpec": "samples.data",
    "LayerPolicy": "policy",
    "Policy": "policy",
    "Prepared": "pipeline",
    "Preprocess": "samples.preprocess",
    "QuantizeOptions": "pipeline",
    "QuantizeReport": "report",
    "QuantizeResult": "pipeline",
    "Ranges": "calibrate",
    "Sensitivity": "error.sensitivity",
    "calibrate": "calibrate",
    "from_arrays": "samples.data",
    "input_specs": "session",
    "integerize": "integerize",
    "load_data": "samples.data",
    "prepare": "pipeline",
    "quantize": "pipeline",
    "random_data": "samples.data",
    "sensitivity": "error.sensitivity",
}
_RENAMED = {"load_data": "load"}

__all__ = [
    "CalibrationData",
    "InputSpec",
    "LayerPolicy",
    "Policy",
    "Prepared",
    "Preprocess",
    "QuantizeOptions",
    "QuantizeReport",
    "QuantizeResult",
    "Ranges",
    "Sensitivity",
    "calibrate",
    "from_arrays",
    "input_specs",
    "integerize",
    "load_data",
    "prepare",
    "quantize",
    "random_data",
    "sensitivity",
]


class _Package(ModuleType):
    """The package, which may also be called.

    `edgeq.quantize` is a public function and, once imported, also this package: whichever of the two a program has got
    hold of, calling it does the same. Its submodules `calibrate` and `integerize` bear the names of the functions they
    are known for; the functions win.
    """

    def __call__(self, *args: Any, **settings: Any) -> Any:
        from edgeq.api import graphs

        return graphs.quantize(*args, **settings)

    def __getattr__(self, name: str) -> Any:
        if name not in _HOME:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        module = importlib.import_module(f"{__name__}.{_HOME[name]}")
        found = getattr(module, _RENAMED.get(name, name))
        setattr(self, name, found)
        return found

    def __setattr__(self, name: str, value: Any) -> None:
        # The import system binds a submodule to its package; that must not hide the function of the same name.
        if isinstance(value, ModuleType) and name in _HOME:
            value = getattr(value, _RENAMED.get(name, name), value)
        super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
