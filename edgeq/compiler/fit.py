"""Will it fit? Flash, RAM and stack of a model against the memories of its target, layer by layer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from edgeq.errors import CompileError, UsageError

if TYPE_CHECKING:
    from edgeq.artifact.source import SourceSizes
    from edgeq.artifact.static import StaticSizes
    from edgeq.compiler.pipeline import Compiled
    from edgeq.compiler.plan import Plan
    from edgeq.compiler.program import Program
    from edgeq.compiler.target import Memory, Target

SHOWN = 4  # buffers of the fullest moment, or layers, that a message lists
SPATIAL_RANK = 4
SMALLEST_SCALE = 0.25  # of an input's side: below that it is another problem
ROW_WISE_STACK = 64  # more that the entry function may take where layers run row-wise


@dataclass(frozen=True)
class Shortfall:
    """One memory that is too small.

    Attributes:
        kind: `flash` or `ram`; bytes: how many are missing.
        layer: where most of it is needed; why: what takes it; hint: what would make the model fit.
    """

    kind: str
    bytes: int
    layer: str
    why: str
    hint: str

    @property
    def what(self) -> str:
        """One sentence."""
        return f"the model needs {self.bytes} bytes more {'RAM' if self.kind == 'ram' else 'flash'} than there are"


@dataclass(frozen=True)
class Fit:
    """What a model needs and what there is, in bytes.

    Attributes:
        target: its name.
        flash, ram: what the target has (None: its file says nothing).
        code, weights, arena, stack: of the model.
        layers: one row a kernel call: name, ops, ram (alive while it runs), weights, code (of kernels that no earlier
            call has), macs.
        peak: the row where most RAM is alive, and the buffers that are alive there (name, bytes), largest first.
        shortfalls: what is too small, with what would help; empty: it fits.
        fast: the second arena (room, size: bytes); None: there is one arena only.
        nearest: the smallest arena that running layers row-wise could reach; None: that wasn't tried.
    """

    target: str
    flash: int | None
    ram: int | None
    code: int
    weights: int
    arena: int
    stack: int
    layers: list[dict[str, Any]]
    peak: dict[str, Any]
    shortfalls: tuple[Shortfall, ...] = ()
    nearest: int | None = None
    fast: dict[str, int] | None = None

    @property
    def flash_needed(self) -> int:
        """Code and weights."""
        return self.code + self.weights

    @property
    def ram_needed(self) -> int:
        """Arena and stack."""
        return self.arena + self.stack

    def as_dict(self) -> dict[str, Any]:
        """As JSON can hold it."""
        return {
            "fits": not self.shortfalls,
            "target": self.target,
            "flash": self.flash,
            "flash_needed": self.flash_needed,
            "ram": self.ram,
            "ram_needed": self.ram_needed,
            "code": self.code,
            "weights": self.weights,
            "arena": self.arena,
            "stack": self.stack,
            "fast": self.fast,
            "shortfalls": [{**asdict(each), "what": each.what} for each in self.shortfalls],
            "peak": self.peak,
            "layers": self.layers,
        }


def fit(
    compiled: Compiled, sizes: StaticSizes | SourceSizes, *, flash: int | None = None, ram: int | None = None
) -> Fit:
    """Compares a compiled model with its target's memories.

    Args:
        flash, ram: bytes that are free for the model; by default all that target.toml lists.
    """
    manifest = {**compiled.image.manifest, "sizes": asdict(sizes)}
    shape = next((t.shape for t in compiled.image.inputs if len(t.shape) == SPATIAL_RANK), ())
    return fit_manifest(manifest, compiled.target.spec.memories, shape, flash=flash, ram=ram)


def fit_manifest(
    manifest: Mapping[str, Any],
    memories: Sequence[Memory],
    image: Sequence[int] = (),
    *,
    flash: int | None = None,
    ram: int | None = None,
) -> Fit:
    """The same from a manifest (`target`, `layers`, `memory`, `sizes`) and a list of memories.

    Args:
        image: shape [n, c, h, w] of an input, to say which size would fit.
    """
    fast = manifest.get("fast")
    layers, alive = _layers(manifest["layers"], manifest["memory"], set(fast["buffers"]) if fast else set())
    peak = max(range(len(layers)), key=lambda k: layers[k]["ram"], default=None)
    sizes = manifest["sizes"]
    found = Fit(
        manifest["target"],
        _there(memories, "flash") if flash is None else flash,
        _there(memories, "ram") if ram is None else ram,
        sizes.get("code", 0),
        sizes["weights"],
        sizes["arena"],
        sizes.get("stack", 0),
        layers,
        {} if peak is None else {**layers[peak], "buffers": alive[peak]},
        nearest=manifest.get("nearest_arena"),
        fast={key: fast[key] for key in ("room", "size")} if fast else None,
    )
    short = [*_too_little_ram(found, image, given=ram is not None), *_too_little_flash(found, given=flash is not None)]
    return Fit(**{**{name: getattr(found, name) for name in found.__dataclass_fields__}, "shortfalls": tuple(short)})


def _there(memories: Sequence[Memory], kind: str) -> int | None:
    """All flash together, the largest RAM; None where nothing is listed."""
    sizes = [memory.size for memory in memories if memory.kind == kind]
    return sum(sizes) if kind == "flash" and sizes else max(sizes, default=None)


def free_ram(target: Target, given: int | None) -> int | None:
    """Bytes of RAM that a model may take: what is given, else what the target lists, if it does."""
    return _there(target.spec.memories, "ram") if given is None else given


def check_fast_room(target: Target, room: int | None) -> int:
    """Bytes of fast memory that the arena may use.

    Raises:
        UsageError: more than the target has.
    """
    sizes = [memory.size for memory in target.spec.memories if memory.fast]
    if room and sizes and room > max(sizes):
        raise UsageError(
            "there is less fast memory than that",
            where=f"--fast-ram {room}",
            why=f"target {target.name} has {max(sizes)} bytes",
            hint="give at most that, or a target folder of your own board",
        )
    return room or 0


def _layers(
    rows: Sequence[Mapping[str, Any]], memory: Sequence[Sequence[Any]], fast: set[int]
) -> tuple[list[dict[str, Any]], list[list[dict[str, Any]]]]:
    """Kernel calls, and the buffers that are alive during each in the first arena, largest first."""
    layers, alive = [], []
    slow = [row for number, row in enumerate(memory) if number not in fast]
    seen: set[str] = set()
    for number, row in enumerate(rows):
        there = Counter[str]()
        for name, _, _, size, first, last in slow:
            if first <= number <= last:
                there[name] += size  # a buffer's parts together
        alive.append([{"name": name, "bytes": size} for name, size in there.most_common() if size])
        code = 0 if row["kernel"] in seen else row["code"]
        seen.add(row["kernel"])
        ram = there.total()
        kept = {key: row[key] for key in ("name", "weights", "macs")}
        layers.append({**kept, "ops": list(row["ops"]), "ram": ram, "code": code})
    return layers, alive


def memory_by_step(program: Program, plan: Plan) -> list[int]:
    """Bytes of the arena that hold something while each step runs; a second arena's don't count."""
    return plan.alive(len(program.steps))


def _too_little_ram(found: Fit, image: Sequence[int], *, given: bool) -> list[Shortfall]:
    if found.ram is None or found.ram_needed <= found.ram:
        return []
    over = found.ram_needed - found.ram
    peak = found.peak or {"name": "", "ram": 0, "buffers": []}
    buffers = ", ".join(f"{b['name']} {b['bytes']}" for b in peak["buffers"][:SHOWN])
    second = max((row["ram"] for row in found.layers if row["name"] != peak["name"]), default=0)
    why = (
        f"it takes {found.ram_needed} bytes (arena {found.arena}, stack {found.stack}) of {found.ram}; at that layer "
        f"{peak['ram']} are alive: {buffers}"
    )
    reachable = (
        []
        if found.nearest is None or found.nearest >= found.arena
        else [
            f"with layers run row-wise it would need {found.nearest} bytes and the stack: --ram "
            f"{found.nearest + found.stack + ROW_WISE_STACK}"
        ]
    )
    help_ = [
        *reachable,
        f"make these tensors smaller by {over} bytes (fewer channels or a larger stride there); the next peak is "
        f"{second} bytes",
        *_smaller_image(found, image),
        *([] if given else _roomier(found)),
    ]
    return [Shortfall("ram", over, peak["name"], why, "; ".join(help_))]


def _smaller_image(found: Fit, image: Sequence[int]) -> list[str]:
    """The input size whose tensors would fit: all of them grow with its area."""
    room = (found.ram or 0) - found.stack
    if len(image) != SPATIAL_RANK or min(image[2:]) < 2 or room <= 0:
        return []
    scale = (room / found.arena) ** 0.5
    height, width = (int(size * scale) for size in image[2:])
    if scale < SMALLEST_SCALE or min(height, width) < 1:
        return []
    return [f"an input of about {height}x{width} instead of {image[2]}x{image[3]} would fit (estimated)"]


def _too_little_flash(found: Fit, *, given: bool) -> list[Shortfall]:
    if found.flash is None or found.flash_needed <= found.flash:
        return []
    over = found.flash_needed - found.flash
    largest = sorted(found.layers, key=lambda row: -row["weights"])[:SHOWN]
    names = ", ".join(f"{row['name']} {row['weights']}" for row in largest)
    why = (
        f"code and weights take {found.flash_needed} bytes ({found.code} and {found.weights}) of {found.flash}; "
        f"most weights: {names}"
    )
    help_ = [
        f"make these layers smaller by {over} bytes together (fewer channels, or depthwise + pointwise)",
        *([] if given else _roomier(found)),
    ]
    return [Shortfall("flash", over, largest[0]["name"] if largest else "", why, "; ".join(help_))]


def _roomier(found: Fit) -> list[str]:
    """Built-in targets whose memories would hold it."""
    from edgeq.compiler.target import list_microcontrollers

    names = []
    for target in list_microcontrollers():
        flash, ram = (_there(target.spec.memories, kind) for kind in ("flash", "ram"))
        if flash is not None and ram is not None and flash >= found.flash_needed and ram >= found.ram_needed:
            names.append(target.name)
    return [f"there is room on {', '.join(names)}"] if names else []


def require_fit(found: Fit, target: str) -> None:
    """Raises CompileError with what is missing, where the peak is and what would help, if the model doesn't fit."""
    for short in found.shortfalls:
        raise CompileError(short.what, where=f"target {target}, layer {short.layer!r}", why=short.why, hint=short.hint)
