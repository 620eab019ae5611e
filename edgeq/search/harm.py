"""What narrow weights of one layer do to the final output, for every layer and width, kept between searches."""

from __future__ import annotations

from edgeq.cache import content_key
from edgeq.search.problem import Problem, Progress
from edgeq.search.space import WIDEST, Form, LayerSpace, Space
from edgeq.search.store import Store

KIND = "sensitivity"


def sensitivities(
    problem: Problem, space: Space, store: Store, progress: Progress | None = None
) -> dict[str, dict[Form, float]]:
    """Layer → {form: divergence of the final output}: 0 at its widest, never less for fewer bits, the same packed.

    Args:
        problem, space: what to measure. store: what was measured before is taken from it.
    """
    from edgeq.quantize.sensitivity import sensitivity

    keys = {layer.name: content_key([problem.quantization, layer.name]) for layer in space.layers}
    known: dict[str, dict[int, float]] = {}
    for name, key in keys.items():
        stored = store.get(KIND, key) or {}
        known[name] = {int(bits): value for bits, value in stored.items()}
    wanted = {
        layer.name: [w for w in layer.widths if w < WIDEST and w not in known[layer.name]] for layer in space.free
    }
    for widths in sorted({tuple(missing) for missing in wanted.values() if missing}):
        names = [name for name, missing in wanted.items() if tuple(missing) == widths]
        prepared = problem.prepared
        found = sensitivity(
            prepared.plan, prepared.data, widths, layers=names, rounding=problem.rounder, progress=progress
        )
        for name, row in found.layers.items():
            known[name] |= row
            store.put(KIND, keys[name], {str(bits): value for bits, value in known[name].items()})
    return {layer.name: _rising(known[layer.name], layer) for layer in space.layers}


def _rising(row: dict[int, float], layer: LayerSpace) -> dict[Form, float]:
    """Noise can make fewer bits look better: an exact solver would take it at its word."""
    found, worst = {}, 0.0
    for form in layer.forms:
        worst = max(worst, 0.0 if form.bits == layer.widths[0] else row.get(form.bits, 0.0))
        found[form] = worst
    return found
