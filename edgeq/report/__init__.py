"""One verdict over models × targets × policies: measure, compare with a baseline, say which layer did it, show it."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any


class _Package(ModuleType):
    """The package, which may also be called: `edgeq.report` is a public function as well, and both do the same."""

    def __call__(self, *args: Any, **settings: Any) -> Any:
        from edgeq.report.api import report

        return report(*args, **settings)


sys.modules[__name__].__class__ = _Package
