"""Options that several commands share, and the way they print."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from edgeq.cli import interrupt, units

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

F = TypeVar("F", bound=Callable[..., Any])

# Wide enough for every table where the output is a file or a pipe and has no width of its own.
PIPE_WIDTH = 132

RECIPES = ["fast", "default", "best"]
OBSERVERS = ["l2.4", "minmax", "moving-average", "percentile", "mse", "entropy"]


def output_options(function: F) -> F:
    """`--json` (the result as JSON on stdout) and `--debug` (tracebacks)."""
    function = click.option("--debug", is_flag=True, expose_value=False, help="Show tracebacks of errors.")(function)
    return click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")(function)


class _Bytes(click.ParamType):  # type: ignore[type-arg,unused-ignore]
    """A number of bytes, as in 65536, 64k or 1M."""

    name = "BYTES"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """The number; fails with what was expected."""
        text = str(value).strip().lower().removesuffix("b").removesuffix("i")
        factor = {"k": 1 << 10, "m": 1 << 20}.get(text[-1:], 1)
        digits = text[:-1] if factor > 1 else text
        if not digits.isdecimal() or int(digits) == 0:
            self.fail(f"{value!r} is no number of bytes (64k, 1M, 65536)", param, ctx)
        return int(digits) * factor


BYTES = _Bytes()


def target_option(function: F) -> F:
    """`--target`: a name that `edgeq targets` lists, or a folder with a target.toml."""
    return click.option(
        "--target",
        default="host",
        show_default=True,
        metavar="NAME|FOLDER",
        help="What to compile for; `edgeq targets` lists them.",
    )(function)


def schedule_option(function: F) -> F:
    """`--schedule`: measured choices of kernels."""
    return click.option(
        "--schedule",
        metavar="FILE|tuned",
        help="Kernels as `edgeq tune` measured them: its file, or `tuned` for what it found on this machine.",
    )(function)


def shape_options(function: F) -> F:
    """`--batch` and `--shape` for models with dynamic dimensions."""
    function = click.option(
        "--shape",
        "shapes",
        multiple=True,
        metavar="NAME=1x3x224x224",
        help="Shape of an input with dynamic dimensions (may be repeated). NAME=1x32,1x128: several in one artifact.",
    )(function)
    return click.option("--batch", type=click.IntRange(min=1), help="Size of a dynamic leading dimension (default 1).")(
        function
    )


def board_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """`--ssh` and `--adb`: the command gets `board`, connected, or None."""

    @wraps(function)
    def with_board(*args: Any, ssh: str | None, adb: str | None, **options: Any) -> Any:
        if ssh is not None and adb is not None:
            raise click.UsageError("--ssh and --adb exclude each other")
        if ssh is None and adb is None:
            return function(*args, board=None, **options)
        from edgeq.board import connect

        with connect(ssh=ssh, adb=adb) as board:
            return function(*args, board=board, **options)

    with_options = click.option(
        "--adb",
        metavar="SERIAL",
        is_flag=False,
        flag_value="",
        help="On an Android device, reached by adb (without SERIAL: the only one).",
    )(with_board)
    return click.option(
        "--ssh", metavar="USER@HOST", help="On a board, reached by ssh without a password; ssh://user@host:port too."
    )(with_options)


def calibration_options(function: F) -> F:
    """How a float model is quantized: data, observer, policy, recipe."""
    options = (
        click.option(
            "--calib",
            metavar="PATH|random",
            help=".npz, .npy, a folder of .npy or of images; `random` for a first look at speed and size.",
        ),
        click.option(
            "--preprocess",
            metavar="SPEC",
            help="For images: YAML (a file, or the text) with size, crop, scale, mean, std, layout, color.",
        ),
        click.option(
            "--samples", type=click.IntRange(min=1), help="Calibrate on at most this many samples (default: all)."
        ),
        click.option(
            "--observer", type=click.Choice(OBSERVERS), help="How ranges are chosen from the data (default: l2.4)."
        ),
        click.option("--policy", type=click.Path(), metavar="FILE", help="YAML: bits and forms for each layer."),
        click.option(
            "--recipe",
            type=click.Choice(RECIPES),
            help="How much is tried to lower the error of the output (default: default).",
        ),
        click.option("--steps", metavar="A,B", help="The steps to try, instead of a recipe's."),
        click.option(
            "--weight-bits",
            type=click.IntRange(2, 8),
            help="Bits of all weights (default: 8); below 7, first, last and depthwise layers keep 8.",
        ),
        click.option(
            "--edge-bits", type=click.IntRange(2, 8), help="Bits of the weights of first, last and depthwise layers."
        ),
        click.option(
            "--weight-budget",
            type=click.FloatRange(min=0),
            metavar="ERROR",
            help="Error that narrow weights may add to the output; single layers are kept at 8 bits for it.",
        ),
        click.option("--allow-float", is_flag=True, help="Accept float islands where an op has no integer form."),
        click.option("--seed", type=int, help="Seed of `--calib random` (default 0)."),
    )
    for option in reversed(options):
        function = option(function)
    return function


def settings(given: dict[str, Any]) -> dict[str, Any]:
    """Options of `calibration_options` and `shape_options` as arguments of the API; what wasn't given is left out."""
    chosen = dict(given)
    shapes = parse_shapes(chosen.pop("shapes", ()))
    if shapes:
        chosen["shapes"] = shapes
    return {name: value for name, value in chosen.items() if value is not None and value is not False}


