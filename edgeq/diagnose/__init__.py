"""Why did my accuracy drop, and where: every layer's own error, its guilt in the final output's, and what would help.

layers.py     error of each integer layer alone and accumulated, by cause; ranges, saturation, dead and worst channels
guilt.py      what each tensor and each layer's weights, alone, do to the final output
remedies.py   the network integerized anew with each remedy: error, agreement, cost
formats.py    8- and 4-bit integers against 8- and 4-bit floating point, layer by layer
page.py       the page
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edgeq.diagnose.diagnosis import Diagnosis, debug
    from edgeq.diagnose.formats import FormatRow, compare_formats

_HOME = {"Diagnosis": "diagnosis", "debug": "diagnosis", "FormatRow": "formats", "compare_formats": "formats"}

__all__ = ["Diagnosis", "FormatRow", "compare_formats", "debug"]


def __getattr__(name: str) -> Any:
    import importlib

    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
