"""What every kernel family gives the rest of the compiler. Plain data: nothing here imports tvm."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

if TYPE_CHECKING:
    from edgeq.compiler.kernels.shared import SharedSpec
    from edgeq.compiler.target import Target

Role = Literal["input", "weight", "output", "scratch"]
DType = Literal["s8", "u8", "s16", "s32", "s64"]

DTYPE_BYTES: dict[str, int] = {"s8": 1, "u8": 1, "s16": 2, "s32": 4, "s64": 8}
TVM_DTYPE: dict[str, str] = {"s8": "int8", "u8": "uint8", "s16": "int16", "s32": "int32", "s64": "int64"}
DTYPE_RANGE: dict[str, tuple[int, int]] = {
    "s8": (-128, 127),
    "u8": (0, 255),
    "s16": (-32768, 32767),
    "s32": (-(2**31), 2**31 - 1),
    "s64": (-(2**63), 2**63 - 1),
}
SYMMETRIC_LOWEST = -127  # least of symmetric 8-bit weights; models that bring their own weights may hold -128
SLACK_BYTES = 64  # readable bytes behind every buffer: vector loads may run over the end by that much
CACHE_LINE = 64  # bytes

# Changes whenever generated code may change for an unchanged spec; part of every cache key.
KERNEL_VERSION = 1


@dataclass(frozen=True)
class Operand:
    """One pointer parameter of a kernel."""

    name: str
    role: Role


@dataclass(frozen=True)
class Image:
    """A strided NHWC view, in elements. Offsets into a buffer belong to the operand, not to the view."""

    n: int
    h: int
    w: int
    c: int
    image_stride: int
    row_stride: int
    pixel_stride: int

    @classmethod
    def dense(cls, n: int, h: int, w: int, c: int) -> Image:
        """A contiguous NHWC image."""
        return cls(n, h, w, c, h * w * c, w * c, c)

    @property
    def elements(self) -> int:
        """Elements from the first to the last one the view touches, both included."""
        return (
            (self.n - 1) * self.image_stride
            + (self.h - 1) * self.row_stride
            + (self.w - 1) * self.pixel_stride
            + self.c
        )

    @property
    def flat_rows(self) -> bool:
        """True where rows follow each other without a gap, so that h × w is one run of pixels."""
        return self.h == 1 or self.row_stride == self.w * self.pixel_stride


@dataclass(frozen=True)
class Epilogue:
    """From s32 accumulators to stored values: requantize, clamp, then optionally a table and a residual add.

    Numbers are as stored: on targets that keep int8 as u8 the zero points and clamps are shifted by +128 already.

    Attributes:
        form: `narrow` or `single` of docs/integer-ops.md, or `none` (s32 out).
        dtype: what is stored.
        zero_point, low, high: added and clamped to, in stored units, *before* table and residual add.
        post_shift: q of `narrow`.
        per_channel: multiplier and shift have one entry a channel (else one entry in all).
        lut: afterwards a 256-byte table maps the u8/s8 result (operand `table`).
        residual: afterwards a second tensor of the same shape is added (operand `residual`).
        left: of `narrow`: bits that all accumulators are moved to the left first, where a shift is negative.
        words: of `narrow`, for sums that come in 16 bits: the sections of steps that finish them there
            (epilogue/words.py).
    """

    form: Literal["narrow", "single", "none"]
    dtype: DType
    zero_point: int
    low: int
    high: int
    post_shift: int = 0
    per_channel: bool = True
    lut: bool = False
    residual: Residual | None = None
    left: int = 0
    words: tuple[str, ...] = ()


@dataclass(frozen=True)
class Residual:
    """The op `Add` of the integer dialect: `a` is the requantized (and mapped) result, `b` a second image."""

    image: Image
    dtype: DType
    a_zero_point: int
    b_zero_point: int
    a_multiplier: int
    b_multiplier: int
    shift: int
    zero_point: int
    low: int
    high: int


@dataclass(frozen=True)
class KernelSpec:
    """A kernel, completely described: equal specs share one object. Subclasses: frozen dataclasses of plain values."""

    family: ClassVar[str]

    def operands(self) -> list[Operand]:
        """Pointer parameters in the order of the C signature `void f(int32 t0, int32 t1, ...)`."""
        raise NotImplementedError

    def tasks(self) -> int:
        """How many independent tasks there are; the caller may split [0, tasks) anywhere."""
        raise NotImplementedError

    def describe(self, target: Target) -> str:
        """The name without hash and instruction set, e.g. `conv_u8s8_6x16`."""
        raise NotImplementedError

    def pack(self, target: Target, constants: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The weight operands, from logical constants (w, bias, multiplier, shift, table ...); none by default."""
        return {}

    def mix(self, target: Target) -> dict[str, Any] | None:
        """The product it multiplies with (kernels/peak/peak.py, `Mix`) and its `multiplications`; None: not listed."""
        return None

    def parameters(self, target: Target) -> list[tuple[str, str, int]]:
        """(name, dtype, elements) of every operand in order."""
        raise NotImplementedError

    def build(self, target: Target) -> Any:
        """The tvm PrimFunc, with `global_symbol` = symbol(target). Imports tvm."""
        raise NotImplementedError

    def stored_bits(self, target: Target) -> int | None:
        """Bits that a weight takes in the artifact; None: no weights, or none of its own."""
        return None

    def touched(self) -> dict[str, int]:
        """Elements that are read or written of operands whose whole view isn't."""
        return {}

    def scratch_bytes(self, target: Target) -> int:
        """Size of the `scratch` operand: memory one running task range needs to itself."""
        return 0

    def shareable(self) -> SharedSpec | None:
        """The same work on a kernel that also does other layers' (shared.py); None: there is none."""
        return None

    def identity(self) -> str:
        """What tells its code from any other kernel's."""
        return repr(self)

    def symbol(self, target: Target) -> str:
        """Unique C name: what it is, for which instruction set, and a hash of its identity."""
        digest = hashlib.blake2b(f"{KERNEL_VERSION} {self.identity()}".encode(), digest_size=5).hexdigest()
        return f"{self.describe(target)}__{target.isa}_{digest}"
