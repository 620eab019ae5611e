"""What narrow weights of one layer do to the final output, for every layer and width, kept between searches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from edgeq.cache import content_key
from edgeq.errors import ToolError, UsageError
from edgeq.search.problem import Problem, Progress
from edgeq.search.space import WIDEST, Form, LayerSpace, Space
from edgeq.search.store import Store

KIND = "sensitivity"
#: divergence: of the final output with one layer narrowed; hessian: by the output's curvature (Hutchinson's trace).
MEASURES = ("divergence", "hessian")
#: Most samples that second derivatives are taken on.
CURVED = 16


def sensitivities(
    problem: Problem, space: Space, store: Store, progress: Progress | None = None, measure: str = MEASURES[0]
) -> dict[str, dict[Form, float]]:
    """Layer → {form: divergence of the final output}: 0 at its widest, never less for fewer bits, the same packed.

    Args:
        problem, space: what to measure. store: what was measured before is taken from it. measure: of MEASURES.

    Raises:
        UsageError: unknown measure. UnsupportedOpError: hessian, and a layer has no gradient.
    """
    if measure not in MEASURES:
        raise UsageError(f"unknown measure {measure!r}", where="--sensitivity", hint=f"one of {', '.join(MEASURES)}")
    how = _measured if measure == "divergence" else _curved
    mark = [] if measure == "divergence" else [measure]
    keys = {layer.name: content_key([problem.quantization, layer.name, *mark]) for layer in space.layers}
    known: dict[str, dict[int, float]] = {}
    for name, key in keys.items():
        stored = store.get(KIND, key) or {}
        known[name] = {int(bits): value for bits, value in stored.items()}
    wanted = {
        layer.name: [w for w in layer.widths if w < WIDEST and w not in known[layer.name]] for layer in space.free
    }
    for widths in sorted({tuple(missing) for missing in wanted.values() if missing}):
        names = [name for name, missing in wanted.items() if tuple(missing) == widths]
        for name, row in how(problem, names, widths, progress).items():
            known[name] |= row
            store.put(KIND, keys[name], {str(bits): value for bits, value in known[name].items()})
    return {layer.name: _rising(known[layer.name], layer) for layer in space.layers}


def _measured(
    problem: Problem, names: Sequence[str], widths: Sequence[int], progress: Progress | None
) -> Mapping[str, Mapping[int, float]]:
    """By running the network with one layer narrowed."""
    from edgeq.quantize.error.sensitivity import sensitivity

    plan, data = problem.prepared.plan, problem.prepared.data
    return sensitivity(plan, data, widths, layers=names, rounding=problem.rounder, progress=progress).layers


def _curved(
    problem: Problem, names: Sequence[str], widths: Sequence[int], progress: Progress | None
) -> Mapping[str, Mapping[int, float]]:
    """By second derivatives through torch."""
    try:
        from edgeq.qat.curvature import second_order
    except ImportError as error:
        raise ToolError(
            "second derivatives need torch", where="--sensitivity hessian", hint="pip install 'edgeq[qat]'"
        ) from error
    plan, data = problem.prepared.plan, problem.prepared.data
    feeds = list(data.feeds(min(data.runs, CURVED)))
    return second_order(plan, feeds, widths, layers=names, rounding=problem.rounder)


def _rising(row: dict[int, float], layer: LayerSpace) -> dict[Form, float]:
    """Noise can make fewer bits look better: an exact solver would take it at its word."""
    found, worst = {}, 0.0
    for form in layer.forms:
        worst = max(worst, 0.0 if form.bits == layer.widths[0] else row.get(form.bits, 0.0))
        found[form] = worst
    return found
