"""`edgeq bench`: how fast an artifact runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from edgeq.cli import common, units

if TYPE_CHECKING:
    from edgeq.board import Board


@click.command("bench", short_help="Time an artifact, alone or against ONNX Runtime.")
@click.argument("artifact", type=click.Path())
@click.option(
    "--target", metavar="NAME|FOLDER", help="Count ARTIFACT's (a model's) instructions on the emulated board."
)
@click.option("--calib", help="With --target: calibration data of a float model, or `random`.")
@click.option("--ram", type=common.BYTES, help="With --target: RAM that is free for the model, as in 64k.")
@click.option("--against", type=click.Path(), help="Time this ONNX model through ONNX Runtime as well, interleaved.")
@click.option("--input", "data", type=click.Path(), help="Inputs to use (default: zeros).")
@click.option("--repeat", type=click.IntRange(min=1), default=100, show_default=True, help="Runs to time.")
@click.option("--threads", type=click.IntRange(1, 64), default=1, show_default=True)
@common.board_options
@common.output_options
def command(
    artifact: str,
    target: str | None,
    calib: str | None,
    ram: int | None,
    against: str | None,
    data: str | None,
    repeat: int,
    threads: int,
    board: Board | None,
    as_json: bool,
) -> None:
    """Time whole runs of ARTIFACT: median and spread, without loading and without moving data in and out.

    With --against both are run in turns on the same machine, float in and float out on either side: only that
    ratio means something where other programs run as well.

    A .wasm runs under Node.js. With --target ARTIFACT is a model, and the target one without an operating system: the
    model is compiled and runs under QEMU; exact instruction counts are shown.
    """
    if target is not None:
        _count(artifact, target, calib, ram, as_json)
        return
    from edgeq.evaluate.execute import bench
    from edgeq.evaluate.speed import race

    common.require_file(artifact, "artifact")
    if board and against:
        raise click.UsageError("--against compares on this machine: leave --ssh and --adb out")
    times = bench(artifact, data=data, repeats=repeat, threads=threads, board=board)
    duel = race(artifact, against, data=data, repeats=repeat, threads=threads) if against else None
    if as_json:
        common.print_json({"artifact": artifact, "threads": threads, "seconds": times, "against": duel})
        return
    console = common.stdout_console()
    spread = (
        f"p10 {units.duration(times['p10'])}, p90 {units.duration(times['p90'])}, min {units.duration(times['min'])}"
    )
    console.print(
        f"[bold]{units.duration(times['median'])}[/] median of {times['runs']:.0f} runs, {threads} thread(s); {spread}"
    )
    if duel:
        ratio = duel["ratio"]
        verdict = f"{max(ratio, 1 / ratio):.2f} × {'faster' if ratio >= 1 else 'slower'}"
        console.print(
            f"float in, float out: {units.duration(duel['artifact'])} against {units.duration(duel['onnxruntime'])} "
            f"in ONNX Runtime; [bold]{verdict}[/], median of {duel['rounds']} rounds, {duel['clock']} time"
        )


def _count(model: str, target: str, calib: str | None, ram: int | None, as_json: bool) -> None:
    from edgeq.api.static import bench_firmware, firmware_report
    from edgeq.cli.static_output import show_firmware
    from edgeq.compiler import load_target

    common.require_file(model, "model")
    with common.progress_bars(quiet=as_json) as progress:
        compiled, run, found = bench_firmware(model, load_target(target), calib, progress=progress, ram=ram)
    report = firmware_report(compiled, run, found)
    if as_json:
        common.print_json(report)
    else:
        show_firmware(common.stdout_console(), report)
    if run.different:
        raise SystemExit(1)
