"""Writes a depthwise kernel from its plan. Imports tvm."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from edgeq.compiler.isa.base import dtype_of, lanes_of
from edgeq.compiler.kernels import tir
from edgeq.compiler.kernels.base import TVM_DTYPE
from edgeq.compiler.kernels.depthwise.plan import Chunks, Entry, Plan
from edgeq.compiler.kernels.epilogue.emit import EpilogueEmitter, store_lanes
from edgeq.compiler.kernels.tir import Expr, T

if TYPE_CHECKING:
    from edgeq.compiler.kernels.depthwise.depthwise import DepthwiseSpec
    from edgeq.compiler.target import Target


def emit(spec: DepthwiseSpec, target: Target) -> Any:
    """The PrimFunc of a depthwise convolution."""
    plan = spec.plan(target)
    layout = spec.layout(plan)
    parameters = spec.parameters(target)
    with tir.kernel(spec.symbol(target), parameters) as (result, t0, t1, buffers):
        named = {name: buffer for (name, _, _), buffer in zip(parameters, buffers, strict=True)}
        epilogue = _TileEpilogue(
            spec.epilogue, target, layout, named["params"], table=named.get("table"), residual=named.get("residual")
        )
        epilogue.register = target.vector_bytes
        _Writer(plan, epilogue, named).tasks(t0, t1)
    return result[0]


@dataclass(frozen=True)
class _Output:
    """One pixel's block of a tile: finished accumulators, and where it is stored."""

    acc: list[Expr]
    y: Expr
    residual: Expr | None


class _TileEpilogue(EpilogueEmitter):
    """An epilogue for several pixels at a time, whose order of channels may differ from the image's.

    Place p of the epilogue's order holds channel channels[p] of the chunk; a shuffle in front of the store mends that.
    """

    register: int = 16  # bytes

    def write_tile(self, outputs: list[_Output], position: Expr, out: Expr, count: int, channels: np.ndarray) -> None:
        """Finishes and stores `count` channels of every output; `position` as in `write`."""
        if self.epilogue.form == "none":
            places = channels[np.array(self.isa.order(len(outputs[0].acc)))]
            parts = [[tir.bind(register) for register in output.acc] for output in outputs]
            kept = [places] * len(outputs)
        elif self.epilogue.lut:
            parts, kept = self._through_table(outputs, position, channels), [channels] * len(outputs)
        else:
            parts = [
                [
                    tir.bind(self.finish(registers, position + start, count, other))
                    for start, registers, other in self._groups(output, channels)
                ]
                for output in outputs
            ]
            kept = [channels] * len(outputs)
        for output, values, places in zip(outputs, parts, kept, strict=True):
            self._store(values, places, out, output.y, count)

    def _groups(self, output: _Output, channels: np.ndarray) -> Iterator[tuple[int, list[Expr], Expr | None]]:
        """(first lane, registers, lanes of the residual) of every group of registers that is narrowed together."""
        whole = None
        if self.epilogue.residual is not None and output.residual is not None:
            whole = tir.bind(tir.vload(self.residual, output.residual, len(channels)))
        lanes, done = self.isa.lanes, 0
        for group in self.isa.groups(len(output.acc)):
            places = channels[done * lanes : (done + group) * lanes]
            other = whole if whole is None or len(places) == len(channels) else tir.shuffle([whole], places.tolist())
            yield done * lanes, output.acc[done : done + group], other
            done += group

    def _through_table(self, outputs: list[_Output], position: Expr, channels: np.ndarray) -> list[list[Expr]]:
        """The bytes of all outputs side by side in whole registers through the table, then the residual."""
        groups = [list(self._groups(output, channels)) for output in outputs]
        indices = [
            tir.bind(self._index(self._requantize(registers, position + start)))
            for row in groups
            for start, registers, _ in row
        ]
        mapped = iter(self._look_up(indices))
        return [[self._after_table(next(mapped), other) for _, _, other in row] for row in groups]

    def _index(self, value: Expr) -> Expr:
        """s16 lanes -> u8 lanes that count table entries from the lowest value on."""
        unsigned = self.epilogue.dtype == "u8"
        lanes = lanes_of(value)
        index = tir.reinterpret(f"uint8x{lanes}", self.isa.saturate8(value, unsigned))
        return index if unsigned else tir.tirx.op.bitwise_xor(index, self.isa.splat(128, "uint8", lanes))

    def _look_up(self, indices: list[Expr]) -> list[Expr]:
        """Each vector's entries; narrow vectors share a register on the way, for a look-up costs the same for all."""
        result: list[Expr] = []
        pending = list(indices)
        while pending:
            lanes = lanes_of(pending[0])
            taken = 1
            while taken < len(pending) and lanes_of(pending[taken]) == lanes and (taken + 1) * lanes <= self.register:
                taken += 1
            # The shuffle wants a power of two; the first vector fills up.
            slots = 1 << (taken - 1).bit_length()
            vectors = pending[:taken] + [pending[0]] * (slots - taken)
            joined = vectors[0] if slots == 1 else tir.bind(tir.shuffle(vectors, range(slots * lanes)))
            mapped = self.isa.lookup(joined, self.table)
            assert mapped is not None, "every instruction set has a vector look-up"
            mapped = tir.bind(mapped)
            for k in range(taken):
                part = mapped if slots == 1 else tir.shuffle([mapped], range(k * lanes, (k + 1) * lanes))
                result.append(tir.bind(tir.reinterpret(f"{TVM_DTYPE[self.epilogue.dtype]}x{lanes}", part)))
            pending = pending[taken:]
        return result

    def _after_table(self, value: Expr, other: Expr | None) -> Expr:
        if other is None:
            return value
        wide = self._add_residual(tir.bind(tir.cast(f"int16x{lanes_of(value)}", value)), other)
        return tir.bind(self.isa.saturate8(wide, self.epilogue.dtype == "u8"))

    def _store(self, parts: list[Expr], channels: np.ndarray, out: Expr, index: Expr, count: int) -> None:
        if (channels != np.arange(len(channels))).any():
            parts = [tir.shuffle(parts, np.argsort(channels).tolist())]
        done = 0
        for part in parts:
            if done < count:
                store_lanes(out, index + done, part, min(count - done, lanes_of(part)))
            done += lanes_of(part)


