"""A board with a folder of ours on it: `edgeq-run` goes there once, artifacts run there."""

from __future__ import annotations

import posixpath
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType

from edgeq.artifact.format import ARCHES
from edgeq.artifact.read import Artifact, read
from edgeq.board.link import CONNECT_SECONDS, Link
from edgeq.errors import RunError, UsageError
from edgeq.runtime.build import runner
from edgeq.runtime.runner import RunnerModel

# What `uname -m` says, where it isn't our own name.
_MACHINES = {"amd64": "x86_64", "arm64": "aarch64", "armv7l": "arm", "armv8l": "arm"}
_RUNNER = "edgeq-run"


class Board:
    """A connection to a board; use it as a context manager, which takes its files away again.

    Attributes:
        arch: a key of `ARCHES`.

    Raises:
        RunError: the board can't be reached or is of an architecture without a runtime. ToolError: no ssh or adb here.
    """

    def __init__(self, link: Link) -> None:
        self.link = link
        machine = link.run(["uname", "-m"], timeout=CONNECT_SECONDS).strip()
        self.arch = _MACHINES.get(machine, machine)
        if self.arch not in ARCHES:
            raise RunError(
                f"the board is a {machine!r}",
                where=link.name,
                why="edgeq's runtime knows " + ", ".join(ARCHES),
            )
        made = link.run(["mktemp", "-d", posixpath.join(link.scratch, "edgeq-XXXXXX")]).strip()
        # It is removed at the end: make sure that it is what was asked for.
        if not made.startswith(posixpath.join(link.scratch, "edgeq-")) or len(made.splitlines()) != 1:
            raise RunError("the board made no folder", where=link.name, why=made[:200] or "mktemp printed nothing")
        self.folder = made
        self._sent = 0

    @property
    def name(self) -> str:
        """Of the link."""
        return self.link.name

    def __enter__(self) -> Board:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.link.run(["rm", "-rf", self.folder], timeout=CONNECT_SECONDS)
        except RunError:
            # What went wrong first is what the user has to know.
            if error is None:
                raise
        finally:
            self.link.close()

    def load(self, path: str | Path) -> BoardModel:
        """Carry an artifact to the board and have the loader there check it.

        Raises:
            ArtifactError: not an artifact. RunError: not for this board's processor.
        """
        artifact = read(path)
        if artifact.target.arch != self.arch:
            raise RunError(
                f"the artifact is for {artifact.target.arch}, the board is {self.arch}",
                where=f"{path}, {self.name}",
                hint="compile it for the board: `edgeq targets` lists what there is",
            )
        if self._sent == 0:
            self._send(runner(self.arch).read_bytes(), _RUNNER)
            self.link.run(["chmod", "700", _RUNNER], folder=self.folder)
        self._sent += 1
        name = f"{self._sent}.edgeq"
        self._send(Path(path).read_bytes(), name)
        return BoardModel(artifact, self, name)

    def _send(self, content: bytes, name: str) -> None:
        self.link.put(content, posixpath.join(self.folder, name))


class BoardModel(RunnerModel):
    """An artifact on a board. Its times are the board's own."""

    def __init__(self, artifact: Artifact, board: Board, name: str) -> None:
        self.board = board
        self._name = name
        super().__init__(artifact)

    def call(
        self, arguments: Sequence[str], files: Mapping[str, bytes] | None = None, wanted: Sequence[str] = ()
    ) -> tuple[str, dict[str, bytes]]:
        link, folder = self.board.link, self.board.folder
        for name, content in (files or {}).items():
            link.put(content, posixpath.join(folder, name))
        printed = link.run([f"./{_RUNNER}", self._name, *arguments], folder=folder)
        return printed, {name: link.get(posixpath.join(folder, name)) for name in wanted}


def connect(*, ssh: str | None = None, adb: str | None = None) -> Board:
    """Connect to a board; use it in a `with` statement.

    Args:
        ssh: user@host, host, or ssh://user@host:port. adb: a serial number, "" for the only device.

    Raises:
        UsageError: neither or both are given, or not in that form. RunError: it can't be reached.
        ToolError: no ssh or adb here.
    """
    from edgeq.board.adb import AdbLink
    from edgeq.board.ssh import SshLink

    if (ssh is None) == (adb is None):
        raise UsageError("a board is reached by ssh or by adb", hint="give one of the two")
    return Board(SshLink(ssh) if ssh is not None else AdbLink(adb or ""))
