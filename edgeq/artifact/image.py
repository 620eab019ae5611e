"""ModelImages -> their bytes: headers, tables, strings, weights, manifests, golden vectors; equal parts once."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edgeq.artifact import format as layout
from edgeq.artifact.format import Golden, ModelImage, StepInfo, TensorInfo, Variant
from edgeq.errors import CompileError


class _Blob:
    """Grows a byte string of parts at aligned offsets; equal parts are stored once."""

    def __init__(self) -> None:
        self.parts: list[bytes | memoryview] = []
        self.size = 0
        self.known: dict[tuple[bytes, int], int] = {}

    def add(self, data: bytes | memoryview, align: int) -> int:
        """The offset of `data`, a multiple of `align`: where it is already, or appended."""
        key = hashlib.blake2b(data).digest(), align
        if key not in self.known:
            self.known[key] = self.append(data, align)
        return self.known[key]

    def append(self, data: bytes | memoryview, align: int) -> int:
        """Appends `data` at the next multiple of `align`; returns its offset."""
        gap = -self.size % align
        if gap:
            self.parts.append(bytes(gap))
        offset = self.size + gap
        self.parts.append(data)
        self.size = offset + len(data)
        return offset

    def join(self) -> bytearray:
        """All parts as one mutable byte string."""
        return bytearray(b"".join(self.parts))


class _Strings:
    """NUL-terminated strings, each once; offset 0 is the empty string."""

    def __init__(self) -> None:
        self.data = bytearray(b"\0")
        self.known = {"": 0}

    def add(self, text: str) -> int:
        """Offset of `text`. A NUL in a name would end it early, so it becomes a space."""
        text = text.replace("\0", " ")
        if text not in self.known:
            self.known[text] = len(self.data)
            self.data += text.encode("utf-8", "replace") + b"\0"
        return self.known[text]


def pack_images(variants: Sequence[Variant]) -> bytearray:
    """The bytes of all programs' images. The fields `entry` are left 0 for the linker.

    Raises:
        CompileError: an image contradicts itself (a tensor outside the arena, a golden vector of the wrong shape …), or
            variants or programs contradict each other.
    """
    _check_variants(variants)
    images = [image for variant in variants for image in variant.programs]
    for image in images:
        _check(image)
    strings, blob = _Strings(), _Blob()
    blob.append(bytes(layout.IMAGE.size * len(images)), 1)
    headers = [_pack_parts(image, strings, blob) for image in images]
    # The strings of all images, known only now, and 64 bytes that kernels may read behind a weight operand.
    shared = {"strings": blob.append(bytes(strings.data), 1)}
    blob.append(bytes(layout.ALIGNMENT), layout.ALIGNMENT)
    data = blob.join()
    for index, (image, header) in enumerate(zip(images, headers, strict=True)):
        variant = variants[index // len(variants[0].programs)]
        start = index * layout.IMAGE.size
        places = {name: place - start for name, place in {**header.places, **shared}.items()}
        data[start : start + layout.IMAGE.size] = layout.IMAGE.pack(
            magic=layout.IMAGE_MAGIC,
            abi_version=layout.ABI_VERSION,
            header_size=layout.IMAGE.size,
            image_size=len(data) - start,
            arena_size=image.arena_size,
            arena_alignment=layout.ALIGNMENT,
            max_threads=image.max_threads,
            step_count=len(image.steps),
            input_count=len(image.inputs),
            output_count=len(image.outputs),
            golden_count=len(image.golden),
            strings_size=len(strings.data),
            cpu_features=variant.target.feature_bits,
            variant_count=len(variants),
            program_count=len(variant.programs),
            index=index,
            flags=layout.IMAGE_PADS if image.pads else 0,
            **header.sizes,
            **places,
        )
    return data


def artifact_sizes(
    packed: bytearray | memoryview, variants: Sequence[Variant], file: int, code: int
) -> layout.ArtifactSizes:
    """The sizes of an artifact of `file` bytes. Weights that several programs share count once."""
    count = sum(len(variant.programs) for variant in variants)
    headers = [layout.IMAGE.unpack(packed, index * layout.IMAGE.size) for index in range(count)]
    blobs = {index * layout.IMAGE.size + h["weights"]: h["weights_size"] for index, h in enumerate(headers)}
    arena = max(image.arena_size for variant in variants for image in variant.programs)
    return layout.ArtifactSizes(file, code, sum(blobs.values()), len(packed), arena)


@dataclass(frozen=True)
class _Parts:
    """Where one image's parts lie in the blob, and how large they are."""

    places: dict[str, int]
    sizes: dict[str, int]


