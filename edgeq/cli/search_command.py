"""`edgeq search`: a mixed-precision policy that keeps to hard limits on a target."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import click

from edgeq.cli import common, units
from edgeq.cli.search_live import live

if TYPE_CHECKING:
    from edgeq.search.result.found import Found
    from edgeq.search.space import Assignment


@click.command("search", short_help="Find the bits of each layer for a target under hard limits.")
@click.argument("model", type=click.Path())
@common.target_option
@click.option("--data", required=True, type=click.Path(), help="Calibration data; labels y in it judge accuracy.")
@click.option("--eval", "evaluation", type=click.Path(), help="Other data to judge accuracy on.")
@click.option("--metric", default="top1", show_default=True, metavar="top1|top5|auc|mse|divergence|FILE.py:FUNCTION")
@click.option("--max-latency", metavar="TIME", help="12ms, 80us: for targets that run on this machine.")
@click.option("--max-instructions", metavar="COUNT", help="20M: of a run, for emulated targets too.")
@click.option("--max-weights", metavar="SIZE", help="64KiB: weights in the artifact.")
@click.option("--max-arena", metavar="SIZE", help="64KiB: activations and scratch.")
@click.option("--min-accuracy", metavar="VALUE", help="0.92; or -0.5: at most half a point below the float model.")
@click.option(
    "--objective",
    type=click.Choice(["latency", "instructions", "weights", "bitops", "energy", "accuracy"]),
    help="What to make small (default: latency, or instructions where the target only runs emulated); accuracy: large.",
)
@click.option(
    "--space",
    metavar="A,B",
    help="What may be chosen: weights, activations, sides, softmax, gelu, requantize, nonlinear, scale, or all.",
)
@click.option("--widths", metavar="8,6,4", help="Bits to choose from (default: 8,7,6,5,4,3,2).")
@click.option(
    "--edge-bits", type=click.IntRange(2, 8), default=8, show_default=True, help="Fewest in first and last layer."
)
@click.option("--policy", type=click.Path(), help="YAML: what is decided already; its other choices are kept.")
@click.option("--observer", type=click.Choice(common.OBSERVERS), help="As for `edgeq compile`.")
@click.option("--recipe", type=click.Choice(common.RECIPES), help="Of the final artifact, as for `edgeq compile`.")
@click.option("--steps", metavar="A,B", help="The steps to try, instead of a recipe's.")
@click.option("--preprocess", metavar="SPEC", help="For images, as for `edgeq compile`.")
@click.option("--samples", type=click.IntRange(min=16), help="Judge on at most this many samples.")
@click.option("--calib-samples", type=click.IntRange(min=1), help="Calibrate on at most this many.")
@click.option(
    "--solver",
    type=click.Choice(["milp", "nsga2"]),
    default="milp",
    show_default=True,
    help="Exact within a budget of sensitivity, or evolution of the front.",
)
@click.option(
    "--evaluations", type=click.IntRange(8, 100_000), default=100, show_default=True, help="Policies nsga2 judges."
)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of nsga2.")
@click.option("--jobs", type=click.IntRange(1, 256), default=1, show_default=True, help="Policies judged side by side.")
@click.option("--scheduler", metavar="tcp://HOST:PORT", help="Judge on the workers of a Dask cluster.")
@click.option(
    "--sensitivity",
    type=click.Choice(["divergence", "hessian"]),
    default="divergence",
    show_default=True,
    help="By running the network with one layer narrowed, or by its curvature (needs torch).",
)
@click.option(
    "--costs",
    "costs_from",
    type=click.Choice(["measured", "predicted"]),
    default="measured",
    show_default=True,
    help="Predicted: from kernels that earlier searches measured; nothing is compiled before the final artifact.",
)
@click.option("-o", "--output", type=click.Path(), default="policy.yaml", show_default=True, help="Policy to write.")
@click.option("--html", type=click.Path(), help="Page with the front, the layers and the best policies.")
@click.option("--threads", type=click.IntRange(1, 64), default=4, show_default=True, help="Samples judged at a time.")
@common.output_options
def command(
    model: str,
    target: str,
    data: str,
    evaluation: str | None,
    metric: str,
    max_latency: str | None,
    max_instructions: str | None,
    max_weights: str | None,
    max_arena: str | None,
    min_accuracy: str | None,
    objective: str | None,
    space: str | None,
    widths: str | None,
    edge_bits: int,
    policy: str | None,
    observer: str | None,
    recipe: str | None,
    steps: str | None,
    preprocess: str | None,
    samples: int | None,
    calib_samples: int | None,
    solver: str,
    evaluations: int,
    seed: int,
    jobs: int,
    scheduler: str | None,
    sensitivity: str,
    costs_from: str,
    output: str,
    html: str | None,
    threads: int,
    as_json: bool,
) -> None:
    """Find the bits and forms of each layer of MODEL that cost least on a target and keep to every limit.

    \b
    edgeq search model.onnx --target x86-avx2 --data calib.npz --eval eval.npz --min-accuracy -0.5 -o policy.yaml
    edgeq compile model.onnx --target x86-avx2 --calib calib.npz --policy policy.yaml
    """
    from edgeq.search.api import compile_command, search
    from edgeq.search.limits import Limits
    from edgeq.search.result.found import as_dict

    common.require_file(model, "model")
    limits = Limits.parse(
        latency=max_latency,
        instructions=max_instructions,
        weights=max_weights,
        arena=max_arena,
        accuracy=min_accuracy,
    )
    with live(as_json) as (progress, watch):
        found = search(
            model,
            data,
            limits,
            target=target,
            output=output,
            html=html,
            evaluation=evaluation,
            metric=metric,
            objective=objective,
            space=None if space is None else tuple(space.split(",")),
            widths=_widths(widths),
            edge_bits=edge_bits,
            policy=policy,
            observer=observer,
            recipe=recipe,
            steps=steps,
            preprocess=preprocess,
            samples=samples,
            calib_samples=calib_samples,
            threads=threads,
            solver=solver,
            evaluations=evaluations,
            seed=seed,
            jobs=jobs,
            scheduler=scheduler,
            costs_from=costs_from,
            sensitivity=sensitivity,
            progress=progress,
            watch=watch,
        )
    if as_json:
        common.print_json({"policy": output, "target": target, **as_dict(found)})
        return
    show(found, output, compile_command(model, target, data, output, recipe, steps))


def _widths(text: str | None) -> tuple[int, ...] | None:
    if text is None:
        return None
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError as error:
        raise click.UsageError(f"--widths takes numbers from 2 to 8, like 8,6,4; not {text!r}") from error


def show(found: Found, output: str, hint: str) -> None:
    """The front as a table, then what was chosen."""
    from edgeq.search.result.write import amount

    console = common.stdout_console()
    resources = [name for name in ("latency", "instructions", "weights") if name in found.best.predicted]
    listing = common.table("", "accuracy", *resources, "forms", right=("accuracy", *resources))
    for candidate in [*found.front, found.uniform]:
        mark = "→" if candidate is found.best else "8 bits" if candidate is found.uniform else ""
        listing.add_row(
            mark,
            _accuracy(found, candidate.accuracy),
            *(amount(name, candidate.predicted[name]) for name in resources),
            _spread(candidate.forms),
        )
    console.print(listing)
    console.print(_verdict(found))
    for note in found.costs.notes:
        console.print(f"note: {note}", markup=False)
    console.print(f"{output} written; next: {hint}", markup=False, soft_wrap=True)


def _verdict(found: Found) -> str:
    """What was won against 8 bits: predicted, and measured on the final artifacts."""
    best, uniform, name, measured = found.best, found.uniform, found.objective, found.measured
    ratio = uniform.predicted[name] / best.predicted[name]
    lines = [f"[bold]{ratio:.2f} ×[/] less {name} than 8 bits (predicted); {found.judged[0]} policies judged"]
    final = [f"weights {measured.uniform_weights / measured.weights:.2f} × smaller"]
    if measured.latency and measured.uniform_latency:
        away = best.predicted["latency"] / measured.latency - 1
        final.insert(
            0,
            f"[bold]{measured.uniform_latency / measured.latency:.2f} ×[/] faster "
            f"({1e6 * measured.latency:.4g} µs; the prediction is {100 * away:+.0f} % off)",
        )
    lines.append(f"final artifact: {', '.join(final)}, accuracy {_accuracy(found, best.accuracy)}")
    return "\n".join(lines)


def _accuracy(found: Found, value: float) -> str:
    change = value - found.reference
    is_fraction = 0 <= found.reference <= 1
    return f"{units.percent(value)} ({100 * change:+.2f})" if is_fraction else f"{value:.5g} ({change:+.3g})"


def _spread(forms: Assignment) -> str:
    """'3×8, 2×4p, 4×softmax:shiftmax': layers by form; p: stored packed."""
    from edgeq.search.space import Form

    widths = Counter(form for form in forms.values() if isinstance(form, Form))
    others = Counter(str(form) for form in forms.values() if not isinstance(form, Form))
    counts = [(str(form), widths[form]) for form in sorted(widths, reverse=True)]
    return ", ".join(f"{count}×{form}" for form, count in [*counts, *sorted(others.items())])