class _Writer:
    """Writes loops over tasks, tiles of rows, chunks of channels and tiles of columns, and what is inside."""

    def __init__(self, plan: Plan, epilogue: _TileEpilogue, buffers: dict[str, Expr]) -> None:
        self.plan, self.geometry, self.product = plan, plan.geometry, plan.product
        self.epilogue, self.buffers = epilogue, buffers

    # --- loops --------------------------------------------------------------------------------------------------------

    def tasks(self, t0: Expr, t1: Expr) -> None:
        """All tasks in [t0, t1)."""
        g, rows = self.geometry, self.plan.tile_rows
        op = tir.tirx.op
        with T.serial(0, t1 - t0) as step:
            task = tir.bind(t0 + step)
            image = tir.bind(op.truncdiv(task, tir.const(g.tasks_per_image)))
            first = tir.bind((task - image * g.tasks_per_image) * g.task_rows)
            left = tir.const(g.rows) - first
            tiles = tir.bind(op.truncdiv(op.min(tir.const(g.task_rows), left), tir.const(rows)))
            with T.serial(0, tiles) as tile:
                self.row_tile(image, tir.bind(first + tile * rows), rows)
            rest = g.rows % rows
            if rest:
                with T.If(first + tir.const(g.task_rows) > tir.const(g.rows)), T.Then():
                    self.row_tile(image, tir.const(g.rows - rest), rest)

    def row_tile(self, image: Expr, row: Expr, rows: int) -> None:
        """`rows` output rows from `row` on, all channels and columns."""
        for chunks in self.plan.chunks:
            if chunks.count == 1:
                self.chunk(image, row, rows, chunks, tir.const(0))
            else:
                with T.serial(0, chunks.count) as number:
                    self.chunk(image, row, rows, chunks, number)

    def chunk(self, image: Expr, row: Expr, rows: int, chunks: Chunks, number: Expr) -> None:
        """One chunk of channels of all columns."""
        g, columns = self.geometry, self.plan.tile_columns
        channel = tir.bind(number * chunks.step + chunks.first)
        x = tir.bind(image * g.x.image + row * (g.stride_h * g.x.row) + self._input_channel(channel))
        y = tir.bind(image * g.y.image + row * g.y.row + channel)
        r = None
        if g.residual is not None:
            r = tir.bind(image * g.residual.image + row * g.residual.row + channel)
        block = self.plan.block_elements(chunks.width) * chunks.block_step
        weights = tir.bind(number * block + self.plan.block_offset(chunks))
        position = tir.bind(number * chunks.position_step + chunks.position)
        tile = _Tile(self, chunks, rows, weights, position)
        full, rest = divmod(g.columns, columns)
        if full > 1:
            with T.serial(0, full) as block_number:
                first = tir.bind(block_number * columns)
                tile.write(columns, self._moved(x, y, r, first))
        elif full == 1:
            tile.write(columns, (x, y, r))
        if rest:
            tile.write(rest, self._moved(x, y, r, tir.const(full * columns)))

    def _moved(self, x: Expr, y: Expr, r: Expr | None, column: Expr) -> tuple[Expr, Expr, Expr | None]:
        """The places of another output column."""
        g = self.geometry
        moved = None if r is None or g.residual is None else tir.bind(r + column * g.residual.column)
        return tir.bind(x + column * (g.stride_w * g.x.column)), tir.bind(y + column * g.y.column), moved

    def _input_channel(self, channel: Expr) -> Expr:
        m = self.geometry.multiplier
        return channel if m == 1 else tir.tirx.op.truncdiv(channel, tir.const(m))


