"""Writes a depthwise kernel from its plan. Imports tvm."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from edgeq.compiler.kernels import tir
from edgeq.compiler.kernels.base import DTYPE_BYTES, SLACK_BYTES, Image
from edgeq.compiler.kernels.depthwise_plan import Chunks, Entry, Plan
from edgeq.compiler.kernels.epilogue import parameter_words
from edgeq.compiler.kernels.epilogue_emit import EpilogueEmitter, store_lanes
from edgeq.compiler.kernels.tir import Expr, T

if TYPE_CHECKING:
    from edgeq.compiler.kernels.depthwise import DepthwiseSpec
    from edgeq.compiler.target import Target


def emit(spec: DepthwiseSpec, target: Target) -> Any:
    """The PrimFunc of a depthwise convolution."""
    plan = spec.plan(target)
    layout = spec.layout(plan)
    weights = sum(plan.block_elements(width) for _, width in plan.block_channels)
    parameters = [
        ("x", spec.x_dtype, _readable(spec.x, spec.x_dtype)),
        ("weights", plan.product.weight_dtype, weights),
        ("params", "s32", parameter_words(spec.epilogue, target, layout)),
    ]
    other = spec.epilogue.residual
    if spec.epilogue.lut:
        parameters.append(("table", spec.epilogue.dtype, 256))
    if other is not None:
        parameters.append(("residual", other.dtype, _readable(other.image, other.dtype)))
    parameters.append(("y", spec.y_dtype, spec.y.elements))
    with tir.kernel(spec.symbol(target), parameters) as (result, t0, t1, buffers):
        named = {name: buffer for (name, _, _), buffer in zip(parameters, buffers, strict=True)}
        epilogue = _ReorderingEmitter(
            spec.epilogue, target, layout, named["params"], table=named.get("table"), residual=named.get("residual")
        )
        _Writer(plan, epilogue, named).tasks(t0, t1)
    return result[0]


def _readable(image: Image, dtype: str) -> int:
    """Elements of an image with the slack behind it."""
    return image.elements + SLACK_BYTES // DTYPE_BYTES[dtype]


class _ReorderingEmitter(EpilogueEmitter):
    """An epilogue whose order isn't the channels' order: one shuffle in front of the store mends it."""

    def write_channels(
        self,
        acc: list[Expr],
        position: Expr,
        out: Expr,
        index: Expr,
        count: int,
        residual_index: Expr | None,
        channels: np.ndarray,
    ) -> None:
        """As `write`, where place p of the epilogue's order holds channel channels[p] of the chunk."""
        if (channels == np.arange(len(channels))).all():
            self.write(acc, position, out, index, count, residual_index=residual_index)
            return
        lanes, parts, done = self.isa.lanes, [], 0
        other = None if residual_index is None else tir.bind(tir.vload(self.residual, residual_index, len(channels)))
        if self.epilogue.form == "none":
            places = np.array(self.isa.order(len(acc)))
            parts, channels = [tir.bind(register) for register in acc], channels[places]
        else:
            for group in self.isa.groups(len(acc)):
                place = slice(done * lanes, (done + group) * lanes)
                picked = None if other is None else tir.shuffle([other], channels[place])
                parts.append(tir.bind(self.finish(acc[done : done + group], position + done * lanes, count, picked)))
                done += group
        store_lanes(out, index, tir.shuffle(parts, np.argsort(channels)), count)


class _Writer:
    """Writes loops over tasks, tiles of rows, chunks of channels and tiles of columns, and what is inside."""

    def __init__(self, plan: Plan, epilogue: _ReorderingEmitter, buffers: dict[str, Expr]) -> None:
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
        x, y, r = places
        g = self.geometry
        accs = self._unrolled(columns, x) if self.plan.unrolled else self._looped(columns, x)
        for (row, column), acc in accs.items():
            residual = None
            if r is not None and g.residual is not None:
                residual = r + (row * g.residual.row + column * g.residual.column)
            place = y + (row * g.y.row + column * g.y.column)
            channels = self.product.channels(self.chunks.width)
            self.epilogue.write_channels(
                acc, self.position, self.buffers["y"], place, self.chunks.valid, residual, channels
            )

    def _unrolled(self, columns: int, x: Expr) -> dict[tuple[int, int], list[Expr]]:
        """Every tap written out; a column of the input is loaded and arranged once for all its outputs."""
        g, plan = self.geometry, self.plan
        accs = {
            (row, column): self.epilogue.bias(self.position, self.registers)
            for column in range(columns)
            for row in range(self.rows)
        }
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
        return accs

    def _looped(self, columns: int, x: Expr) -> dict[tuple[int, int], list[Expr]]:
        """Loops over groups of rows and kernel columns: for kernels too large to write out."""
        g = self.geometry
        vector = f"int32x{self.product.lanes}"
        memory = tir.alloc(columns * self.registers, vector)
        start = self.epilogue.bias(self.position, self.registers)
        for k in range(columns * self.registers):
            tir.store(memory, k, start[k % self.registers])

        def step(group: Expr, kernel_column: Expr, depth: int) -> None:
            entry = tir.bind(group * g.kw + kernel_column)
            place = tir.bind(self.weights + entry * (self.product.group * self.chunks.width))
            top = group * (self.product.group * g.dilation_h * g.x.row)
            corner = tir.bind(x + top + kernel_column * (g.dilation_w * g.x.column))
            for column in range(columns):
                base = corner + column * g.stride_w * g.x.column
                taps = [self._tap(base + k * g.dilation_h * g.x.row) for k in range(depth)]
                slots = range(column * self.registers, (column + 1) * self.registers)
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
            (0, column): [tir.bind(tir.load(memory, column * self.registers + k)) for k in range(self.registers)]
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
