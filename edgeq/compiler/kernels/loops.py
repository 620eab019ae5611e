"""Loops over a Nest in TIR: tasks, rows, vectors with a tail that stores no element too many. Imports tvm."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Protocol

from tvm.tirx import op as _op

from edgeq.compiler.kernels import tir
from edgeq.compiler.kernels.nest import Nest, Split
from edgeq.compiler.kernels.tir import Expr, T

MIN_LANES = 16  # the narrowest vector bodies are written for: 128 bits of bytes


class Emit(Protocol):
    """Body of a sweep: `lanes` elements at one offset per operand, of which only the first `valid` may be stored."""

    def __call__(self, offsets: Sequence[Expr], lanes: int, valid: int) -> None: ...


@contextmanager
def span(start: Expr | int, stop: Expr | int) -> Iterator[Expr]:
    """A loop from start to stop − 1 that begins at 0 inside.

    TVM's CanonicalizeLoop forgets an outer loop's start in the bounds of an inner loop that doesn't begin at 0 either.
    """
    with T.serial(0, tir.i32(stop) - tir.i32(start)) as step:
        yield tir.bind(step + tir.i32(start))


def divide(value: Expr, by: int) -> Expr:
    """Quotient of a number that is never negative."""
    return _op.truncdiv(value, tir.const(by)) if by > 1 else value


def remainder(value: Expr, by: int) -> Expr:
    """Remainder of a number that is never negative."""
    return _op.truncmod(value, tir.const(by)) if by > 1 else tir.const(0)


def each_row(
    nest: Nest, split: Split, t0: Expr, t1: Expr, body: Callable[[list[Expr], Expr], None], inner: int = 1
) -> None:
    """Loops over the tasks [t0, t1) and over every dimension except the innermost `inner` ones.

    Args:
        body: called once with (offset of each operand, number of the block of the innermost dimension).
    """
    with span(t0, t1) as task:
        row, block = tir.bind(divide(task, split.blocks)), tir.bind(remainder(task, split.blocks))
        offsets: list[Expr] = [tir.const(0) for _ in nest.strides]
        rest = row
        for d in reversed(range(split.depth)):
            index = rest if d == 0 else tir.bind(remainder(rest, nest.shape[d]))
            rest = tir.bind(divide(rest, nest.shape[d])) if d else rest
            offsets = [o + index * s[d] for o, s in zip(offsets, nest.strides, strict=True)]
        offsets = [tir.bind(o) for o in offsets]
        with ExitStack() as stack:
            for d in range(split.depth, len(nest.shape) - inner):
                index = stack.enter_context(T.serial(0, nest.shape[d]))
                offsets = [tir.bind(o + index * s[d]) for o, s in zip(offsets, nest.strides, strict=True)]
            body(offsets, block)


def each_block(blocks: Nest, split: Split, t0: Expr, t1: Expr, body: Callable[[Sequence[Expr], Expr], None]) -> None:
    """Calls body(offset of each operand, number of the block in its dimension) for every block of `Nest.blocked`."""
    number = (*([0] * (len(blocks.shape) - 2)), 1, 0)
    numbered = Nest(blocks.shape, (*blocks.strides, number))
    each_row(numbered, split, t0, t1, lambda offsets, block: body(offsets[:-1], offsets[-1]))


def block_rows(total: int, rows: int, block: Expr) -> Expr | int:
    """How many rows a block of `Nest.blocked(rows)` has."""
    return tir.bind(tir.tirx.min(total - block * rows, tir.const(rows))) if total % rows else rows


def lanes_for(elements: int, widest: int) -> int:
    """The narrowest vector, at most `widest`, that holds so many elements."""
    lanes = MIN_LANES
    while lanes < min(elements, widest):
        lanes *= 2
    return min(lanes, max(widest, MIN_LANES))


def sweep(nest: Nest, split: Split, t0: Expr, t1: Expr, widest: int, emit: Emit) -> None:
    """Calls `emit` for vectors of at most `widest` lanes all over a nest that is vectorisable."""
    length, steps = nest.inner, nest.inner_strides
    lanes = lanes_for(length, widest)
    full, tail = divmod(length, lanes)

    def row(offsets: list[Expr], block: Expr) -> None:
        def at(start: Expr | int, lanes: int, valid: int) -> None:
            emit([o + start * s if s else o for o, s in zip(offsets, steps, strict=True)], lanes, valid)

        if split.blocks > 1:
            share = -(-full // split.blocks)
            with span(block * share, tir.tirx.min(block * share + share, tir.const(full))) as v:
                at(v * lanes, lanes, lanes)
        elif full > 1:
            with T.serial(0, full) as v:
                at(v * lanes, lanes, lanes)
        elif full:
            at(0, lanes, lanes)
        if tail:
            narrow = lanes_for(tail, lanes)
            if split.blocks > 1:
                with T.If(block == split.blocks - 1), T.Then():
                    at(full * lanes, narrow, tail)
            else:
                at(full * lanes, narrow, tail)

    each_row(nest, split, t0, t1, row)


def sweep_scalar(nest: Nest, split: Split, t0: Expr, t1: Expr, emit: Callable[[Sequence[Expr]], None]) -> None:
    """Calls `emit` with the offsets of single elements, for views that vectors can't walk."""

    def row(offsets: list[Expr], block: Expr) -> None:
        share = -(-nest.inner // split.blocks)
        with span(block * share, tir.tirx.min(block * share + share, tir.const(nest.inner))) as i:
            emit([tir.bind(o + i * s) for o, s in zip(offsets, nest.inner_strides, strict=True)])

    each_row(nest, split, t0, t1, row)


def sweep_any(nest: Nest, split: Split, t0: Expr, t1: Expr, widest: int, emit: Emit, vector: bool) -> None:
    """`sweep` in vectors, or one element at a time with `lanes` = MIN_LANES and `valid` = 1.

    The body loads with the steps of `load_steps`, so that it needs no second form.
    """
    if vector:
        sweep(nest, split, t0, t1, widest, emit)
    else:
        sweep_scalar(nest, split, t0, t1, lambda offsets: emit(offsets, MIN_LANES, 1))


def load_steps(nest: Nest, vector: bool) -> tuple[int, ...]:
    """How a body of `sweep_any` loads each operand: 1 consecutive elements, 0 one element in every lane."""
    return nest.inner_strides if vector else tuple(0 for _ in nest.strides)


def store_valid(buffer: Expr, index: Expr, value: Expr, lanes: int, valid: int) -> None:
    """Stores the first `valid` of `lanes` lanes, in pieces of powers of two, and touches nothing behind them."""
    start = 0
    while start < valid:
        piece = 1 << ((valid - start).bit_length() - 1)
        part = value if piece == lanes else tir.shuffle([value], range(start, start + piece))
        tir.vstore(buffer, index + start, part, piece)
        start += piece
