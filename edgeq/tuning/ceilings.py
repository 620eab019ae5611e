"""What this machine can do at most: multiplications a second of each instruction mix, bytes a second of a copy.

Measured once and kept in the cache, by processor and by the generators' sources.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np

from edgeq.cache import cached_file, content_key
from edgeq.compiler.build import KernelBuilder, object_path
from edgeq.compiler.kernels.base import KernelSpec
from edgeq.compiler.kernels.movement.copy import CopySpec
from edgeq.compiler.kernels.peak.depthwise_peak import DepthwiseMix
from edgeq.compiler.kernels.peak.peak import Mix
from edgeq.compiler.target import Target, host_features
from edgeq.tuning.calls import KernelCalls, take_turns

AnyMix: TypeAlias = "Mix | DepthwiseMix"

_ROUNDS = 15
COPIED_BYTES = 2**20  # read, and as many written: like activations in the second- and third-level cache


@dataclass(frozen=True)
class Ceilings:
    """Multiply-accumulates a second of each mix that was asked for; bytes read and written a second by a copy."""

    macs: dict[AnyMix, float]
    bytes: float


def measure(target: Target, mixes: Iterable[AnyMix]) -> Ceilings:
    """The ceilings of this machine: the best of several rounds, one thread.

    Raises:
        UsageError: the target's code doesn't run here.
    """
    wanted = sorted(set(mixes), key=repr)
    copy = CopySpec.of((COPIED_BYTES,), (1,), (1,), "u8")
    specs: list[KernelSpec] = [*(mix.kernel(target) for mix in wanted), copy]
    key = content_key([processor(), *(object_path(spec, target).name for spec in specs)])

    def build(path: Path) -> None:
        with KernelBuilder() as builder:
            calls = KernelCalls(specs, target, builder)
        runs = [calls.call(mix.kernel(target), mix.constants()) for mix in wanted]
        runs.append(calls.call(copy, {}, [("x", "u8", COPIED_BYTES), ("y", "u8", COPIED_BYTES)]))
        best = take_turns(runs, _ROUNDS).min(axis=0)
        path.write_text(json.dumps([float(seconds) for seconds in best]), encoding="utf-8")

    best = np.array(json.loads(cached_file("ceilings", "seconds.json", key, build).read_text(encoding="utf-8")))
    macs = {mix: mix.macs(target) / seconds for mix, seconds in zip(wanted, best[:-1], strict=True)}
    return Ceilings(macs, 2 * COPIED_BYTES / float(best[-1]))


def processor() -> str:
    """This machine's processor: name and features."""
    name = ""
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.partition(":")[0].strip() in ("model name", "CPU part"):
                name = line
                break
    except OSError:
        name = "unknown"
    return f"{name} {sorted(host_features())}"
