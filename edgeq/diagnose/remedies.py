"""What would help: the network integerized anew with each remedy, its final output's error and its cost.

A remedy is a change of options that a user can make: observer, entries of the policy, steps of a recipe. The ranges'
statistics stay those of the one calibration.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import yaml
from numpy.typing import NDArray

from edgeq.diagnose.cost import Cost, cost_of
from edgeq.diagnose.guilt import Guilt
from edgeq.diagnose.outcome import Outcome, Referee
from edgeq.quantize.calibrate import Progress
from edgeq.quantize.error.simulate import Simulation, largest_error
from edgeq.quantize.integerize import build
from edgeq.quantize.pipeline import Prepared, QuantizeOptions, prepare
from edgeq.quantize.plan import Plan, quant_s8
from edgeq.quantize.policy import LayerPolicy, Policy
from edgeq.quantize.products import bits_of, products
from edgeq.quantize.promote import BUDGET, BUDGET_MANY, MANY, affordable_samples, final_outputs
from edgeq.quantize.ranges import CANDIDATES
from edgeq.quantize.recipe import STEPS, Context

if TYPE_CHECKING:
    from edgeq.compiler.target import Target
    from edgeq.frontend.graph import FloatGraph

Array = NDArray[Any]
#: Steps of a recipe tried one by one, and those that take minutes.
QUICK_STEPS, SLOW_STEPS = ("equalize", "migrate", "gptq"), ("ranges", "sequential", "adaround")
#: Errors within that factor of each other are the same within the noise of the samples: the cost decides.
NOISE = 1.1
#: Tensors that get an observer of their own.
SINGLED_OUT = 3


@dataclass(frozen=True)
class Change:
    """What to do differently.

    Attributes:
        observer: instead of the one in use. layers: entries behind those of the policy. defaults: of the policy.
        steps: of a recipe, applied in order.
    """

    observer: str | None = None
    layers: Mapping[str, dict[str, Any]] = field(default_factory=dict)
    defaults: Mapping[str, Any] = field(default_factory=dict)
    steps: tuple[str, ...] = ()

    def __or__(self, other: Change) -> Change:
        """Both, the other's where they disagree."""
        layers = {name: dict(entry) for name, entry in self.layers.items()}
        for name, entry in other.layers.items():
            layers[name] = {**layers.get(name, {}), **entry}
        return Change(
            other.observer or self.observer,
            layers,
            {**self.defaults, **other.defaults},
            tuple(dict.fromkeys((*self.steps, *other.steps))),
        )

    def policy(self, base: Policy) -> Policy:
        """The policy with the change in it."""
        entries = {name: LayerPolicy.model_validate(entry) for name, entry in self.layers.items()}
        kept = {name: entry for name, entry in base.layers.items() if name not in entries}
        merged = {name: entry.over(base.layers.get(name, LayerPolicy())) for name, entry in entries.items()}
        defaults = LayerPolicy.model_validate(dict(self.defaults)).over(base.defaults)
        return base.model_copy(update={"defaults": defaults, "layers": {**kept, **merged}})

    def options(self, base: QuantizeOptions) -> QuantizeOptions:
        """Options of `edgeq.quantize.quantize` that make the change; steps are tried there, not forced."""
        policy = self.policy(base.policy or Policy())
        return replace(base, observer=self.observer or base.observer, policy=policy, steps=self.steps)

    def policy_text(self) -> str:
        """The entries as YAML; empty where the change needs none."""
        content = {"defaults": dict(self.defaults), "layers": {n: dict(e) for n, e in self.layers.items()}}
        filled = {key: value for key, value in content.items() if value}
        return str(yaml.safe_dump({"version": 1, **filled}, sort_keys=False)) if filled else ""

    def flags(self) -> str:
        """What to add to `edgeq compile` or `edgeq quantize`."""
        parts = [f"--observer {self.observer}"] if self.observer else []
        parts += [f"--steps {','.join(self.steps)}"] if self.steps else []
        parts += ["--policy FILE"] if self.layers or self.defaults else []
        return " ".join(parts)


@dataclass(frozen=True)
class Remedy:
    """One remedy, measured.

    Attributes:
        name: short. what: in words. change: how. outcome: of the integer graph with it. cost: with it.
        is_enough: it brings the error below what promotion to 16 bits leaves (.01; .03 above 100 tensors).
        helps: it takes away more than the samples' noise.
    """

    name: str
    what: str
    change: Change
    outcome: Outcome
    cost: Cost
    is_enough: bool
    helps: bool


_Candidate = tuple[str, str, Change]


