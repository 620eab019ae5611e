"""State of one search: what is known, proposed and judged. Every judgement is stored as soon as it is made."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from edgeq.cache import content_key
from edgeq.compiler.target import load_target
from edgeq.search.costs.cost import Costs
from edgeq.search.limits import Limits
from edgeq.search.problem import Problem, Progress
from edgeq.search.result.final import final_accuracy, final_graph, stored_graph
from edgeq.search.solvers import milp
from edgeq.search.solvers.front import front_of
from edgeq.search.solvers.milp import Bound
from edgeq.search.space import WIDEST, Assignment, Choice, Form, Space, choice_of
from edgeq.search.store import Store

if TYPE_CHECKING:
    from edgeq.compiler import KernelBuilder
    from edgeq.integer import IntegerGraph
    from edgeq.search.evaluate import Workers

#: Gets the front so far, cheapest first, and the objective.
Watch = Callable[[Sequence["Candidate"], str], None]
KIND, FINAL_KIND, PAST_KIND = "judgement", "final", "past"


@dataclass(frozen=True)
class Candidate:
    """An assignment with what is predicted and known about it.

    Attributes:
        forms: place → form. harm: Σ sensitivity. predicted: resource → amount (Costs). accuracy: of the judge.
    """

    forms: dict[str, Choice]
    harm: float
    predicted: dict[str, float]
    accuracy: float


@dataclass
class Searcher:
    """State of one search."""

    problem: Problem
    space: Space
    costs: Costs
    harm: dict[str, dict[Choice, float]]
    limits: Limits
    objective: str
    store: Store
    builder: KernelBuilder
    threads: int
    progress: Progress | None
    workers: Workers | None = None
    watch: Watch | None = None
    expected: int = 0
    seen: dict[tuple[tuple[str, Choice], ...], Candidate] = field(default_factory=dict)
    fresh: int = 0
    most_accurate: bool = False
    judged: dict[str, float] = field(default_factory=dict)

    def rank(self, candidate: Candidate) -> tuple[float, float]:
        """Small is good: by cost, or by accuracy where that is what is wanted."""
        cost, accuracy = candidate.predicted[self.objective], -candidate.accuracy
        return (accuracy, cost) if self.most_accurate else (cost, accuracy)

    @property
    def least(self) -> float | None:
        """Lowest accuracy allowed."""
        return self.limits.least_accuracy(self.problem.judge.reference, self.problem.judge.is_fraction)

    def bounds(self) -> list[Bound]:
        """Limits on sums over layers, without what no choice changes."""
        found = []
        for resource, table in self.costs.tables.items():
            most = self.limits.of(resource)
            if most is not None:
                found.append(Bound(table, most - self.costs.fixed[resource]))
        return found

    def propose(self, budget: float) -> dict[str, Choice] | None:
        """The cheapest assignment within the limits and a sensitivity budget."""
        cost = self.costs.tables[self.objective]
        return milp.solve(self.space, cost, [*self.bounds(), Bound(self.harm, budget)], tie_break=self.harm)

    def least_harmful(self, harm: milp.Table | None = None) -> dict[str, Choice] | None:
        """The assignment of least sensitivity within the limits: where accuracy fails here, it fails everywhere.

        Args:
            harm: sensitivities; None: the measured ones.
        """
        cost = self.costs.tables[self.objective]
        return milp.solve(self.space, harm or self.harm, self.bounds(), tie_break=cost)

    def judge(self, forms: Assignment) -> Candidate:
        """Score an assignment on the integer arithmetic, once; how weights are stored changes no bit."""
        key = self.key(forms)
        accuracy = self.store.get(KIND, key)
        if accuracy is None:
            accuracy = judge_assignment(self.problem, forms, self.builder, self.threads)
            self._learn(key, accuracy)
        return self._candidate(forms, float(accuracy))

    def judge_all(self, policies: Sequence[Assignment]) -> list[Candidate]:
        """The same for several, side by side where there are workers; each is stored as soon as it is ready."""
        if self.workers is not None:
            keys = {self.key(forms): forms for forms in policies}
            missing = [(key, forms) for key, forms in keys.items() if self.store.get(KIND, key) is None]
            for index, accuracy in self.workers.scores([self.problem.integerize(forms) for _, forms in missing]):
                self._learn(missing[index][0], accuracy)
        return [self.judge(forms) for forms in policies]

    def _learn(self, key: str, accuracy: float) -> None:
        self.store.put(KIND, key, accuracy)
        self.fresh += 1

    def _candidate(self, forms: Assignment, accuracy: float) -> Candidate:
        self.judged[self.key(forms)] = accuracy
        predicted = {name: self.costs.total(name, forms) for name in self.costs.tables}
        candidate = Candidate(dict(forms), milp.total(self.harm, forms), predicted, accuracy)
        self.seen[tuple(sorted(forms.items()))] = candidate
        if self.progress:
            self.progress("judged", len(self.seen), max(self.expected, len(self.seen)))
        if self.watch:
            self.watch(self.front(), self.objective)
        return candidate

    def front(self) -> list[Candidate]:
        """Of what was judged all that nothing beats in both cost and accuracy, cheapest first."""
        return front_of(list(self.seen.values()), lambda c: c.predicted[self.objective], lambda c: c.accuracy)

    def leave_behind(self) -> None:
        """Store what was judged for searches on other targets; only a search that ends does."""
        policies = [
            {
                "forms": {name: list(form) for name, form in self.space.changes(each.forms).items()},
                "accuracy": self.judged[self.key(each.forms)],
            }
            for each in self.seen.values()
        ]
        self.store.put(PAST_KIND, self._place(self.problem.name), {"from": self._forerunners(), "policies": policies})

    def inherit(self) -> list[tuple[float, bool]]:
        """(harm, is good) of what finished searches on other targets judged in this space; all of it counts as seen."""
        found = []
        for target in self._forerunners():
            past = self.store.get(PAST_KIND, self._place(target)) or {"policies": []}
            for policy in past["policies"]:
                changed = {name: choice_of(form) for name, form in policy["forms"].items()}
                forms = {**self.space.uniform(WIDEST), **changed}
                if len(forms) == len(self.space.places) and all(forms[p.name] in p.forms for p in self.space.places):
                    candidate = self._candidate(forms, float(policy["accuracy"]))
                    found.append((candidate.harm, self.is_good(candidate)))
        return found

    def _forerunners(self) -> list[str]:
        """Targets that were searched before this one was for the first time: searching again changes nothing."""
        own = self.store.get(PAST_KIND, self._place(self.problem.name))
        if own is not None:
            return [str(name) for name in own["from"]]
        start = self._place("")
        return sorted(key[len(start) :] for key in self.store.all(PAST_KIND) if key.startswith(start))

    def _place(self, target: str) -> str:
        return f"{self.problem.digest} {target}"

    def finish(self, candidate: Candidate) -> tuple[Candidate, IntegerGraph]:
        """The candidate with the accuracy of its final graph, and that graph."""
        # How weights are stored stands in the graph, too.
        said = [f"{name}={form}" for name, form in sorted(self.space.changes(candidate.forms).items())]
        key = content_key([self.problem.digest, *said, *self.problem.steps])
        graph = stored_graph(key, lambda: final_graph(self.problem, candidate.forms))
        accuracy = self.store.get(FINAL_KIND, key)
        if accuracy is None:
            accuracy = final_accuracy(self.problem, graph, self.builder, self.threads)
            self.store.put(FINAL_KIND, key, accuracy)
        return replace(candidate, accuracy=float(accuracy)), graph

    def key(self, forms: Assignment) -> str:
        """Names a judgement by everything it depends on."""
        changes = self.space.changes(forms)
        said = (f"{name}={form.values if isinstance(form, Form) else form}" for name, form in sorted(changes.items()))
        return content_key([self.problem.digest, *said])

    def is_good(self, candidate: Candidate) -> bool:
        """Whether it keeps to the accuracy limit."""
        return self.least is None or candidate.accuracy >= self.least

    def is_within(self, candidate: Candidate) -> bool:
        """Whether it keeps to the limits that are sums, and to the arena's."""
        if self.limits.arena is not None and self.costs.arena > self.limits.arena:
            return False
        limits = {name: self.limits.of(name) for name in candidate.predicted}
        return all(most is None or candidate.predicted[name] <= most for name, most in limits.items())


def judge_assignment(problem: Problem, forms: Assignment, builder: KernelBuilder, threads: int) -> float:
    """Accuracy of an assignment on the integer arithmetic, through kernels compiled for this machine."""
    with tempfile.TemporaryDirectory(prefix="edgeq-judge-") as folder:
        path = Path(folder) / "model.edgeq"
        problem.artifact(forms, load_target("host"), path, builder)
        return problem.judge.score(path, threads)
