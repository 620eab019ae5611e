"""Residual adds in place: where the add's second operand dies with it, the sum takes its memory.

Every element of the residual is read just before the element of the sum at the same place is written, so nothing is
lost. The sum's image may lie anywhere inside the residual's buffer as long as their pixels coincide: borders that one
of them needs and the other doesn't are overwritten.
"""

from __future__ import annotations

from dataclasses import replace

from edgeq.compiler.kernels.base import DTYPE_BYTES, Image
from edgeq.compiler.kernels.micro.tiled_conv import TiledConvSpec
from edgeq.compiler.kernels.movement.copy import FillSpec
from edgeq.compiler.program import Bound, Program, Step


def share_residuals(program: Program) -> int:
    """Moves sums into their residuals' buffers, in place; returns how many.

    Only for kernels that compute no pixel twice and read a residual's element right before they write its place.
    """
    shared = 0
    for number, step in enumerate(program.steps):
        found = _match(program, number, step)
        if found is not None:
            _move(program, *found)
            shared += 1
    return shared


def _match(program: Program, number: int, step: Step) -> tuple[int, int, int] | None:
    """(buffer of the sum, buffer of the residual, bytes the sum begins behind it), or None."""
    if not isinstance(step.spec, TiledConvSpec) or step.spec.conv.epilogue.residual is None:
        return None
    names = [operand.name for operand in step.spec.operands()]
    out, other = step.arguments[names.index("y")], step.arguments[names.index("residual")]
    residual = step.spec.conv.epilogue.residual
    delta = other.byte_offset - out.byte_offset
    fits = other.region == "arena" and _same_pixels(step.spec.conv.y, residual.image) and residual.dtype == "s8"
    if not fits or delta % program.alignment or delta < 0 or out.buffer == other.buffer:
        return None
    sizes = [program.buffers[index].size for index in (out.buffer, other.buffer)]
    if out.buffer in program.touches or other.buffer in program.touches:
        return None  # their rows come and go on their own
    if delta + sizes[0] > sizes[1] or program.buffers[other.buffer].role != "value":
        return None
    if any(bound.buffer == other.buffer for bound in step.arguments if bound is not other and bound.region == "arena"):
        return None
    return (out.buffer, other.buffer, delta) if _is_free(program, number, out.buffer, other.buffer) else None


def _same_pixels(a: Image, b: Image) -> bool:
    return replace(a, image_stride=0) == replace(b, image_stride=0) and a.n == b.n == 1


def _is_free(program: Program, number: int, out: int, other: int) -> bool:
    """Whether the residual is read for the last time here, and the sum's memory only had its border filled since."""
    touching = [k for k, step in enumerate(program.steps) if other in (*step.reads, *step.writes)]
    earlier = [k for k in range(number) if out in (*program.steps[k].reads, *program.steps[k].writes)]
    if any(tensor.view.buffer == other and tensor.view.region == "arena" for tensor in program.outputs):
        return False
    begun = min(earlier, default=number)
    only_border = all(isinstance(program.steps[k].spec, FillSpec) for k in earlier)
    return touching[-1] == number and only_border and not any(begun <= k < number for k in touching)


def _move(program: Program, out: int, other: int, delta: int) -> None:
    """Renames a buffer to a place in another one, everywhere."""

    def moved(bound: Bound) -> Bound:
        if bound.region == "arena" and bound.buffer == out:
            return Bound("arena", other, bound.byte_offset + delta)
        return bound

    for step in program.steps:
        step.arguments = [moved(bound) for bound in step.arguments]
        step.reads = [other if index == out else index for index in step.reads]
        step.writes = [other if index == out else index for index in step.writes]
    for tensor in program.outputs:
        view = tensor.view
        if view.region == "arena" and view.buffer == out:
            tensor.view = replace(view, buffer=other, offset=view.offset + delta // DTYPE_BYTES[view.dtype])
    if program.buffers[out].role == "output":
        program.buffers[other].role = "output"
    program.buffers[out].size = 0
