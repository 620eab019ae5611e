"""Where the C runtime's sources lie: `cpp_runtime/` of the checkout, `edgeq/_runtime` in an installed wheel."""

from __future__ import annotations

from pathlib import Path

import edgeq
from edgeq.errors import ToolError


def runtime_root() -> Path:
    """The folder that holds `include/` and `src/` of the C runtime.

    Raises:
        ToolError: the installation is incomplete.
    """
    package = Path(edgeq.__file__).resolve().parent
    for root in (package / "_runtime", package.parent / "cpp_runtime"):
        if (root / "include" / "edgeq" / "artifact.h").is_file():
            return root
    raise ToolError(
        "the runtime's C sources are missing",
        where=str(package),
        hint="reinstall edgeq: its wheel carries them in edgeq/_runtime",
    )
