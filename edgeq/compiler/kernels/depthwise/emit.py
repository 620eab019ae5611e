"""Writes a depthwise kernel from its plan. Imports tvm."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
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
        if self.epilogue.words:
            for output in outputs:
                self._write_words(output, position, out, count)
            return
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

    def _write_words(self, output: _Output, position: Expr, out: Expr, count: int) -> None:
        """Finishes one output's sums of 16 bits; two registers hold a chunk as packing places makes it one again."""
        unsigned, start, done = self.epilogue.dtype == "u8", 0, []
        for value in output.acc:
            done.append(tir.bind(self.finish_words(value, position + start)))
            start += lanes_of(value)
        both = len(done) == 2
        packed = self.isa.pack_places(done[0], done[1], unsigned) if both else self.isa.saturate8(done[0], unsigned)
        store_lanes(out, output.y, packed, count)

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
        self.zero = tir.bind(op.shift_right(t0, tir.const(31)))
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
        if self.plan.sliding:
            tile.slide((x, y, r))
            return
        full, rest = divmod(g.columns, columns)
        if full > 1:
            with T.serial(0, full) as block_number:
                first = tir.bind(block_number * columns)
                tile.write(columns, self.moved(x, y, r, first))
        elif full == 1:
            tile.write(columns, (x, y, r))
        if rest:
            tile.write(rest, self.moved(x, y, r, tir.const(full * columns)))

    def moved(self, x: Expr, y: Expr, r: Expr | None, column: Expr) -> tuple[Expr, Expr, Expr | None]:
        """The places of another output column."""
        g = self.geometry
        moved = None if r is None or g.residual is None else tir.bind(r + column * g.residual.column)
        return tir.bind(x + column * (g.stride_w * g.x.column)), tir.bind(y + column * g.y.column), moved

    def _input_channel(self, channel: Expr) -> Expr:
        m = self.geometry.multiplier
        return channel if m == 1 else tir.tirx.op.truncdiv(channel, tir.const(m))


@dataclass(frozen=True)
class _Slots:
    """Accumulators of outputs in a row: `count` registers for each of `rows` of a slot."""

    memory: Expr
    rows: int
    count: int

    def load(self, slot: int, row: int) -> list[Expr]:
        first = (slot * self.rows + row) * self.count
        return [tir.bind(tir.load(self.memory, first + k)) for k in range(self.count)]

    def store(self, slot: int, row: int, values: list[Expr]) -> None:
        first = (slot * self.rows + row) * self.count
        for k, value in enumerate(values):
            tir.store(self.memory, first + k, value)


