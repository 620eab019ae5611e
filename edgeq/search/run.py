"""The search from end to end: costs, sensitivities, exact solutions, judged on the integer arithmetic.

Sensitivities add up only roughly, so they propose and the integer arithmetic decides: the cheapest assignment within a
sensitivity budget is compiled for this machine (the bits are those of every target) and scored; the budget is bisected
until the accuracy limit is just kept. The cheapest that keeps to everything is made as `edgeq compile` makes it and
checked once more; where it fails the next cheapest is tried. Every judgement is stored: an interrupted search repeats
none.
"""

from __future__ import annotations

import tempfile
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeq.cache import content_key
from edgeq.errors import UsageError
from edgeq.search import milp
from edgeq.search.cost import Costs, measure
from edgeq.search.final import Measured, final_accuracy, final_graph, measure_final
from edgeq.search.limits import Limits
from edgeq.search.milp import Bound, Table
from edgeq.search.problem import Problem, Progress
from edgeq.search.space import Assignment, Form, Space, find_space
from edgeq.search.store import Store

if TYPE_CHECKING:
    from edgeq.compiler import KernelBuilder
    from edgeq.integer import IntegerGraph

#: Budgets of the front, as fractions of what the narrowest network costs; accuracy is judged at each.
FRONT = 12
#: Steps of the bisection between two budgets of the front.
BISECTION = 5
KIND, FINAL_KIND = "judgement", "final"
#: Candidates made as `edgeq compile` makes them before the search gives up.
TRIES = 5


@dataclass(frozen=True)
class Candidate:
    """An assignment with what is predicted and known about it.

    Attributes:
        forms: layer → form. harm: Σ sensitivity. predicted: resource → amount (Costs). accuracy: of the judge.
    """

    forms: dict[str, Form]
    harm: float
    predicted: dict[str, float]
    accuracy: float


@dataclass
class Found:
    """Result of a search.

    Attributes:
        best: what keeps to every limit and costs least. front: all judged assignments that no other one beats, cheapest
            first. uniform: every layer at 8 bits. space, costs, sensitivity: what it was decided on.
        objective: what was made small. reference: the float model's accuracy. least: lowest accuracy allowed.
        judged: how many assignments were judged, and how many of them in this run.
        measured: of the final artifacts for the target, best beside uniform.
    """

    best: Candidate
    front: list[Candidate]
    uniform: Candidate
    space: Space
    costs: Costs
    sensitivity: dict[str, dict[Form, float]]
    objective: str
    reference: float
    least: float | None
    judged: tuple[int, int]
    measured: Measured


@dataclass
class Searcher:
    """State of one search."""

    problem: Problem
    space: Space
    costs: Costs
    harm: dict[str, dict[Form, float]]
    limits: Limits
    objective: str
    store: Store
    builder: KernelBuilder
    threads: int
    progress: Progress | None
    seen: dict[tuple[tuple[str, Form], ...], Candidate] = field(default_factory=dict)
    fresh: int = 0

    def bounds(self) -> list[Bound]:
        """Limits on sums over layers, without what no choice changes."""
        found = []
        for resource, table in self.costs.tables.items():
            most = self.limits.of(resource)
            if most is not None:
                found.append(Bound(table, most - self.costs.fixed[resource]))
        return found

    def propose(self, budget: float) -> dict[str, Form] | None:
        """The cheapest assignment within the limits and a sensitivity budget."""
        cost = self.costs.tables[self.objective]
        return milp.solve(self.space, cost, [*self.bounds(), Bound(self.harm, budget)], tie_break=self.harm)

    def judge(self, forms: Assignment) -> Candidate:
        """Score an assignment on the integer arithmetic, once; how weights are stored changes no bit."""
        key = self.key(forms)
        accuracy = self.store.get(KIND, key)
        if accuracy is None:
            accuracy = judge_assignment(self.problem, forms, self.builder, self.threads)
            self.store.put(KIND, key, accuracy)
            self.fresh += 1
        names = [name for name in self.costs.tables if name in self.costs.fixed]
        predicted = {name: self.costs.total(name, forms) for name in names}
        candidate = Candidate(dict(forms), milp.total(self.harm, forms), predicted, float(accuracy))
        self.seen[tuple(sorted(forms.items()))] = candidate
        if self.progress:
            self.progress("judged", len(self.seen), FRONT + BISECTION + 1)
        return candidate

    def finish(self, candidate: Candidate) -> tuple[Candidate, IntegerGraph]:
        """The candidate with the accuracy of its final graph, and that graph."""
        graph = final_graph(self.problem, candidate.forms)
        key = self.key(candidate.forms)
        accuracy = self.store.get(FINAL_KIND, key)
        if accuracy is None:
            accuracy = final_accuracy(self.problem, graph, self.builder, self.threads)
            self.store.put(FINAL_KIND, key, accuracy)
        return replace(candidate, accuracy=float(accuracy)), graph

    def key(self, forms: Assignment) -> str:
        """Names a judgement by everything it depends on."""
        return content_key([self.problem.digest, *(f"{name}={form.bits}" for name, form in sorted(forms.items()))])

    def is_good(self, candidate: Candidate, least: float | None) -> bool:
        """Whether it keeps to the accuracy limit."""
        return least is None or candidate.accuracy >= least


