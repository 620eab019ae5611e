"""The exact solver finds what exhaustive search finds; the greedy one never beats it."""

from __future__ import annotations

import ctypes
import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeq.search.solvers import greedy, milp
from edgeq.search.solvers.milp import Bound, total
from edgeq.search.space import Choice, Form, Place, Space, Variant

FORMS = (Form(8), Form(6), Form(4), Form(4, True), Form(2))
VARIANTS = tuple(Variant("softmax", "softmax", value) for value in ("exp2", "shiftmax"))


@st.composite
def problems(draw: st.DrawFn) -> tuple[Space, dict, dict, float, float]:
    """Up to eight places of both kinds: arbitrary costs, rising harms, a budget and a limit on a second resource."""
    count = draw(st.integers(1, 8))
    layers = []
    for index in range(count):
        some = st.sets(st.sampled_from(FORMS), min_size=1, max_size=3 if count > 5 else 5)
        widths = tuple(sorted(draw(some), key=FORMS.index))
        forms: tuple[Choice, ...] = VARIANTS if draw(st.booleans()) else widths
        layers.append(Place(f"l{index}", 10, 10, forms))
    cost = {x.name: {w: draw(st.integers(1, 1000)) * 1e-7 for w in x.forms} for x in layers}
    harm = {}
    for layer in layers:
        steps = [draw(st.integers(0, 50)) for _ in layer.forms]
        harm[layer.name] = dict(zip(layer.forms, itertools.accumulate(steps), strict=True))
    return Space(tuple(layers)), cost, harm, draw(st.integers(0, 200)) + 0.5, draw(st.integers(1, 3000)) * 1e-7 + 5e-8


def everything(space: Space) -> list[dict[str, Choice]]:
    names = [layer.name for layer in space.places]
    return [dict(zip(names, bits, strict=True)) for bits in itertools.product(*(x.forms for x in space.places))]


@settings(deadline=None, max_examples=150)
@given(problems())
def test_milp_is_exhaustive_search(problem: tuple[Space, dict, dict, float, float]) -> None:
    space, cost, harm, budget, limit = problem
    found = milp.solve(space, cost, [Bound(harm, budget), Bound(cost, limit)], tie_break=harm)
    allowed = [a for a in everything(space) if total(harm, a) <= budget and total(cost, a) <= limit]
    if not allowed:
        assert found is None
        return
    assert found is not None
    assert total(harm, found) <= budget
    assert total(cost, found) <= limit
    best = min(total(cost, a) for a in allowed)
    assert abs(total(cost, found) - best) <= 1e-6 * best
    ties = [a for a in allowed if total(cost, a) <= best * (1 + 1e-12)]
    assert total(harm, found) <= min(total(harm, a) for a in ties) + 1e-6


@settings(deadline=None, max_examples=60)
@given(problems())
def test_greedy_keeps_to_the_budget_and_never_wins(problem: tuple[Space, dict, dict, float, float]) -> None:
    space, cost, harm, _, _ = problem
    budget = sum(next(iter(row.values())) for row in harm.values()) + 40
    found = greedy.solve(space, cost, harm, budget)
    assert total(harm, found) <= budget
    best = milp.solve(space, cost, [Bound(harm, budget)])
    assert best is not None
    assert total(cost, best) <= total(cost, found) * (1 + 1e-9)


def test_what_the_solver_prints_is_no_output_of_ours(capfd: pytest.CaptureFixture[str]) -> None:
    libc = ctypes.CDLL(None)
    with milp.stdout_is_ours():
        libc.puts(b"Solving report")
    libc.puts(b'{"mine": 1}')
    libc.fflush(None)
    out, err = capfd.readouterr()
    assert out == '{"mine": 1}\n'
    assert "Solving report" in err