class _Tile:
    """Outputs that are computed together: `rows` × some columns of one chunk."""

    def __init__(self, writer: _Writer, chunks: Chunks, rows: int, weights: Expr, position: Expr) -> None:
        self.plan, self.product, self.epilogue = writer.plan, writer.product, writer.epilogue
        self.geometry, self.buffers = writer.geometry, writer.buffers
        self.chunks, self.rows, self.weights, self.position = chunks, rows, weights, position
        self.registers = chunks.width // self.product.lanes

    def write(self, columns: int, places: tuple[Expr, Expr, Expr | None]) -> None:
        """Computes and stores the tile whose first output is at (x, y, residual)."""
        if self.plan.unrolled:
            self._unrolled(columns, places)
        else:
            self._store(self._looped(columns, places[0]), places)

    def _store(self, accs: dict[tuple[int, int], list[Expr]], places: tuple[Expr, Expr, Expr | None]) -> None:
        """Finishes and stores outputs (row, column) of the tile."""
        _, y, r = places
        g, outputs = self.geometry, []
        for (row, column), acc in accs.items():
            residual = None
            if r is not None and g.residual is not None:
                residual = r + (row * g.residual.row + column * g.residual.column)
            outputs.append(_Output(acc, y + (row * g.y.row + column * g.y.column), residual))
        channels = self.product.channels(self.chunks.width)
        self.epilogue.write_tile(outputs, self.position, self.buffers["y"], self.chunks.valid, channels)

    def _unrolled(self, columns: int, places: tuple[Expr, Expr, Expr | None]) -> None:
        """Every tap written out; a column of the input is loaded and arranged once for all its outputs."""
        g, plan, x = self.geometry, self.plan, places[0]
        outputs = [(row, column) for column in range(columns) for row in range(self.rows)]
        biases = {place: self.epilogue.bias(self.position, self.registers) for place in outputs}
        accs = {place: self.product.start(biases[place], self.chunks.width) for place in outputs}
        done: dict[tuple[int, int], list[Expr]] = {}
        for column, users in plan.users(columns):
            for group in range(plan.groups(self.rows)):
                rows = [row for row in range(self.rows) if plan.uses(row, group)]
                if not rows:
                    continue
                start = group * self.product.group
                depth = min(self.product.group, plan.window(self.rows) - start)
                taps = [
                    self._tap(x + ((start + k) * g.dilation_h * g.x.row + column * g.x.column)) for k in range(depth)
                ]
                operands = self.product.arrange(taps, self.chunks.width)
                for output, kernel_column in users:
                    for row in rows:
                        place = self._weight(plan.entries[Entry(row, group, kernel_column)])
                        key = (row, output)
                        accs[key] = self.product.accumulate(accs[key], operands, self.buffers["weights"], place)
            for key in [(row, output) for output, k in users if k == g.kw - 1 for row in range(self.rows)]:
                done[key] = self.product.finish(accs.pop(key), biases[key])
            if done and (not self.epilogue.epilogue.lut or not accs):
                self._store(done, places)
                done = {}

    def _looped(self, columns: int, x: Expr) -> dict[tuple[int, int], list[Expr]]:
        """Loops over groups of rows and kernel columns: for kernels too large to write out."""
        g = self.geometry
        biases = self.epilogue.bias(self.position, self.registers)
        start = self.product.start(biases, self.chunks.width)
        count = len(start)
        memory = tir.alloc(columns * count, dtype_of(start[0]))
        for k in range(columns * count):
            tir.store(memory, k, start[k % count])

        def step(group: Expr, kernel_column: Expr, depth: int) -> None:
            entry = tir.bind(group * g.kw + kernel_column)
            place = tir.bind(self.weights + entry * (self.product.group * self.chunks.width))
            top = group * (self.product.group * g.dilation_h * g.x.row)
            corner = tir.bind(x + top + kernel_column * (g.dilation_w * g.x.column))
            for column in range(columns):
                base = corner + column * g.stride_w * g.x.column
                taps = [self._tap(base + k * g.dilation_h * g.x.row) for k in range(depth)]
                slots = range(column * count, (column + 1) * count)
                accs = [tir.bind(tir.load(memory, slot)) for slot in slots]
                operands = self.product.arrange(taps, self.chunks.width)
                sums = self.product.accumulate(accs, operands, self.buffers["weights"], place)
                for slot, value in zip(slots, sums, strict=True):
                    tir.store(memory, slot, value)

        full, rest = divmod(g.kh, self.product.group)
        if full:
            with T.serial(0, full) as group, T.serial(0, g.kw) as kernel_column:
                step(group, kernel_column, self.product.group)
        if rest:
            with T.serial(0, g.kw) as kernel_column:
                step(tir.const(full), kernel_column, rest)
        return {
            (0, column): self.product.finish(
                [tir.bind(tir.load(memory, column * count + k)) for k in range(count)], biases
            )
            for column in range(columns)
        }

    def _weight(self, entry: int) -> Expr:
        return self.weights + entry * self.product.group * self.chunks.width

    def _tap(self, index: Expr) -> Expr:
        """The chunk's channels of one tap; with a depth multiplier every input channel several times."""
        width, m = self.chunks.width, self.geometry.multiplier
        loaded = tir.vload(self.buffers["x"], index, width)
        if m == 1:
            return loaded
        return tir.shuffle([tir.bind(loaded)], [lane // m for lane in range(width)])
