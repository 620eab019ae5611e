"""Mixed-precision policies, searched against the target's own cost and judged on the integer arithmetic."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any


class _Package(ModuleType):
    """The package, which may also be called: `edgeq.search` is a public function as well, and both do the same."""

    def __call__(self, *args: Any, **settings: Any) -> Any:
        from edgeq.search.api import search

        return search(*args, **settings)


sys.modules[__name__].__class__ = _Package