def judge_assignment(problem: Problem, forms: Assignment, builder: KernelBuilder, threads: int) -> float:
    """Accuracy of an assignment on the integer arithmetic, through kernels compiled for this machine."""
    from edgeq.compiler.target import load_target

    with tempfile.TemporaryDirectory(prefix="edgeq-judge-") as folder:
        path = Path(folder) / "model.edgeq"
        problem.artifact(forms, load_target("host"), path, builder)
        return problem.score(path, threads)


def find_policy(
    problem: Problem,
    limits: Limits,
    *,
    objective: str | None = None,
    widths: tuple[int, ...] | None = None,
    narrowest_edge: int = 8,
    store: Store | None = None,
    builder: KernelBuilder | None = None,
    threads: int = 4,
    progress: Progress | None = None,
) -> Found:
    """Find the cheapest assignment that keeps to every limit, and the front around it.

    Args:
        problem: of `load_problem`. limits: hard.
        objective: latency, instructions, weights or bitops; None: the first of these that was measured.
        widths: bits that may be chosen; None: 2 … 8. narrowest_edge: fewest bits of the first and last layer.
        store: what is known from earlier searches; None: the one in the cache.
        builder: code generators. threads: samples judged at a time.
        progress: called with (stage, done, total).

    Raises:
        UsageError: limits that nothing keeps to; the message says which, and what comes nearest.
    """
    from edgeq.compiler import KernelBuilder as Builder
    from edgeq.search.harm import sensitivities

    if builder is None:
        with Builder() as own:
            return find_policy(
                problem, limits, objective=objective, widths=widths, narrowest_edge=narrowest_edge, store=store,
                builder=own, threads=threads, progress=progress,
            )  # fmt: skip
    facts = store or Store()
    plan = problem.prepared.plan
    space = find_space(plan, widths, narrowest_edge) if widths else find_space(plan, narrowest_edge=narrowest_edge)
    costs = measure(problem, space, facts, builder, progress)
    harm = sensitivities(problem, space, facts, progress)
    chosen = _objective(objective, costs)
    searcher = Searcher(problem, space, costs, harm, limits, chosen, facts, builder, threads, progress)
    return _run(searcher)


def _objective(wanted: str | None, costs: Costs) -> str:
    measured = [name for name in ("latency", "instructions", "weights", "bitops") if name in costs.tables]
    if wanted is None:
        return measured[0]
    if wanted not in measured:
        raise UsageError(
            f"{wanted} was not measured for this target",
            where="--objective",
            why="; ".join(costs.notes) or "its code doesn't run on this machine",
            hint=f"choose one of {', '.join(measured)}",
        )
    return wanted


def _run(searcher: Searcher) -> Found:
    problem, space, limits = searcher.problem, searcher.space, searcher.limits
    least = limits.least_accuracy(problem.judge.reference, problem.judge.is_fraction)
    _check_limits(searcher)
    uniform = searcher.judge(space.uniform(8))
    budgets = _budgets(searcher)
    good, bad = None, None
    for budget in budgets:  # from harmless to harmful
        forms = searcher.propose(budget)
        if forms is None:
            continue
        candidate = searcher.judge(forms)
        if searcher.is_good(candidate, least):
            good = max(good or 0.0, budget)
        elif bad is None or budget < bad:
            bad = budget
        if bad is not None and good is not None and bad > good and budget > 4 * bad:
            break
    if good is not None and bad is not None:
        _bisect(searcher, least, good, bad)
    fitting = [c for c in searcher.seen.values() if searcher.is_good(c, least) and _within(searcher, c)]
    if not fitting:
        raise _impossible(searcher, list(searcher.seen.values()), least)
    best, uniform, measured = _finish(searcher, fitting, uniform, least)
    front = _front([*searcher.seen.values(), best], searcher.objective)
    return Found(
        best, front, uniform, space, searcher.costs, searcher.harm, searcher.objective, problem.judge.reference, least,
        (len(searcher.seen), searcher.fresh), measured,
    )  # fmt: skip


def _finish(
    searcher: Searcher, fitting: list[Candidate], uniform: Candidate, least: float | None
) -> tuple[Candidate, Candidate, Measured]:
    """The cheapest candidate that keeps to the limits when made as `edgeq compile` makes it; uniform; both measured."""
    problem = searcher.problem
    uniform, reference = searcher.finish(uniform)
    failed = []
    for candidate in sorted(fitting, key=lambda c: (c.predicted[searcher.objective], -c.accuracy))[:TRIES]:
        best, graph = searcher.finish(candidate)
        if not searcher.is_good(best, least):
            failed.append(best)
            continue
        measured = measure_final(problem, graph, reference, problem.target, searcher.builder)
        most = searcher.limits.latency
        if most is None or measured.latency is None or measured.latency <= most:
            return best, uniform, measured
        failed.append(replace(best, predicted={**best.predicted, "latency": measured.latency}))
    raise _impossible(searcher, failed, least)


