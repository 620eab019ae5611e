"""Data movement: strided copies (transpose, slice, concatenation, graph ends), constant fills, row gathers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, ClassVar, Literal

import numpy as np

from edgeq.compiler.kernels.base import DTYPE_BYTES, DType, Image, KernelSpec, Operand
from edgeq.compiler.kernels.nest import Nest, Split, image_strides
from edgeq.compiler.kernels.nested import NestedSpec
from edgeq.compiler.target import Target
from edgeq.errors import CompileError

INTERLEAVE_MAX = 4  # planes that are zipped into pixels (or back) by shuffles
WALKS = Literal["rows", "zip", "unzip", "tiles", "elements"]


@dataclass(frozen=True)
class CopySpec(NestedSpec):
    """dst[i · dst_strides] = src[i · src_strides] for every index i of `shape`; operands `x` (input), `y` (output).

    Attributes:
        shape: extents.
        src_strides, dst_strides: elements; a source stride may be 0 (expansion) or negative (reversed slices: the
            operand then points at the first element read).
        element_bytes: 1, 2, 4 or 8.
        flip_sign_bit: every byte is stored ^ 0x80: int8 to and from its stored form value + 128 (one-byte elements).
    """

    family: ClassVar[str] = "copy"
    shape: tuple[int, ...]
    src_strides: tuple[int, ...]
    dst_strides: tuple[int, ...]
    element_bytes: int = 1
    flip_sign_bit: bool = False

    def __post_init__(self) -> None:
        if self.element_bytes not in (1, 2, 4, 8) or (self.flip_sign_bit and self.element_bytes != 1):
            raise CompileError("a copy has an impossible element size", why=f"{self.element_bytes} bytes")

    @classmethod
    def of(
        cls,
        shape: Sequence[int],
        src_strides: Sequence[int],
        dst_strides: Sequence[int],
        dtype: DType = "s8",
        flip_sign_bit: bool = False,
    ) -> CopySpec:
        """The spec in canonical form, so that copies that do the same share one kernel."""
        nest = Nest.of(shape, src_strides, dst_strides)
        return cls(nest.shape, nest.strides[0], nest.strides[1], DTYPE_BYTES[dtype], flip_sign_bit)

    @classmethod
    def image(cls, src: Image, dst: Image, dtype: DType = "s8", flip_sign_bit: bool = False) -> CopySpec:
        """Copy of an image into another view of the same size."""
        if (src.n, src.h, src.w, src.c) != (dst.n, dst.h, dst.w, dst.c):
            raise CompileError("a copy's images differ in size", why=f"{src} and {dst}")
        return cls.of((src.n, src.h, src.w, src.c), image_strides(src), image_strides(dst), dtype, flip_sign_bit)

    @property
    def nest(self) -> Nest:
        """The canonical loop nest; rows that are contiguous on both sides count bytes."""
        nest = Nest.of(self.shape, self.src_strides, self.dst_strides)
        width = self.element_bytes
        if nest.inner_strides == (1, 1) and width > 1:
            shape = (*nest.shape[:-1], nest.inner * width)
            strides = [(*(v * width for v in s[:-1]), 1) for s in nest.strides]
            nest = Nest.of(shape, *strides)
        return nest

    @property
    def walk(self) -> WALKS:
        """How the elements are visited: rows, planes zipped into pixels or back, transposed tiles, or one by one."""
        return self.plan()[0]

    def plan(self) -> tuple[WALKS, Nest]:
        """The walk and the nest in its order.

        For zip, unzip and tiles the last two dimensions are (a, b): the source is contiguous along a, the destination
        along b.
        """
        nest = self.nest
        src, dst = nest.strides
        if dst[-1] == 1 and src[-1] == 1:
            return "rows", nest
        contiguous = [d for d in range(len(nest.shape)) if src[d] == 1]
        if dst[-1] != 1 or not contiguous:
            return "elements", nest
        a = contiguous[-1]
        order = [d for d in range(len(nest.shape) - 1) if d != a] + [a, len(nest.shape) - 1]
        moved = Nest(tuple(nest.shape[d] for d in order), tuple(tuple(s[d] for d in order) for s in nest.strides))
        columns, rows = moved.shape[-2:]
        if 2 <= rows <= INTERLEAVE_MAX and moved.strides[1][-2] == rows and columns >= 16:
            return "zip", moved
        if 2 <= columns <= INTERLEAVE_MAX and moved.strides[0][-1] == columns and rows >= 16:
            return "unzip", moved
        return ("tiles" if min(columns, rows) > 1 else "elements"), moved

    def split(self) -> Split:
        """How the work is cut into tasks."""
        walk, nest = self.plan()
        if walk == "rows":
            return nest.split(1)
        if walk == "elements":
            return nest.split(self.element_bytes)
        length = {"zip": nest.shape[-2], "unzip": nest.shape[-1], "tiles": nest.shape[-2]}[walk]
        return Nest((*nest.shape[:-2], length), ((0,) * (len(nest.shape) - 1),) * 2).split(self._unit(walk, nest))

    @staticmethod
    def _unit(walk: WALKS, nest: Nest) -> int:
        """Bytes that one step along the cut dimension moves, roughly: other dimension's extent."""
        return nest.shape[-2] if walk == "unzip" else nest.shape[-1]

    def describe(self, target: Target) -> str:
        return f"copy_{self.walk}_b{self.element_bytes}"

    def build(self, target: Target) -> Any:
        from edgeq.compiler.kernels.movement import copy_tir

        return copy_tir.copy(self, target)


