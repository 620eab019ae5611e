"""`edgeq run`: run an artifact on inputs from a file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgeq.cli import common, units

if TYPE_CHECKING:
    from edgeq.board import Board

# Outputs up to this many values a sample are worth showing whole.
SHOWN = 16


@click.command("run", short_help="Run an artifact on inputs from a file.")
@click.argument("artifact", type=click.Path())
@click.option(
    "--input", "data", required=True, type=click.Path(), help=".npz (one array an input, or x) or .npy; samples first."
)
@click.option("-o", "--output", type=click.Path(), help=".npz to write the outputs to.")
@click.option("--raw", is_flag=True, help="Give outputs as the integers they are, not as real numbers.")
@click.option("--samples", type=click.IntRange(min=1), help="Run at most this many samples.")
@click.option("--threads", type=click.IntRange(1, 64), default=1, show_default=True)
@common.board_options
@common.output_options
def command(
    artifact: str,
    data: str,
    output: str | None,
    raw: bool,
    samples: int | None,
    threads: int,
    board: Board | None,
    as_json: bool,
) -> None:
    """Run ARTIFACT on one or more samples. One for another processor runs under QEMU, a .wasm under Node.js.

    \b
    edgeq run model.edgeq --input x.npz -o y.npz
    """
    import numpy as np

    from edgeq.evaluate.execute import run
    from edgeq.files import atomic_path

    if output and Path(output).suffix != ".npz":
        raise click.UsageError("the outputs go into an .npz: give -o a name that ends with .npz")
    outputs = run(artifact, data, raw=raw, samples=samples, threads=threads, board=board)
    if output:
        with atomic_path(output) as scratch:
            np.savez(scratch, **outputs)  # type: ignore[arg-type]
    if as_json:
        common.print_json(_summary(outputs, output))
        return
    console = common.stdout_console()
    for name, values in outputs.items():
        console.print(f"[bold]{name}[/]  {units.shape(values.shape)} {values.dtype}")
        for index, row in enumerate(values.reshape(len(values), -1)[:4]):
            console.print(f"  sample {index}: {_preview(row)}", soft_wrap=True, markup=False)
        if len(values) > 4:
            console.print(f"  … {len(values)} samples")
    if output:
        console.print(f"written to {output}")


def _preview(row: Any) -> str:
    text = " ".join(f"{v:.4g}" if row.dtype.kind == "f" else str(v) for v in row[:SHOWN])
    return f"{text} …  (largest at {int(row.argmax())})" if len(row) > SHOWN else text


def _summary(outputs: dict[str, Any], path: str | None) -> dict[str, Any]:
    listed = {
        name: {
            "shape": list(values.shape),
            "dtype": str(values.dtype),
            "argmax": values.reshape(len(values), -1).argmax(1),
            **({"values": values} if values.size <= SHOWN * 64 else {}),
        }
        for name, values in outputs.items()
    }
    return {"output": path, "outputs": listed}