def _bisect(searcher: Searcher, least: float | None, good: float, bad: float) -> None:
    """Between the largest budget that keeps to the accuracy and the smallest that doesn't."""
    for _ in range(BISECTION):
        if bad <= good * 1.02:
            return
        middle = (good * bad) ** 0.5 if good > 0 else bad / 4
        forms = searcher.propose(middle)
        if forms is None:
            return
        if searcher.is_good(searcher.judge(forms), least):
            good = middle
        else:
            bad = middle


def _budgets(searcher: Searcher) -> list[float]:
    """From no harm to that of the narrowest network, evenly in the logarithm."""
    import numpy as np

    narrow = sum(max(row.values()) for row in searcher.harm.values())
    wide = sum(min(row.values()) for row in searcher.harm.values())
    if narrow <= wide or narrow <= 0:
        return [max(narrow, 0.0)]
    start = max(wide, narrow * 1e-5)
    return [wide, *np.geomspace(start * 1.0001, narrow, FRONT - 1).tolist()]


def _within(searcher: Searcher, candidate: Candidate) -> bool:
    """Whether it keeps to the limits that are sums, and to the arena's."""
    limits = searcher.limits
    if limits.arena is not None and searcher.costs.arena > limits.arena:
        return False
    for resource, amount in candidate.predicted.items():
        most = limits.of(resource)
        if most is not None and amount > most:
            return False
    return True


def _check_limits(searcher: Searcher) -> None:
    """Refuse what no assignment can keep to, before anything is judged."""
    limits, costs = searcher.limits, searcher.costs
    if limits.arena is not None and costs.arena > limits.arena:
        raise UsageError(
            "no policy keeps to the limit",
            where="--max-arena",
            why=f"the activations take {costs.arena} bytes at every width of the weights",
            hint=f"allow {costs.arena} bytes, or give the model smaller inputs",
        )
    for resource in ("latency", "instructions", "weights"):
        most = limits.of(resource)
        if most is None:
            continue
        if resource not in costs.tables:
            raise UsageError(
                f"{resource} was not measured for this target",
                where=f"--max-{resource}",
                why="; ".join(costs.notes) or f"{searcher.problem.target.name} doesn't run on this machine",
                hint="limit the instructions or the weights instead",
            )
        table: Table = costs.tables[resource]
        least = costs.fixed[resource] + sum(min(row.values()) for row in table.values())
        if least > most:
            raise UsageError(
                "no policy keeps to the limit",
                where=f"--max-{resource}",
                why=f"the least possible is {least:.6g}, with every layer at its cheapest width",
                hint=f"allow at least {least:.6g}",
            )


def _impossible(searcher: Searcher, tried: list[Candidate], least: float | None) -> UsageError:
    nearest = max(tried, key=lambda c: c.accuracy)
    amount = nearest.predicted[searcher.objective]
    is_accurate = least is None or nearest.accuracy >= least
    reached = f"of {len(tried)} that were tried the most accurate reaches {nearest.accuracy:.4f}"
    return UsageError(
        "no policy keeps to all limits",
        where="--max-latency" if is_accurate else "--min-accuracy",
        why=f"{reached} with {searcher.objective} {amount:.6g}" + ("" if least is None else f"; asked for {least:.4f}"),
        hint=f"allow {nearest.accuracy:.4f} and {searcher.objective} {amount:.6g}, or raise the other limits",
    )


def _front(candidates: list[Candidate], objective: str) -> list[Candidate]:
    """Those that none beats in both cost and accuracy, cheapest first."""
    ordered = sorted(candidates, key=lambda c: (c.predicted[objective], -c.accuracy))
    front: list[Candidate] = []
    for candidate in ordered:
        if not front or candidate.accuracy > front[-1].accuracy:
            front.append(candidate)
    return front


def as_dict(found: Found) -> dict[str, Any]:
    """For `--json`."""

    def one(candidate: Candidate) -> dict[str, Any]:
        return {
            "forms": {name: str(form) for name, form in candidate.forms.items()},
            "harm": candidate.harm,
            "accuracy": candidate.accuracy,
            "predicted": candidate.predicted,
        }

    return {
        "objective": found.objective,
        "reference_accuracy": found.reference,
        "least_accuracy": found.least,
        "best": one(found.best),
        "uniform": one(found.uniform),
        "front": [one(candidate) for candidate in found.front],
        "judged": found.judged[0],
        "judged_now": found.judged[1],
        "measured": asdict(found.measured),
        "costs": {"measured": found.costs.measured, "notes": found.costs.notes, "arena": found.costs.arena},
    }
