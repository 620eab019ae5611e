"""`edgeq report`: the page of one or more artifacts, or of two compared."""

from __future__ import annotations

import click

from edgeq.cli import common


@click.command("report", short_help="Write a page about artifacts, or compare two.")
@click.argument("artifacts", nargs=-1, required=True, type=click.Path())
@click.option("--compare", is_flag=True, help="Two artifacts: the old and the new one.")
@click.option("-o", "--output", default="report.html", show_default=True, type=click.Path(), help="The page.")
@click.option("--no-instructions", is_flag=True, help="Don't count instructions under the emulator.")
@click.option("--repeat", type=click.IntRange(min=0), default=50, show_default=True, help="Runs to time; 0: none.")
@common.output_options
def command(
    artifacts: tuple[str, ...], compare: bool, output: str, no_instructions: bool, repeat: int, as_json: bool
) -> None:
    """Write one HTML page about ARTIFACTS: sizes, layers, instructions, times, golden vectors.

    With --compare the first is the old one and the second the new one: what got worse or better, and in which layer.
    """
    from edgeq.report.command import Outputs, check_outputs
    from edgeq.report.single import compare_files, describe_files

    for path in artifacts:
        common.require_file(path, "artifact")
    check_outputs(Outputs(html=output), False)
    if compare:
        found = compare_files(artifacts, instructions=not no_instructions, repeats=repeat)
    else:
        found = describe_files(artifacts, instructions=not no_instructions, repeats=repeat)
    found.write(output)
    if as_json:
        common.print_json(found.as_dict())
        return
    console = common.stdout_console()
    for line in found.lines():
        console.print(line, markup=False)
    console.print(f"{output} written", markup=False)
