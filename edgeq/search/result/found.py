"""Result of a search."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from edgeq.search.costs.cost import Costs
from edgeq.search.result.final import Measured
from edgeq.search.searcher import Candidate
from edgeq.search.space import Choice, Space


@dataclass
class Found:
    """Result of a search.

    Attributes:
        best: what keeps to every limit and costs least. front: all judged assignments that no other one beats, cheapest
            first. uniform: every layer at 8 bits. space, costs, sensitivity: what it was decided on.
        objective: what was made small. reference: the float model's accuracy. least: lowest accuracy allowed.
        judged: how many assignments were judged, and how many of them in this run.
        measured: of the final artifacts for the target, best beside uniform. seen: all that was judged.
    """

    best: Candidate
    front: list[Candidate]
    uniform: Candidate
    space: Space
    costs: Costs
    sensitivity: dict[str, dict[Choice, float]]
    objective: str
    reference: float
    least: float | None
    judged: tuple[int, int]
    measured: Measured
    seen: list[Candidate]


def as_dict(found: Found) -> dict[str, Any]:
    """For `--json`."""

    def one(candidate: Candidate) -> dict[str, Any]:
        return {
            "forms": {name: str(form) for name, form in candidate.forms.items()},
            "harm": candidate.harm,
            "accuracy": candidate.accuracy,
            "predicted": candidate.predicted,
        }

    return {
        "objective": found.objective,
        "reference_accuracy": found.reference,
        "least_accuracy": found.least,
        "best": one(found.best),
        "uniform": one(found.uniform),
        "front": [one(candidate) for candidate in found.front],
        "judged": found.judged[0],
        "judged_now": found.judged[1],
        "measured": asdict(found.measured),
        "costs": {"measured": found.costs.measured, "notes": found.costs.notes, "arena": found.costs.arena},
    }
