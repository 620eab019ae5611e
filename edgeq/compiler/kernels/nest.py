"""Loop nests over N-d strided views: canonical form, and how they split into tasks. Plain data, no tvm."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

from edgeq.compiler.kernels.base import Image
from edgeq.errors import CompileError

TASKS_WANTED = 16  # enough to balance a few threads; more only costs calls
BLOCK_BYTES = 4096  # a row is not cut into tasks smaller than this


@dataclass(frozen=True)
class Nest:
    """A shape with one tuple of strides per operand (elements; the last operand is the output).

    Attributes:
        shape: extents, outermost first; at least one dimension.
        strides: per operand, one stride per dimension; 0 broadcasts.
    """

    shape: tuple[int, ...]
    strides: tuple[tuple[int, ...], ...]

    @classmethod
    def of(cls, shape: Sequence[int], *strides: Sequence[int], reorder: bool = True) -> Nest:
        """The canonical form: no dimensions of 1, the output's smallest stride innermost, contiguous runs merged.

        Args:
            shape: extents.
            strides: one sequence per operand, the output's last.
            reorder: dimensions may be permuted (false where their order means something).

        Raises:
            CompileError: a stride tuple doesn't fit the shape, or an extent is below 1.
        """
        for one in strides:
            if len(one) != len(shape):
                raise CompileError(
                    "a strided view is inconsistent", why=f"{len(one)} strides for {len(shape)} dimensions"
                )
        if any(extent < 1 for extent in shape):
            raise CompileError("a strided view is empty", why=f"shape {tuple(shape)}")
        dims = [(n, *(s[d] for s in strides)) for d, n in enumerate(shape) if n > 1]
        if reorder:
            dims.sort(key=lambda dim: -abs(dim[-1]))
        merged: list[tuple[int, ...]] = []
        for dim in dims:
            if merged and all(outer == dim[0] * inner for outer, inner in zip(merged[-1][1:], dim[1:], strict=True)):
                merged[-1] = (merged[-1][0] * dim[0], *dim[1:])
            else:
                merged.append(dim)
        if not merged:
            merged = [(1, *([1] * len(strides)))]
        return cls(
            tuple(dim[0] for dim in merged), tuple(tuple(dim[k + 1] for dim in merged) for k in range(len(strides)))
        )

    @property
    def inner(self) -> int:
        """Extent of the innermost dimension."""
        return self.shape[-1]

    @property
    def inner_strides(self) -> tuple[int, ...]:
        """Innermost stride of each operand."""
        return tuple(s[-1] for s in self.strides)

    @property
    def vectorisable(self) -> bool:
        """The output is contiguous innermost, and every input is contiguous or constant there."""
        return self.inner_strides[-1] == 1 and all(s in (0, 1) for s in self.inner_strides[:-1])

    def extent(self, operand: int) -> int:
        """Elements from the first to the last one that an operand touches (strides must not be negative)."""
        return 1 + sum((n - 1) * s for n, s in zip(self.shape, self.strides[operand], strict=True))

    def blocked(self, rows: int) -> Nest:
        """The innermost dimension in blocks of `rows` (the last one may be smaller), with a last dimension of 1."""
        shape = (*self.shape[:-1], -(-self.inner // rows), 1)
        return Nest(shape, tuple((*s[:-1], rows * s[-1], 0) for s in self.strides))

    def split(self, element_bytes: int, inner_dims: int = 1) -> Split:
        """How the nest is cut into tasks: over leading dimensions, and over the innermost one where those are few.

        Args:
            element_bytes: size of the widest element, to keep the pieces of a row above BLOCK_BYTES.
            inner_dims: innermost dimensions that the body handles itself; with other values than 1 they are never cut.
        """
        outer = self.shape[: len(self.shape) - inner_dims]
        depth = 0
        while depth < len(outer) and prod(outer[:depth]) < TASKS_WANTED:
            depth += 1
        blocks = 1
        rows = prod(outer[:depth])
        if inner_dims == 1 and depth == len(outer) and rows < TASKS_WANTED:
            blocks = max(1, min(-(-TASKS_WANTED // rows), self.inner * element_bytes // BLOCK_BYTES))
        return Split(depth, rows, blocks)


@dataclass(frozen=True)
class Split:
    """Tasks = rows × blocks.

    Attributes:
        depth: leading dimensions whose indices the task number holds.
        rows: product of their extents.
        blocks: pieces of the innermost dimension.
    """

    depth: int
    rows: int
    blocks: int

    @property
    def tasks(self) -> int:
        """Number of independent tasks."""
        return self.rows * self.blocks


def dense_strides(shape: Sequence[int]) -> tuple[int, ...]:
    """Row-major strides in elements."""
    return tuple(prod(shape[d + 1 :]) for d in range(len(shape)))


def broadcast_strides(shape: Sequence[int], operand: Sequence[int]) -> tuple[int, ...]:
    """Strides that read a dense operand of broadcastable shape as `shape` (NumPy's rules).

    Raises:
        CompileError: the shapes don't broadcast.
    """
    padded = (1,) * (len(shape) - len(operand)) + tuple(operand)
    if len(padded) != len(shape) or any(p not in (1, n) for p, n in zip(padded, shape, strict=True)):
        raise CompileError("shapes don't broadcast", why=f"{tuple(operand)} to {tuple(shape)}")
    return tuple(0 if p == 1 else s for p, s in zip(padded, dense_strides(padded), strict=True))


def image_strides(image: Image) -> tuple[int, int, int, int]:
    """Strides of an image's (n, h, w, c)."""
    return image.image_stride, image.row_stride, image.pixel_stride, 1