@dataclass(frozen=True)
class FillSpec(KernelSpec):
    """Writes one constant into strided boxes of the output `y`: the border of a padded image, or a whole view.

    Attributes:
        boxes: (offset, shape, strides) of each box, in elements.
        value: in stored units.
        dtype: of the elements.
    """

    family: ClassVar[str] = "fill"
    boxes: tuple[tuple[int, tuple[int, ...], tuple[int, ...]], ...]
    value: int
    dtype: DType = "s8"

    @classmethod
    def border(cls, image: Image, top: int, left: int, bottom: int, right: int, value: int, dtype: DType) -> FillSpec:
        """The border of a padded image.

        Args:
            image: the whole image, padding included.
            top, left, bottom, right: width of the border in pixels.
            value: what padding counts as, in stored units.

        Raises:
            CompileError: the border is empty or larger than the image.
        """
        if min(top, left, bottom, right) < 0 or top + bottom > image.h or left + right > image.w:
            raise CompileError(
                "an image's border is larger than the image", why=f"{(top, left, bottom, right)} of {image}"
            )
        parts = [(0, 0, top, image.w), (image.h - bottom, 0, bottom, image.w)]
        middle = image.h - top - bottom
        if left + right and left + right < image.w and image.flat_rows and middle > 1:
            # Right border of one row and left border of the next are neighbours in memory: one run.
            parts += [(top, 0, 1, left), (image.h - bottom - 1, image.w - right, 1, right)]
            parts += [(top, image.w - right, middle - 1, left + right)]
        else:
            parts += [(top, 0, middle, left), (top, image.w - right, middle, right)]
        boxes = []
        for y, x, h, w in parts:
            if h and w:
                nest = Nest.of((image.n, h, w, image.c), image_strides(image))
                boxes.append((y * image.row_stride + x * image.pixel_stride, nest.shape, nest.strides[0]))
        if not boxes:
            raise CompileError("an image has no border to fill", why=str(image))
        return cls(tuple(boxes), value, dtype)

    @classmethod
    def region(cls, shape: Sequence[int], strides: Sequence[int], value: int, dtype: DType) -> FillSpec:
        """A whole strided view."""
        nest = Nest.of(shape, strides)
        return cls(((0, nest.shape, nest.strides[0]),), value, dtype)

    def operands(self) -> list[Operand]:
        return [Operand("y", "output")]

    def touched(self) -> dict[str, int]:
        return {"y": sum(prod(shape) for _, shape, _ in self.boxes)}

    def tasks(self) -> int:
        """One: fills are short, or belong to a buffer's first use."""
        return 1

    def describe(self, target: Target) -> str:
        return f"fill_{self.dtype}"

    def build(self, target: Target) -> Any:
        from edgeq.compiler.kernels.movement import copy_tir

        return copy_tir.fill(self, target)


@dataclass(frozen=True)
class GatherSpec(KernelSpec):
    """y[o, r, i] = x[o, index[r], i]: rows picked by a constant table; operands `x`, `index` (weight), `y`.

    Attributes:
        outer, rows, inner: extents; inner elements are contiguous on both sides.
        source_rows: extent of the gathered axis in x.
        src_outer, src_row: strides of x in elements.
        dst_outer, dst_row: strides of y in elements.
        element_bytes: size of an element.
    """

    family: ClassVar[str] = "gather"
    outer: int
    rows: int
    inner: int
    source_rows: int
    src_outer: int
    src_row: int
    dst_outer: int
    dst_row: int
    element_bytes: int = 1

    def operands(self) -> list[Operand]:
        return [Operand("x", "input"), Operand("index", "weight"), Operand("y", "output")]

    def tasks(self) -> int:
        return self.outer * self.rows

    def describe(self, target: Target) -> str:
        return f"gather_b{self.element_bytes}"

    def pack(self, target: Target, constants: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """`index`: int [rows] in [-source_rows, source_rows) -> s32, counted from the start.

        Raises:
            CompileError: wrong length or an index outside the axis.
        """
        index = np.asarray(constants["index"]).astype(np.int64).reshape(-1)
        if index.size != self.rows or (index < -self.source_rows).any() or (index >= self.source_rows).any():
            raise CompileError(
                "a gather's indices don't fit its axis",
                why=f"{index.size} from {index.min(initial=0)} to {index.max(initial=0)}, axis of {self.source_rows}",
            )
        return {"index": np.where(index < 0, index + self.source_rows, index).astype(np.int32)}

    def build(self, target: Target) -> Any:
        from edgeq.compiler.kernels.movement import copy_tir

        return copy_tir.gather(self, target)
