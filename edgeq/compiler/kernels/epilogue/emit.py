"""Emits an epilogue: s32 accumulator registers of one pixel, consecutive channels -> stored elements.

Imports tvm. Packing and proofs are in epilogue.py, the instruction sets in isa/.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from edgeq.compiler.isa.base import Isa, lanes_of
from edgeq.compiler.kernels import tir
from edgeq.compiler.kernels.base import DTYPE_RANGE, TVM_DTYPE, Epilogue
from edgeq.compiler.kernels.epilogue.epilogue import ChannelLayout, isa_of, parameter_words, residual_constants
from edgeq.compiler.kernels.tir import Expr, T
from edgeq.compiler.target import Target


def store_lanes(buffer: Expr, index: Expr | int, vector: Expr, count: int) -> None:
    """Stores the first `count` lanes and nothing behind them: one store where it is all, else powers of two."""
    lanes = lanes_of(vector)
    if count >= lanes:
        tir.vstore(buffer, index, vector, lanes)
        return
    vector = tir.bind(vector)
    done = 0
    while done < count:
        piece = 1 << ((count - done).bit_length() - 1)
        part = tir.shuffle([vector], range(done, done + piece))
        tir.vstore(buffer, index + done, part, piece)
        done += piece


class EpilogueEmitter:
    """Epilogue code for one kernel.

    Args:
        params: the flat int32 operand that `pack_parameters` filled, with the same layout.
        table: flat operand of 256 bytes of the epilogue's dtype, for `lut`.
        residual: flat operand of residual.dtype, for `residual`.
        base: where the parameters start in `params` (they stand there once per convolution group).
    """

    def __init__(
        self,
        epilogue: Epilogue,
        target: Target,
        layout: ChannelLayout,
        params: Expr,
        *,
        table: Expr | None = None,
        residual: Expr | None = None,
        base: Expr | int = 0,
    ) -> None:
        self.epilogue = epilogue
        self.isa: Isa = isa_of(target)
        self.natural = layout.natural
        self.params, self.table, self.residual, self.base = params, table, residual, base
        self._positions = layout.positions(self.isa)
        self.words = parameter_words(epilogue, target, layout)

    def bias(self, position: Expr | int, vectors: int) -> list[Expr]:
        """Registers to start accumulating from; `position` is the first lane, a multiple of the register width."""
        lanes = self.isa.lanes
        return [tir.vload(self.params, self.base + position + v * lanes, lanes) for v in range(vectors)]

    def factors(self, position: Expr | int, vectors: int) -> list[Expr]:
        """Registers that lie behind the parameters, in the order of `bias`: of kernels that put them there."""
        lanes = self.isa.lanes
        return [tir.vload(self.params, self.words + position + v * lanes, lanes) for v in range(vectors)]

    def write(
        self,
        acc: Sequence[Expr],
        position: Expr | int,
        out: Expr,
        index: Expr | int,
        count: int,
        *,
        residual_index: Expr | int | None = None,
    ) -> None:
        """Finishes and stores one pixel's block.

        Args:
            acc: finished s32 registers in the layout's order, bias and rounding included (they started from `bias`).
            position: lane number of the first one in the params (expression or number, multiple of the register width).
            out: flat buffer of the stored dtype.
            index: element of the block's first channel.
            count: channels to store; lanes behind are dropped.
            residual_index: the same place in the residual buffer.
        """
        lanes, done = self.isa.lanes, 0
        for group in self.isa.groups(len(acc)):
            valid = min(count - done * lanes, group * lanes)
            if valid <= 0:
                return
            registers = list(acc[done : done + group])
            offset = done * lanes
            if self.epilogue.form == "none":
                self._store_raw(registers, out, index + offset, valid)
            else:
                other = None
                if self.epilogue.residual is not None and residual_index is not None:
                    other = tir.vload(self.residual, residual_index + offset, group * lanes)
                value = self.finish(registers, position + offset, valid, other)
                store_lanes(out, index + offset, value, valid)
            done += group

    # A table works best on whole registers of bytes, whatever the tile: stage_bytes for every pixel, map_bytes once,
    # then finish_bytes for every pixel.

    def stage_bytes(self, acc: Sequence[Expr], position: Expr | int, scratch: Expr, at: Expr | int) -> None:
        """Requantizes one pixel's block and keeps it, before the table, as bytes in scratch memory.

        Args:
            scratch: flat s16 buffer.
            at: s16 element of the block's first byte; all lanes are written.
        """
        done, lanes = 0, self.isa.lanes
        for group in self.isa.groups(len(acc)):
            value = self._requantize(list(acc[done : done + group]), position + done * lanes)
            index = self._table_index(self.isa.saturate8(value, self.epilogue.dtype == "u8"))
            words = group * lanes // 2
            tir.vstore(scratch, at + done * lanes // 2, tir.reinterpret(f"int16x{words}", index), words)
            done += group

    def map_bytes(self, scratch: Expr, at: Expr | int, count: int, vector_bytes: int) -> None:
        """Sends `count` staged bytes, rounded up to whole registers, through the table, in place."""
        steps = -(-count // vector_bytes)
        with T.serial(0, steps) as step:
            place = at + step * (vector_bytes // 2)
            index = tir.reinterpret(f"uint8x{vector_bytes}", tir.vload(scratch, place, vector_bytes // 2))
            mapped = self.isa.lookup(tir.bind(index), self.table)
            assert mapped is not None
            tir.vstore(scratch, place, tir.reinterpret(f"int16x{vector_bytes // 2}", mapped), vector_bytes // 2)

    def map_stored(self, out: Expr, index: Expr | int, count: int, vector_bytes: int) -> None:
        """Sends `count` stored elements, a register or less, through the table, in place."""
        dtype = TVM_DTYPE[self.epilogue.dtype]
        value = tir.bind(self._table_index(tir.vload(out, index, vector_bytes)))
        mapped = self.isa.lookup(value, self.table)
        assert mapped is not None
        store_lanes(out, index, tir.reinterpret(f"{dtype}x{vector_bytes}", mapped), count)

    def finish_bytes(
        self,
        scratch: Expr,
        at: Expr | int,
        vectors: int,
        out: Expr,
        index: Expr | int,
        count: int,
        *,
        residual_index: Expr | int | None = None,
    ) -> None:
        """Stores one pixel's mapped bytes, the residual added where there is one; arguments as in `write`."""
        done, lanes, dtype = 0, self.isa.lanes, TVM_DTYPE[self.epilogue.dtype]
        for group in self.isa.groups(vectors):
            width = group * lanes
            valid = min(count - done * lanes, width)
            if valid <= 0:
                return
            words = tir.vload(scratch, at + done * lanes // 2, width // 2)
            value = tir.reinterpret(f"{dtype}x{width}", words)
            if self.epilogue.residual is not None:
                assert residual_index is not None
                other = tir.vload(self.residual, residual_index + done * lanes, width)
                wide = self._add_residual(tir.bind(tir.cast(f"int16x{width}", value)), other)
                value = self.isa.saturate8(wide, self.epilogue.dtype == "u8")
            store_lanes(out, index + done * lanes, value, valid)
            done += group

    def _store_raw(self, registers: list[Expr], out: Expr, index: Expr | int, count: int) -> None:
        lanes = self.isa.lanes
        named = [tir.bind(register) for register in registers]
        order = list(range(lanes * len(named))) if self.natural else self.isa.order(len(named))
        for v in range(len(named)):
            left = count - v * lanes
            if left > 0:
                picks = [order.index(v * lanes + lane) for lane in range(lanes)]
                keeps = picks == list(range(v * lanes, (v + 1) * lanes))
                store_lanes(out, index + v * lanes, named[v] if keeps else tir.shuffle(named, picks), left)

    def _requantize(self, registers: list[Expr], position: Expr | int) -> Expr:
        """One group -> s16 lanes in natural order, zero point added, clamped."""
        e, isa = self.epilogue, self.isa
        lanes, width = isa.lanes, isa.lanes * len(registers)
        if e.form == "narrow":
            counts = [
                tir.vload(self.params, self.base + position + self._positions + v * lanes, lanes)
                for v in range(len(registers))
            ]
            moved = [isa.shift_left(r, e.left) for r in registers]
            shifted = [isa.shift_right_by(r, c) for r, c in zip(moved, counts, strict=True)]
            half = tir.tirx.op.truncdiv(tir.i32(position), tir.const(2))
            words = tir.vload(self.params, self.base + half + 2 * self._positions, width // 2)
            scaled = isa.multiply_high16(
                isa.saturate16(shifted, self.natural), tir.reinterpret(f"int16x{width}", words)
            )
            value = self._post_shift(scaled)
        else:
            rescaled = [isa.single(r, self._section_loader(position + v * lanes)) for v, r in enumerate(registers)]
            if e.dtype == "s16" and e.zero_point:  # 16 bits leave no room to add it later
                rescaled = [isa.add_zero_point(r, e.zero_point) for r in rescaled]
            value = isa.saturate16(rescaled, self.natural)
            if e.dtype != "s16":
                value = self._add16(value, e.zero_point)
        return self._clamp(value, e.low, e.high)

    def write_words(self, sums: Sequence[Expr], position: Expr | int, out: Expr, index: Expr | int, count: int) -> None:
        """As `write`, for one pixel's block of s16 sums of products in their channels' order."""
        done = 0
        for register in sums:
            valid = min(count - done, lanes_of(register))
            if valid > 0:
                value = tir.bind(self.finish_words(register, position + done))
                store_lanes(out, index + done, self.isa.saturate8(value, self.epilogue.dtype == "u8"), valid)
            done += lanes_of(register)

    def finish_words(self, value: Expr, position: Expr | int) -> Expr:
        """s16 sums of products -> s16 lanes, zero point added, clamped (words.py).

        Args:
            position: lane number of the first one in the params, even.
        """
        isa, lanes, names = self.isa, lanes_of(value), self.epilogue.words
        place = tir.tirx.op.truncdiv(tir.i32(position), tir.const(2))

        def section(name: str) -> Expr:
            at = self.base + place + names.index(name) * (self._positions // 2)
            return tir.reinterpret(f"int16x{lanes}", tir.vload(self.params, at, lanes // 2))

        value = isa.add_saturating(value, section("bias"))
        if "low" in names:
            value = isa.smin(isa.smax(value, section("low")), section("high"))
        if "factor" in names:
            value = value * section("factor")
        if "right" in names:
            value = isa.multiply_high16(value, section("right"))
        scaled = isa.multiply_high16(value, section("multiplier"))
        return self._clamp(self._post_shift(scaled), self.epilogue.low, self.epilogue.high)

    def _post_shift(self, scaled: Expr) -> Expr:
        """zero point + ((s16 lanes + half) >> q), where the clamp that follows makes any saturation the same."""
        e, half = self.epilogue, (1 << self.epilogue.post_shift) >> 1
        if e.zero_point == 0 and e.post_shift:
            return self.isa.round_shift16(scaled, e.post_shift)
        # One saturating add for rounding and zero point: where it saturates, the clamp would too, because
        # 32767 >> 6 and −32768 >> 6 lie outside every 8-bit range.
        return self.isa.shift_right(self._add16(scaled, (e.zero_point << e.post_shift) + half), e.post_shift)

    def _section_loader(self, position: Expr | int) -> Callable[[int, int], Expr]:
        """Sections of `single` follow the bias; a section has as many words a lane as are asked for."""

        def load(section: int, words: int) -> Expr:
            scale = words // self.isa.lanes
            place = position * scale + (1 + section) * self._positions
            return tir.vload(self.params, self.base + place, words)

        return load

    def _add16(self, value: Expr, constant: int) -> Expr:
        if constant == 0:
            return value
        return self.isa.add_saturating(value, self.isa.splat(constant, "int16", lanes_of(value)))

    def _clamp(self, value: Expr, low: int, high: int) -> Expr:
        lowest, highest = DTYPE_RANGE[self.epilogue.dtype]  # these come for free when the value is narrowed
        if low > lowest:
            value = self.isa.smax(value, self.isa.splat(low, "int16", lanes_of(value)))
        if high < highest:
            value = self.isa.smin(value, self.isa.splat(high, "int16", lanes_of(value)))
        return value

    def finish(self, registers: list[Expr], position: Expr | int, count: int, other: Expr | None) -> Expr:
        """One group of registers -> lanes as they are stored, in natural order of the layout.

        Args:
            registers, position: as for `write`, one of the instruction set's groups.
            count: lanes that matter.
            other: the residual's lanes.
        """
        e = self.epilogue
        wide = e.dtype == "s16"
        value = self._requantize(registers, position)
        if e.lut:
            value = self._map(self.isa.saturate8(value, e.dtype == "u8"), count)
        if e.residual is not None:
            if e.lut:
                value = tir.cast(f"int16x{lanes_of(value)}", value)
            elif not wide:
                # A clamp to the dtype's full range was left to the narrowing, which comes later now.
                value = self._clamp_full(value)
            value = self._add_residual(tir.bind(value), other)
        if not wide and not (e.lut and e.residual is None):
            value = self.isa.saturate8(value, e.dtype == "u8")
        return value

    def _clamp_full(self, value: Expr) -> Expr:
        e, lanes = self.epilogue, lanes_of(value)
        lowest, highest = DTYPE_RANGE[e.dtype]
        if e.low == lowest:
            value = self.isa.smax(value, self.isa.splat(lowest, "int16", lanes))
        if e.high == highest:
            value = self.isa.smin(value, self.isa.splat(highest, "int16", lanes))
        return value

    def _table_index(self, value: Expr) -> Expr:
        """8-bit lanes as u8 numbers of table entries: the lowest value is entry 0."""
        lanes = lanes_of(value)
        index = tir.reinterpret(f"uint8x{lanes}", value)
        if self.epilogue.dtype == "s8":
            index = tir.tirx.op.bitwise_xor(index, self.isa.splat(128, "uint8", lanes))
        return index

    def _map(self, value: Expr, count: int) -> Expr:
        """8-bit lanes through the table."""
        lanes, dtype = lanes_of(value), TVM_DTYPE[self.epilogue.dtype]
        index = self._table_index(value)
        vectorised = self.isa.lookup(index, self.table)
        if vectorised is not None:
            return tir.reinterpret(f"{dtype}x{lanes}", vectorised)
        bytes_in, bytes_out = tir.alloc(lanes, "uint8"), tir.alloc(lanes, dtype)
        tir.vstore(bytes_in, 0, index, lanes)
        with T.serial(0, min(count, lanes)) as i:
            tir.store(bytes_out, i, tir.load(self.table, tir.cast("int32", tir.load(bytes_in, i))))
        return tir.vload(bytes_out, 0, lanes)

    def _add_residual(self, value: Expr, other: Expr | None) -> Expr:
        """s16 lanes plus the second operand's, rescaled, clamped: s16 lanes."""
        r, isa, lanes = self.epilogue.residual, self.isa, lanes_of(value)
        assert r is not None
        assert other is not None
        if r.dtype != "s16":
            other = tir.cast(f"int16x{lanes}", other)
        constant, zero_point = residual_constants(self.epilogue, r)
        sums = isa.pair_sum(value, other, r.a_multiplier, r.b_multiplier)
        shifted = [isa.shift_right(s + isa.splat(constant, "int32", isa.lanes), r.shift) for s in sums]
        if zero_point and self.epilogue.dtype == "s16":
            # An unfolded zero point means shift >= 1 (checked), so 32 bits have room for it.
            shifted, zero_point = [s + isa.splat(zero_point, "int32", isa.lanes) for s in shifted], 0
        return self._clamp(self._add16(isa.saturate16(shifted, natural=False), zero_point), r.low, r.high)