class Pharmacy:
    """Applies changes to one calibrated network and measures them.

    Args:
        start: the network as it is. options: it was made with. samples: to fit on. referee: judges.
        target: for the cost; None: bytes only.
    """

    def __init__(
        self,
        start: Prepared,
        options: QuantizeOptions,
        samples: list[dict[str, Array]],
        referee: Referee,
        target: Target | None,
    ) -> None:
        self.start, self._options, self._samples = start, options, samples
        self._referee, self._target = referee, target
        self.samples_few = referee.samples[: affordable_samples(start.plan.topology)]
        tensors = len(start.plan.candidates())
        self.budget = options.promotion_budget or (BUDGET_MANY if tensors > MANY else BUDGET)

    def apply(self, change: Change) -> Prepared | None:
        """The network with a change; None where a step has nothing to do."""
        plan = self.start.plan
        ranges = replace(plan.ranges, observer=change.observer or plan.ranges.observer)
        weights = plan.weights if not (change.observer or change.layers or change.defaults) else {}
        changed = Plan(plan.topology, ranges, change.policy(plan.policy), plan.promoted, weights)
        current = replace(self.start, plan=changed)

        def again(graph: FloatGraph) -> Prepared:
            base = replace(self._options, policy=changed.policy, observer=ranges.observer, progress=None)
            return prepare(graph, self.start.data, replace(base, weight_bits=None, edge_bits=None))

        for step in change.steps:
            found = STEPS[step](current, Context(self._samples, self._options.threads, again))
            if found is None:
                return None
            current = found
        return current

    def measure(self, name: str, what: str, change: Change, before: Outcome) -> Remedy | None:
        """A remedy's effect and cost; None where there is nothing to apply."""
        treated = self.apply(change)
        if treated is None:
            return None
        built = build(treated.plan)
        outcome = self._referee.judge(built, treated.plan.topology)
        cost = cost_of(built.graph, self._target)
        helps = outcome.error * NOISE < before.error
        return Remedy(name, what, change, outcome, cost, outcome.error <= self.budget < before.error, helps)


def find_remedies(
    pharmacy: Pharmacy,
    guilty: Sequence[Guilt],
    before: Outcome,
    thorough: bool = False,
    progress: Progress | None = None,
) -> list[Remedy]:
    """Measure every remedy that applies, and the best of each kind together; best first, see `ranked`.

    Args:
        pharmacy: applies and measures. guilty: worst first. before: of the network as it is.
        thorough: try the slow steps as well.
        progress: called with ("remedies", done, total).
    """
    kinds = _candidates(pharmacy, guilty, thorough)
    total, found = sum(map(len, kinds.values())) + 1, list[Remedy]()
    best: dict[str, Remedy] = {}
    done = 0
    for kind, candidates in kinds.items():
        for name, what, change in candidates:
            done += 1
            if progress:
                progress("remedies", done, total)
            remedy = pharmacy.measure(name, what, change, before)
            if remedy is None:
                continue
            found.append(remedy)
            if remedy.helps and (kind not in best or remedy.outcome.error < best[kind].outcome.error):
                best[kind] = remedy
    found += _stacked(pharmacy, best, kinds["step"], before)
    return ranked(found)


def _stacked(
    pharmacy: Pharmacy, best: Mapping[str, Remedy], steps: Sequence[_Candidate], before: Outcome
) -> list[Remedy]:
    """The best of each kind together, the most effective first, each kept if it still helps; then the steps: what they
    give shows only when larger errors are gone."""
    order = sorted(best.values(), key=lambda remedy: remedy.outcome.error)
    if not order:
        return []
    tried, current = set(order[0].change.steps), order[0]
    more = [(remedy.name, remedy.change) for remedy in order[1:]] + [(name, change) for name, _, change in steps]
    for name, change in more:
        if tried.issuperset(change.steps) and change.steps:
            continue
        tried |= set(change.steps)
        joined = pharmacy.measure(
            f"{current.name} + {name}", "several together", current.change | change, current.outcome
        )
        if joined is not None and joined.helps:
            current = joined
    if current is order[0]:
        return []
    return [replace(current, is_enough=current.outcome.error <= pharmacy.budget < before.error)]


def ranked(remedies: Sequence[Remedy]) -> list[Remedy]:
    """Least error first; within the noise of the least, least cost first."""
    left, result = sorted(remedies, key=lambda remedy: remedy.outcome.error), list[Remedy]()
    while left:
        limit = left[0].outcome.error * NOISE
        equal = [remedy for remedy in left if remedy.outcome.error <= limit]
        result += sorted(equal, key=lambda r: (r.cost.products or 0.0, r.cost.constants, r.cost.arena or 0))
        left = left[len(equal) :]
    return result


