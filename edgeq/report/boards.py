"""Boards of a suite: artifacts are checked, and timed, on the device itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from edgeq.board import Board, connect
from edgeq.compiler.target import load_variants
from edgeq.errors import RunError, UsageError
from edgeq.report.artifacts import compare_outputs, read_agreement
from edgeq.report.results import Entry
from edgeq.report.suite import Suite, target_path
from edgeq.report.timing import Loader

Progress = Callable[[str, int, int], None]


@dataclass
class Boards:
    """Which board runs which target.

    Attributes:
        named: target → board that the user gave for it: what doesn't run there is an error.
        found: target → board of the same architecture: what doesn't run there is a note.
    """

    named: dict[str, Board] = field(default_factory=dict)
    found: dict[str, Board] = field(default_factory=dict)

    def of(self, target: str) -> Board | None:
        """The target's board, if it has one."""
        return self.named.get(target) or self.found.get(target)


@contextmanager
def connected(ssh: Sequence[str], adb: Sequence[str], suite: Suite, folder: Path) -> Iterator[Boards]:
    """Connections to all boards, closed at the end.

    Args:
        ssh, adb: TARGET=DESTINATION, or DESTINATION for every target of that board's architecture ("": the only Android
            device). suite, folder: for the targets.

    Raises:
        UsageError: a target that the suite doesn't have, or that has two boards. RunError: a board can't be reached.
    """
    boards = Boards()
    with ExitStack() as stack:
        for way, text in [*(("ssh", text) for text in ssh), *(("adb", text) for text in adb)]:
            target, _, destination = text.rpartition("=")
            if target and target not in suite.targets:
                raise UsageError(
                    f"a board for {target!r}, which is not among the suite's targets",
                    where=f"--{way} {text}",
                    hint=f"there are {', '.join(suite.targets)}",
                )
            if boards.of(target):
                raise UsageError(f"two boards for {target!r}", where=f"--{way} {text}")
            board = stack.enter_context(connect(**{way: destination}))
            if target:
                boards.named[target] = board
                continue
            fitting = [t for t in suite.targets if load_variants(target_path(t, folder))[0].arch == board.arch]
            if not fitting:
                raise UsageError(
                    "no target of the suite is for the board's architecture",
                    where=board.name,
                    why=f"it is {board.arch}, the suite has {', '.join(suite.targets)}",
                )
            boards.found.update({t: board for t in fitting if boards.of(t) is None})
        yield boards


def run_on_boards(
    boards: Boards, work: Sequence[tuple[Entry, Path, Path]], progress: Progress | None
) -> dict[int, Loader]:
    """Golden vectors and agreement samples on the boards, one artifact after the other.

    Args:
        boards: who runs what. work: entry, its artifact, the graph's folder with `agreement.npz`.

    Returns:
        place in `work` → what opens artifacts on its board, for those that ran there; their entries say so.

    Raises:
        RunError: a board that the user gave for this target can't load its artifact.
    """
    mine = [index for index, (entry, _, _) in enumerate(work) if boards.of(entry.target)]
    ran: dict[int, Loader] = {}
    for done, index in enumerate(mine, start=1):
        entry, artifact, graph = work[index]
        board = boards.of(entry.target)
        if board is not None and _run(entry, artifact, graph, board, entry.target in boards.named):
            ran[index] = board.load
        if progress:
            progress("boards", done, len(mine))
    return ran


def _run(entry: Entry, path: Path, graph: Path, board: Board, is_named: bool) -> bool:
    try:
        model = board.load(path)
    except RunError as error:
        if is_named:
            raise
        entry.notes = [*entry.notes, f"not run on {board.name}: {error.why or error.what}"]
        return False
    given, expected = read_agreement(graph / "agreement.npz")
    entry.ran = "board"
    entry.notes = [*entry.notes, f"ran on {board.name}"]
    try:
        entry.golden = model.verify()
        found = model.run_batch(given, dequantize=False)
    except RunError as error:
        entry.differing, entry.disagreement = max(entry.differing, 1), error.render().replace("\n", " ")
        return True
    differing, disagreement = compare_outputs(dict(found), expected)
    if differing:
        entry.differing, entry.disagreement = differing, f"on {board.name}: {disagreement}"
    return True
