"""Times that can be trusted on a shared machine: old and new artifact in turns, judged by the ratio of each pair.

What slows the machine down slows both halves of a pair. The median ratio's confidence interval is the noise band; a
difference counts only when the whole band lies behind the limit, and again in every repetition.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from edgeq.report.results import Step, Timing

BURST_SECONDS = 0.01
MOST_IN_BURST = 2000
# Normal quantile of 99 %, both sides.
QUANTILE = 2.576
# How often a suspicious difference has to show up again.
CONFIRMATIONS = 2
PROFILE_REPEATS = 40


class Timed(Protocol):
    """What is timed: `edgeq.runtime.Model`."""

    def measure(self, *, repeats: int, threads: int) -> NDArray[Any]:
        """Nanoseconds of each run."""

    def profile(self, *, repeats: int, threads: int) -> Any:
        """`.steps`, each with `.step` and `.median_ns`."""


def paired(
    old: Timed, new: Timed, *, rounds: int, threads: int, tolerance: float, confirmations: int = CONFIRMATIONS
) -> Timing:
    """Time two artifacts in turns.

    Args:
        old, new: loaded artifacts of this machine.
        rounds: pairs of bursts. threads: of each run.
        tolerance: fraction; a band that lies outside 1 ± tolerance is measured again.
        confirmations: how often; the repetition nearest to 1 is what is reported.

    Returns:
        Medians, ratio and noise band.
    """
    timing = _once(old, new, rounds, threads)
    for _ in range(confirmations):
        if timing.low <= 1 + tolerance and timing.high >= 1 - tolerance:
            break
        again = _once(old, new, rounds, threads)
        timing = min(timing, again, key=lambda t: abs(math.log(t.ratio)))
    return timing


def _once(old: Timed, new: Timed, rounds: int, threads: int) -> Timing:
    sides = (old, new)
    bursts = [_burst(side, threads) for side in sides]
    times = np.empty((rounds, 2))
    for index in range(rounds):
        # Who goes first changes: the second of a pair finds caches and clock as the first one left them.
        for which in (0, 1) if index % 2 == 0 else (1, 0):
            runs = sides[which].measure(repeats=bursts[which], threads=threads)
            times[index, which] = np.percentile(runs, 25) * 1e-9
    ratios = np.sort(times[:, 1] / times[:, 0])
    low, high = band(ratios)
    before, after = np.median(times, axis=0)
    return Timing(
        seconds=float(after),
        baseline_seconds=float(before),
        ratio=float(np.median(ratios)),
        low=low,
        high=high,
        rounds=rounds,
    )


def band(ratios: NDArray[Any]) -> tuple[float, float]:
    """99 % confidence interval of the median, from the sorted ratios' order statistics: no distribution assumed."""
    count = len(ratios)
    reach = QUANTILE * math.sqrt(count) / 2
    lower = max(0, math.floor(count / 2 - reach))
    return float(ratios[lower]), float(ratios[count - 1 - lower])


def _burst(side: Timed, threads: int) -> int:
    """Runs that take about BURST_SECONDS."""
    one = float(np.median(side.measure(repeats=5, threads=threads))) * 1e-9
    return max(1, min(MOST_IN_BURST, int(BURST_SECONDS / max(one, 1e-7))))


def step_ratios(old: Timed, new: Timed, threads: int) -> list[float | None]:
    """For each step of the new artifact: its time over that of the same step in the old one, None if there is none."""
    halves: list[list[Any]] = [[], []]
    for _ in range(3):
        for which, side in enumerate((old, new)):
            halves[which].append(side.profile(repeats=PROFILE_REPEATS, threads=threads).steps)
    before, after = ([min(part[i].median_ns for part in half) for i in range(len(half[0]))] for half in halves)
    partner = dict(zip(keys([s.step for s in halves[0][0]]), before, strict=True))
    return [
        time / partner[key] if partner.get(key) else None
        for key, time in zip(keys([s.step for s in halves[1][0]]), after, strict=True)
    ]


def keys(steps: Sequence[Any]) -> list[tuple[str, str, int]]:
    """(name, op, how many of these came before) of steps: what pairs them with those of another artifact."""
    seen: Counter[tuple[str, str]] = Counter()
    result = []
    for step in steps:
        pair = (step.name, step.op if isinstance(step, Step) else step.kind)
        result.append((*pair, seen[pair]))
        seen[pair] += 1
    return result


Loader = Callable[[Path], Timed]
