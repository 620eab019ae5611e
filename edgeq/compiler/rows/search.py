"""Which layers run row-wise so that a model's arena stays below a limit, at the least cost.

Candidates differ in where the region begins and ends, in how many rows are made at once, and in whether waiting rows
are kept apart. Each is lowered and planned for real; kernels are built for the one that is taken only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import onnx_ir as ir

from edgeq.compiler.fit import memory_by_step
from edgeq.compiler.kernels.movement.copy import CopySpec
from edgeq.compiler.lower.fuse import Group, group_nodes
from edgeq.compiler.plan import Plan, lower_bound, plan_memory
from edgeq.compiler.program import Program
from edgeq.compiler.rows.stream import Region, stream, streamable
from edgeq.integer.graph import IntegerGraph

CHUNKS = (16384, 8192, 4096, 2048, 1024, 1)  # bytes that are made at once; 1: a row
ENDS = 12  # ends of regions that are looked at, those with the smallest tensors
BEST = 3  # of them, how many are looked at with larger chunks
# Instructions of a kernel call beside its work, and of copying a byte, roughly: they rank what fits.
CALL_COST, BYTE_COST = 120, 1

Lower = Callable[[IntegerGraph], Program]
Report = Callable[[int, int], None]


@dataclass(frozen=True)
class Placed:
    """A graph with its program and memory plan."""

    graph: IntegerGraph
    program: Program
    plan: Plan

    @property
    def arena(self) -> int:
        """Bytes that a caller has to give."""
        return max(self.plan.size + self.program.end_slack, self.program.alignment)

    @property
    def moved(self) -> int:
        """Bytes that copies write."""
        specs = [step.spec for step in self.program.steps]
        return sum(_bytes_of(spec) for spec in specs if isinstance(spec, CopySpec))

    @property
    def cost(self) -> int:
        """Rank among programs that compute the same."""
        return CALL_COST * len(self.program.steps) + BYTE_COST * self.moved


@dataclass(frozen=True)
class RowWise:
    """What running layers row-wise brought and what it costs, against the same program with whole tensors.

    Attributes:
        first, last: names of the region's first and last layer; layers: how many it has.
        rows: most rows that are made at once.
        arena, calls, copied, macs: bytes, kernel calls, copied bytes, multiplications: whole and row-wise.
    """

    first: str
    last: str
    layers: int
    chunk: int
    arena: tuple[int, int]
    calls: tuple[int, int]
    copied: tuple[int, int]
    macs: tuple[int, int]


@dataclass(frozen=True)
class Found:
    """The result of a search.

    Attributes:
        placed: what fits at the least cost, or the whole program.
        row_wise: None: nothing runs row-wise.
        nearest: the smallest arena that was found.
        lean: (arena before, after) where dense layers do without Winograd's scratch memory.
    """

    placed: Placed
    row_wise: RowWise | None
    nearest: int
    lean: tuple[int, int] | None = None


def place_within(
    graph: IntegerGraph, lower: Lower, limit: int | None, lean: Lower | None = None, report: Report | None = None
) -> Found:
    """Lowers and plans a graph; where the arena would exceed `limit` bytes, without scratch, then row-wise.

    Where nothing stays below the limit the whole program is the result, and `nearest` says what could be had.

    Args:
        lower: makes a program of a graph; lean: the same with less scratch memory.
        report: called with (candidates that were tried, all).
    """
    whole = _placed(lower(graph), graph)
    if limit is None or whole.arena <= limit:
        return Found(whole, None, whole.arena)
    smaller = whole if lean is None else _placed(lean(graph), graph)
    if lean is None or smaller.arena >= whole.arena:
        return _row_wise(graph, lower, limit, whole, report)
    found = (
        Found(smaller, None, smaller.arena)
        if smaller.arena <= limit
        else _row_wise(graph, lean, limit, smaller, report)
    )
    return replace(found, lean=(whole.arena, smaller.arena))


def _row_wise(graph: IntegerGraph, lower: Lower, limit: int, whole: Placed, report: Report | None) -> Found:
    """The cheapest program that fits, else the whole one."""
    room = limit - whole.program.end_slack
    smallest = []
    regions = list(_regions(graph, whole, limit))
    for number, region in enumerate(regions):
        if report is not None:
            report(number, len(regions) + BEST)  # the best ones are tried again, with larger chunks
        rows = stream(graph, region)
        smallest.append((_placed(lower(rows), rows, room), region))
    nearest = min([placed.arena for placed, _ in smallest], default=whole.arena)
    fitting = sorted((entry for entry in smallest if entry[0].arena <= limit), key=lambda entry: entry[0].arena)
    if not fitting:
        return Found(whole, None, min(nearest, whole.arena))
    roomiest = [region for _, region in fitting[:BEST]]
    candidates = [*fitting, *_larger(graph, lower, room, roomiest)]
    best, region = min(candidates, key=lambda entry: entry[0].cost)
    return Found(best, _facts(graph, whole, best, region), nearest)


def _placed(program: Program, graph: IntegerGraph, enough: int = 0) -> Placed:
    return Placed(graph, program, plan_memory(program, enough))


def _larger(graph: IntegerGraph, lower: Lower, room: int, regions: list[Region]) -> Iterator[tuple[Placed, Region]]:
    """The same regions with larger chunks and fewer copies, as far as they fit."""
    for region in regions:
        for kept in (False, True):
            for chunk in CHUNKS:
                wider = Region(region.start, region.stop, chunk, kept)
                rows = stream(graph, wider)
                program = lower(rows)
                if lower_bound(program) > room:
                    continue
                placed = _placed(program, rows, room)
                if placed.plan.size <= room:
                    yield placed, wider
                    break  # smaller chunks cost more


def _regions(graph: IntegerGraph, whole: Placed, limit: int) -> Iterator[Region]:
    """Regions around all layers that need too much, a row at a time: what comes before and behind them fits."""
    groups, able = group_nodes(graph.model.graph), streamable(graph)
    alive = _alive_by_layer(groups, whole)
    fullest = max(range(len(groups)), key=alive.__getitem__)
    if not able[fullest]:
        return
    begin, end = fullest, fullest + 1
    while begin and able[begin - 1]:
        begin -= 1
    while end < len(able) and able[end]:
        end += 1
    full = [layer for layer in range(begin, end) if layer == fullest or alive[layer] > limit]
    across = [_bytes_across(groups, place) for place in range(len(groups) + 1)]
    starts = sorted(range(begin, full[0] + 1), key=lambda place: across[place])
    stops = sorted(range(full[-1] + 1, end + 1), key=lambda place: across[place])
    for start in sorted({begin, starts[0]}):
        for stop in sorted(stops[:ENDS]):
            yield Region(start, stop, 1, kept=True)


def _alive_by_layer(groups: list[Group], whole: Placed) -> list[int]:
    """Most bytes that are alive during each layer; fetching the inputs belongs to the first one."""
    number = {group.name: index for index, group in enumerate(groups)}
    result = [0] * len(groups)
    for step, size in zip(whole.program.steps, memory_by_step(whole.program, whole.plan), strict=True):
        layer = number.get(step.name, 0)
        result[layer] = max(result[layer], size)
    return result


def _bytes_across(groups: list[Group], place: int) -> int:
    """Bytes of all values that are made before a layer and read by it or later."""
    made = {id(group) for group in groups[:place]}
    maker = {node: group for group in groups for node in group.nodes}
    total = 0
    for group in groups[:place]:
        for value in group.nodes[-1].outputs:
            readers = {id(maker[node]) for node in value.consumers() if node in maker}
            if value.is_graph_output() or readers - made:
                total += _size(value)
    return total


def _size(value: ir.Value) -> int:
    assert value.shape is not None
    assert value.dtype is not None
    count = 1
    for n in value.shape:
        count *= int(n)
    return count * int(value.dtype.itemsize)


def _bytes_of(spec: CopySpec) -> int:
    count = spec.element_bytes
    for n in spec.shape:
        count *= n
    return count


def _facts(graph: IntegerGraph, whole: Placed, best: Placed, region: Region) -> RowWise:
    groups = group_nodes(graph.model.graph)[region.start : region.stop]

    def macs(placed: Placed) -> int:
        return sum(step.macs for step in placed.program.steps)

    return RowWise(
        groups[0].name,
        groups[-1].name,
        len(groups),
        region.chunk,
        (whole.arena, best.arena),
        (len(whole.program.steps), len(best.program.steps)),
        (whole.moved, best.moved),
        (macs(whole), macs(best)),
    )
