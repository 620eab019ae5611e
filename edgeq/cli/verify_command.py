"""`edgeq verify`: is an artifact whole, and does it compute what it should here?"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgeq.cli import common, units
from edgeq.errors import UsageError

if TYPE_CHECKING:
    from edgeq.board import Board


@click.command("verify", short_help="Check an artifact's hash and golden vectors.")
@click.argument("artifact", type=click.Path())
@click.option("--hash-only", is_flag=True, help="Don't run it: check digest and structure only.")
@click.option("--float-free", is_flag=True, help="Also disassemble its code: no floating-point arithmetic in it.")
@click.option("--threads", type=click.IntRange(1, 64), default=1, show_default=True)
@common.board_options
@common.output_options
def command(artifact: str, hash_only: bool, float_free: bool, threads: int, board: Board | None, as_json: bool) -> None:
    """Check ARTIFACT: its digest, its structure, and that its golden vectors come out bit by bit.

    One for another processor runs under QEMU, if that is installed, a WebAssembly module under Node.js. With
    --float-free every instruction of its code is looked at; docs/runtime.md lists what counts as floating point. Of a
    static library (lib….a, or its folder) only that can be checked here: `edgeq bench --target` runs it on its board.
    """
    from edgeq.artifact.float_free import require
    from edgeq.evaluate.execute import verify

    library = _library(Path(artifact))
    if library is not None:
        _verify_library(library, float_free, as_json)
        return
    common.require_file(artifact, "artifact")
    found = verify(artifact, hash_only=hash_only, threads=threads, board=board)
    code = require(artifact) if float_free else None
    if as_json:
        instructions = {"float_free": code.instructions} if code else {}
        common.print_json({"ok": True, **asdict(found), **instructions})
        return
    console = common.stdout_console()
    inside = "ok  BLAKE2b-256" if found.digest_inside else "none inside; the file's BLAKE2b-256 is"
    facts = {
        "digest": f"{inside} {found.digest[:16]}…, {units.size(found.file_bytes)}",
        "structure": f"ok  {found.arch}, {'ABI' if found.digest_inside else 'format'} {found.abi}, {found.steps} steps",
        "golden": "not run" if found.golden is None else f"ok  {found.golden} vectors, every output bit as recorded",
    }
    if code:
        facts["float-free"] = f"ok  none of {code.instructions} instructions computes with floats"
    common.show_facts(console, facts)


def _library(path: Path) -> Path | None:
    """The static library that is meant, if it is one: a file lib….a, or the only one of a folder."""
    if path.is_dir():
        found = sorted(path.glob("lib*.a"))
        if len(found) != 1:
            raise UsageError(
                "no static library to check", where=str(path), why=f"{len(found)} files lib*.a in this folder"
            )
        return found[0]
    return path if path.suffix == ".a" and path.is_file() else None


def _verify_library(library: Path, float_free: bool, as_json: bool) -> None:
    from edgeq.artifact.float_free import require

    if not float_free:
        raise UsageError(
            "a static library doesn't run by itself",
            where=str(library),
            hint="--float-free checks its code; `edgeq bench MODEL --target …` runs its vectors on an emulated board",
        )
    code = require(library)
    if as_json:
        common.print_json({"ok": True, "float_free": code.instructions})
        return
    text = f"ok  none of {code.instructions} instructions computes with floats"
    common.show_facts(common.stdout_console(), {"library": str(library), "float-free": text})
