"""What narrow weights of one layer do to the final output, for every layer and width, kept between searches.

What other forms do is measured in `harm_forms.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

from edgeq.cache import content_key
from edgeq.errors import ToolError, UsageError
from edgeq.search.problem import Problem, Progress
from edgeq.search.space import WIDEST, Choice, Form, Place, Space
from edgeq.search.store import Store

if TYPE_CHECKING:
    from edgeq.quantize.error.sensitivity import Rounding

KIND = "sensitivity"
#: divergence: of the final output with one layer narrowed; hessian: by the output's curvature (Hutchinson's trace).
MEASURES = ("divergence", "hessian")
#: Most samples that second derivatives are taken on.
CURVED = 16

#: By layer: {bits: divergence}.
Rows = Mapping[str, Mapping[int, float]]


def sensitivities(
    problem: Problem, space: Space, store: Store, progress: Progress | None = None, measure: str = MEASURES[0]
) -> dict[str, dict[Choice, float]]:
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
    found: dict[str, dict[str, float]] = {place.name: {} for place in space.weighted}
    for shifts in (False, True):
        wanted = {
            place.name: {f.bits for f in place.forms if isinstance(f, Form) and f.shifts is shifts and f != place.base}
            for place in space.weighted
        }
        if not any(wanted.values()):
            continue
        marks = [*mark, "shifts"] if shifts else mark
        keys = {name: content_key([problem.quantization, name, *marks]) for name in wanted}
        for name, row in _known(problem, wanted, keys, store, partial(how, shifts=shifts, progress=progress)).items():
            found[name] |= {f"{bits}{'s' if shifts else ''}": value for bits, value in row.items()}
    return {place.name: _rising(found[place.name], place) for place in space.weighted}


def _known(
    problem: Problem,
    wanted: Mapping[str, set[int]],
    keys: Mapping[str, str],
    store: Store,
    how: Callable[[Problem, Sequence[str], Sequence[int]], Rows],
) -> dict[str, dict[int, float]]:
    """Rows by layer, from the store or measured and stored."""
    known: dict[str, dict[int, float]] = {}
    for name, key in keys.items():
        known[name] = {int(bits): value for bits, value in (store.get(KIND, key) or {}).items()}
    missing = {name: tuple(sorted(widths - set(known[name]), reverse=True)) for name, widths in wanted.items()}
    for widths in sorted({each for each in missing.values() if each}):
        for name, row in how(problem, [name for name in missing if missing[name] == widths], widths).items():
            known[name] |= row
            store.put(KIND, keys[name], {str(bits): value for bits, value in known[name].items()})
    return known


def _measured(
    problem: Problem, names: Sequence[str], widths: Sequence[int], *, shifts: bool, progress: Progress | None
) -> Rows:
    """By running the network with one layer narrowed."""
    from edgeq.quantize.error.sensitivity import sensitivity

    plan, data = problem.prepared.plan, problem.prepared.data
    rounding = _rounding(problem, names, shifts)
    return sensitivity(plan, data, widths, layers=names, rounding=rounding, progress=progress).layers


def _curved(
    problem: Problem, names: Sequence[str], widths: Sequence[int], *, shifts: bool, progress: Progress | None
) -> Rows:
    """By second derivatives through torch."""
    try:
        from edgeq.qat.curvature import second_order
    except ImportError as error:
        raise ToolError(
            "second derivatives need torch", where="--sensitivity hessian", hint="pip install 'edgeq[qat]'"
        ) from error
    plan, data = problem.prepared.plan, problem.prepared.data
    feeds = list(data.feeds(min(data.runs, CURVED)))
    return second_order(plan, feeds, widths, layers=names, rounding=_rounding(problem, names, shifts))


def _rounding(problem: Problem, names: Sequence[str], shifts: bool) -> Rounding:
    """Integers of a layer, with scales that are shifts where that is asked for."""
    if not shifts:
        return problem.rounder
    plan = problem.plan_of({name: Form(WIDEST, shifts=True) for name in names})
    return lambda _, product, bits: problem.rounder(plan, product, bits)


def _rising(row: Mapping[str, float], place: Place) -> dict[Choice, float]:
    """Noise can make fewer bits look better: an exact solver would take it at its word."""
    found: dict[Choice, float] = {}
    worst = {False: 0.0, True: 0.0}
    for form in place.forms:
        assert isinstance(form, Form)
        worst[form.shifts] = max(worst[form.shifts], 0.0 if form == place.base else row.get(form.values, 0.0))
        found[form] = worst[form.shifts] if not form.shifts else max(worst.values())
    return found
