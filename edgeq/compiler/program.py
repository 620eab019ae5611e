"""The compiled program: steps over strided views of buffers. Lowering makes it, planning places, linking writes it."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal

import numpy as np

from edgeq.compiler.kernels.base import DTYPE_BYTES, SLACK_BYTES, DType, Image, KernelSpec

if TYPE_CHECKING:
    from edgeq.compiler.lower.select.choice import Decision

ALIGNMENT = 64  # of every buffer and constant, bytes

Region = Literal["arena", "weights"]


@dataclass
class Buffer:
    """Memory that a plan places: one arena range, live from the first to the last step that touches it.

    Attributes:
        name: for people: the tensor it holds.
        size: bytes that are written or read as data; SLACK_BYTES readable bytes follow.
        role: graph inputs live from the start, outputs until the end.
    """

    name: str
    size: int
    role: Literal["input", "output", "value", "scratch"] = "value"

    def footprint(self, alignment: int = ALIGNMENT) -> int:
        """Bytes the arena reserves.

        Without an operating system the slack is one for all, behind the last buffer: what is read of a neighbour is
        never used.
        """
        slack = SLACK_BYTES if alignment == ALIGNMENT else 0
        return -(-(self.size + slack) // alignment) * alignment


@dataclass(frozen=True)
class View:
    """A strided N-d array inside a buffer, axes in the graph's order.

    Attributes:
        buffer: index into Program.buffers; for constants index into Program.constants.
        region: which of the two.
        dtype: as stored.
        shape, strides: in elements.
        offset: elements from the buffer's start to element (0, 0, ...).
        bias: what the stored value exceeds the graph's value by (128 where int8 is stored as u8, else 0).
    """

    buffer: int
    dtype: DType
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    offset: int = 0
    bias: int = 0
    region: Region = "arena"

    @property
    def dense(self) -> bool:
        """Row-major in the graph's axis order, without gaps."""
        return self.effective_strides() == _strip(self.shape, row_major(self.shape))

    def effective_strides(self) -> tuple[int, ...]:
        """Strides of the axes that are longer than 1: the others never move."""
        return _strip(self.shape, self.strides)

    @property
    def elements(self) -> int:
        """Number of elements."""
        return int(np.prod(self.shape, dtype=np.int64))

    def byte_offset(self) -> int:
        """Bytes from the buffer's start to the first element."""
        return self.offset * DTYPE_BYTES[self.dtype]

    def permute(self, axes: tuple[int, ...]) -> View:
        """The view with its axes in another order; moves nothing."""
        return replace(self, shape=tuple(self.shape[a] for a in axes), strides=tuple(self.strides[a] for a in axes))

    def narrow(self, axis: int, start: int, length: int, step: int = 1) -> View:
        """Elements start, start + step, ... of one axis."""
        shape, strides = list(self.shape), list(self.strides)
        shape[axis], strides[axis] = length, strides[axis] * step
        moved = self.offset + start * self.strides[axis]
        return replace(self, shape=tuple(shape), strides=tuple(strides), offset=moved)

    def broadcast_to(self, shape: tuple[int, ...]) -> View:
        """NumPy broadcasting: stride 0 along repeated axes."""
        lead = len(shape) - len(self.shape)
        own = (1,) * lead + self.shape
        old = (0,) * lead + self.strides
        strides = tuple(0 if o == 1 and s != 1 else t for o, s, t in zip(own, shape, old, strict=True))
        return replace(self, shape=shape, strides=strides)

    def reshape(self, shape: tuple[int, ...]) -> View | None:
        """The same elements in row-major order under another shape, or None where that needs a copy."""
        strides = reshape_strides(self.shape, self.strides, shape)
        return None if strides is None else replace(self, shape=shape, strides=strides)

    def image(self) -> Image | None:
        """As NHWC image (axes of the view are N, C, H, W), or None where channels aren't contiguous."""
        n, c, h, w = self.shape
        if c != 1 and self.strides[1] != 1:
            return None
        # Rows of one image are the same image wherever they lie in it.
        image_stride = self.strides[0] if n > 1 else h * self.strides[2]
        return Image(n, h, w, c, image_stride, self.strides[2], self.strides[3])


