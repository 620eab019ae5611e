"""What kernels cost that were never measured: guessed from those that were, with the guess's own error.

Every measured step is remembered by its kernel and target. A kernel that was seen costs what it cost; others are
guessed by ridge regression in logarithms, one for each family of kernels, on multiply-accumulates, bytes touched and
the compiler's own estimate. The error is the leave-one-out one on what is known. Where a target has not been measured
at all, its table of costs (`costs.toml`) speaks for layers with weights, with an unknown error.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edgeq.search.costs.networks import Network, Step
from edgeq.search.store import Store

if TYPE_CHECKING:
    from edgeq.compiler.target import Target

#: Kernels of a family from which on it has a regression of its own.
ENOUGH = 6
_PENALTY = 1e-2
#: Nothing costs less.
_LEAST = 1e-12


def remember(store: Store, kind: str, networks: Sequence[Network], rows: Sequence[Sequence[float]]) -> None:
    """Keep what kernels cost, the mean over the places they are at. kind: of `fact_kind`. rows: [network][step]."""
    seen: dict[str, tuple[Step, list[float]]] = {}
    for network, row in zip(networks, rows, strict=True):
        for step, amount in zip(network.steps, row, strict=False):
            seen.setdefault(step.kernel, (step, []))[1].append(float(amount))
    facts = {
        name: {"family": step.family, "x": _features(step).tolist(), "amount": float(np.mean(amounts))}
        for name, (step, amounts) in seen.items()
    }
    store.put_all(kind, facts)


def fact_kind(resource: str, target: str, machine: str) -> str:
    """Name of what is known about a target; times are of one kind of processor."""
    return f"step {resource} {target} {machine}".strip()


@dataclass(frozen=True)
class Guess:
    """Amounts of steps.

    Attributes:
        rows: [network][step]. guessed: how many of all different kernels were not measured, and how many there are.
        error: median relative error of a guess, leave-one-out; None: unknown (a table) or nothing was guessed.
    """

    rows: list[list[float]]
    guessed: int
    kernels: int
    error: float | None

    def note(self, resource: str) -> str:
        """For people."""
        if not self.guessed:
            return f"{resource}: of kernels that were measured before"
        source = "the target's table of costs" if self.error is None else f"error {self.error:.0%} (median)"
        return f"{resource}: {self.guessed} of {self.kernels} kernels guessed, {source}"


def guess(store: Store, kind: str, target: Target, networks: Sequence[Network]) -> Guess | None:
    """Amounts of every step of networks that were only planned; None where nothing is known about the target."""
    known = store.all(kind)
    steps = {step.kernel: step for network in networks for step in network.steps}
    unknown = [name for name in steps if name not in known]
    amounts = {name: float(known[name]["amount"]) for name in steps if name in known}
    error: float | None = None
    if unknown and len(known) >= ENOUGH:
        model = Regression(known.values())
        error = model.error
        amounts |= {name: model(steps[name]) for name in unknown}
    elif unknown:
        table = _from_table(target, [steps[name] for name in unknown])
        if table is None:
            return None
        amounts |= table
    rows = [[amounts[step.kernel] for step in network.steps] for network in networks]
    return Guess(rows, len(unknown), len(steps), error)


def _features(step: Step) -> NDArray[np.float64]:
    """Logarithms of multiply-accumulates, bytes, the compiler's estimate and bits of weights; a one."""
    estimate = step.estimate if step.estimate else 1.0
    return np.log(np.array([step.macs + 1.0, step.touched + 1.0, estimate, step.bits, np.e], np.float64))


class Regression:
    """Ridge regression of log amounts, by family of kernels; those with few examples share one.

    Args:
        facts: of `remember`.

    Attributes:
        error: median of |guess / truth − 1|, leave-one-out.
    """

    def __init__(self, facts: Iterable[Mapping[str, Any]]) -> None:
        groups: dict[str, list[Mapping[str, Any]]] = {}
        everything = list(facts)
        for fact in everything:
            groups.setdefault(str(fact["family"]), []).append(fact)
        self._shared, errors = _fit(everything)
        self._own: dict[str, NDArray[np.float64]] = {}
        found = []
        for family, rows in groups.items():
            if len(rows) >= ENOUGH:
                self._own[family], errors = _fit(rows)
                found += errors
        self.error = float(np.median(found or errors))

    def __call__(self, step: Step) -> float:
        """Amount of a step."""
        weights = self._own.get(step.family, self._shared)
        return float(np.exp(_features(step) @ weights))


def _fit(rows: Sequence[Mapping[str, Any]]) -> tuple[NDArray[np.float64], list[float]]:
    """Weights, and leave-one-out errors relative to the truth."""
    x = np.array([row["x"] for row in rows], np.float64)
    y = np.log(np.maximum([row["amount"] for row in rows], _LEAST))
    inverse = np.linalg.inv(x.T @ x + _PENALTY * np.eye(x.shape[1]))
    weights = inverse @ x.T @ y
    leverage = np.minimum(np.einsum("ij,jk,ik->i", x, inverse, x), 1 - 1e-6)
    off = (y - x @ weights) / (1 - leverage)
    return weights, np.abs(np.expm1(np.clip(-off, -5, 5))).tolist()


def _from_table(target: Target, steps: Sequence[Step]) -> dict[str, float] | None:
    """Amounts after the target's own table of costs; steps that multiply nothing cost a tenth a byte touched."""
    from edgeq.compiler.costs import Kind

    costs = target.costs
    if costs is None:
        return None
    unit = 1e-12 if costs.unit == "ps" else 1.0
    found = {}
    for step in steps:
        kind: Kind = "depthwise" if "depthwise" in step.family else "conv"
        each = costs.of(kind, step.bits) or costs.of("conv", step.bits)
        if each is None:
            return None
        found[step.kernel] = unit * each * (step.macs if step.macs else 0.1 * step.touched)
    return found
