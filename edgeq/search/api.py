"""`edgeq.search`: the command of this name, for Python."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from edgeq.files import check_output, write_text
from edgeq.quantize.policy import Policy
from edgeq.search.limits import Limits
from edgeq.search.places import DEFAULT_KINDS, parse_kinds
from edgeq.search.problem import Progress, load_problem
from edgeq.search.result.found import Found
from edgeq.search.result.write import policy_text
from edgeq.search.run import find_policy
from edgeq.search.searcher import Watch
from edgeq.search.store import Store


def search(
    model: str | Path,
    data: str | Path,
    limits: Limits | None = None,
    *,
    target: str = "host",
    output: str | Path | None = None,
    html: str | Path | None = None,
    evaluation: str | Path | None = None,
    metric: str = "top1",
    objective: str | None = None,
    widths: tuple[int, ...] | None = None,
    space: Sequence[str] | None = None,
    edge_bits: int = 8,
    policy: str | Path | None = None,
    observer: str | None = None,
    recipe: str | None = None,
    steps: str | None = None,
    preprocess: str | None = None,
    samples: int | None = None,
    calib_samples: int | None = None,
    store: Store | None = None,
    threads: int = 4,
    solver: str = "milp",
    evaluations: int = 100,
    seed: int = 0,
    jobs: int = 1,
    scheduler: str | None = None,
    costs_from: str = "measured",
    sensitivity: str = "divergence",
    progress: Progress | None = None,
    watch: Watch | None = None,
) -> Found:
    """Find the bits and forms of each layer that cost least on a target and keep to every limit.

    Args:
        model: float ONNX model. data: calibration data; with labels `y` it also judges accuracy.
        limits: hard; None: at most half a point below the float model.
        target: a name of `edgeq targets`, or a folder. output: YAML file for the policy. html: page.
        evaluation: other data to judge on. metric: top1, top5, auc, mse, `path.py:function`, or divergence (in nats,
            from the float model's outputs: no labels needed).
        objective: latency, instructions, weights, bitops, energy; None: the first of these that can be measured;
            accuracy: as much of it as the other limits allow.
        space: what may be chosen, of `edgeq.search.places.KINDS`, or all; None: all but what rarely pays.
        widths: bits to choose from, 2 … 8. edge_bits: fewest of the first and last layer.
        policy: YAML: what is decided already. observer, preprocess: as for `quantize`.
        recipe, steps: of the final artifact, as for `quantize`; a longer recipe may keep more of narrower weights.
        samples: judge on at most this many. calib_samples: calibrate on at most this many.
        store: what is known from earlier searches; None: the one in the cache.
        threads: samples judged at a time. solver: milp, or nsga2 with its number of evaluations and seed.
        jobs: policies judged side by side. scheduler: address of Dask's, to judge them on its workers.
        sensitivity: divergence of the output with one layer narrowed, or hessian (Hutchinson's trace, needs torch).
        costs_from: measured, or predicted from what earlier searches measured on this target: nothing is compiled
            before the final artifact.
        progress: called with (stage, done, total). watch: called with (front so far, objective) after each judgement.

    Raises:
        UsageError: limits that no policy keeps to, or options that don't fit. EdgeqError: as `quantize` and `eval`.
    """
    parse_kinds(space or ())
    for path in (output, html):
        if path is not None:
            check_output(path)
    problem = load_problem(
        model,
        data,
        target,
        evaluation=evaluation,
        metric=metric,
        policy=policy,
        samples=samples,
        calib_samples=calib_samples,
        preprocess=preprocess,
        observer=observer,
        recipe=recipe,
        steps=steps,
        progress=progress,
    )
    found = find_policy(
        problem,
        limits or Limits(drop=0.5),
        objective=objective,
        widths=widths,
        kinds=DEFAULT_KINDS if space is None else space,
        narrowest_edge=edge_bits,
        store=store,
        threads=threads,
        solver=solver,
        evaluations=evaluations,
        seed=seed,
        jobs=jobs,
        scheduler=scheduler,
        costs_from=costs_from,
        measure_harm=sensitivity,
        progress=progress,
        watch=watch,
    )
    base = Policy.load(policy) if policy else Policy()
    if output is not None:
        write_text(output, policy_text(found, base, Path(model).name, problem.name))
    if html is not None:
        from edgeq.search.result.page import page_text

        command = compile_command(model, target, data, output or "policy.yaml", recipe, steps)
        write_text(html, page_text(found, base, Path(model).name, problem.name, command))
    return found


def compile_command(
    model: str | Path,
    target: str,
    data: str | Path,
    policy: str | Path,
    recipe: str | None = None,
    steps: str | None = None,
) -> str:
    """The command that makes the artifact of a policy."""
    import shlex

    parts = ["edgeq", "compile", str(model), "--target", target, "--calib", str(data), "--policy", str(policy)]
    parts += ["--recipe", recipe] if recipe else []
    parts += ["--steps", steps] if steps else []
    return shlex.join(parts)
