"""`edgeq eval`: how good a model is on labelled data."""

from __future__ import annotations

from dataclasses import asdict

import click

from edgeq.cli import common, units


@click.command("eval", short_help="Score a model or artifact on labelled data.")
@click.argument("model", type=click.Path())
@click.option("--data", required=True, type=click.Path(), help=".npz with the inputs and labels y.")
@click.option(
    "--metric",
    default="top1",
    show_default=True,
    metavar="top1|top5|auc|mse|FILE.py:FUNCTION",
    help="A function takes (outputs, y) or (outputs, y, x) and gives a number or a dict of numbers.",
)
@click.option("--reference", type=click.Path(), help="Score this model as well (usually the float one) and compare.")
@click.option("--output", help="Name of the output to score (default: the first).")
@click.option("--samples", type=click.IntRange(min=1), help="Use at most this many samples.")
@click.option("--preprocess", metavar="SPEC", help="For images, as in `edgeq compile`.")
@click.option("--threads", type=click.IntRange(1, 64), default=1, show_default=True)
@common.output_options
def command(
    model: str,
    data: str,
    metric: str,
    reference: str | None,
    output: str | None,
    samples: int | None,
    preprocess: str | None,
    threads: int,
    as_json: bool,
) -> None:
    """Score MODEL (a float model, an integer graph or an artifact) on labelled data.

    \b
    edgeq eval model.edgeq --data eval.npz --metric top1 --reference model.onnx
    """
    from edgeq.evaluate.score import evaluate

    result = evaluate(
        model,
        data,
        metric=metric,
        reference=reference,
        output=output,
        samples=samples,
        preprocess=preprocess,
        threads=threads,
    )
    if as_json:
        common.print_json(asdict(result))
        return
    console = common.stdout_console()
    names = list(result.score.values)
    listing = common.table("model", "kind", *names, "time a sample", right=(*names, "time a sample"))
    for score in [s for s in (result.score, result.reference) if s is not None]:
        values = [units.percent(v) if result.in_percent else f"{v:.6g}" for v in score.values.values()]
        listing.add_row(score.path, score.kind, *values, units.duration(score.seconds / result.samples))
    console.print(listing)
    text = f"{result.samples} samples"
    if result.reference is not None:
        if result.agreement is not None:
            text += f", same choice as the reference on {units.percent(result.agreement)}"
        text += f", output SQNR {units.decibel(result.sqnr)}"
    console.print(text)
