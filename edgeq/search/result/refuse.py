"""Limits that can't be kept: which, and what comes nearest; and forms that were not worth a choice."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from edgeq.errors import UsageError
from edgeq.search.searcher import Candidate, Searcher
from edgeq.search.solvers.milp import Table
from edgeq.search.space import Space


def check_limits(searcher: Searcher) -> None:
    """Refuse what no assignment can keep to, before anything is judged."""
    limits, costs = searcher.limits, searcher.costs
    if limits.arena is not None and costs.arena > limits.arena:
        raise UsageError(
            "no policy keeps to the limit",
            where="--max-arena",
            why=f"the activations take {costs.arena} bytes at every width of the weights",
            hint=f"allow {costs.arena} bytes, or give the model smaller inputs",
        )
    for resource in ("latency", "instructions", "weights"):
        most = limits.of(resource)
        if most is None:
            continue
        if resource not in costs.tables:
            raise UsageError(
                f"{resource} was not measured for this target",
                where=f"--max-{resource}",
                why="; ".join(costs.notes) or f"{searcher.problem.name} doesn't run on this machine",
                hint="limit the instructions or the weights instead",
            )
        table: Table = costs.tables[resource]
        least = costs.fixed[resource] + sum(min(row.values()) for row in table.values())
        if least > most:
            raise UsageError(
                "no policy keeps to the limit",
                where=f"--max-{resource}",
                why=f"the least possible is {least:.6g}, with every layer at its cheapest width",
                hint=f"allow at least {least:.6g}",
            )


def impossible(searcher: Searcher, tried: Sequence[Candidate]) -> UsageError:
    """The error for a search in which nothing that was tried keeps to all limits."""
    least = searcher.least
    nearest = max(tried, key=lambda c: c.accuracy)
    amount = nearest.predicted[searcher.objective]
    limits = searcher.limits.amounts(("latency", "instructions", "weights", "arena"))
    over = [name for name, most in limits.items() if most is not None and nearest.predicted.get(name, 0.0) > most]
    where = f"--max-{over[0] if over else 'latency'}"
    if least is not None and nearest.accuracy < least:
        where = "--min-accuracy"
    reached = f"of {len(tried)} that were tried the most accurate reaches {nearest.accuracy:.4f}"
    return UsageError(
        "no policy keeps to all limits",
        where=where,
        why=f"{reached} with {searcher.objective} {amount:.6g}" + ("" if least is None else f"; asked for {least:.4f}"),
        hint=f"allow {nearest.accuracy:.4f} and {searcher.objective} {amount:.6g}, or raise the other limits",
    )


def left_out(wanted: Space, space: Space, target: str) -> list[str]:
    """For people: the forms that were looked at and win nothing on a target."""
    kept = {(place.name, form) for place in space.places for form in place.forms}
    gone = Counter(
        str(form)
        for place in wanted.others
        for form in place.forms
        if form != place.base and (place.name, form) not in kept
    )
    if not gone:
        return []
    listed = ", ".join(f"{form} ({count} places)" for form, count in sorted(gone.items()))
    return [f"left out, because nothing is won by it on {target}: {listed}"]
