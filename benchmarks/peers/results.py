"""The JSON file of results, which several commands may extend."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

Results = list[dict[str, Any]]


def read(path: Path | None) -> Results:
    """What earlier commands found."""
    if path is None or not path.is_file():
        return []
    return list(json.loads(path.read_text(encoding="utf-8"))["results"])


def take_up(results: Results, result: dict[str, Any], path: Path | None) -> Results:
    """The results with a newer one of its network and number of threads; other commands may have added to the file."""
    kept = [r for r in read(path) or results if (r["model"], r["threads"]) != (result["model"], result["threads"])]
    kept.append(result)
    if path:
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(f".{os.getpid()}")
        part.write_text(json.dumps({"benchmark": "peers", "results": kept}, indent=1) + "\n", encoding="utf-8")
        part.rename(path)
    return kept