def _candidates(pharmacy: Pharmacy, guilty: Sequence[Guilt], thorough: bool) -> dict[str, list[_Candidate]]:
    """Remedies by kind: of each kind one can be in use."""
    plan = pharmacy.start.plan
    steps = (*QUICK_STEPS, *(SLOW_STEPS if thorough else ()))
    texts = {
        "equalize": "equal weight ranges per channel in front of a tensor and behind it",
        "migrate": "channels with outliers smaller, the weights that read them larger",
        "gptq": "weights rounded column by column, each making up for the ones before",
        "ranges": "for every tensor the observer with the least error of the output",
        "sequential": "weights rounded layer after layer, making up for the layers in front",
        "adaround": "learned for each weight whether it goes up or down",
    }
    return {
        "observer": [
            (f"observer {name}", f"ranges by {name} for all tensors", Change(observer=name))
            for name in CANDIDATES
            if name != plan.ranges.observer
        ]
        + list(_own_observers(pharmacy, guilty)),
        "activations": list(_wider(plan, guilty, pharmacy.budget)),
        "weights": list(_more_bits(plan, guilty)),
        "requantize": [
            ("exact rounding", "32-bit multipliers, one rounding", Change(defaults={"requantize": "single"}))
        ],
        "step": [(name, texts[name], Change(steps=(name,))) for name in steps],
    }


def _own_observers(pharmacy: Pharmacy, guilty: Sequence[Guilt]) -> Iterator[_Candidate]:
    """The worst tensors with the observer that each is best with."""
    plan, layers = pharmacy.start.plan, {}
    worst = [g for g in guilty if g.activation > g.weight and plan.tensor(g.output).reason == "default"][:SINGLED_OUT]
    if not worst:
        return
    outputs, samples = final_outputs(plan.topology), pharmacy.samples_few
    for guilt in worst:
        name, errors = guilt.output, {}
        for observer in CANDIDATES:
            grid = {name: {name: quant_s8(*plan.group_range(name, observer))}}
            simulation = Simulation(plan.topology.model, grid, outputs)
            errors[observer] = largest_error(simulation.run(samples, ()), simulation.run(samples, (name,)))
        best = min(errors, key=lambda observer: errors[observer])
        if best != plan.ranges.observer and errors[best] * NOISE < guilt.activation:
            layers[name] = {"observer": best}
    if layers:
        listed = ", ".join(f"{name}: {entry['observer']}" for name, entry in layers.items())
        yield "observers of the worst", f"another observer for single tensors ({listed})", Change(layers=layers)


def _wider(plan: Plan, guilty: Sequence[Guilt], budget: float) -> Iterator[_Candidate]:
    """16 bits for the worst tensor, for those above the budget, and for all but a hundredth of the guilt."""
    groups: dict[str, list[Guilt]] = {}
    for guilt in guilty:
        if guilt.activation > 0 and plan.tensor(guilt.output).reason not in ("model", "trained"):
            groups.setdefault(plan.ties.types.find(guilt.output), []).append(guilt)
    ordered = sorted(groups.values(), key=lambda members: -sum(g.activation for g in members))
    sums = [sum(g.activation for g in members) for members in ordered]
    whole, counts = sum(sums), set[int]()
    for allowed in (math.inf, budget, 0.01 * whole):
        count = next((k for k in range(1, len(sums) + 1) if sum(sums[k:]) <= allowed), 0)
        counts |= {count} if count else set()
    for count in sorted(counts):
        members = [name for group in ordered[:count] for name in _all_roots(plan, group)]
        listed = ", ".join(members[:4]) + (f" and {len(members) - 4} more" if len(members) > 4 else "")
        yield (
            f"16 bits for {len(members)} tensor{'s' * (len(members) > 1)}",
            f"16-bit activations: {listed}",
            Change(layers={name: {"activation": "s16"} for name in members}),
        )


def _all_roots(plan: Plan, group: Sequence[Guilt]) -> list[str]:
    """Every computed value of a type group: the policy has to name them all."""
    members = plan.ties.types.groups()[plan.ties.types.find(group[0].output)]
    return [name for name in members if plan.ties.is_root(name)]


def _more_bits(plan: Plan, guilty: Sequence[Guilt]) -> Iterator[_Candidate]:
    """8 bits for narrow weights: of the worst layers, of all."""
    narrow = {p.layer.name: p for p in products(plan.topology) if bits_of(plan, p) < 8}
    worst = [g.layer for g in guilty if g.layer in narrow and g.weight > g.activation][:SINGLED_OUT]
    for names, what in ((worst, "the worst layers"), (list(narrow), "all layers")):
        if names:
            layers = {name: {"weight_bits": 8} for name in names}
            yield f"8-bit weights in {len(names)}", f"8-bit weights in {what}", Change(layers=layers)
