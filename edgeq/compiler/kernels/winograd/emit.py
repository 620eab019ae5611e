"""Emits a Winograd convolution: blocks of tiles -> V; column blocks -> (U) -> M -> outputs. Imports tvm.

What is cut how stands in plan.py, the transforms in transforms.py. Everything between is scratch:

    V  s16 [position][tile][channel]        transformed inputs of a block of tiles
    U  s16 [position][group][columns]       transformed weights of a column block, where they aren't stored so
    M  s32 [position][tile][column]         products of a band of tiles; the start value sits in position (1, 1)
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tvm.tirx import op as _op

from edgeq.compiler.isa.products import Run
from edgeq.compiler.kernels import tir
from edgeq.compiler.kernels.base import CACHE_LINE, Image
from edgeq.compiler.kernels.epilogue.emit import EpilogueEmitter
from edgeq.compiler.kernels.epilogue.epilogue import isa_of
from edgeq.compiler.kernels.loops import divide, remainder, span
from edgeq.compiler.kernels.tir import Expr, T
from edgeq.compiler.kernels.winograd.plan import FETCHED_BYTES
from edgeq.compiler.kernels.winograd.transforms import Arithmetic, Chain
from edgeq.compiler.target import Target

if TYPE_CHECKING:
    from edgeq.compiler.kernels.winograd.winograd import WinogradSpec


def emit_winograd(spec: WinogradSpec, target: Target) -> Any:
    """The PrimFunc of a Winograd convolution."""
    with tir.kernel(spec.symbol(target), spec.parameters(target)) as (out, t0, t1, buffers):
        named = dict(zip([operand.name for operand in spec.operands()], buffers, strict=True))
        _Emitter(spec, target, named).units(t0, t1)
    return out[0]


@dataclass(frozen=True)
class _Block:
    """Some tiles: image number, first tile, how many (numbers, or expressions at the image's edge)."""

    image: Expr
    row: Expr
    column: Expr
    height: Expr | int
    width: Expr | int


@dataclass(frozen=True)
class _Columns:
    """A column block: first lane, registers, channels to store, where its weights start."""

    position: Expr
    vectors: int
    count: int
    weights: Expr


def _arithmetic(lanes: int, dtype: str) -> Arithmetic:
    """+ and − of vectors; kept values go through a local register, or the simplifier would write them out again."""
    return Arithmetic(tir.hold, lambda value, factor: value * tir.broadcast(tir.const(factor, dtype), lanes))


class _Emitter:
    def __init__(self, spec: WinogradSpec, target: Target, buffers: dict[str, Expr]) -> None:
        self.spec, self.target, self.buffers = spec, target, buffers
        self.plan, self.isa = spec.plan(target), isa_of(target)
        self.transform, self.product = self.plan.transform, self.plan.product
        self.scratch = buffers["scratch"]
        self.emitter = EpilogueEmitter(
            spec.epilogue,
            target,
            spec.layout(target),
            buffers["params"],
            table=buffers.get("table"),
            residual=buffers.get("residual"),
        )
        self.zero: Expr = 0

    # --- blocks -------------------------------------------------------------------------------------------------------

    def units(self, t0: Expr, t1: Expr) -> None:
        """Tasks are equal shares of the units; a block's inputs are transformed once in a range of tasks."""
        plan, tasks = self.plan, self.spec.tasks()
        begin, end = (tir.bind(_op.truncdiv(t * plan.units, tir.const(tasks))) for t in (t0, t1))
        self.zero = tir.bind(_op.shift_right(t0, tir.const(31)))  # tasks are never negative, but LLVM doesn't know
        with span(begin, end) as unit:
            number, split = divide(unit, plan.column_splits), tir.bind(remainder(unit, plan.column_splits))
            block = self._block(tir.bind(number))
            if plan.column_splits == 1:
                self._inputs(block)
            else:
                with T.If(tir.tirx.any(split == 0, unit == begin)), T.Then():
                    self._inputs(block)
            self._channels(block, split)

    def _block(self, number: Expr) -> _Block:
        plan = self.plan
        rows, column = tir.bind(divide(number, plan.blocks_w)), tir.bind(remainder(number, plan.blocks_w))
        image, row = tir.bind(divide(rows, plan.blocks_h)), tir.bind(remainder(rows, plan.blocks_h))
        row, column = tir.bind(row * plan.block_h), tir.bind(column * plan.block_w)
        height: Expr | int = plan.block_h
        width: Expr | int = plan.block_w
        if plan.tiles_h % plan.block_h:
            height = tir.bind(tir.tirx.min(plan.tiles_h - row, tir.const(plan.block_h)))
        if plan.tiles_w % plan.block_w:
            width = tir.bind(tir.tirx.min(plan.tiles_w - column, tir.const(plan.block_w)))
        return _Block(image, row, column, height, width)

    def _pieces(self, block: _Block) -> Expr | int:
        """Register tiles of a block; rows of tiles follow each other without a gap, for only one-row blocks are cut."""
        tiles, rows = block.height * block.width, self.plan.rows
        if isinstance(tiles, int):
            return -(-tiles // rows)
        return tir.bind(_op.truncdiv(tiles + (rows - 1), tir.const(rows)))

    def _origin(self, tile: Expr, first: Expr, extent: int) -> Expr:
        """First output row or column of a tile; the last one is moved inwards."""
        m = self.transform.m
        at = (first + tile) * m
        return tir.bind(tir.tirx.min(at, tir.const(extent - m)) if extent % m else at)

    def _place(self, image: Image, number: Expr, row: Expr, column: Expr) -> Expr:
        return tir.bind(number * image.image_stride + row * image.row_stride + column * image.pixel_stride)

    # --- inputs: x -> V -----------------------------------------------------------------------------------------------

    def _inputs(self, block: _Block) -> None:
        plan, x = self.plan, self.spec.x
        widest = min(2 * self.isa.lanes, 1 << (plan.channels.bit_length() - 1))
        steps = -(-plan.channels // widest)
        with T.serial(0, block.height) as i, T.serial(0, block.width) as j:
            row, column = self._origin(i, block.row, self.spec.y.h), self._origin(j, block.column, self.spec.y.w)
            source = self._place(x, block.image, row, column)
            place = tir.bind((i * plan.block_w + j) * plan.channels)
            with T.serial(0, steps) as step:
                channel = tir.bind(tir.tirx.min(step * widest, tir.const(plan.channels - widest)))
                self._input_tile(tir.bind(source + channel), tir.bind(place + channel), widest)

    def _input_tile(self, source: Expr, place: Expr, lanes: int) -> None:
        """Transforms `lanes` channels of one tile: columns first, then rows."""
        x, taps, dtype = self.spec.x, self.transform.taps, f"int16x{lanes}"
        chain, arithmetic = self.transform.inputs, _arithmetic(lanes, "int16")
        columns = tir.alloc(taps * taps, dtype)
        for j in range(taps):
            values = [
                tir.hold(
                    tir.cast(dtype, tir.vload(self.buffers["x"], source + i * x.row_stride + j * x.pixel_stride, lanes))
                )
                for i in range(taps)
            ]
            for i, value in enumerate(chain(values, arithmetic)):
                tir.store(columns, i * taps + j, value)
        for i in range(taps):
            values = [tir.load(columns, i * taps + j) for j in range(taps)]
            for j, value in enumerate(chain(values, arithmetic)):
                tir.vstore(self.scratch, place + (i * taps + j) * self.plan.v_stride, value, lanes)

    # --- column blocks ------------------------------------------------------------------------------------------------

    def _channels(self, block: _Block, split: Expr) -> None:
        """All column blocks of a share: full ones in a loop, what remains by itself."""
        plan = self.plan
        full, rest = divmod(plan.out_channels, plan.columns)
        share = -(-(full + (rest > 0)) // plan.column_splits)
        first = tir.bind(split * share) if plan.column_splits > 1 else tir.const(0)
        size = plan.columns * plan.groups * self.product.group * (self.transform.positions if plan.stored else 9)

        def kind(begin: int, end: int, registers: int, count: int) -> None:
            low = tir.tirx.max(first, tir.const(begin)) if plan.column_splits > 1 else tir.const(begin)
            high = tir.tirx.min(first + share, tir.const(end)) if plan.column_splits > 1 else tir.const(end)
            with span(low, high) as number:
                position, weights = tir.bind(number * plan.columns), tir.bind(number * size)
                self._column_block(block, _Columns(position, registers, count, weights))

        if full:
            kind(0, full, plan.vectors, plan.columns)
        if rest:
            kind(full, full + 1, -(-rest // self.isa.lanes), rest)

    def _column_block(self, block: _Block, columns: _Columns) -> None:
        plan = self.plan
        weights, start, stride = self.buffers["w"], columns.weights, plan.groups * columns.vectors * self._step_elements
        if not plan.stored:
            self._transform_weights(columns, tir.const(0))
            weights, start, stride = self.scratch, tir.const(plan.u_start), plan.u_stride
        pieces = self._pieces(block)
        if plan.chunks == 1:
            with T.serial(0, self._bands(pieces)) as band:
                first = tir.bind(band * plan.band)
                self._multiply((first, self._at_most(pieces - first)), columns, (weights, start, stride), None)
                self._outputs(block, first, columns)
            return
        self._multiply((tir.const(0), pieces), columns, (weights, start, stride), None)
        with span(1, plan.chunks) as chunk:
            self._transform_weights(columns, chunk)
            self._multiply((tir.const(0), pieces), columns, (weights, start, stride), chunk)
        self._outputs(block, tir.const(0), columns)

    @property
    def _step_elements(self) -> int:
        """Weights of one product step and register."""
        return self.isa.lanes * self.product.group

    def _bands(self, pieces: Expr | int) -> Expr | int:
        if isinstance(pieces, int):
            return -(-pieces // self.plan.band)
        return tir.bind(divide(pieces + (self.plan.band - 1), self.plan.band))

    def _at_most(self, pieces: Expr) -> Expr:
        return tir.bind(tir.tirx.min(pieces, tir.const(self.plan.band)))

    def _outputs(self, block: _Block, first: Expr, columns: _Columns) -> None:
        """The outputs of the tiles that M holds, from register tile `first` on."""
        plan = self.plan
        begin = tir.bind(first * plan.rows)
        count = tir.bind(tir.tirx.min(block.height * block.width - begin, tir.const(plan.band * plan.rows)))
        with T.serial(0, count) as own:
            tile = tir.bind(begin + own)
            i, j = tir.bind(divide(tile, plan.block_w)), tir.bind(remainder(tile, plan.block_w))
            row, column = self._origin(i, block.row, self.spec.y.h), self._origin(j, block.column, self.spec.y.w)
            self._output_tile(own, columns, block.image, row, column)

    def _transform_weights(self, columns: _Columns, chunk: Expr) -> None:
        """U of one chunk of channels from nine bytes a weight."""
        plan, taps = self.plan, self.transform.taps
        width = columns.vectors * self.isa.lanes * self.product.group
        lanes = math.gcd(2 * self.isa.lanes, width)
        with T.serial(0, plan.chunk_groups) as group, T.serial(0, width // lanes) as part:
            first = chunk * plan.chunk_groups + group
            source = tir.bind(columns.weights + first * (9 * width) + part * lanes)
            place = tir.bind(plan.u_start + group * width + part * lanes)
            arithmetic, dtype = _arithmetic(lanes, "int16"), f"int16x{lanes}"
            rows = tir.alloc(taps * 3, dtype)
            for j in range(3):
                loaded = [tir.vload(self.buffers["w"], source + (i * 3 + j) * width, lanes) for i in range(3)]
                values = [tir.hold(tir.cast(dtype, value)) for value in loaded]
                for i, value in enumerate(self.transform.weights(values, arithmetic)):
                    tir.store(rows, i * 3 + j, value)
            for i in range(taps):
                values = [tir.load(rows, i * 3 + j) for j in range(3)]
                for j, value in enumerate(self.transform.weights(values, arithmetic)):
                    tir.vstore(self.scratch, place + (i * taps + j) * plan.u_stride, value, lanes)

    # --- products: V, U -> M ------------------------------------------------------------------------------------------

    def _multiply(
        self, pieces: tuple[Expr, Expr | int], columns: _Columns, weights: tuple[Expr, Expr, int], chunk: Expr | None
    ) -> None:
        """M = V·U position by position; a `chunk` adds to what earlier ones left.

        Args:
            pieces: the first register tile, and how many.
            weights: buffer, where they start, elements from one position to the next.
        """
        plan, rows = self.plan, self.plan.rows
        first, count = pieces
        with T.serial(0, self.transform.positions) as position:
            self._fetch(columns, chunk, position)
            u = tir.bind(weights[1] + position * weights[2])
            channel = 0 if chunk is None else chunk * self._chunk_channels
            v = tir.bind(position * plan.v_stride + first * (rows * plan.channels) + channel)
            m = tir.bind(plan.m_start + position * plan.m_stride)
            with T.serial(0, count) as piece:
                own_v = tir.bind(v + piece * (rows * plan.channels))
                own_m = tir.bind(m + piece * (rows * 2 * plan.columns))
                self._register_tile(columns, (weights[0], u), own_v, own_m, chunk is None)

    def _fetch(self, columns: _Columns, chunk: Expr | None, position: Expr) -> None:
        """Asks for this position's share of the weights that are transformed next, which come from far away."""
        plan = self.plan
        if plan.stored or not self.isa.fetches or plan.weight_bytes < FETCHED_BYTES:
            return
        size = plan.chunk_groups * 9 * columns.vectors * self.isa.lanes * self.product.group
        lines = math.ceil(size / (CACHE_LINE * self.transform.positions))
        following = size if chunk is None else (chunk + 1) * size
        first = tir.bind(columns.weights + following + position * (lines * CACHE_LINE))
        for line in range(lines):
            tir.fetch(self.buffers["w"], first + line * CACHE_LINE)

    @property
    def _chunk_channels(self) -> int:
        return self.plan.chunk_groups * self.product.group

    def _register_tile(self, columns: _Columns, weights: tuple[Expr, Expr], v: Expr, m: Expr, is_first: bool) -> None:
        rows, vectors, lanes = self.plan.rows, columns.vectors, self.isa.lanes
        places = [[m + (row * self.plan.columns + v * lanes) * 2 for v in range(vectors)] for row in range(rows)]
        zero = tir.broadcast(tir.const(0), lanes)  # the first addition of a short sum goes away
        starts = [[zero if is_first else self._m(place) for place in line] for line in places]
        initial = self.product.initial(starts)
        acc = tir.alloc(len(initial), f"int32x{lanes}")
        for number, value in enumerate(initial):
            tir.store(acc, number, value)
        self.product.accumulate(
            Run(
                acc=acc,
                rows=rows,
                vectors=vectors,
                x=self.scratch,
                x_index=lambda row: v + row * self.plan.channels,
                w=weights[0],
                w_index=weights[1],
                groups=self.plan.chunk_groups,
                zero=self.zero,
            )
        )
        sums = self.product.results([tir.load(acc, number) for number in range(len(initial))], starts)
        for line, values in zip(places, sums, strict=True):
            for place, value in zip(line, values, strict=True):
                tir.vstore(self.scratch, place, tir.reinterpret(f"int16x{2 * lanes}", value), 2 * lanes)

    def _m(self, place: Expr) -> Expr:
        lanes = self.isa.lanes
        return tir.reinterpret(f"int32x{lanes}", tir.vload(self.scratch, place, 2 * lanes))

    # --- outputs: M -> y ----------------------------------------------------------------------------------------------

    def _output_tile(self, tile: Expr, columns: _Columns, image: Expr, row: Expr, column: Expr) -> None:
        spec, m = self.spec, self.transform.m
        residual = spec.epilogue.residual
        to = tir.bind(self._place(spec.y, image, row, column) + columns.position)
        other = None
        if residual is not None:
            other = tir.bind(self._place(residual.image, image, row, column) + columns.position)
        results = self._transform_outputs(tile, columns)
        if spec.epilogue.lut:
            self._write_mapped(results, columns, to, other)
            return
        for i in range(m):
            for j in range(m):
                self.emitter.write(
                    self._recover(results, i, j),
                    columns.position,
                    self.buffers["y"],
                    to + i * spec.y.row_stride + j * spec.y.pixel_stride,
                    columns.count,
                    residual_index=self._residual_place(other, i, j),
                )

    def _residual_place(self, start: Expr | None, i: Expr | int, j: Expr | int) -> Expr | None:
        residual = self.spec.epilogue.residual
        if residual is None or start is None:
            return None
        return start + i * residual.image.row_stride + j * residual.image.pixel_stride

    def _transform_outputs(self, tile: Expr, columns: _Columns) -> list[Expr]:
        """For each register of columns m × m outputs, times a factor each, in a local array."""
        t, lanes, plan = self.transform, self.isa.lanes, self.plan
        chain: Chain = t.outputs
        arithmetic, dtype = _arithmetic(lanes, "int32"), f"int32x{lanes}"
        outputs: list[Expr] = []
        biases = self.emitter.bias(columns.position, columns.vectors)
        for vector in range(columns.vectors):
            start = tir.bind(plan.m_start + tile * (2 * plan.columns) + vector * 2 * lanes)
            halves, result = tir.alloc(t.m * t.taps, dtype), tir.alloc(t.m * t.m, dtype)
            for j in range(t.taps):
                sums = [self._m(start + (i * t.taps + j) * plan.m_stride) for i in range(t.taps)]
                if j == t.center % t.taps:
                    sums[t.center // t.taps] += biases[vector]  # from (1, 1) a start value reaches every output
                values = [tir.hold(value) for value in sums]
                for i, value in enumerate(chain(values, arithmetic)):
                    tir.store(halves, i * t.taps + j, value)
            for i in range(t.m):
                values = [tir.load(halves, i * t.taps + j) for j in range(t.taps)]
                for j, value in enumerate(chain(values, arithmetic)):
                    tir.store(result, i * t.m + j, value)
            outputs.append(result)
        return outputs

    def _recover(self, results: Sequence[Expr], i: int, j: int) -> list[Expr]:
        """The finished accumulators of output (i, j): exact division modulo 2^32, then the common power of two."""
        t, lanes = self.transform, self.isa.lanes
        factor, registers = t.factor(i, j), []
        for result in results:
            value = tir.load(result, i * t.m + j)
            if factor != 1:
                value = value * tir.broadcast(tir.const(factor), lanes)
            registers.append(tir.bind(self.isa.shift_right(value, t.lift)))
        return registers

    def _write_mapped(self, results: Sequence[Expr], columns: _Columns, to: Expr, other: Expr | None) -> None:
        """Finishes a tile whose epilogue has a table: all its bytes together."""
        spec, m, at = self.spec, self.transform.m, self.plan.bytes_start
        words = columns.vectors * self.isa.lanes // 2
        for i in range(m):
            for j in range(m):
                place = at + (i * m + j) * words
                self.emitter.stage_bytes(self._recover(results, i, j), columns.position, self.scratch, place)
        self.emitter.map_bytes(self.scratch, at, m * m * words * 2, self.target.vector_bytes)
        with T.serial(0, m) as i, T.serial(0, m) as j:
            self.emitter.finish_bytes(
                self.scratch,
                at + (i * m + j) * words,
                columns.vectors,
                self.buffers["y"],
                to + i * spec.y.row_stride + j * spec.y.pixel_stride,
                columns.count,
                residual_index=self._residual_place(other, i, j),
            )
