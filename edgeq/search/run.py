"""The search from end to end: costs, sensitivities, exact solutions, judged on the integer arithmetic.

Sensitivities add up only roughly, so they propose and the integer arithmetic decides: the cheapest assignment within a
sensitivity budget is compiled for this machine (the bits are those of every target) and scored; the budget is bisected
until the accuracy limit is just kept. The same bits everywhere are judged beside them, and neighbours of the best. The
cheapest that keeps to everything is made as `edgeq compile` makes it and checked once more; where it fails the next
cheapest is tried. Every judgement is stored: an interrupted search repeats none.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from edgeq.errors import UsageError
from edgeq.search.costs.cost import Costs
from edgeq.search.evaluate import Workers
from edgeq.search.limits import ACCURACY, RESOURCES, Limits
from edgeq.search.places import DEFAULT_KINDS, parse_kinds
from edgeq.search.problem import Problem, Progress
from edgeq.search.result.final import Measured, measure_final
from edgeq.search.result.found import Found
from edgeq.search.result.refuse import check_limits, impossible
from edgeq.search.searcher import Candidate, Searcher, Watch
from edgeq.search.solvers import milp
from edgeq.search.solvers.front import front_of
from edgeq.search.solvers.milp import Bound
from edgeq.search.space import WIDEST, WIDTHS, Choice, find_space
from edgeq.search.store import Store
from edgeq.search.survey import survey

if TYPE_CHECKING:
    from edgeq.compiler import KernelBuilder

SOLVERS = ("milp", "nsga2")
#: Budgets of the front, as fractions of what the narrowest network costs; accuracy is judged at each.
FRONT = 12
#: Steps of the bisection between two budgets of the front.
BISECTION = 5
#: Cheaper neighbours tried of the cheapest one that keeps to the limits.
NEIGHBOURS = 4
#: Of the most accurate and of neighbours: how far sensitivities may be off (standard deviation of the logarithm), and
#: their exponents.
DOUBT, POWERS = 0.5, (1.0, 0.7, 0.5)
#: How far above a budget that fails larger ones are still tried.
GIVE_UP = 4
#: Candidates made as `edgeq compile` makes them before the search gives up.
TRIES = 5


def find_policy(
    problem: Problem,
    limits: Limits,
    *,
    objective: str | None = None,
    widths: tuple[int, ...] | None = None,
    kinds: Sequence[str] = DEFAULT_KINDS,
    narrowest_edge: int = 8,
    store: Store | None = None,
    builder: KernelBuilder | None = None,
    threads: int = 4,
    solver: str = "milp",
    evaluations: int = 100,
    seed: int = 0,
    jobs: int = 1,
    scheduler: str | None = None,
    costs_from: str = "measured",
    measure_harm: str = "divergence",
    progress: Progress | None = None,
    watch: Watch | None = None,
) -> Found:
    """Find the cheapest assignment that keeps to every limit, and the front around it.

    Args:
        problem: of `load_problem`. limits: hard.
        objective: latency, instructions, weights, bitops or energy; None: the first of these that was measured;
            accuracy: as much of it as the other limits allow.
        kinds: what may be chosen, of `places.KINDS`.
        widths: bits of weights; None: 2 … 8. narrowest_edge: fewest bits of the first and last layer.
        store: what is known from earlier searches; None: the one in the cache.
        builder: code generators. threads: samples judged at a time.
        solver: milp (exact within a budget of sensitivity) or nsga2 (evolves the front on judged accuracies).
        evaluations: most policies nsga2 judges. seed: of its random choices.
        jobs: policies judged side by side. scheduler: Dask's, where they are judged instead.
        measure_harm: divergence, or hessian.
        costs_from: measured, or predicted: what earlier searches measured, and guesses where they didn't.
        progress: called with (stage, done, total). watch: called with (front so far, objective) after each judgement.

    Raises:
        UsageError: limits that nothing keeps to; the message says which, and what comes nearest. Unknown solver.
    """
    from edgeq.compiler import KernelBuilder as Builder

    facts = store or Store()
    if solver not in SOLVERS:
        raise UsageError(f"unknown solver {solver!r}", where="--solver", hint=f"one of {', '.join(SOLVERS)}")
    plan = problem.prepared.plan
    space = find_space(plan, widths or WIDTHS, narrowest_edge, parse_kinds(kinds))
    wanted = partial(_objective, None if objective == ACCURACY else objective)
    with ExitStack() as stack:
        builder = builder or stack.enter_context(Builder())

        def counted(costs: Costs) -> list[str]:
            return [name for name in costs.tables if name == wanted(costs) or limits.of(name) is not None]

        found_out = survey(
            problem, space, facts, builder, counted, arena=limits.arena,
            threads=threads, costs_from=costs_from, measure_harm=measure_harm, progress=progress,
        )  # fmt: skip
        space, costs, harm = found_out.space, found_out.costs, found_out.harm
        chosen = wanted(costs)
        searcher = Searcher(problem, space, costs, harm, limits, chosen, facts, builder, threads, progress)
        searcher.most_accurate, searcher.watch = objective == ACCURACY, watch
        check_limits(searcher)
        if scheduler is not None or jobs > 1:
            share = max(1, threads // jobs)
            searcher.workers = stack.enter_context(
                Workers(problem.judge, jobs=jobs, scheduler=scheduler, threads=share)
            )
        uniform = searcher.judge(space.uniform(8))
        if solver == "milp" and searcher.most_accurate:
            _by_harm(searcher, seed)
        elif solver == "milp":
            _by_width(searcher)
            _by_budget(searcher)
            _nearby(searcher, seed)
        else:
            _by_evolution(searcher, evaluations, seed)
        found = _result(searcher, uniform)
        searcher.leave_behind()
        return found


def _objective(wanted: str | None, costs: Costs) -> str:
    measured = [name for name in RESOURCES if name in costs.tables]
    if wanted is None:
        return measured[0]
    if wanted not in measured:
        raise UsageError(
            f"{wanted} was not measured for this target",
            where="--objective",
            why="; ".join(costs.notes) or "its code doesn't run on this machine",
            hint=f"choose one of {', '.join([*measured, ACCURACY])}",
        )
    return wanted


def _by_width(searcher: Searcher) -> None:
    """The same bits everywhere, fewer and fewer until accuracy gives way.

    Their sensitivities add up to more than what really happens, so a budget that holds for mixed ones leaves them out.
    """
    for bits in sorted({form.bits for form in searcher.space.forms} - {WIDEST}, reverse=True):
        if not searcher.is_good(searcher.judge(searcher.space.uniform(bits))):
            return


def _nearby(searcher: Searcher, seed: int) -> None:
    """Cheaper ones near the cheapest within the limits: no more harm under sensitivities that are a little off."""
    import numpy as np

    generator = np.random.default_rng(seed)
    cost = searcher.costs.tables[searcher.objective]
    for _ in range(NEIGHBOURS):
        fitting = [c for c in searcher.seen.values() if searcher.is_good(c) and searcher.is_within(c)]
        if not fitting:
            return
        best = min(fitting, key=searcher.rank)
        guess = _doubted(searcher.harm, generator.normal(0, DOUBT, len(searcher.harm)).tolist())
        bounds = [*searcher.bounds(), Bound(guess, milp.total(guess, best.forms) * (1 + 1e-9))]
        forms = milp.solve(searcher.space, cost, bounds, tie_break=guess)
        if forms is not None:
            searcher.judge(forms)


def _doubted(harm: milp.Table, logs: Sequence[float], power: float = 1.0) -> dict[str, dict[Choice, float]]:
    """Sensitivities to a power, those of each place times the exponential of a number."""
    return {
        name: {form: float(math.exp(log) * value**power) for form, value in row.items()}
        for (name, row), log in zip(harm.items(), logs, strict=True)
    }


def _by_budget(searcher: Searcher) -> None:
    """Exact solutions for budgets of sensitivity from harmless to harmful, then between the last good and first bad.

    Harm and accuracy have nothing to do with the target: what a finished search for another one judged narrows the
    budgets down.
    """
    searcher.expected = FRONT + BISECTION + 1
    budgets = _narrowed(_budgets(searcher), searcher.inherit())
    proposed = [(budget, searcher.propose(budget)) for budget in budgets]
    wanted = [(budget, forms) for budget, forms in proposed if forms is not None]
    if searcher.workers is not None:
        searcher.judge_all([forms for _, forms in wanted])
    good, bad = 0.0, None
    for budget, forms in wanted:
        if searcher.is_good(searcher.judge(forms)):
            # Accuracy isn't monotonic: a budget that failed says nothing about those below one that didn't.
            good, bad = budget, None
        elif bad is None:
            bad = budget
        elif budget > GIVE_UP * bad:
            break
    if good > 0 and bad is not None:
        _bisect(searcher, good, bad)


def _narrowed(budgets: list[float], known: Sequence[tuple[float, bool]]) -> list[float]:
    """The budgets that matter, given (harm, is good) of policies judged before: around where accuracy gives way."""
    goods, bads = ([harm for harm, is_good in known if is_good is kind] for kind in (True, False))
    if not goods or not bads:
        return budgets
    edge = max(goods)
    above = [harm for harm in bads if harm > edge]
    return [edge, min(above)] if above else [edge, *(budget for budget in budgets if budget > edge)]


def _by_harm(searcher: Searcher, seed: int) -> None:
    """The least harmful within the limits, and within the limits under sensitivities that are a little off."""
    import numpy as np

    searcher.expected = FRONT + BISECTION + 1
    generator = np.random.default_rng(seed)
    found = [searcher.least_harmful()]
    for step in range(FRONT + BISECTION - 1):
        doubts = generator.normal(0, DOUBT, len(searcher.harm)).tolist()
        found.append(searcher.least_harmful(_doubted(searcher.harm, doubts, POWERS[step % len(POWERS)])))
    searcher.judge_all([forms for forms in found if forms is not None])


def _by_evolution(searcher: Searcher, evaluations: int, seed: int) -> None:
    """NSGA-II, begun with exact solutions for a few budgets."""
    from edgeq.search.solvers.evolve import evolve

    searcher.expected = evaluations + 1
    proposed = [searcher.propose(budget) for budget in _budgets(searcher)[::3]]

    def judge(policies: Sequence[dict[str, Choice]]) -> list[float]:
        return [candidate.accuracy for candidate in searcher.judge_all(policies)]

    evolve(
        searcher.space, searcher.costs.tables[searcher.objective], searcher.harm, judge,
        evaluations=evaluations, seed=seed, start=[forms for forms in proposed if forms is not None],
    )  # fmt: skip


def _result(searcher: Searcher, uniform: Candidate) -> Found:
    seen = list(searcher.seen.values())
    fitting = [c for c in seen if searcher.is_good(c) and searcher.is_within(c)]
    if not fitting:
        raise impossible(searcher, seen)
    best, uniform, measured = _finish(searcher, fitting, uniform)
    # Made as compile makes it, the best one has an accuracy of its own.
    seen = [best, *(candidate for candidate in seen if candidate.forms != best.forms)]
    front = front_of(seen, lambda c: c.predicted[searcher.objective], lambda c: c.accuracy)
    return Found(
        best, front, uniform, searcher.space, searcher.costs, searcher.harm, searcher.objective,
        searcher.problem.judge.reference, searcher.least, (len(seen), searcher.fresh), measured, seen,
    )  # fmt: skip


def _finish(searcher: Searcher, fitting: list[Candidate], uniform: Candidate) -> tuple[Candidate, Candidate, Measured]:
    """The best candidate that keeps to the limits when made as `edgeq compile` makes it; uniform; both measured."""
    problem = searcher.problem
    uniform, reference = searcher.finish(uniform)
    failed = []
    wanted = sorted(fitting, key=searcher.rank)[:TRIES]
    for candidate in [*_reached(searcher, wanted[0]), *wanted]:
        best, graph = searcher.finish(candidate)
        if not searcher.is_good(best):
            failed.append(best)
            continue
        measured = measure_final(problem, graph, reference, problem.target, searcher.builder)
        found = measured.amounts()
        if all(most is None or found[name] <= most for name, most in searcher.limits.amounts(found).items()):
            return best, uniform, measured
        failed.append(replace(best, predicted={**best.predicted, **found}))
    raise impossible(searcher, failed)


def _reached(searcher: Searcher, best: Candidate) -> list[Candidate]:
    """Cheaper policies that fail as they were judged, and keep to the accuracy once the whole recipe has its way.

    Judgements round with GPTQ alone. A longer recipe gets more out of the same bits: from the most accurate of the
    cheaper policies downwards its results are judged, until two in a row fail.
    """
    from edgeq.quantize.recipe import DEFAULT, RECIPES

    if searcher.problem.steps == RECIPES[DEFAULT] or searcher.most_accurate:
        return []
    cheaper = [c for c in searcher.seen.values() if searcher.rank(c) < searcher.rank(best) and searcher.is_within(c)]
    front = front_of(cheaper, lambda c: c.predicted[searcher.objective], lambda c: c.accuracy)
    found: list[Candidate] = []
    misses = 0
    for candidate in reversed(front):
        if searcher.is_good(searcher.finish(candidate)[0]):
            found.insert(0, candidate)
            misses = 0
        else:
            misses += 1
            if misses == 2:
                break
    return found


def _bisect(searcher: Searcher, good: float, bad: float) -> None:
    """Between the largest budget that keeps to the accuracy and the smallest that doesn't."""
    for _ in range(BISECTION):
        if bad <= good * 1.02:
            return
        middle = (good * bad) ** 0.5 if good > 0 else bad / 4
        forms = searcher.propose(middle)
        if forms is None:
            return
        if searcher.is_good(searcher.judge(forms)):
            good = middle
        else:
            bad = middle


def _budgets(searcher: Searcher) -> list[float]:
    """From the least harm that the limits allow to that of the narrowest network, evenly in the logarithm."""
    import numpy as np

    start = searcher.least_harmful()
    if start is None:  # the limits keep to themselves one by one, but not together
        return []
    wide = milp.total(searcher.harm, start) * (1 + 1e-9)
    narrow = sum(max(row.values()) for row in searcher.harm.values())
    if narrow <= wide or narrow <= 0:
        return [max(narrow, 0.0)]
    return [wide, *np.geomspace(max(wide * 1.02, narrow * 1e-5), narrow, FRONT - 1).tolist()]
