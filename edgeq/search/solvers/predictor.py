"""Accuracy of a policy guessed from those already judged: ridge regression, trained anew in milliseconds.

The front is refined on guesses and judged for real, as in DyNAS-T (Sridhar et al., 2022) and SimQ-NAS (2023).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from edgeq.search.solvers.milp import Table, total
from edgeq.search.space import WIDEST, Assignment, Choice, Form, Place, Space

Float = NDArray[np.float64]
#: Strengths of the penalty to choose from, by the leave-one-out error.
PENALTIES = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)


class AccuracyPredictor:
    """Linear in what each place gives up (bits, or how far a form is from the finest), in the summed sensitivity and in
    its root.

    Args:
        space: places. harm: sensitivity table.

    Attributes:
        error: root mean squared leave-one-out error on what it was trained on; None before that.
    """

    def __init__(self, space: Space, harm: Table) -> None:
        self._space, self._harm = space, harm
        self._weights: Float = np.zeros(0)
        self._mean, self._spread, self._level = np.zeros(0), np.ones(0), 0.0
        self.error: float | None = None

    def features(self, forms: Assignment) -> Float:
        """[2 + free places]."""
        harm = total(self._harm, forms)
        lost = [_lost(place, forms[place.name]) for place in self._space.free]
        return np.array([harm, harm**0.5, *lost])

    def train(self, forms: Sequence[Assignment], accuracies: Sequence[float]) -> None:
        """Fit to judged policies; the penalty is the one with the least leave-one-out error."""
        x = np.array([self.features(each) for each in forms])
        y = np.array(accuracies, np.float64)
        self._mean, self._level = x.mean(axis=0), float(y.mean())
        self._spread = np.maximum(x.std(axis=0), 1e-12)
        x = (x - self._mean) / self._spread
        best: tuple[float, Float] | None = None
        for penalty in PENALTIES:
            solved = np.linalg.solve(x.T @ x + penalty * len(x) * np.eye(x.shape[1]), x.T)
            # Leave-one-out residuals of a linear smoother: r / (1 − h); the mean is one more fitted value.
            leverage = np.minimum(np.einsum("ij,ji->i", x, solved) + 1 / len(x), 1 - 1e-6)
            residual = (y - self._level - x @ (solved @ (y - self._level))) / (1 - leverage)
            error = float(np.sqrt(np.mean(residual**2)))
            if best is None or error < best[0]:
                best = (error, solved @ (y - self._level))
        assert best is not None
        self.error, self._weights = best

    def predict(self, forms: Sequence[Assignment]) -> Float:
        """Accuracies."""
        x = (np.array([self.features(each) for each in forms]) - self._mean) / self._spread
        return np.asarray(self._level + x @ self._weights)


def _lost(place: Place, choice: Choice) -> float:
    """What a form gives up: 0 for the finest, below 1."""
    if isinstance(choice, Form):
        return (WIDEST - choice.bits) / WIDEST
    return place.forms.index(choice) / len(place.forms)
