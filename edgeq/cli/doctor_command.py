"""`edgeq doctor`: which tools are there, and how to get the missing ones."""

from __future__ import annotations

import click

from edgeq.cli.common import output_options, print_json, stdout_console, table

MARKS = {"ok": "[green]ok[/]", "missing": "[red]missing[/]", "optional": "[yellow]not there[/]"}


@click.command("doctor", short_help="Check linkers, emulators and compilers.")
@output_options
def command(as_json: bool) -> int:
    """Check what edgeq needs on this machine. Exit code 1 if something it can't do without is missing."""
    from edgeq.environment import doctor

    rows = doctor()
    broken = [row for row in rows if row["state"] == "missing"]
    if as_json:
        print_json({"ok": not broken, "checks": rows})
        return int(bool(broken))
    listing = table("what", "state", "found", "needed for", "to get it")
    for row in rows:
        listing.add_row(row["name"], MARKS[row["state"]], row["found"], row["purpose"], row["hint"])
    console = stdout_console()
    console.print(listing)
    console.print("Everything needed is there." if not broken else f"{len(broken)} missing, see the last column.")
    return int(bool(broken))
