"""`edgeq verify`: is an artifact whole, and does it compute what it should here?"""

from __future__ import annotations

import click

from edgeq.cli import common, units


@click.command("verify", short_help="Check an artifact's hash and golden vectors.")
@click.argument("artifact", type=click.Path())
@click.option("--hash-only", is_flag=True, help="Don't run it: check digest and structure only.")
@click.option("--threads", type=click.IntRange(1, 64), default=1, show_default=True)
@common.output_options
def command(artifact: str, hash_only: bool, threads: int, as_json: bool) -> None:
    """Check ARTIFACT: its digest, its structure, and that its golden vectors come out bit by bit.

    One for another processor runs under QEMU, if that is installed.
    """
    from edgeq import runtime
    from edgeq.artifact.read import read

    common.require_file(artifact, "artifact")
    parsed = read(artifact)
    vectors = None if hash_only else runtime.load(artifact).verify(threads=threads)
    if as_json:
        common.print_json(
            {"artifact": artifact, "ok": True, "digest": parsed.digest, "arch": parsed.target.arch, "golden": vectors}
        )
        return
    console = common.stdout_console()
    console.print(f"digest    ok  BLAKE2b-256 {parsed.digest[:16]}…  {units.size(parsed.sizes.file)}")
    console.print(f"structure ok  {parsed.target.arch}, ABI {parsed.abi_version}, {len(parsed.image.steps)} steps")
    console.print(
        "golden    not run" if vectors is None else f"golden    ok  {vectors} vectors, every output bit as recorded"
    )
