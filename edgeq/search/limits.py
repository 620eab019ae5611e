"""What a search must keep to, and what it makes as small as it can."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from edgeq.errors import UsageError

#: What is summed over layers and can be made small; and accuracy, made as large as the limits allow.
RESOURCES = ("latency", "instructions", "weights", "bitops", "energy")
ACCURACY = "accuracy"

_TIMES = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9}
_SIZES = {"": 1, "b": 1, "kb": 1e3, "k": 1024, "kib": 1024, "mb": 1e6, "m": 1024**2, "mib": 1024**2}
_COUNTS = {"": 1, "k": 1e3, "m": 1e6, "g": 1e9}
_NUMBER = re.compile(r"\s*([0-9]*\.?[0-9]+)\s*([a-zA-Zµ]*)\s*")


@dataclass(frozen=True)
class Limits:
    """Hard limits; None: none.

    Attributes:
        latency: seconds of a run. instructions: of a run. weights: bytes of weights in the artifact.
        arena: bytes of activations and scratch.
        accuracy: of the metric, absolute. drop: how far it may fall below the float model: points of a fraction
            (0.5: half a percentage point), the metric's own unit otherwise.
    """

    latency: float | None = None
    instructions: float | None = None
    weights: float | None = None
    arena: float | None = None
    accuracy: float | None = None
    drop: float | None = None

    def of(self, objective: str) -> float | None:
        """Limit of something that is summed over layers."""
        return {"latency": self.latency, "instructions": self.instructions, "weights": self.weights}.get(objective)

    def amounts(self, names: Iterable[str]) -> dict[str, float | None]:
        """Limits of some of latency, instructions, weights and arena."""
        return {name: getattr(self, name) for name in names}

    def least_accuracy(self, reference: float, is_fraction: bool) -> float | None:
        """Lowest value of the metric that is allowed, where the float model has `reference`."""
        if self.accuracy is not None:
            return self.accuracy
        if self.drop is None:
            return None
        return reference - (self.drop / 100 if is_fraction else self.drop)

    @classmethod
    def parse(
        cls,
        *,
        latency: str | None = None,
        instructions: str | None = None,
        weights: str | None = None,
        arena: str | None = None,
        accuracy: str | None = None,
    ) -> Limits:
        """Limits as people write them: 12ms, 20M, 64KiB, 256k; accuracy 0.92, or -0.5 for half a point below float.

        Raises:
            UsageError: not a number with a known unit.
        """
        absolute, drop = None, None
        if accuracy is not None:
            try:
                value = float(accuracy)
            except ValueError as error:
                raise _no_number("--min-accuracy", accuracy, "0.92, or -0.5: below the float model") from error
            # "-0" means: no worse than float.
            absolute, drop = (None, -value) if accuracy.lstrip().startswith("-") else (value, None)
        return cls(
            _amount("--max-latency", latency, _TIMES, "12ms, 80us"),
            _amount("--max-instructions", instructions, _COUNTS, "20M, 500k"),
            _amount("--max-weights", weights, _SIZES, "64KiB, 1.5MB"),
            _amount("--max-arena", arena, _SIZES, "64KiB, 1.5MB"),
            absolute,
            drop,
        )


def _amount(option: str, text: str | None, units: Mapping[str, float], example: str) -> float | None:
    if text is None:
        return None
    found = _NUMBER.fullmatch(text)
    unit = found[2] if found else ""
    factor = units.get(unit, units.get(unit.lower()))
    if found is None or factor is None:
        raise _no_number(option, text, example)
    return float(found[1]) * factor


def _no_number(option: str, text: str, example: str) -> UsageError:
    return UsageError("not an amount", where=f"{option} {text}", hint=f"for instance {example}")
