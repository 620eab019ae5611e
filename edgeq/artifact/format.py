"""What an artifact holds, and its layout: the Python mirror of `cpp_runtime/include/edgeq/artifact.h`.

The dataclasses are what the compiler fills in and what the reader gives back; the `Record`s are the C structs.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from edgeq.errors import CompileError

ABI_VERSION = 2
TRAILER_MAGIC = b"EDGEQART"
IMAGE_MAGIC = b"EDGEQIMG"
DIGEST_SIZE = 32
MAX_RANK = 8
MAX_THREADS = 64
MAX_VARIANTS = 16
MAX_PROGRAMS = 64
IMAGE_PADS = 1
ALIGNMENT = 64

ARCHES = {"x86_64": 1, "aarch64": 2, "armv7": 3, "riscv64": 4}
"""Architecture name -> `edgeq_trailer.arch`."""

FEATURES: dict[str, tuple[str, ...]] = {
    "x86_64": (
        "avx2",
        "fma",
        "bmi1",
        "bmi2",
        "lzcnt",
        "f16c",
        "movbe",
        "avx512f",
        "avx512bw",
        "avx512vl",
        "avx512dq",
        "avx512vnni",
        "avx512vbmi",
        "avxvnni",
        "avx512cd",
        "ssse3",
        "sse41",
    ),
    "aarch64": ("dotprod", "i8mm", "fp16", "rdm", "lse", "bf16", "sve", "sve2"),
    "armv7": ("neon", "idiv"),
    "riscv64": ("v",),
}
"""CPU features of each architecture; the place in the tuple is the bit in `edgeq_trailer.cpu_features`."""

# Waking and joining a thread costs a microsecond or two. Work is counted as multiply-accumulates plus bytes, of which a
# core does roughly a hundred a nanosecond: below this much, a range isn't worth a thread of its own.
MIN_WORK_PER_THREAD = 150_000


DTYPES = {"int8": 1, "uint8": 2, "int16": 3, "int32": 4, "int64": 5}
"""NumPy dtype name -> `edgeq_tensor_record.dtype`."""


def grain_of(tasks: int, macs: int, size: int) -> int:
    """Fewest of a step's tasks that are worth a thread of their own.

    Args:
        tasks: of the step. macs: its multiply-accumulates. size: bytes that it reads and writes.
    """
    return max(1, min(tasks, math.ceil(tasks * MIN_WORK_PER_THREAD / max(macs + size, 1))))


class Record:
    """A C struct: named fields in order, little-endian, naturally aligned without hidden padding."""

    def __init__(self, name: str, *fields: tuple[str, str]) -> None:
        self.name = name
        self.fields = fields
        self.struct = struct.Struct("<" + "".join(code for _, code in fields))
        self.size = self.struct.size

    def offsets(self) -> dict[str, int]:
        """Byte offset of every field."""
        place, found = 0, {}
        for name, code in self.fields:
            found[name] = place
            place += struct.calcsize("<" + code)
        return found

    def pack(self, **values: Any) -> bytes:
        """The struct's bytes; fields that aren't given are zero, arrays are tuples."""
        flat: list[Any] = []
        for name, code in self.fields:
            count = 1 if code.endswith("s") or not code[:-1] else int(code[:-1])
            value = values.pop(name, b"" if code.endswith("s") else (0,) * count if count > 1 else 0)
            flat += value if count > 1 else [value]
        if values:
            raise KeyError(f"{self.name} has no field {sorted(values)}")
        return self.struct.pack(*flat)

    def unpack(self, data: bytes | bytearray | memoryview, offset: int = 0) -> dict[str, Any]:
        """Field name -> int, float, bytes, or a tuple for arrays."""
        flat = iter(self.struct.unpack_from(data, offset))
        found: dict[str, Any] = {}
        for name, code in self.fields:
            count = 1 if code.endswith("s") or not code[:-1] else int(code[:-1])
            found[name] = tuple(next(flat) for _ in range(count)) if count > 1 else next(flat)
        return found


TRAILER = Record(
    "edgeq_trailer",
    ("magic", "8s"),
    ("abi_version", "I"),
    ("arch", "I"),
    ("cpu_features", "Q"),
    ("file_size", "Q"),
    ("image_offset", "Q"),
    ("image_vaddr", "Q"),
    ("image_size", "Q"),
    ("entry_vaddr", "Q"),
    ("code_size", "Q"),
    ("reserved", "152s"),
    ("digest", "32s"),
)

IMAGE = Record(
    "edgeq_image",
    ("magic", "8s"),
    ("abi_version", "I"),
    ("header_size", "I"),
    ("entry", "q"),
    ("image_size", "Q"),
    ("arena_size", "Q"),
    ("arena_alignment", "I"),
    ("max_threads", "I"),
    ("step_count", "I"),
    ("input_count", "I"),
    ("output_count", "I"),
    ("golden_count", "I"),
    ("steps", "Q"),
    ("tensors", "Q"),
    ("golden", "Q"),
    ("golden_stride", "Q"),
    ("strings", "Q"),
    ("strings_size", "Q"),
    ("weights", "Q"),
    ("weights_size", "Q"),
    ("manifest", "Q"),
    ("manifest_size", "Q"),
    ("cpu_features", "Q"),
    ("variant_count", "I"),
    ("program_count", "I"),
    ("index", "I"),
    ("flags", "I"),
    ("reserved", "24s"),
)

STEP = Record(
    "edgeq_step_record",
    ("name", "I"),
    ("kind", "I"),
    ("tasks", "I"),
    ("grain", "I"),
    ("macs", "Q"),
    ("bytes", "Q"),
)

TENSOR = Record(
    "edgeq_tensor_record",
    ("name", "I"),
    ("layout", "I"),
    ("dtype", "I"),
    ("rank", "I"),
    ("shape", f"{MAX_RANK}q"),
    ("strides", f"{MAX_RANK}q"),
    ("scale", "d"),
    ("zero_point", "i"),
    ("storage_bias", "I"),
    ("offset", "Q"),
    ("size", "Q"),
)

RECORDS = (TRAILER, IMAGE, STEP, TENSOR)


@dataclass(frozen=True)
class ArchInfo:
    """The processor an artifact's code runs on.

    Attributes:
        arch: a key of `ARCHES`.
        features: names of `FEATURES[arch]` that the code uses; the loader refuses a CPU without them.
    """

    arch: str
    features: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.arch not in ARCHES:
            raise CompileError(
                f"no artifact can be written for the architecture {self.arch!r}",
                hint="known: " + ", ".join(ARCHES),
            )
        for name in self.features:
            if name not in FEATURES[self.arch]:
                raise CompileError(
                    f"unknown CPU feature {name!r} of {self.arch}",
                    hint="known: " + ", ".join(FEATURES[self.arch]),
                )

    @property
    def feature_bits(self) -> int:
        """`edgeq_trailer.cpu_features`."""
        known = FEATURES[self.arch]
        return sum(1 << known.index(name) for name in set(self.features))

    @classmethod
    def from_codes(cls, arch: int, bits: int) -> ArchInfo:
        """The inverse of `ARCHES` and `feature_bits`. Raises `ValueError` on codes this version doesn't know."""
        names = {code: name for name, code in ARCHES.items()}
        if arch not in names:
            raise ValueError(f"unknown architecture code {arch}")
        known = FEATURES[names[arch]]
        if bits >> len(known):
            raise ValueError(f"unknown CPU feature bits {bits:#x}")
        return cls(names[arch], tuple(name for bit, name in enumerate(known) if bits >> bit & 1))


