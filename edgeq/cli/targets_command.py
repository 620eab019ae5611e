"""`edgeq targets`: what can be compiled for, and whether it runs on this machine."""

from __future__ import annotations

import click

from edgeq.cli.common import output_options, print_json, stdout_console, table


@click.command("targets", short_help="List what can be compiled for.")
@output_options
def command(as_json: bool) -> None:
    """List the built-in targets.

    A folder with a target.toml can be given to --target as well.
    """
    from edgeq.environment import targets

    rows = targets()
    if as_json:
        print_json(rows)
        return
    listing = table("target", "processor", "instruction set", "runs here")
    for row in rows:
        needs = " ".join(row["cpu_features"]) or "baseline"
        listing.add_row(row["name"], row["description"], f"{row['arch']}: {needs}", row["runs_here"])
    stdout_console().print(listing)
