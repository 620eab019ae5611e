"""An integer graph whose layers in one region run a few rows at a time.

Every value of the region is made in chunks of rows, each as soon as somebody asks for it. Chunks that a window reaches
over are put side by side; of each such window only the rows that are still to be read are kept. No row is computed
twice. The result is an integer graph of the same bits: Slice takes rows, Concat joins them, and windowed ops get the
padding that lies above or below their rows.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir

from edgeq.compiler.lower.fuse import group_nodes
from edgeq.compiler.lower.place import APART
from edgeq.compiler.rows.windows import (
    HEIGHT,
    RowWindow,
    attributes_for,
    constant_rows,
    height,
    row_bytes,
    row_windows,
)
from edgeq.integer.graph import IntegerGraph


@dataclass(frozen=True)
class Region:
    """Which layers run row-wise, and how.

    Attributes:
        start, stop: layers (groups of `group_nodes`, in order) that run row-wise.
        chunk: bytes of a value that are made at once, at most, but a row at least.
        kept: rows that wait for a window to be complete do so in memory of their own; else in the window, which takes
            its memory all the time, but saves a copy.
    """

    start: int
    stop: int
    chunk: int
    kept: bool = False


@dataclass
class _Rows:
    """What exists of a value of the region.

    Attributes:
        chunk: rows that are made at once.
        done: rows that were made.
        pieces: (first row, value) of what can be read, from top to bottom without gaps.
        whole: all chunks, where the value is needed as a whole too.
    """

    value: ir.Value
    node: ir.Node
    windows: dict[int, RowWindow]
    chunk: int
    done: int = 0
    pieces: list[tuple[int, ir.Value]] = field(default_factory=list)
    whole: list[ir.Value] | None = None

    @property
    def rows(self) -> int:
        return height(self.value)


def streamable(graph: IntegerGraph) -> list[bool]:
    """Whether each layer (group of `group_nodes`, in order) can run row-wise."""
    groups = group_nodes(graph.model.graph)
    return [all(row_windows(node) is not None for node in group.nodes) for group in groups]


def stream(graph: IntegerGraph, region: Region) -> IntegerGraph:
    """The graph with the layers of the region run row-wise; the same inputs, outputs and bits."""
    return _Streamer(graph, region).result()


class _Streamer:
    """Copies a graph node by node; nodes of the region are made in chunks of rows."""

    def __init__(self, graph: IntegerGraph, region: Region) -> None:
        self.source, self.region = graph, region
        self.nodes: list[ir.Node] = []
        self.initializers: list[ir.Value] = []
        self.values: dict[ir.Value, ir.Value] = {}
        self.names: dict[str, int] = defaultdict(int)
        groups = group_nodes(graph.model.graph)
        self.order = [node for group in groups for node in group.nodes]
        inside = [node for group in groups[region.start : region.stop] for node in group.nodes]
        self.before = len([node for group in groups[: region.start] for node in group.nodes])
        self.inside = inside
        self.made = self._rows(inside)
        self.consumers: dict[ir.Value, list[tuple[_Rows, RowWindow]]] = defaultdict(list)
        for rows in self.made.values():
            for number, window in rows.windows.items():
                value = rows.node.inputs[number]
                assert value is not None
                self.consumers[value].append((rows, window))

    def _rows(self, inside: Sequence[ir.Node]) -> dict[ir.Value, _Rows]:
        """The region's values; those of one height go on at one pace, by their longest row."""
        longest: dict[int, int] = defaultdict(int)
        for node in inside:
            value = node.outputs[0]
            if any(user.op_type not in ("Requantize", "RequantizeNarrow") for user in _users(value)):
                longest[height(value)] = max(longest[height(value)], row_bytes(value))
        members = set(inside)
        made = {}
        for node in inside:
            value, windows = node.outputs[0], row_windows(node)
            assert windows is not None
            rows = height(value)
            made[value] = _Rows(value, node, windows, _chunk(rows, longest[rows], self.region.chunk))
            users = _users(value)
            if value.is_graph_output() or not users or any(user not in members for user in users):
                made[value].whole = []
        return made

    def result(self) -> IntegerGraph:
        old = self.source.model.graph
        inputs = [self._clone(value) for value in old.inputs]
        for node in self.order[: self.before]:
            self._copy(node)
        self._run()
        for node in self.order[self.before + len(self.inside) :]:
            self._copy(node)
        outputs = [self.values[value] for value in old.outputs]
        fresh = ir.Graph(
            inputs,
            outputs,
            nodes=self.nodes,
            initializers=self.initializers,
            opset_imports=dict(old.opset_imports),
            name=old.name,
        )
        model = ir.Model(fresh, ir_version=self.source.model.ir_version, functions=_functions(self.source.model))
        model.metadata_props.update(self.source.model.metadata_props)
        return IntegerGraph(model)

    def _clone(self, value: ir.Value, rows: tuple[int, int] | None = None) -> ir.Value:
        """A new value like this one, or like some rows of it."""
        assert value.shape is not None
        shape = list(value.shape)
        name = value.name or "value"
        if rows is not None:
            shape[HEIGHT] = rows[1] - rows[0]
            name = self._unique(f"{name}[{rows[0]}:{rows[1]}]")
        made = ir.Value(name=name, type=value.type, shape=ir.Shape(shape))
        made.metadata_props.update(value.metadata_props)
        if rows is None:
            self.values[value] = made
        return made

    def _unique(self, name: str) -> str:
        self.names[name] += 1
        return name if self.names[name] == 1 else f"{name}#{self.names[name]}"

    def _given(self, value: ir.Value | None) -> ir.Value | None:
        """An operand in the new graph; initializers come along when they are used."""
        if value is not None and value not in self.values:
            made = self._clone(value)
            made.const_value = value.const_value
            self.initializers.append(made)
        return None if value is None else self.values[value]

    def _copy(self, node: ir.Node) -> None:
        given = [self._given(value) for value in node.inputs]
        outputs = [self._clone(value) for value in node.outputs]
        self._node(node, given, list(node.attributes.values()), outputs, node.name)

    def _node(
        self,
        like: ir.Node,
        inputs: Sequence[ir.Value | None],
        attributes: Sequence[ir.Attr],
        outputs: Sequence[ir.Value],
        name: str | None,
    ) -> None:
        made = ir.Node(like.domain, like.op_type, inputs, attributes, outputs=outputs, name=name)
        made.metadata_props.update(like.metadata_props)
        self.nodes.append(made)

    # --- rows ------------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        """Makes every value that is needed as a whole, those that are furthest behind first."""
        wanted = [rows for rows in self.made.values() if rows.whole is not None]
        while True:
            behind = min(wanted, key=lambda rows: rows.done / rows.rows)
            if behind.done == behind.rows:
                break
            self._advance(behind)
        for rows in wanted:
            if rows.whole and rows.value not in self.values:
                self._concat(rows.whole, self._clone(rows.value), self._unique(f"{rows.node.name} rows"))

    def _advance(self, rows: _Rows) -> None:
        """The next chunk of a value."""
        start, stop = rows.done, min(rows.done + rows.chunk, rows.rows)
        node, above, below = rows.node, 0, 0
        given: list[ir.Value | None] = []
        for number, value in enumerate(node.inputs):
            window = rows.windows.get(number)
            if window is None:
                given.append(self._constant(node, value, start, stop))
                continue
            assert value is not None
            first, last = window.needed(start, stop)
            above, below = max(0, -first), max(0, last - height(value))
            given.append(self._take(value, first + above, last - below))
        complete = (start, stop) == (0, rows.rows)
        made = self._clone(rows.value, None if complete else (start, stop))
        name = node.name if complete else self._unique(f"{node.name}[{start}:{stop}]")
        self._node(node, given, attributes_for(node, above, below), [made], name)
        rows.done = stop
        rows.pieces.append((start, made))
        if rows.whole is not None:
            rows.whole.append(made)
        for value in {node.inputs[number] for number in rows.windows}:
            assert value is not None
            self._forget(value)

    def _constant(self, node: ir.Node, value: ir.Value | None, start: int, stop: int) -> ir.Value | None:
        part = None if value is None else constant_rows(node, value, start, stop)
        if part is None:
            return self._given(value)
        assert value is not None
        return self._array(part, self._unique(f"{value.name}[{start}:{stop}]"))

    def _array(self, array: np.ndarray, name: str) -> ir.Value:
        tensor = ir.Tensor(array, name=name)
        made = ir.Value(name=name, type=ir.TensorType(tensor.dtype), shape=ir.Shape(array.shape), const_value=tensor)
        self.initializers.append(made)
        return made

    def _take(self, value: ir.Value, start: int, stop: int) -> ir.Value:
        """Rows [start, stop) of a value, made if need be."""
        rows = self.made.get(value)
        if rows is None:
            return self._slice(value, self.values[value], 0, start, stop)
        while rows.done < stop:
            self._advance(rows)
        first = max(i for i, (row, _) in enumerate(rows.pieces) if row <= start)
        if first + 1 < len(rows.pieces) and rows.pieces[first + 1][0] < stop:
            self._join(rows)
            first = 0
        row, piece = rows.pieces[first]
        return self._slice(value, piece, row, start, stop)

    def _join(self, rows: _Rows) -> None:
        """All pieces of a value side by side, but for rows that nobody reads any more."""
        alive = min(self._alive(rows.value), rows.done)
        start = max(alive, rows.pieces[0][0])
        parts = []
        for row, piece in rows.pieces:
            stop = row + height(piece)
            if stop > start:
                parts.append(self._slice(rows.value, piece, row, max(row, start), stop))
        if self.region.kept:
            for part in parts[:-1]:
                maker = part.producer()
                assert maker is not None
                maker.metadata_props[APART] = "true"
        window = self._clone(rows.value, (start, rows.done))
        self._concat(parts, window, self._unique(f"{rows.node.name}[{start}:{rows.done}]"))
        rows.pieces = [(start, window)]

    def _alive(self, value: ir.Value) -> int:
        """The first row that will be read again."""
        first = height(value)
        for rows, window in self.consumers[value]:
            if rows.done < rows.rows:
                first = min(first, max(0, window.needed(rows.done, rows.done + 1)[0]))
        return first

    def _forget(self, value: ir.Value) -> None:
        """Drops pieces that are read for good, and trims the one that is read in part."""
        rows = self.made.get(value)
        if rows is None:
            return
        alive = self._alive(value)
        rows.pieces = [(row, piece) for row, piece in rows.pieces if row + height(piece) > alive]
        if not rows.pieces or rows.pieces[0][0] >= alive:
            return
        row, piece = rows.pieces[0]
        stop = row + height(piece)
        kept = self._clone(value, (alive, stop))
        name = self._unique(f"{rows.node.name}[{alive}:{stop}]")
        self._concat([self._slice(value, piece, row, alive, stop)], kept, name)
        rows.pieces[0] = (alive, kept)

    def _slice(self, value: ir.Value, piece: ir.Value, row: int, start: int, stop: int) -> ir.Value:
        """Rows [start, stop) of a piece that begins at `row`."""
        if (start, stop) == (row, row + height(piece)):
            return piece
        made = self._clone(value, (start, stop))
        bounds = [
            self._array(np.array([n], np.int64), self._unique(f"{kind} {n}"))
            for kind, n in (("row", start - row), ("row", stop - row), ("axis", HEIGHT))
        ]
        self.nodes.append(ir.Node("", "Slice", [piece, *bounds], [], outputs=[made], name=f"{made.name} slice"))
        return made

    def _concat(self, parts: Sequence[ir.Value], whole: ir.Value, name: str) -> None:
        axis = ir.AttrInt64("axis", HEIGHT)
        self.nodes.append(ir.Node("", "Concat", parts, [axis], outputs=[whole], name=name))


def _users(value: ir.Value) -> list[ir.Node]:
    return list(value.consumers())


def _functions(model: ir.Model) -> list[ir.Function]:
    return [function.clone() for function in model.functions.values()]


def _chunk(rows: int, longest: int, limit: int) -> int:
    """Rows that are made at once: a divisor of all rows, so that one kernel does for all chunks."""
    most = max(1, min(rows, limit // max(1, longest)))
    return max(n for n in range(1, most + 1) if rows % n == 0)