def parse_shapes(shapes: Sequence[str]) -> dict[str, Any]:
    """`--shape name=1x3x224x224` → {"name": (1, 3, 224, 224)}; `name=1x32,1x128` → {"name": [(1, 32), (1, 128)]}.

    Raises:
        UsageError: text that isn't of that form.
    """
    from edgeq.errors import UsageError

    parsed: dict[str, Any] = {}
    for text in shapes:
        name, separator, sizes = text.rpartition("=")
        # Commas part whole shapes, or the sizes of one that is written without x.
        listed = [part.split("x") for part in sizes.split(",")] if "x" in sizes else [sizes.split(",")]
        if not separator or not name or not all(d.isdigit() and int(d) > 0 for dims in listed for d in dims):
            raise UsageError(
                "can't read the shape",
                where=f"--shape {text}",
                why="expected a name, '=', and positive sizes separated by 'x'",
                hint="for example --shape input=1x3x224x224, or --shape ids=1x32,1x128 for several in one artifact",
            )
        shapes_of = [tuple(int(d) for d in dims) for dims in listed]
        parsed[name] = shapes_of if len(shapes_of) > 1 else shapes_of[0]
    return parsed


def require_file(path: str | Path, what: str) -> Path:
    """The path, if it is a readable file.

    Raises:
        UsageError: it doesn't exist or is a folder.
    """
    from edgeq.errors import UsageError

    file = Path(path)
    if not file.exists():
        raise UsageError(f"no such {what}", where=str(path), why="the file doesn't exist", hint="check the path")
    if file.is_dir():
        raise UsageError(f"can't read the {what}", where=str(path), why="it is a folder", hint="give a file")
    return file


def stdout_console() -> Console:
    """Console for results; fixed width where stdout isn't a terminal, so that logs don't depend on one."""
    from rich.console import Console

    return Console(width=None if sys.stdout.isatty() else PIPE_WIDTH, highlight=False, soft_wrap=False)


def stderr_console() -> Console:
    """Console for progress, notes and warnings."""
    from rich.console import Console

    return Console(stderr=True, width=None if sys.stderr.isatty() else PIPE_WIDTH, highlight=False)


def table(*columns: str, title: str | None = None, right: Sequence[str] = ()) -> Table:
    """A plain table; the columns named in `right` hold numbers."""
    from rich import box
    from rich.table import Table

    result = Table(
        title=title, box=box.SIMPLE_HEAD, title_justify="left", pad_edge=False, show_edge=False, title_style="bold"
    )
    for column in columns:
        number = column in right
        result.add_column(column, justify="right" if number else "left", no_wrap=number, overflow="fold")
    return result


def print_json(value: Any) -> None:
    """JSON on stdout; floats that JSON has no word for (NaN, infinities) become null."""
    click.echo(json.dumps(_plain(value), indent=2, ensure_ascii=False))


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if hasattr(value, "tolist"):  # NumPy scalars and arrays
        return _plain(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Path):
        return str(value)
    return value


def show_facts(console: Console, facts: dict[str, str]) -> None:
    """Name and text, one fact a line; empty ones are left out."""
    import textwrap

    label = 14
    for name, text in facts.items():
        lines = textwrap.wrap(text, max(console.width - label - 1, 40), break_on_hyphens=False)
        for number, line in enumerate(lines):
            console.print(f"{'' if number else f'  {name}':<{label}} {line}", soft_wrap=True)


def show_not_calibrated(console: Console) -> None:
    """The banner of everything made with `--calib random`."""
    console.print(
        "[bold white on red] NOT CALIBRATED [/] random data: speed and sizes are real, the outputs mean nothing"
    )


def calibration_text(report: dict[str, Any] | None, calibrated: bool) -> str:
    """What the integer model does to the calibration data, in one line; empty where nothing was calibrated."""
    if report is None:
        return ""
    text = f"{report['samples']} samples, observer {report['observer']}"
    if not calibrated or not report["compared"]:
        return text
    ratios = ", ".join(units.decibel(output["sqnr_db"]) for output in report["outputs"])
    text += f"; on {report['compared']} of them: output SQNR {ratios}"
    agree = [o["top1_agreement"] for o in report["outputs"] if o["top1_agreement"] is not None]
    return text + (f", same top-1 as the float model on {units.percent(agree[0])}" if agree else "")


def show_warnings(report: dict[str, Any] | None) -> None:
    """The quantizer's warnings, on stderr. What random data means is said by the banner."""
    for warning in (report or {}).get("warnings", ()) if (report or {}).get("calibrated") else ():
        click.echo(f"warning: {warning}", err=True)


Progress = Callable[[str, int, int], None]


@contextmanager
def progress_bars(quiet: bool) -> Iterator[Progress]:
    """Progress of long work on stderr, drawn only where stderr is a terminal.

    Yields:
        A function (stage, done, total) that the API calls; it also ends the work after a Ctrl-C that got lost.
    """
    if quiet or not sys.stderr.isatty():
        yield lambda stage, done, total: interrupt.check()
        return
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bars

    columns = (TextColumn("{task.description:<12}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Bars(*columns, console=stderr_console(), transient=True) as bars:
        stages: dict[str, Any] = {}

        def advance(stage: str, done: int, total: int) -> None:
            interrupt.check()
            if stage not in stages:
                stages[stage] = bars.add_task(stage, total=total)
            bars.update(stages[stage], completed=done, total=total)

        yield advance
