"""Schedules: which kernel, product and register tile each shape of a target gets in place of the estimated best.

`edgeq tune` measures and writes them, `--schedule` reads them. A schedule never changes a result: what it names is
taken only where it is one of the exact candidates of the layer at hand, else the layer keeps the default.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgeq.cache import cache_dir
from edgeq.errors import UsageError
from edgeq.files import atomic_path

VERSION = 1
TUNED = "tuned"  # instead of a file: what `edgeq tune` has found on this machine
MAX_BYTES = 16 * 1024 * 1024
_HINT = "make it again with `edgeq tune`"


@dataclass(frozen=True)
class Schedule:
    """Measured choices for one target.

    Attributes:
        target: name of the target they were measured on.
        choices: key of a shape (`lower/select/choice.py`) -> label of a candidate.
    """

    target: str
    choices: dict[str, str] = field(default_factory=dict)

    def digest(self) -> str:
        """Hex name of the content, for manifests."""
        return hashlib.blake2b(self.text().encode(), digest_size=16).hexdigest()

    def text(self) -> str:
        """As JSON; the same choices give the same text."""
        content = {"version": VERSION, "target": self.target, "choices": dict(sorted(self.choices.items()))}
        return json.dumps(content, indent=1, ensure_ascii=False) + "\n"

    def save(self, path: str | Path) -> None:
        """Writes the file; it appears when it is complete."""
        with atomic_path(Path(path)) as scratch:
            scratch.write_text(self.text(), encoding="utf-8")

    def merged(self, other: Schedule) -> Schedule:
        """These choices and the other's, which win."""
        return Schedule(self.target, self.choices | other.choices)


def read_schedule(path: str | Path, *targets: str) -> Schedule:
    """A schedule file.

    Args:
        targets: names of targets; it has to be for one of them.

    Raises:
        UsageError: there is no such file, it is no schedule, of another version, or for another target.
    """
    where = str(path)
    try:
        if Path(path).stat().st_size > MAX_BYTES:
            raise UsageError("a schedule is too large", where=where, why=f"more than {MAX_BYTES} bytes", hint=_HINT)
        content = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError("a schedule can't be read", where=where, why=error.strerror or str(error)) from error
    except (ValueError, RecursionError) as error:
        raise UsageError("a schedule is no JSON", where=where, why=str(error), hint=_HINT) from error
    why = _fault(content, targets)
    if why:
        raise UsageError("a schedule doesn't fit", where=where, why=why, hint=_HINT)
    return Schedule(content["target"], content["choices"])


def _fault(content: Any, targets: Sequence[str]) -> str:
    """What is wrong with a file's content; empty: nothing."""
    if not isinstance(content, dict) or set(content) != {"version", "target", "choices"}:
        return "it needs the keys version, target and choices, and no others"
    if content["version"] != VERSION:
        return f"it has version {content['version']!r}, this edgeq reads {VERSION}"
    if content["target"] not in targets:
        return f"it was measured for {content['target']!r}, not for {' or '.join(targets)}"
    choices = content["choices"]
    if not isinstance(choices, dict) or not all(isinstance(label, str) for label in choices.values()):
        return "`choices` has to map names of shapes to labels"
    return ""


def tuned_path(target: str) -> Path:
    """Where this user's cache keeps what `edgeq tune` found for a target."""
    return cache_dir("schedules") / f"{target}.json"


def resolve_schedule(given: str | Path | Schedule | None, *targets: str) -> Schedule | None:
    """The schedule of an option for one of some targets: a file, `tuned` for this user's own, or none.

    Raises:
        UsageError: see `read_schedule`; nothing was tuned for this target yet.
    """
    if given is None:
        return None
    if isinstance(given, Schedule):
        why = _fault(json.loads(given.text()), targets)
        if why:
            raise UsageError("a schedule doesn't fit", why=why, hint=_HINT)
        return given
    if str(given) != TUNED:
        return read_schedule(given, *targets)
    for target in targets:
        if tuned_path(target).is_file():
            return read_schedule(tuned_path(target), target)
    raise UsageError(
        f"nothing was tuned for {' or '.join(targets)} on this machine", hint="run `edgeq tune MODEL` first"
    )