def _pack_parts(image: ModelImage, strings: _Strings, blob: _Blob) -> _Parts:
    steps = b"".join(_pack_step(step, strings) for step in image.steps)
    tensors = b"".join(_pack_tensor(tensor, strings) for tensor in [*image.inputs, *image.outputs])
    golden = [_pack_golden(vector, image) for vector in image.golden]
    manifest = json.dumps(image.manifest, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()
    weights = np.frombuffer(image.weights, np.uint8).data if len(image.weights) else b""
    places = {
        "steps": blob.add(steps, 8),
        "tensors": blob.add(tensors, 8),
        "golden": blob.add(b"".join(golden), 8),
        "manifest": blob.add(manifest, 1),
        "weights": blob.add(weights, layout.ALIGNMENT),
    }
    sizes = {
        "golden_stride": len(golden[0]) if golden else 0,
        "manifest_size": len(manifest),
        "weights_size": len(weights),
    }
    return _Parts(places, sizes)


def pack_image(image: ModelImage) -> bytearray:
    """`pack_images` of one program for any CPU of its architecture."""
    return pack_images([Variant(layout.ArchInfo("x86_64"), [image])])


def _pack_step(step: StepInfo, strings: _Strings) -> bytes:
    grain = step.grain or layout.grain_of(step.tasks, step.macs, step.bytes)
    return layout.STEP.pack(
        name=strings.add(step.name),
        kind=strings.add(step.kind),
        tasks=step.tasks,
        grain=grain,
        macs=step.macs,
        bytes=step.bytes,
    )


def _pack_tensor(tensor: TensorInfo, strings: _Strings) -> bytes:
    unused = layout.MAX_RANK - len(tensor.shape)
    return layout.TENSOR.pack(
        name=strings.add(tensor.name),
        layout=strings.add(tensor.layout),
        dtype=layout.DTYPES[tensor.dtype],
        rank=len(tensor.shape),
        shape=(*tensor.shape, *(1,) * unused),
        strides=(*tensor.element_strides, *(0,) * unused),
        scale=tensor.scale,
        zero_point=tensor.zero_point,
        storage_bias=tensor.storage_bias,
        offset=tensor.offset,
        size=tensor.nbytes,
    )


def _pack_golden(vector: Golden, image: ModelImage) -> bytes:
    parts = []
    for tensors, values in ((image.inputs, vector.inputs), (image.outputs, vector.outputs)):
        if len(tensors) != len(values):
            raise CompileError(f"a golden vector has {len(values)} arrays for {len(tensors)} tensors")
        for tensor, value in zip(tensors, values, strict=True):
            array = np.asarray(value)
            if array.shape != tuple(tensor.shape) or array.dtype != tensor.numpy_dtype:
                raise CompileError(
                    "a golden vector doesn't fit its tensor",
                    where=tensor.name,
                    why=f"it is {array.dtype}{list(array.shape)}, the tensor {tensor.dtype}{list(tensor.shape)}",
                )
            data = array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes()
            parts.append(data + bytes(-len(data) % 8))
    return b"".join(parts)


def _check_variants(variants: Sequence[Variant]) -> None:
    counts = {len(variant.programs) for variant in variants}
    if not 1 <= len(variants) <= layout.MAX_VARIANTS or len(counts) != 1:
        raise CompileError(f"{len(variants)} variants with {sorted(counts)} programs", why="all need the same")
    if not 1 <= next(iter(counts)) <= layout.MAX_PROGRAMS:
        raise CompileError(f"{next(iter(counts))} programs", why=f"1 to {layout.MAX_PROGRAMS} fit into an artifact")
    if len({variant.target.arch for variant in variants}) != 1:
        raise CompileError("variants for different architectures", hint="write an artifact for each")
    problem = kinship_problem(variants)
    if problem:
        raise CompileError("the programs of an artifact contradict each other", why=problem)


def kinship_problem(variants: Sequence[Variant]) -> str | None:
    """How programs differ in what artifact.h says is the same in all of them, or None. Also the reader's check."""
    first = variants[0].programs[0]
    for variant in variants:
        for index, (image, twin) in enumerate(zip(variant.programs, variants[0].programs, strict=True)):
            for ends in ("inputs", "outputs"):
                found, like, same = (getattr(x, ends) for x in (image, first, twin))
                if [_nature(t) for t in found] != [_nature(t) for t in like]:
                    return f"{ends} of program {index} differ from those of the first in more than their sizes"
                if [tuple(t.shape) for t in found] != [tuple(t.shape) for t in same]:
                    return f"{ends} of program {index} have other shapes in another variant"
            if image.pads != first.pads:
                return f"program {index} may be padded, or another one"
    return None


def _nature(tensor: TensorInfo) -> tuple[object, ...]:
    return tensor.name, tensor.dtype, len(tensor.shape), tensor.scale, tensor.zero_point


def _check(image: ModelImage) -> None:
    """The writer's half of the promises that loaders check."""
    if not image.steps:
        raise CompileError("an artifact needs at least one step")
    if not image.outputs:
        raise CompileError("an artifact needs at least one output")
    if not 1 <= image.max_threads <= layout.MAX_THREADS:
        raise CompileError(f"max_threads is {image.max_threads}, outside 1 to {layout.MAX_THREADS}")
    if not 1 <= image.arena_size < 2**47:
        raise CompileError(f"arena_size is {image.arena_size}")
    for step in image.steps:
        if not 1 <= step.tasks < 2**31 or not 0 <= step.grain < 2**31 or step.macs < 0 or step.bytes < 0:
            raise CompileError("a step's numbers are out of range", where=step.name, why=repr(step))
    for group in (image.inputs, image.outputs):
        _check_tensors(group, image.arena_size)


def _check_tensors(tensors: Sequence[TensorInfo], arena_size: int) -> None:
    names = [tensor.name for tensor in tensors]
    if len(set(names)) != len(names):
        raise CompileError("two inputs, or two outputs, have the same name", why=", ".join(names))
    for tensor in tensors:
        problem = tensor_problem(tensor, arena_size)
        if problem:
            raise CompileError("a tensor can't be placed in the arena", where=tensor.name, why=problem)


def tensor_problem(tensor: TensorInfo, arena_size: int) -> str | None:
    """Why `tensor` breaks the rules of artifact.h, or None. Also the reader's check."""
    if tensor.dtype not in layout.DTYPES:
        return f"dtype {tensor.dtype}"
    if len(tensor.shape) > layout.MAX_RANK or any(not 1 <= size < 2**31 for size in tensor.shape):
        return f"shape {list(tensor.shape)}"
    return _numbers_problem(tensor) or _place_problem(tensor, arena_size)


def _numbers_problem(tensor: TensorInfo) -> str | None:
    strides = tensor.element_strides
    if len(strides) != len(tensor.shape) or any(not 0 <= stride < 2**31 for stride in strides):
        return f"strides {list(strides)}"
    # A zero point is a value of its own tensor; wider dtypes keep it in 32 bits.
    low, high = (-(2**31), 2**31 - 1) if tensor.dtype == "int64" else _range(tensor.dtype)
    if not 1e-30 <= tensor.scale <= 1e30 or not low <= tensor.zero_point <= high:
        return f"scale {tensor.scale}, zero point {tensor.zero_point}"
    if tensor.storage_bias not in (0, 0x80) or (tensor.storage_bias and tensor.dtype != "int8"):
        return f"storage bias {tensor.storage_bias:#x} on {tensor.dtype}"
    return None


def _place_problem(tensor: TensorInfo, arena_size: int) -> str | None:
    if tensor.offset < 0 or tensor.offset % tensor.numpy_dtype.itemsize:
        return f"offset {tensor.offset} isn't a multiple of the item size"
    if tensor.offset + tensor.nbytes > arena_size:
        return f"bytes {tensor.offset} to {tensor.offset + tensor.nbytes} of an arena of {arena_size}"
    return None


def _range(dtype: str) -> tuple[int, int]:
    info = np.iinfo(dtype)
    return int(info.min), int(info.max)