def _strip(shape: tuple[int, ...], strides: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(stride for size, stride in zip(shape, strides, strict=True) if size != 1)


def row_major(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Strides of a dense array, last axis fastest."""
    strides, step = [], 1
    for size in reversed(shape):
        strides.append(step)
        step *= size
    return tuple(reversed(strides))


def strides_in_order(shape: tuple[int, ...], order: tuple[int, ...]) -> tuple[int, ...]:
    """Dense strides when memory runs through the axes in `order`, last one fastest."""
    strides, step = [0] * len(shape), 1
    for axis in reversed(order):
        strides[axis] = step
        step *= shape[axis]
    return tuple(strides)


def reshape_strides(
    shape: tuple[int, ...], strides: tuple[int, ...], target: tuple[int, ...]
) -> tuple[int, ...] | None:
    """Strides under which `target` shows the same elements in row-major order, or None where none exist.

    Axes are grouped into the shortest runs of equal product; a run of source axes that has no gaps can be cut anew.
    """
    source = [(n, s) for n, s in zip(shape, strides, strict=True) if n != 1]
    result: list[int] = []
    position = 0
    wanted = [n for n in target if n != 1]
    while position < len(source) or wanted:
        if position >= len(source) or not wanted:
            return None
        have, run = source[position][0], [source[position]]
        position += 1
        need, cut = wanted[0], [wanted.pop(0)]
        while have != need:
            if have < need:
                if position >= len(source):
                    return None
                have *= source[position][0]
                run.append(source[position])
                position += 1
            else:
                if not wanted:
                    return None
                need *= wanted[0]
                cut.append(wanted.pop(0))
        if any(a[1] != b[0] * b[1] for a, b in itertools.pairwise(run)):
            return None
        step, pieces = run[-1][1], []
        for size in reversed(cut):
            pieces.append(step)
            step *= size
        result += reversed(pieces)
    moving = iter(result)
    return tuple(next(moving) if size != 1 else 0 for size in target)


@dataclass(frozen=True)
class Bound:
    """One pointer argument: a place in a buffer of the arena or in the constants."""

    region: Region
    buffer: int
    byte_offset: int


@dataclass
class Step:
    """One kernel call.

    Attributes:
        name: the layer it comes from; `ops`: the integer ops it covers.
        arguments: one place per operand of the spec, in order (scratch included).
        macs: multiply-accumulates, 0 where none.
        reads, writes: buffers it touches, for lifetimes.
        grain: fewest tasks that are worth a thread of their own.
        moved: bytes of the tensors that it reads and writes, constants left out.
    """

    name: str
    ops: tuple[str, ...]
    spec: KernelSpec
    arguments: list[Bound]
    macs: int
    reads: list[int]
    writes: list[int]
    grain: int = 1
    moved: int = 0


@dataclass
class Tensor:
    """One input or output of the graph."""

    name: str
    view: View
    scale: float
    zero_point: int
    graph_dtype: str


@dataclass(frozen=True)
class Touch:
    """A step reads or writes a view."""

    step: int
    view: View


@dataclass
class Program:
    """Everything between an integer graph and an artifact.

    Attributes:
        touches: of buffers whose rows come and go one after the other, what is touched when.
        alignment: bytes that buffers and constants start on a multiple of.
        decisions: which kernel was taken for a layer, and which could have been.
        fast_room: bytes of a second, fast memory that buffers may lie in.
    """

    buffers: list[Buffer] = field(default_factory=list)
    constants: list[np.ndarray] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)
    inputs: list[Tensor] = field(default_factory=list)
    outputs: list[Tensor] = field(default_factory=list)
    max_threads: int = 4
    alignment: int = ALIGNMENT
    decisions: list[Decision] = field(default_factory=list)
    fast_room: int = 0
    touches: dict[int, list[Touch]] = field(default_factory=dict)

    @property
    def end_slack(self) -> int:
        """Readable bytes behind the arena and behind the weights."""
        return SLACK_BYTES if self.alignment != ALIGNMENT else 0

    def fast_arena(self, used: int) -> int:
        """Bytes of the second arena where buffers take `used`; 0: there is none."""
        return used + self.end_slack if used else 0
