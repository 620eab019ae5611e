"""Figures of `edgeq search`: how good its predictions are, and how good evolved fronts are.

    python benchmarks/search.py rank MODEL --data calib.npz --eval eval.npz --target x86-avx2
    python benchmarks/search.py fronts MODEL --data calib.npz --eval eval.npz
    python benchmarks/search.py w4a8 MODEL --data calib.npz --eval eval.npz --bits 4 --target x86-avx2

rank: random policies with times predicted from uniform networks, and measured in turns on their artifacts.
fronts: hypervolume (bit operations, accuracy) of NSGA-II with a predictor and of random search, the same evaluations.
w4a8: the most accurate policy that is no larger, and the one that is no slower, than the same bits in every layer,
chosen by its divergence from the float model on the calibration data; accuracies are those of the final artifacts.
What a search gains against 8 bits the command itself prints: `edgeq search MODEL …` times its final artifact.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from collections import Counter
from pathlib import Path

import numpy as np

from edgeq import runtime
from edgeq.compiler import KernelBuilder
from edgeq.search.costs.cost import Costs
from edgeq.search.harm import sensitivities
from edgeq.search.limits import Limits
from edgeq.search.places import DEFAULT_KINDS, parse_kinds
from edgeq.search.problem import Problem, load_problem, write_artifact
from edgeq.search.result.final import final_graph, in_turns
from edgeq.search.run import find_policy
from edgeq.search.searcher import Searcher
from edgeq.search.solvers.evolve import evolve
from edgeq.search.solvers.front import hypervolume
from edgeq.search.solvers.sampling import random_search
from edgeq.search.space import Choice, Space, find_space
from edgeq.search.store import Store
from edgeq.search.survey import survey


def level_policies(space: Space, count: int, seed: int) -> list[dict[str, Choice]]:
    """Policies from wide to narrow: every layer draws from the forms around a level, so that costs spread."""
    generator = np.random.default_rng(seed)
    found = []
    for level in np.linspace(0, 1, count):
        chosen = {}
        for layer in space.places:
            centre = level * (len(layer.forms) - 1) + generator.normal(0, 1)
            chosen[layer.name] = layer.forms[int(np.clip(np.rint(centre), 0, len(layer.forms) - 1))]
        found.append(chosen)
    return found


def rank(problem: Problem, widths: tuple[int, ...], kinds: tuple[str, ...], count: int, seed: int) -> None:
    """Predicted against measured latency."""
    from scipy.stats import spearmanr

    store, wanted = Store(), find_space(problem.prepared.plan, widths, kinds=kinds)
    with KernelBuilder() as builder, tempfile.TemporaryDirectory() as folder:
        known = survey(problem, wanted, store, builder, lambda costs: ["latency"])
        space, costs = known.space, known.costs
        print(f"{len(space.free)} places; {'; '.join(costs.notes)}", flush=True)
        policies = level_policies(space, count, seed)
        models = []
        for index, forms in enumerate(policies):
            path = Path(folder) / f"{index}.edgeq"
            problem.artifact(forms, problem.target, path, builder)
            models.append(runtime.load(path, emulate=False))
        measured = np.array(in_turns(models))
    predicted = np.array([costs.total("latency", forms) for forms in policies])
    error = predicted / measured - 1
    print(f"{problem.source} on {problem.target.name}: {count} policies, {1e6 * measured.min():.1f} to ", end="")
    print(f"{1e6 * measured.max():.1f} µs; rank correlation {spearmanr(predicted, measured).statistic:.3f}; ", end="")
    print(f"error median {100 * np.median(np.abs(error)):.1f} %, largest {100 * np.abs(error).max():.1f} %")


def fronts(problem: Problem, evaluations: int, seeds: int) -> None:
    """NSGA-II with predictor against random search."""
    space, store = find_space(problem.prepared.plan, narrowest_edge=2), Store()
    harm = sensitivities(problem, space, store)
    cost = {x.name: {form: float(x.macs * form.bits * 8) for form in x.forms} for x in space.places}
    costs = Costs({"bitops": cost}, {"bitops": 0.0}, 0, "modelled")
    with KernelBuilder() as builder:
        searcher = Searcher(problem, space, costs, harm, Limits(), "bitops", store, builder, 4, None)

        def judge(policies: list[dict[str, Choice]]) -> list[float]:
            return [each.accuracy for each in searcher.judge_all(policies)]

        for seed in range(seeds):
            evolved = evolve(space, cost, harm, judge, evaluations=evaluations, seed=seed)
            drawn = random_search(space, cost, judge, evaluations=evaluations, seed=seed)
            worst = (max(each.cost for each in [*evolved, *drawn]), 0.0)
            areas = [hypervolume([(e.cost, e.accuracy) for e in found], worst) for found in (evolved, drawn)]
            print(f"seed {seed}: hypervolume {areas[0] / worst[0]:.4f} evolved, {areas[1] / worst[0]:.4f} random")


def against_uniform(given: argparse.Namespace) -> None:
    """Mixed policies at the size, and at the time, of the same bits in every layer."""
    judge = load_problem(given.model, given.data, given.target, evaluation=given.eval, samples=given.samples).judge
    problem = load_problem(given.model, given.data, given.target, metric="divergence")
    widths, store = tuple(map(int, given.widths.split(","))), Store()
    kinds = parse_kinds(given.space.split(","))
    wanted = find_space(problem.prepared.plan, widths, 2, kinds)
    print(f"{problem.source} on {problem.target.name}, float {judge.reference:.4f}", flush=True)
    with KernelBuilder() as builder, tempfile.TemporaryDirectory() as folder:
        # The same survey as the search's own: times are measured once, so that its limit can be kept.
        known = survey(problem, wanted, store, builder, lambda costs: ["latency", "weights"])
        space, costs = known.space, known.costs
        for resource, packed in (("weights", True), ("latency", False)):
            uniform = space.uniform(given.bits, packed)
            limits = Limits(**{resource: costs.total(resource, uniform)})
            found = find_policy(
                problem, limits, objective="accuracy", widths=widths, kinds=kinds, narrowest_edge=2, store=store,
                builder=builder,
            )  # fmt: skip
            models = []
            for label, forms in (("uniform", uniform), ("mixed", found.best.forms)):
                graph, path = final_graph(problem, forms), Path(folder) / f"{resource}-{label}.edgeq"
                compiled = write_artifact(graph, problem.target, path, builder)
                models.append(runtime.load(path, emulate=False))
                size = sum(int(layer["weights"]) for layer in compiled.layers)
                bits = Counter(str(form) for form in forms.values())
                spread = ", ".join(f"{count}×{form}" for form, count in sorted(bits.items()))
                print(
                    f"  same {resource}, {label}: {judge.score(path, 2):.4f}, {size} bytes, bits {spread}", flush=True
                )
                if given.keep:
                    shutil.copy(path, given.keep / f"{path.stem}.edgeq")
            times = in_turns(models)
            print(f"  same {resource}: uniform takes {times[0] / times[1]:.3f} of mixed's time", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("rank", "fronts", "w4a8"))
    parser.add_argument("model", type=Path)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--eval", type=Path)
    parser.add_argument("--target", default="x86-avx2")
    parser.add_argument("--samples", type=int)
    parser.add_argument("--calib-samples", type=int)
    parser.add_argument("--widths", default="8,7,6,5,4,3,2", help="of rank and w4a8")
    parser.add_argument("--space", default=",".join(DEFAULT_KINDS), help="of rank and w4a8")
    parser.add_argument("--policies", type=int, default=30)
    parser.add_argument("--evaluations", type=int, default=40)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--bits", type=int, default=4, help="of w4a8: of every layer")
    parser.add_argument("--keep", type=Path, help="of w4a8: folder for its artifacts")
    given = parser.parse_args()
    if given.what == "w4a8":
        against_uniform(given)
        return
    problem = load_problem(
        given.model, given.data, given.target,
        evaluation=given.eval, samples=given.samples, calib_samples=given.calib_samples,
    )  # fmt: skip
    if given.what == "rank":
        kinds = parse_kinds(given.space.split(","))
        rank(problem, tuple(map(int, given.widths.split(","))), kinds, given.policies, seed=0)
    else:
        fronts(problem, given.evaluations, given.seeds)


if __name__ == "__main__":
    main()
