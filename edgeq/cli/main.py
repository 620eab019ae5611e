"""Entry point of `edgeq`: finds the command, turns errors into one message and an exit code.

Exit codes: 0 done; 1 the answer is no (a check failed, two models differ) or a defect of edgeq itself; 2 bad input;
130 interrupted. Results go to stdout, everything else to stderr.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
from collections.abc import Sequence

import click

from edgeq import __version__
from edgeq.cli import interrupt
from edgeq.errors import EdgeqError

COMMANDS = (
    "compile",
    "quantize",
    "search",
    "run",
    "eval",
    "bench",
    "profile",
    "tune",
    "inspect",
    "verify",
    "compare",
    "debug",
    "regress",
    "report",
    "targets",
    "doctor",
)
BAD_INPUT = 2
INTERRUPTED = 130


class CommandFiles(click.Group):
    """A group whose commands are the modules of this package, imported when they are asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        module = importlib.import_module(f"edgeq.cli.{name}_command")
        command: click.Command = module.command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            import difflib

            near = difflib.get_close_matches(args[0], COMMANDS, n=1)
            if near:
                raise click.UsageError(f"{error.message} Did you mean '{near[0]}'?", ctx) from error
            raise


@click.command(cls=CommandFiles, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, message="edgeq %(version)s")
def cli() -> None:
    """From a trained model to an integer-only artifact that runs with the same bits everywhere.

    \b
    edgeq compile model.onnx --target arm --calib calib.npz -o model.edgeq
    edgeq run model.edgeq --input x.npz
    """


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line and leave the process with its exit code."""
    args = list(sys.argv[1:] if argv is None else argv)
    interrupt.install()
    sys.exit(invoke(args))


def invoke(args: list[str]) -> int:
    """Run one command.

    Args:
        args: the words after `edgeq`.

    Returns:
        The exit code; messages are already printed.
    """
    try:
        result = cli.main(args=args, prog_name="edgeq", standalone_mode=False)
    except click.exceptions.Exit as error:
        return error.exit_code
    except BrokenPipeError:
        # The reader of a pipe left (`edgeq inspect … | head`): nothing to say, and nothing more to flush.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (KeyboardInterrupt, click.exceptions.Abort):
        click.echo("interrupted", err=True)
        return INTERRUPTED
    except Exception as error:
        if "--debug" in args and not isinstance(error, click.ClickException):
            raise
        return explain(error, as_json="--json" in args)
    return result if isinstance(result, int) else 0


def explain(error: Exception, *, as_json: bool) -> int:
    """Print why a command stopped; returns the exit code."""
    if isinstance(error, click.ClickException):
        if as_json:
            click.echo(json.dumps({"error": "UsageError", "what": error.format_message()}), err=True)
        else:
            error.show()
        return BAD_INPUT
    if isinstance(error, EdgeqError | OSError):
        report(error if isinstance(error, EdgeqError) else from_os_error(error), as_json=as_json)
        return BAD_INPUT
    hint = "this is a defect of edgeq; run again with --debug for the traceback"
    report(EdgeqError("internal error", why=f"{type(error).__name__}: {error}", hint=hint), as_json=as_json)
    return 1


def report(error: EdgeqError, *, as_json: bool) -> None:
    """Print an error to stderr, for people or as one line of JSON."""
    if as_json:
        click.echo(json.dumps(error.as_dict(), ensure_ascii=False), err=True)
    else:
        click.echo(click.style("error: ", fg="red", bold=True) + error.render(), err=True)


def from_os_error(error: OSError) -> EdgeqError:
    """What the operating system refused, in the form of our own errors."""
    import errno

    hints = {
        errno.ENOSPC: "free some space, or choose another place with -o; nothing half-written was left behind",
        errno.EDQUOT: "free some space, or choose another place with -o; nothing half-written was left behind",
        errno.ENOENT: "check the path",
        errno.EACCES: "check the permissions of the file and its folder",
        errno.EROFS: "choose a place that can be written to with -o",
        errno.EISDIR: "give the path of a file",
    }
    where = str(error.filename) if error.filename is not None else None
    why = error.strerror or str(error)
    return EdgeqError("the operating system refused", where=where, why=why, hint=hints.get(error.errno or 0))


if __name__ == "__main__":
    main()