class _Tile:
    """Outputs that are computed together: `rows` × some columns of one chunk."""

    def __init__(self, writer: _Writer, chunks: Chunks, rows: int, weights: Expr, position: Expr) -> None:
        self.plan, self.product, self.epilogue = writer.plan, writer.product, writer.epilogue
        self.geometry, self.buffers = writer.geometry, writer.buffers
        self.chunks, self.rows, self.weights, self.position = chunks, rows, weights, position
        self.writer = writer
        self.registers = chunks.width // self.product.lanes

    def write(self, columns: int, places: tuple[Expr, Expr, Expr | None]) -> None:
        """Computes and stores the tile whose first output is at (x, y, residual)."""
        if self.plan.unrolled:
            self._unrolled(columns, places)
        else:
            self._store(self._looped(columns, places[0]), places)

    def slide(self, places: tuple[Expr, Expr, Expr | None]) -> None:
        """Computes and stores a whole row of outputs, column by column: each column of the input is loaded and arranged
        once, the outputs that it belongs to are in registers, and weights are operands in memory."""
        g, x = self.geometry, places[0]
        reach, overlap = (g.kw - 1) * g.dilation_w, min(g.overlap, g.columns)
        biases = self._biases()
        start = self.product.start(biases, self.chunks.width)
        memory = tir.alloc(overlap * self.rows * len(start), dtype_of(start[0]))
        slots = _Slots(memory, self.rows, len(start))
        before = max(0, reach - g.stride_w + 1)
        self._columns(x, range(before), slots, start, overlap)

        def output(number: Expr | int, live: int) -> None:
            at = self.writer.moved(*places, number)
            self._columns(at[0], range(before, reach + 1), slots, start, live)
            done = {(row, 0): slots.load(0, row) for row in range(self.rows)}
            self._store({key: self._finished(sums, biases) for key, sums in done.items()}, at)
            for slot in range(1, live):
                for row in range(self.rows):
                    slots.store(slot - 1, row, slots.load(slot, row))

        whole = g.columns - overlap + 1
        weights = self.weights
        # A count and an index that LLVM can't see through: it would load all weights once, and spill them.
        with T.serial(0, whole + self.writer.zero) as number:
            self.weights = tir.bind(weights + (number & self.writer.zero))
            output(number, overlap)
        self.weights = weights
        for number in range(whole, g.columns):
            output(tir.const(number), g.columns - number)

    def _columns(self, x: Expr, columns: Iterable[int], slots: _Slots, start: list[Expr], live: int) -> None:
        """Adds columns of the input, counted from the first of output 0, to `live` outputs in a row."""
        g, plan = self.geometry, self.plan
        for column in columns:
            places = [(slot, *divmod(column - slot * g.stride_w, g.dilation_w)) for slot in range(live)]
            users = [(slot, k) for slot, k, rest in places if not rest and 0 <= k < g.kw]
            if not users:
                continue
            accs = {
                (slot, row): start if k == 0 else slots.load(slot, row) for slot, k in users for row in range(self.rows)
            }
            for group in range(plan.groups(self.rows)):
                rows = [row for row in range(self.rows) if plan.uses(row, group)]
                operands = self._operands(x + column * g.x.column, group)
                for slot, k in users:
                    for row in rows:
                        place = self._weight(plan.entries[Entry(row, group, k)])
                        sums = self.product.accumulate(accs[slot, row], operands, self.buffers["weights"], place)
                        accs[slot, row] = sums
            for (slot, row), sums in accs.items():
                slots.store(slot, row, sums)

    def _operands(self, x: Expr, group: int) -> list[Expr]:
        """The arranged taps of a group of the window, of the column at x."""
        g, first = self.geometry, group * self.product.group
        depth = min(self.product.group, self.plan.window(self.rows) - first)
        taps = [self._tap(x + (first + k) * g.dilation_h * g.x.row) for k in range(depth)]
        return self.product.arrange(taps, self.chunks.width)

    def _biases(self) -> list[Expr]:
        """What accumulators of 32 bits start from."""
        return [] if self.epilogue.epilogue.words else self.epilogue.bias(self.position, self.registers)

    def _finished(self, sums: list[Expr], biases: list[Expr]) -> list[Expr]:
        """Sums as the epilogue takes them."""
        return sums if self.epilogue.epilogue.words else self.product.finish(sums, biases)

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
        biases = {place: self._biases() for place in outputs}
        accs = {place: self.product.start(biases[place], self.chunks.width) for place in outputs}
        done: dict[tuple[int, int], list[Expr]] = {}
        for column, users in plan.users(columns):
            for group in range(plan.groups(self.rows)):
                rows = [row for row in range(self.rows) if plan.uses(row, group)]
                if not rows:
                    continue
                operands = self._operands(x + column * g.x.column, group)
                for output, kernel_column in users:
                    for row in rows:
                        place = self._weight(plan.entries[Entry(row, group, kernel_column)])
                        key = (row, output)
                        accs[key] = self.product.accumulate(accs[key], operands, self.buffers["weights"], place)
            for key in [(row, output) for output, k in users if k == g.kw - 1 for row in range(self.rows)]:
                done[key] = self._finished(accs.pop(key), biases[key])
            if done and (not self.epilogue.epilogue.lut or not accs):
                self._store(done, places)
                done = {}

    def _looped(self, columns: int, x: Expr) -> dict[tuple[int, int], list[Expr]]:
        """Loops over groups of rows and kernel columns: for kernels too large to write out."""
        g = self.geometry
        biases = self._biases()
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
        sums = {
            (0, column): [tir.bind(tir.load(memory, column * count + k)) for k in range(count)]
            for column in range(columns)
        }
        return {key: self._finished(own, biases) for key, own in sums.items()}

    def _weight(self, entry: int) -> Expr:
        return self.weights + entry * self.product.group * self.chunks.width

    def _tap(self, index: Expr) -> Expr:
        """The chunk's channels of one tap; with a depth multiplier every input channel several times."""
        width, m = self.chunks.width, self.geometry.multiplier
        loaded = tir.vload(self.buffers["x"], index, width)
        if m == 1:
            return loaded
        return tir.shuffle([tir.bind(loaded)], [lane // m for lane in range(width)])
