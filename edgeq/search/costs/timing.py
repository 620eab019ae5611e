"""Seconds of every step of compiled networks on this machine: the runtime's step timer, all networks in turns."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edgeq.search.costs.networks import Network
from edgeq.search.store import Store

if TYPE_CHECKING:
    from edgeq.compiler.target import Target

Progress = Callable[[str, int, int], None]
ROUNDS = 15
BURST = 20


def times(
    networks: Sequence[Network], store: Store, target: Target, progress: Progress | None = None
) -> list[list[float]]:
    """Seconds of each step of each network, and last what a run takes besides: medians over rounds in turns."""
    keys = [_key(target, network) for network in networks]
    known = [store.get("latency", key) for key in keys]
    if all(value is not None for value in known):
        return [[float(v) for v in value] for value in known if value is not None]
    from edgeq import runtime

    models = [runtime.load(network.path, emulate=False) for network in networks if network.path is not None]
    rounds: list[list[list[float]]] = [[] for _ in networks]
    for done in range(1, ROUNDS + 1):
        for index, model in enumerate(models):
            found = model.profile(repeats=BURST)
            steps = [step.min_ns * 1e-9 for step in found.steps]
            rounds[index].append([*steps, max(0.0, found.total_min_ns * 1e-9 - sum(steps))])
        if progress:
            progress("timing", done, ROUNDS)
    amounts = _same_kernels(networks, [np.median(np.array(part), axis=0).tolist() for part in rounds])
    for key, value in zip(keys, amounts, strict=True):
        store.put("latency", key, value)
    return amounts


def machine() -> str:
    """Name of this machine's processor: times of another one mean nothing here."""
    import platform

    info = Path("/proc/cpuinfo")
    if not info.is_file():
        return platform.processor()
    lines = info.read_text(encoding="utf-8", errors="replace").splitlines()
    model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    return platform.processor() + model


def _same_kernels(networks: Sequence[Network], rows: list[list[float]]) -> list[list[float]]:
    """Forms with the same kernel at the same place take the same time: their mean, so that noise chooses nothing."""
    places: dict[tuple[str, str, int], list[tuple[int, int]]] = {}
    for index, network in enumerate(networks):
        seen: Counter[tuple[str, str]] = Counter()
        for number, step in enumerate(network.steps):
            pair = (step.name, step.kernel)
            places.setdefault((*pair, seen[pair]), []).append((index, number))
            seen[pair] += 1
    for group in places.values():
        mean = float(np.mean([rows[index][number] for index, number in group]))
        for index, number in group:
            rows[index][number] = mean
    return rows


def _key(target: Target, network: Network) -> str:
    """Names a measurement of times: kernels say shapes and code, the machine says the rest."""
    from edgeq.cache import content_key

    names = [part for step in network.steps for part in (step.kernel, step.name)]
    return content_key(["latency", "3", target.name, machine(), *names])
