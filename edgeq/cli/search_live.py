"""What a search shows while it runs: bars of its stages and the front so far, on a terminal's stderr."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from edgeq.cli import common, interrupt, units

if TYPE_CHECKING:
    from edgeq.search.searcher import Candidate

Watch = Callable[[Sequence["Candidate"], str], None]
#: Lines of the front that are shown.
LINES = 8


@contextmanager
def live(quiet: bool) -> Iterator[tuple[common.Progress, Watch]]:
    """Progress of a search, drawn only where stderr is a terminal.

    Yields:
        (stage, done, total) → None, and (front, objective) → None.
    """
    if quiet or not sys.stderr.isatty():
        yield lambda stage, done, total: interrupt.check(), lambda front, objective: None
        return
    from rich.console import Group
    from rich.live import Live
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    bars = Progress(
        TextColumn("{task.description:<12}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), auto_refresh=False
    )
    stages: dict[str, Any] = {}
    with Live(bars, console=common.stderr_console(), transient=True, refresh_per_second=8) as screen:

        def advance(stage: str, done: int, total: int) -> None:
            interrupt.check()
            if stage not in stages:
                stages[stage] = bars.add_task(stage, total=total)
            bars.update(stages[stage], completed=done, total=total)

        def watch(front: Sequence[Candidate], objective: str) -> None:
            screen.update(Group(bars, front_table(front, objective)))

        yield advance, watch


def front_table(front: Sequence[Candidate], objective: str) -> Any:
    """The front so far, cheapest first: its ends and what is evenly between them."""
    from edgeq.search.result.write import amount
    from edgeq.search.space import Form

    listing = common.table("front so far", objective, "accuracy", right=(objective, "accuracy"))
    last = len(front) - 1
    places = range(len(front)) if last < LINES else sorted({round(i * last / (LINES - 1)) for i in range(LINES)})
    for place in places:
        each = front[place]
        accuracy = units.percent(each.accuracy) if 0 <= each.accuracy <= 1 else f"{each.accuracy:.5g}"
        widths = [form.bits for form in each.forms.values() if isinstance(form, Form)]
        bits = sum(widths) / max(1, len(widths))
        listing.add_row(f"{bits:.1f} bits a layer", amount(objective, each.predicted[objective]), accuracy)
    return listing
