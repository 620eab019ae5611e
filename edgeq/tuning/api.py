"""`edgeq.tune`: measured schedules, written to a file and to the user's cache."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeq.errors import UsageError

if TYPE_CHECKING:
    from edgeq.api.result import Calibration, Progress
    from edgeq.integer import IntegerGraph
    from edgeq.tuning.search import Tuning


def tune(
    model: str | Path | IntegerGraph | Any,
    *,
    target: str = "host",
    output: str | Path | None = None,
    calib: Calibration | None = None,
    progress: Progress | None = None,
    fresh: bool = False,
    **settings: Any,
) -> Tuning:
    """Measure on this machine which kernels, products and register tiles suit a model's shapes best.

    Takes one core for about a second a shape, besides building the kernels; nothing else should run meanwhile. Each
    shape's result is kept at once: after an interruption, and for other models, only what is missing is measured. What
    was found is added to this user's
    cache (`schedule="tuned"` of `compile`) and, with `output`, written to a file that can be given to anybody.

    Args:
        model, target, calib, progress, settings: as for `edgeq.compile`; the target's code has to run here.
        output: schedule file to write.
        fresh: measure again what the cache knows.

    Returns:
        `schedule`, and `shapes` with what was measured.

    Raises:
        UsageError: the target's code doesn't run here. ModelError and others: see `edgeq.compile`.
    """
    from edgeq.api.graphs import integer_graph
    from edgeq.compiler import KernelBuilder, load_target
    from edgeq.compiler.schedule import read_schedule, tuned_path
    from edgeq.tuning.calls import require_runnable
    from edgeq.tuning.search import search

    wanted = load_target(target)
    require_runnable(wanted)
    if output is not None and not Path(output).resolve().parent.is_dir():
        raise UsageError("can't write the schedule", where=str(output), why="its folder doesn't exist")
    with KernelBuilder() as builder:
        builder.start()
        graph = integer_graph(model, calib, settings, progress)
        found = search(graph, wanted, builder, progress, fresh=fresh)
    known = tuned_path(wanted.name)
    before = read_schedule(known, wanted.name) if known.is_file() else None
    (before.merged(found.schedule) if before else found.schedule).save(known)
    if output is not None:
        found.schedule.save(output)
    return found