@dataclass
class StepInfo:
    """One kernel call, as listed in the artifact.

    Attributes:
        name: the layer (or fused layers) it computes.
        kind: op kind, such as "Conv+Requantize".
        tasks: number of independent tasks; `edgeq_step(step, t0, t1, …)` runs a range of them.
        macs: multiply-accumulates of one run.
        bytes: bytes read and written by one run (operands, weights).
        grain: fewest tasks that are worth a thread of their own; 0: estimated from macs and bytes.
    """

    name: str
    kind: str
    tasks: int = 1
    macs: int = 0
    bytes: int = 0
    grain: int = 0


@dataclass
class TensorInfo:
    """A graph input or output and its place in the arena.

    Attributes:
        name: as in the source model.
        dtype: a key of `DTYPES`.
        shape: logical shape, axes as in the source model.
        offset: bytes from the start of the arena to element (0, …, 0).
        scale, zero_point: real = scale × (q − zero_point); 1.0 and 0 for plain integers (ArgMax, indices).
        strides: per axis, in elements; None means dense (C order).
        storage_bias: 0x80 where int8 values lie in the arena as value + 128 (x86 targets), else 0.
        layout: a note for people, such as "NHWC".
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    offset: int
    scale: float = 1.0
    zero_point: int = 0
    strides: tuple[int, ...] | None = None
    storage_bias: int = 0
    layout: str = ""

    @property
    def numpy_dtype(self) -> np.dtype[Any]:
        """The logical dtype."""
        return np.dtype(self.dtype)

    @property
    def count(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def element_strides(self) -> tuple[int, ...]:
        """Strides in elements, also when dense."""
        if self.strides is not None:
            return self.strides
        return tuple(math.prod(self.shape[axis + 1 :]) for axis in range(len(self.shape)))

    @property
    def nbytes(self) -> int:
        """Bytes in the arena from the first to the last element, both included."""
        last = sum((size - 1) * stride for size, stride in zip(self.shape, self.element_strides, strict=True))
        return (last + 1) * self.numpy_dtype.itemsize


@dataclass
class Golden:
    """One input set and the outputs it must give. Dense logical integers, in the order of the image's tensors."""

    inputs: list[np.ndarray[Any, Any]]
    outputs: list[np.ndarray[Any, Any]]


@dataclass
class ModelImage:
    """Everything of a program that isn't machine code.

    Attributes:
        steps: in execution order; their place is the `step` argument of `edgeq_step`.
        inputs, outputs: in the order of the source model.
        arena_size: bytes, including per-thread scratch and the slack behind the last buffer.
        weights: one blob, as `edgeq_step` indexes it (bytes or a uint8 array).
        max_threads: how many slots the arena has scratch for, 1 to 64.
        manifest: anything JSON can hold; what `edgeq inspect` prints.
        golden: vectors for `edgeq verify`.
        entry: symbol of the program's `edgeq_step_fn`.
        pads: shorter inputs may be padded with zeros (EDGEQ_IMAGE_PADS); the same in all programs of an artifact.
    """

    steps: list[StepInfo]
    inputs: list[TensorInfo]
    outputs: list[TensorInfo]
    arena_size: int
    weights: bytes | bytearray | memoryview | np.ndarray[Any, Any] = b""
    max_threads: int = 1
    manifest: Mapping[str, Any] = field(default_factory=dict)
    golden: list[Golden] = field(default_factory=list)
    entry: str = "edgeq_step"
    pads: bool = False


@dataclass
class Variant:
    """All programs for one kind of CPU.

    Attributes:
        target: architecture and the features that the code of these programs uses.
        programs: one per set of input shapes, in the same order in every variant.
    """

    target: ArchInfo
    programs: list[ModelImage]


@dataclass(frozen=True)
class ArtifactSizes:
    """What a written artifact weighs, in bytes; `arena` is enough for each of its programs."""

    file: int
    code: int
    weights: int
    image: int
    arena: int
