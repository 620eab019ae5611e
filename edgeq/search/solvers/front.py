"""Pareto fronts of (cost, accuracy): little cost and much accuracy are good."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

T = TypeVar("T")


def front_of(items: Sequence[T], cost: Callable[[T], float], accuracy: Callable[[T], float]) -> list[T]:
    """Those that none beats in both cost and accuracy, cheapest first."""
    kept: list[T] = []
    for item in sorted(items, key=lambda each: (cost(each), -accuracy(each))):
        if not kept or accuracy(item) > accuracy(kept[-1]):
            kept.append(item)
    return kept


def hypervolume(points: Sequence[tuple[float, float]], worst: tuple[float, float]) -> float:
    """Area that (cost, accuracy) points dominate, up to a worst point (most cost, least accuracy)."""
    inside = [p for p in points if p[0] < worst[0] and p[1] > worst[1]]
    best = front_of(inside, lambda p: p[0], lambda p: p[1])
    area, floor = 0.0, worst[1]
    for cost, accuracy in best:
        area += (worst[0] - cost) * (accuracy - floor)
        floor = accuracy
    return area
