"""A way to a board: run a command there, carry files there and back."""

from __future__ import annotations

import shlex
import shutil
import subprocess
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path

from edgeq.errors import RunError, ToolError

CONNECT_SECONDS = 30.0
RUN_SECONDS = 3600.0


class Link(ABC):
    """One board. Commands are words; the link quotes them for the shell there.

    Attributes:
        name: for messages and reports, such as "ssh:pi@raspberry".
        scratch: a folder on the board below which folders of our own may be made.
        hint: what to try where the board can't be reached.
    """

    name: str
    scratch: str
    hint: str

    @abstractmethod
    def shell(self, script: str) -> list[str]:
        """The local command that runs a line of POSIX shell on the board."""

    def run(self, words: Sequence[str], *, folder: str | None = None, timeout: float = RUN_SECONDS) -> str:
        """Run a command on the board.

        Args:
            words: program and arguments. folder: where. timeout: seconds.

        Returns:
            what it printed on stdout.

        Raises:
            RunError: it ended with another code than 0, or took too long. ToolError: no ssh or adb here.
        """
        line = shlex.join(words)
        script = line if folder is None else f"cd {shlex.quote(folder)} && {line}"
        return self._local(self.shell(script), timeout=timeout).decode("utf-8", "replace")

    def put(self, content: bytes, path: str) -> None:
        """Write a file on the board; through the shell, since small systems have neither scp nor sftp."""
        self._local(self.shell(f"cat > {shlex.quote(path)}"), given=content)

    def get(self, path: str) -> bytes:
        """Read a file of the board."""
        return self._local(self.shell(f"cat {shlex.quote(path)}"))

    def close(self) -> None:  # noqa: B027 - most links hold nothing open
        """End what the link holds open here."""

    def _local(self, command: list[str], *, given: bytes = b"", timeout: float = RUN_SECONDS) -> bytes:
        try:
            done = subprocess.run(command, input=given, capture_output=True, timeout=timeout, check=False)
        except subprocess.TimeoutExpired as error:
            raise RunError(f"no answer within {timeout:.0f} s", where=self.name, hint=self.hint) from error
        except OSError as error:
            raise ToolError(f"{command[0]} can't be started", where=self.name, why=error.strerror) from error
        if done.returncode != 0:
            words = done.stderr.decode("utf-8", "replace").strip() or done.stdout.decode("utf-8", "replace").strip()
            raise RunError(
                "a command on the board failed",
                where=self.name,
                why=words.removeprefix("edgeq-run: ")[-1000:] or f"it ended with code {done.returncode}",
                hint=self.hint,
            )
        return done.stdout


def require_program(name: str, package: str) -> str:
    """Path of a local program.

    Raises:
        ToolError: it isn't installed.
    """
    found = shutil.which(name)
    if found is None:
        raise ToolError(f"{name} was not found", why="it is the way to the board", hint=f"apt-get install {package}")
    return str(Path(found))
