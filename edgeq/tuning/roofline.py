"""Each step of a profile against what the machine allows: its instruction mix's ceiling and the bytes it moves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from edgeq.compiler.kernels.peak.depthwise_peak import DepthwiseMix
from edgeq.compiler.kernels.peak.peak import Mix
from edgeq.compiler.target import load_target
from edgeq.errors import UsageError
from edgeq.runtime.model import Profile
from edgeq.tuning.ceilings import AnyMix, Ceilings, measure


@dataclass(frozen=True)
class Point:
    """One step.

    Attributes:
        name, op, kernel: of the step.
        seconds, share: of one run, median; part of all steps.
        macs: of the layer. multiplications: that its kernel performs (fewer with Winograd).
        bytes: read and written once each: activations and weights.
        ceiling: multiplications a second of its mix, one thread; None: a step without a listed mix.
        bound: seconds that multiplications or bytes take at least, whichever takes longer.
        limit: "multiplications", "bytes" or "" (no bound is known).
    """

    name: str
    op: str
    kernel: str
    seconds: float
    share: float
    macs: int
    multiplications: int
    bytes: int
    ceiling: float | None
    bound: float
    limit: str

    @property
    def efficiency(self) -> float:
        """bound / seconds: 1 is as fast as this machine allows for this kernel."""
        return self.bound / self.seconds if self.seconds else 0.0

    @property
    def layer_ceiling(self) -> float | None:
        """The ceiling in multiply-accumulates of the layer a second: above the mix's where Winograd saves some."""
        return self.ceiling * (self.macs / self.multiplications) if self.ceiling and self.multiplications else None

    @property
    def gap(self) -> float:
        """Seconds above the bound."""
        return max(0.0, self.seconds - self.bound)


def roofline(profile: Profile, manifest: Mapping[str, Any], threads: int) -> tuple[list[Point], Ceilings]:
    """Points of a profile; measures the machine where that wasn't done yet.

    Raises:
        UsageError: the artifact is for another processor, has no list of layers, or ran on several threads.
    """
    layers: Sequence[Mapping[str, Any]] = manifest.get("layers", [])
    if len(layers) != len(profile.steps) or any("mix" not in layer for layer in layers):
        raise UsageError(
            "this artifact can't be compared with the machine",
            why="its manifest doesn't say which instructions its layers use",
            hint="compile the model again",
        )
    if threads != 1:
        raise UsageError("ceilings are those of one thread", why=f"{threads} threads", hint="leave out --threads")
    target = load_target(str(manifest["target"]))
    mixes = [None if layer["mix"] is None else _mix(layer["mix"]) for layer in layers]
    ceilings = measure(target, [mix for mix in mixes if mix is not None])
    total = sum(step.median_ns for step in profile.steps) or 1.0
    points = []
    for step, layer, mix in zip(profile.steps, layers, mixes, strict=True):
        multiplications = layer["mix"]["multiplications"] if mix else layer["macs"]
        ceiling = ceilings.macs[mix] if mix else None
        arithmetic, memory = (multiplications / ceiling if ceiling else 0.0), layer["bytes"] / ceilings.bytes
        points.append(
            Point(
                name=step.step.name,
                op=step.step.kind,
                kernel=layer["kernel"].split("__")[0],
                seconds=step.median_ns * 1e-9,
                share=step.median_ns / total,
                macs=layer["macs"],
                multiplications=multiplications,
                bytes=layer["bytes"],
                ceiling=ceiling,
                bound=max(arithmetic, memory),
                limit="multiplications" if arithmetic >= memory and ceiling else "bytes",
            )
        )
    return points, ceilings


def _mix(entry: Mapping[str, Any]) -> AnyMix:
    """The mix of a manifest's entry."""
    kind = DepthwiseMix if "kh" in entry else Mix
    return kind(**{field.name: entry[field.name] for field in fields(kind)})
