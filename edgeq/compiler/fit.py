"""Will it fit? Flash, RAM and stack of a static library against the memories of its target, layer by layer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edgeq.errors import CompileError

if TYPE_CHECKING:
    from edgeq.artifact.static import StaticSizes
    from edgeq.compiler.pipeline import Compiled
    from edgeq.compiler.plan import Plan
    from edgeq.compiler.program import Program

SHOWN = 4  # buffers of the fullest moment that a message lists


@dataclass(frozen=True)
class Fit:
    """What a model needs and what there is, in bytes.

    Attributes:
        flash, ram: what the target has (None: its file says nothing).
        flash_needed: code and weights; ram_needed: arena and stack.
        layers: one row a kernel call: name, ops, ram (alive while it runs), weights, macs.
        peak: the row where most RAM is alive, and the buffers that are alive there (name, bytes), largest first.
    """

    flash: int | None
    ram: int | None
    flash_needed: int
    ram_needed: int
    layers: list[dict[str, Any]]
    peak: dict[str, Any]

    def as_dict(self) -> dict[str, Any]:
        """As JSON can hold it."""
        return {
            "flash": self.flash,
            "flash_needed": self.flash_needed,
            "ram": self.ram,
            "ram_needed": self.ram_needed,
            "peak": self.peak,
            "layers": self.layers,
        }


def fit(compiled: Compiled, sizes: StaticSizes, *, flash: int | None = None, ram: int | None = None) -> Fit:
    """Compares a compiled model with its target's memories.

    Args:
        flash, ram: bytes that are free for the model; by default all that target.toml lists.
    """
    memories = compiled.target.spec.memories

    def there(kind: str) -> int | None:
        sizes = [memory.size for memory in memories if memory.kind == kind]
        return sum(sizes) if kind == "flash" and sizes else max(sizes, default=None)

    alive = memory_by_step(compiled.program, compiled.plan)
    layers = [
        {"name": row["name"], "ops": row["ops"], "ram": bytes_, "weights": row["weights"], "macs": row["macs"]}
        for row, bytes_ in zip(compiled.layers, alive, strict=True)
    ]
    peak = max(range(len(layers)), key=lambda k: layers[k]["ram"], default=None)
    return Fit(
        there("flash") if flash is None else flash,
        there("ram") if ram is None else ram,
        sizes.flash,
        sizes.arena + sizes.stack,
        layers,
        {} if peak is None else {**layers[peak], "buffers": _alive_at(compiled.program, compiled.plan, peak)},
    )


def memory_by_step(program: Program, plan: Plan) -> list[int]:
    """Bytes of the arena that hold something while each step runs."""
    moments = range(len(program.steps))
    return [sum(life.size for life in plan.lifetimes if life.first <= k <= life.last) for k in moments]


def _alive_at(program: Program, plan: Plan, moment: int) -> list[dict[str, Any]]:
    found = [life for life in plan.lifetimes if life.first <= moment <= life.last and life.size]
    found.sort(key=lambda life: -life.size)
    return [{"name": program.buffers[life.index].name, "bytes": life.size} for life in found]


def require_fit(found: Fit, target: str) -> None:
    """Raises CompileError with what is missing, where the peak is and what would help, if the model doesn't fit."""
    if found.ram is not None and found.ram_needed > found.ram:
        over = found.ram_needed - found.ram
        buffers = ", ".join(f"{b['name']} {b['bytes']}" for b in found.peak["buffers"][:SHOWN])
        second = max((row["ram"] for row in found.layers if row["name"] != found.peak["name"]), default=0)
        raise CompileError(
            f"the model needs {over} bytes more RAM than there are",
            where=f"target {target}, layer {found.peak['name']!r}",
            why=f"it takes {found.ram_needed} bytes (arena and stack) of {found.ram}; at that layer "
            f"{found.peak['ram']} are alive: {buffers}",
            hint=f"make these tensors smaller by {over} bytes (a smaller input, a larger stride or fewer channels "
            f"there); the next peak is {second} bytes",
        )
    if found.flash is not None and found.flash_needed > found.flash:
        over = found.flash_needed - found.flash
        largest = sorted(found.layers, key=lambda row: -row["weights"])[:SHOWN]
        names = ", ".join(f"{row['name']} {row['weights']}" for row in largest)
        raise CompileError(
            f"the model needs {over} bytes more flash than there are",
            where=f"target {target}, layer {largest[0]['name']!r}",
            why=f"code and weights take {found.flash_needed} bytes of {found.flash}; most weights: {names}",
            hint=f"make these layers smaller by {over} bytes together (fewer channels, or depthwise + pointwise)",
        )
