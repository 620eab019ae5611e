"""`edgeq debug`: which layers cost the accuracy, and what would help."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgeq.cli import common, units

if TYPE_CHECKING:
    from edgeq.diagnose.diagnosis import Diagnosis
    from edgeq.diagnose.formats import FormatRow

SHOWN = 8


@click.command("debug", short_help="Find the layers that cost the accuracy, and what would help.")
@click.argument("model", type=click.Path())
@click.option("-o", "--output", type=click.Path(), help="HTML page to write.")
@common.target_option
@common.calibration_options
@common.shape_options
@click.option("--promote", is_flag=True, help="Start with 16-bit tensors where edgeq would choose them.")
@click.option("--thorough", is_flag=True, help="Try the remedies that take minutes as well.")
@click.option("--formats", "wants_formats", is_flag=True, help="Compare s8, s4, FP8 and FP4 in every layer.")
@click.option("--write-policy", type=click.Path(), help="Write the policy of the first remedy to a file.")
@common.output_options
def command(
    model: str,
    output: str | None,
    target: str,
    promote: bool,
    thorough: bool,
    wants_formats: bool,
    write_policy: str | None,
    as_json: bool,
    **given: Any,
) -> None:
    """Find out which layers of MODEL, a float ONNX model, make the error of its integer form.

    Without further options everything is int8 with weights rounded to nearest: what 8 bits alone do to the model.
    --observer, --policy, --weight-bits and --recipe choose another start.

    \b
    edgeq debug model.onnx --calib calib.npz --observer minmax -o debug.html
    """
    from edgeq.api.debug import debug
    from edgeq.files import check_output, write_text

    settings = common.settings(given)
    common.require_file(model, "model")
    for path in (output, write_policy):
        if path is not None:
            check_output(Path(path))
    with common.progress_bars(quiet=as_json) as progress:
        found, formats = debug(
            model,
            target=target,
            promote=promote,
            thorough=thorough,
            formats=wants_formats,
            progress=progress,
            **settings,
        )
    if output is not None:
        from edgeq.diagnose.page import page

        write_text(Path(output), page(Path(model).name, found, formats))
    if write_policy is not None:
        write_text(Path(write_policy), policy_of_first(found, settings.get("policy")))
    if as_json:
        from dataclasses import asdict

        common.print_json({"model": model, **found.as_dict(), "formats": [asdict(row) for row in formats]})
        return
    show(model, found, formats)
    for path in (output, write_policy):
        if path is not None:
            common.stdout_console().print(f"written: [bold]{path}[/]", soft_wrap=True)


def policy_of_first(found: Diagnosis, given: str | None) -> str:
    """The policy in use with the first remedy's entries in it, as YAML."""
    import yaml

    from edgeq.quantize.policy import Policy

    base = Policy.load(given) if given else Policy()
    whole = found.remedies[0].change.policy(base) if found.remedies else base
    content = whole.model_dump(exclude_none=True, exclude_defaults=True)
    return str(yaml.safe_dump({"version": 1, **content}, sort_keys=False))


def show(model: str, found: Diagnosis, formats: list[FormatRow]) -> None:
    """The verdict, the guilty layers and the remedies."""
    from rich.markup import escape

    from edgeq.diagnose.page import advice, headline, time_change

    console = common.stdout_console()
    console.print(f"[bold]{escape(model)}[/]: {escape(headline(found))}")
    console.print(escape(advice(found)))
    whole = sum(guilt.total for guilt in found.guilty) or 1.0
    errors = {layer.output: layer for layer in found.layers}
    listing = common.table(
        "guilty layer", "tensor", "error", "share", "weights", "alone", "clipped", right=("error", "share", "alone")
    )
    for guilt in found.guilty[:SHOWN]:
        layer = errors.get(guilt.output)
        listing.add_row(
            escape(guilt.layer),
            escape(guilt.output),
            f"{guilt.total:.2g}",
            f"{100 * guilt.total / whole:.0f} %",
            f"{100 * guilt.weight / guilt.total:.0f} %",
            units.decibel(layer.sqnr) if layer else "",
            f"{100 * layer.clipped:.2g} %" if layer else "",
        )
    console.print(listing)
    numbers = ("error", "same choice", "constants", "arena", "time")
    listing = common.table("remedy", *numbers, "how", right=numbers)
    for remedy in [r for r in found.remedies if r.helps][:SHOWN]:
        agree = remedy.outcome.agreement
        listing.add_row(
            escape(remedy.name),
            f"{remedy.outcome.error:.2g}",
            "" if agree is None else units.percent(agree),
            units.size(remedy.cost.constants),
            units.size(remedy.cost.arena) if remedy.cost.arena is not None else "–",
            time_change(remedy, found),
            remedy.change.flags(),
        )
    if listing.row_count:
        console.print(listing)
    if formats:
        show_formats(formats)


def show_formats(formats: list[FormatRow]) -> None:
    """Median SQNR by format."""
    from edgeq.diagnose.formats import FORMATS, summary

    listing = common.table("tensors", "scale", *FORMATS, title="SQNR by number format, median", right=FORMATS)
    for kind in ("weights", "activations"):
        for scale in ("per_tensor", "per_channel"):
            found = summary(formats, kind, scale)
            cells = [f"{units.decibel(one['median'])}" for one in found.values()]
            listing.add_row(kind, scale.replace("_", " "), *cells)
    common.stdout_console().print(listing)
